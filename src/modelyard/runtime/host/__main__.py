"""Started as a program with the number of an inherited socket: loads one model and answers until the socket closes.

The folder is imported as a package of its own name, so that nothing here can be taken for a module of the model and
the Modelyard of the server is not needed in the model's environment.
"""

import importlib.util
import sys
from pathlib import Path

_NAME = "modelyard_host"


def _import_folder() -> None:
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise SystemExit("the folder of the host is not complete")
    package = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    _import_folder()
    importlib.import_module(f"{_NAME}.serve").main(int(sys.argv[1]))

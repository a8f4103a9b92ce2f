"""Found by Python at its start, through PYTHONPATH: watches the process, then steps aside for a file of this name."""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder


def _begin() -> None:
    here = os.path.dirname(os.path.abspath(__file__))  # before pathlib is loaded
    name = "modelyard.runs.inside.watching"
    spec = importlib.util.spec_from_file_location(name, os.path.join(here, "watching.py"))
    if spec is not None and spec.loader is not None:
        watching = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(watching)
        sys.modules[name] = watching  # the one that Modelyard itself finds, should the program import it
        watching.begin(os.environ["MODELYARD_RUN"], whole_process=True)
    sys.path[:] = [place for place in sys.path if place != here]
    _stand_in_for("sitecustomize")


def _stand_in_for(name: str) -> None:
    """Run the file of this name that Python would have found without us."""
    spec = PathFinder.find_spec(name, sys.path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


if __name__ == "sitecustomize" and os.environ.get("MODELYARD_RUN"):
    try:
        _begin()
    except Exception as error:  # noqa: BLE001  # the program runs, watched or not
        sys.stderr.write(f"modelyard: what this program reads is not recorded: {error}\n")

"""What runs in the environment of an MLflow model, and packs it: ``python -m modelyard.mlflow.inside JOB``."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelyard.errors import CannotPack, ModelyardError

HERE = Path(__file__).parent
PYFUNC_MODULE = "mlflow_pyfunc"


def pack(job: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Do what a job says: the bundle is then in the folder ``into``.

    Raises:
        ModelyardError: it cannot be done.
        Exception: whatever loading the model raises.
    """
    from modelyard.bundle.pack import build_bundle
    from modelyard.mlflow import samples

    sample = samples.rows(job)
    say("loading the model")
    estimator, options = _LOADERS[job["flavour"]](job)
    if isinstance(sample, list) and options.get("load"):
        estimator = importlib.import_module(PYFUNC_MODULE).answer_list
    build_bundle(
        estimator,
        sample=sample,
        name=job["name"],
        into=Path(job["into"]),
        runtime=job["runtime"],
        tags=job["tags"],
        needs=job["needs"],
        progress=say,
        **options,
    )


def _sklearn(job: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    return _unpickled(job), {}


def _unpickled(job: Mapping[str, Any]) -> Any:
    path = Path(job["model"])
    if job["entry"].get("serialization_format") == "skops":
        import skops.io

        return skops.io.load(path, trusted=job["entry"].get("skops_trusted_types") or [])
    import cloudpickle

    with path.open("rb") as source:
        return cloudpickle.load(source)


def _xgboost(job: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    model = _class(job["entry"].get("model_class") or "xgboost.core.Booster", "xgboost")()
    model.load_model(job["model"])
    return model, {}


def _lightgbm(job: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    if (job["entry"].get("model_class") or "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        return _class("lightgbm.Booster", "lightgbm")(model_file=job["model"]), {}
    return _unpickled(job), {}


def _class(dotted: str, library: str) -> Any:
    module, _, name = dotted.rpartition(".")
    if module.partition(".")[0] != library:
        raise CannotPack(f"flavour {library} names the class {dotted!r}, which is none of {library}")
    return getattr(importlib.import_module(module), name)


def _pyfunc(job: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A function with a load step: the whole directory travels with the version, and MLflow reads it there."""
    place = Path(job["work"]) / "module"
    place.mkdir()
    shutil.copyfile(HERE / f"{PYFUNC_MODULE}.py", place / f"{PYFUNC_MODULE}.py")
    sys.path.insert(0, str(place))
    module = importlib.import_module(PYFUNC_MODULE)
    return module.answer, {"load": module.load, "artifacts": {"model": job["folder"]}}


_LOADERS: dict[str, Callable[[Mapping[str, Any]], tuple[Any, dict[str, Any]]]] = {
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "python_function": _pyfunc,
}


def main() -> None:
    """Carry out the job in the file that is named, and write beside it how it ended."""
    job = json.loads(Path(sys.argv[1]).read_bytes())
    sys.path[:0] = job["code"]
    progress = os.fdopen(job["progress"], "w", buffering=1)
    end: dict[str, str] = {}
    try:
        pack(job, lambda words: print(words, file=progress))
    except ModelyardError as error:
        end = {"kind": type(error).__name__, "message": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever a foreign model does
        traceback.print_exc()
        end = {"kind": "ModelFailed", "message": _said(error)}
    Path(job["end"]).write_text(json.dumps(end))


def _said(error: Exception) -> str:
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:800]
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"the model cannot be loaded: it needs the module {error.name!r}, which its requirements do not give; add "
            "it with --with NAME==VERSION"
        )
    return f"the model cannot be loaded: {said}"


if __name__ == "__main__":
    main()

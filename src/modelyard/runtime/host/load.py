"""Building the estimator from its native form."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.abc import Loader, MetaPathFinder, PathEntryFinder
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any


def estimator(form: Mapping[str, Any], directory: str | Path) -> Any:
    """The estimator of the bundle in `directory`, described by its native form as plain data.

    Loading runs code. The bundle's digests have been checked before.
    """
    path = Path(directory) / form["path"]
    if form["format"] == "skops":
        import skops.io

        return skops.io.load(path, trusted=list(form["trusted"]))
    if form["format"] == "onnx":
        from .graph import Session

        return Session(str(path))
    import pickle

    with path.open("rb") as source:
        built = pickle.load(source)  # noqa: S301
    return WithState(built, path.parent) if form.get("loader") else built


def apply(settings: Mapping[str, Any]) -> None:
    """Set scikit-learn's global settings as they were in training."""
    if settings:
        import sklearn

        sklearn.set_config(**settings)


class WithState:
    """A callable with a load step: the state is loaded once and handed to every call."""

    def __init__(self, parts: Mapping[str, Any], directory: Path) -> None:
        self._call = parts["call"]
        artifacts = {name: directory / relative for name, relative in parts["artifacts"].items()}
        load = parts["load"]
        self._state = load(artifacts) if artifacts else load()

    def __call__(self, given: Any) -> Any:
        """What the function answers."""
        return self._call(self._state, given)


def import_from(directory: str | Path) -> None:
    """Make the modules in `directory` importable, before all others, as they were beside the training program.

    Compiled files are not written there: a bundle holds exactly the files of its manifest.
    """
    root = str(directory)

    def hook(path: str) -> PathEntryFinder:
        if path != root and not path.startswith(root + "/"):
            raise ImportError(path)
        return FileFinder(path, (_Source, [".py"]))

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.pop(root, None)
    sys.path.insert(0, root)


class _Source(SourceFileLoader):
    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write nothing."""


def stand_in_for_modelyard() -> None:
    """Let modules import ``modelyard`` where it is not installed: training programs do, models do not need it."""
    sys.meta_path.append(_StandIn())


class _StandIn(MetaPathFinder, Loader):
    """Finds Modelyard's modules when nobody else does; what they offer only says that it is not there."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A specification for ``modelyard`` and all below it, None for anything else."""
        own = fullname.partition(".")[0] == "modelyard"
        return ModuleSpec(fullname, self, is_package=True) if own else None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module a way to answer for any name."""
        name = module.__name__
        module.__getattr__ = lambda wanted: _absent(name, wanted)  # type: ignore[method-assign]


def _absent(module: str, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def unavailable(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{module}.{name} is not there where a model is served; it belongs to training programs")

    return unavailable

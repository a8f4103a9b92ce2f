"""Building the estimator from its native form."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.abc import PathEntryFinder
from importlib.machinery import FileFinder, SourceFileLoader
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
    import pickle

    with path.open("rb") as source:
        built = pickle.load(source)  # noqa: S301
    return WithState(built, path.parent) if form.get("loader") else built


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
    import importlib.util

    if "modelyard" in sys.modules or importlib.util.find_spec("modelyard") is not None:
        return
    module = ModuleType("modelyard", "Stands in for Modelyard, which is not part of a model's environment.")
    module.__getattr__ = _absent  # type: ignore[method-assign]
    sys.modules["modelyard"] = module


def _absent(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def unavailable(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"modelyard.{name} is not there where a model is served; it belongs to training programs")

    return unavailable

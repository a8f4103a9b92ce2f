"""Sees files that libraries open with compiled code, past Python: by the Python functions that they are asked through.

The modules below are changed when they are imported: what they are told to read is noted before they read it. A module
that had been imported before may have given its functions to others already; it is said to be unseen.
"""

from __future__ import annotations

import functools
import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

FUNCTIONS = {
    "pyarrow": ("memory_map",),
    "pyarrow.csv": ("read_csv", "open_csv"),
    "pyarrow.dataset": ("dataset", "parquet_dataset"),
    "pyarrow.feather": ("read_feather", "read_table"),
    "pyarrow.json": ("read_json", "open_json"),
    "pyarrow.orc": ("read_table",),
}
"""Functions by module, whose first argument says what is read."""

CLASSES = {
    "deltalake.table": ("DeltaTable",),
    "lightgbm.basic": ("Dataset",),
    "pyarrow.orc": ("ORCFile",),
    "pyarrow.parquet.core": ("ParquetDataset", "ParquetFile"),
    "xgboost.core": ("DMatrix", "QuantileDMatrix"),
}
"""Classes by module, whose first argument says what is read."""

_NAMES = ("source", "path_or_paths", "metadata_path", "input_file", "path", "table_uri", "data", "where")
_MOST_FILES = 100_000


class Eyes:
    """Who is told: `saw` of each file, `missed` of what cannot be known."""

    def __init__(self, saw: Callable[[str], None], missed: Callable[[str], None]) -> None:
        self.saw = saw
        self.missed = missed

    def look(self, module: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Tell what a call with these arguments is about to read; never in the way of the call."""
        with suppress(Exception):
            source = args[0] if args else next((kwargs[name] for name in _NAMES if name in kwargs), None)
            if not _is_local(kwargs.get("filesystem")):
                self.missed(module)
                return
            for path in _paths(source):
                if "://" in path:
                    self.missed(module)
                else:
                    self._look_at(path)

    def _look_at(self, path: str) -> None:
        for count, file in enumerate(_files(path)):
            if count == _MOST_FILES:
                self.missed(path)
                return
            self.saw(file)


def begin(eyes: Eyes) -> None:
    """Change the modules that are there, and others when they are imported."""
    for name in sorted(FUNCTIONS.keys() | CLASSES.keys()):
        if (module := sys.modules.get(name)) is not None:
            _change(module, name, eyes)
            if name in FUNCTIONS and name != "pyarrow":
                eyes.missed(name)
    sys.meta_path.insert(0, _Finder(eyes))


class _Finder(MetaPathFinder):
    def __init__(self, eyes: Eyes) -> None:
        self._eyes = eyes

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in FUNCTIONS and fullname not in CLASSES:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._eyes)
        return spec


class _Loader(Loader):
    """Loads as the module's own loader does, changes the module, and leaves no trace of itself."""

    def __init__(self, loader: Any, eyes: Eyes) -> None:
        self._loader = loader
        self._eyes = eyes

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _change(module, module.__name__, self._eyes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _change(module: ModuleType, name: str, eyes: Eyes) -> None:
    try:
        for function in FUNCTIONS.get(name, ()):
            setattr(module, function, _seen(getattr(module, function), name, eyes))
        for each in CLASSES.get(name, ()):
            kind: Any = getattr(module, each)
            kind.__init__ = _seen_method(kind.__init__, name, eyes)
    except (AttributeError, TypeError):  # another release, made otherwise
        eyes.missed(name)


def _seen(function: Callable[..., Any], module: str, eyes: Eyes) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        eyes.look(module, args, kwargs)
        return function(*args, **kwargs)

    return called


def _seen_method(method: Callable[..., Any], module: str, eyes: Eyes) -> Callable[..., Any]:
    @functools.wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        eyes.look(module, args, kwargs)
        return method(self, *args, **kwargs)

    return called


def _is_local(filesystem: Any) -> bool:
    return filesystem is None or type(filesystem).__name__ == "LocalFileSystem"


def _paths(source: Any) -> Iterator[str]:
    """What is named; an open file was seen when it was opened, and a table in memory is no file."""
    if isinstance(source, str | bytes | os.PathLike):
        text = os.fsdecode(source)
        yield unquote(urlsplit(text).path) if text.startswith("file:") else text.partition("?format=")[0]
    elif isinstance(source, list | tuple):
        for each in source:
            yield from _paths(each)


def _files(path: str) -> Iterator[str]:
    """The file, the files that match, or those of the folder without hidden ones."""
    if os.path.isdir(path):
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield from (os.path.join(folder, name) for name in names if not name.startswith("."))
    elif os.path.exists(path):
        yield path
    else:
        yield from glob.glob(path, recursive=True)

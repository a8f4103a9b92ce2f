"""What a pickle holds, read without running anything of it: classes and functions become stand-ins.

Arrays of numpy are rebuilt from their bytes, since that is all that they are. Everything else that a pickle would call
is kept as what would have been called with what.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np


class StandIn:
    """In place of an object: what would have made it, with what, and the state that it would have been given."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None
        self.items: list[Any] = []

    def __setstate__(self, state: Any) -> None:
        """Keep what it would have been given."""
        self.state = state

    def __call__(self, *arguments: Any) -> StandIn:
        """In place of what calling it would have given."""
        return StandIn(self.name, arguments)

    def append(self, item: Any) -> None:
        """An item of what would have been a list."""
        self.items.append(item)

    def extend(self, items: Any) -> None:
        """Items of what would have been a list."""
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def __hash__(self) -> int:
        return id(self)


class _Array(StandIn):
    """An array that is being rebuilt."""

    def __init__(self) -> None:
        super().__init__("numpy.ndarray")
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        """Make the array, if it is one of plain values."""
        self.state = state
        _, shape, dtype, fortran, content = state
        if isinstance(dtype, np.dtype) and isinstance(content, bytes):
            self.value = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


class _Dtype(StandIn):
    """A type of numpy; those of texts and numbers become real ones."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        made = _MAKERS.get(name) if module.partition(".")[0] == "numpy" else None
        return made or _class_named(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return StandIn(f"persistent {pid!r}")


def _class_named(name: str) -> Any:
    """A class of its own, so that both ``cls(...)`` and ``cls.__new__(cls)`` give a stand-in of that name."""

    class Named(StandIn):
        def __new__(cls, *arguments: Any) -> Self:
            made = object.__new__(cls)
            StandIn.__init__(made, name, arguments)
            return made

        def __init__(self, *arguments: Any) -> None:
            pass

    Named.__qualname__ = name
    return Named


def _frombuffer(content: Any, dtype: Any, shape: Any, order: str) -> Any:
    if not isinstance(dtype, np.dtype):
        return StandIn("numpy._frombuffer", (bytes(content), dtype, shape, order))
    return np.frombuffer(bytes(content), dtype).reshape(shape, order="F" if order == "F" else "C")


def _dtype(*arguments: Any) -> Any:
    kind = arguments[0]
    if isinstance(kind, str) and kind[:1] in "biufcSUmM" and kind != "O":
        return _RealDtype(kind)
    return StandIn("numpy.dtype", arguments)


class _RealDtype:
    """Stands for a real type until its state, of which only the order of bytes counts, was given."""

    def __new__(cls, kind: str) -> Any:
        return np.dtype(kind)


def _scalar(dtype: Any, content: Any = b"") -> Any:
    if isinstance(dtype, np.dtype) and isinstance(content, bytes) and len(content) == dtype.itemsize:
        return np.frombuffer(content, dtype)[0]
    return StandIn("numpy.scalar", (dtype, content))


_MAKERS: dict[str, Callable[..., Any]] = {
    "_reconstruct": lambda *_: _Array(),
    "_frombuffer": _frombuffer,
    "dtype": _dtype,
    "scalar": _scalar,
}


def read(raw: bytes) -> Any:
    """The structure of a pickle.

    Raises:
        Exception: it is no pickle, or one of a kind that cannot be read so; there is no common class.
    """
    return _Unpickler(io.BytesIO(raw)).load()


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Every value in such a structure by its place."""
    yield from _walk(value, "", set())


def _walk(value: Any, place: str, within: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _Array) and value.value is not None:
        yield place, value.value
    elif isinstance(value, np.ndarray | np.generic):
        yield place, np.asarray(value)
    elif isinstance(value, StandIn | dict | list | tuple | set | frozenset):
        if id(value) not in within:
            yield from _walk_container(value, place, within | {id(value)})
    elif value is not None:
        yield place, bytes(value) if isinstance(value, bytes | bytearray) else str(value)


def _walk_container(value: Any, place: str, within: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, StandIn) and value.name.startswith("numpy.random."):
        return  # where a source of chance was left is not learned
    if isinstance(value, StandIn):
        yield f"{place}.<class>".lstrip("."), value.name
        for at, argument in enumerate(value.arguments):
            yield from _walk(argument, f"{place}({at})", within)
        yield from _walk(value.state, place, within)
        yield from _walk(value.items, place, within) if value.items else ()
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _walk(entry, f"{place}.{key}".lstrip("."), within)
    else:
        members = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        for at, entry in enumerate(members):
            yield from _walk(entry, f"{place}[{at}]", within)

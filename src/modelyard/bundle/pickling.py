"""Pickles that are the same in every process, and what modules an object needs in order to be rebuilt."""

from __future__ import annotations

import dis
import hashlib
import io
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import cloudpickle
import cloudpickle.cloudpickle as internals

from modelyard.bundle.skopsfile import ADDRESSES

_PROTOCOL = 5
_PATHS = ("__file__", "__path__")


@dataclass(frozen=True, slots=True)
class References:
    """What an object's pickle refers to.

    `modules` are the dotted names of all modules that its classes and functions come from or import; `by_value` names
    the functions and classes that no module of a file holds (of the training script, a notebook, or made by a
    function), whose code travels inside the pickle.
    """

    modules: frozenset[str]
    by_value: tuple[str, ...]


def dumps(value: Any) -> bytes:
    """A pickle of `value`, code of the training script included, without paths, random marks or addresses.

    Raises:
        Exception: whatever the object raises on being pickled; there is no common class.
    """
    target = io.BytesIO()
    _Pickler(target).dump(value)
    return _without_marks(target.getvalue())


def references(value: Any) -> References:
    """What `value` needs besides its own state."""
    pickler = _Pickler(_Nowhere())
    pickler.dump(value)
    return References(frozenset(pickler.modules), tuple(pickler.by_value))


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle that notes where everything comes from and leaves out where the script lay on disk."""

    def __init__(self, target: Any) -> None:
        super().__init__(target, protocol=_PROTOCOL)
        self.modules: dict[str, None] = {}
        self.by_value: dict[str, None] = {}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.CodeType):
            self._note_imports(obj)
            return self._reduced_code(obj)
        reduced = super().reducer_override(obj)
        if isinstance(obj, types.CellType):
            reduced = self.dispatch_table[types.CellType](obj)
        if reduced is not NotImplemented:
            reduced = _ordered(reduced)
        elif _remembers_addresses(obj) or _holds_sets(obj):
            return _ordered(_without_addresses(obj))
        if isinstance(obj, types.ModuleType):
            self.modules[obj.__name__] = None
        elif isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType)):
            self._note_origin(obj, by_value=reduced is not NotImplemented)
        return reduced

    def _reduced_code(self, code: types.CodeType) -> Any:
        reduce: Callable[[types.CodeType], Any] = self.dispatch_table[types.CodeType]
        constants = _ordered(code.co_consts)
        return reduce(code.replace(co_filename=PurePath(code.co_filename).name, co_consts=constants))

    def _note_origin(self, obj: Any, by_value: bool) -> None:
        module = getattr(obj, "__module__", None)
        if by_value and not _is_builtin_type(obj):
            self.by_value[f"{module}.{obj.__qualname__}"] = None
        if isinstance(module, str) and module != "__main__":
            self.modules[module] = None

    def _note_imports(self, code: types.CodeType) -> None:
        for step in dis.get_instructions(code):
            if step.opname == "IMPORT_NAME" and step.argval:
                self.modules[step.argval] = None

    def _function_getnewargs(self, func: types.FunctionType) -> Any:
        arguments = super()._function_getnewargs(func)
        for name in _PATHS:
            if name in arguments[1]:
                arguments[1][name] = PurePath(str(arguments[1][name])).name
        return arguments


class _Ordered:
    """Travels in place of a set and arrives as one: sets themselves are written in the order of the hash seed."""

    def __init__(self, members: Any) -> None:
        self._make, self._members = (
            type(members),
            sorted(members, key=lambda member: (type(member).__name__, repr(member))),
        )

    def __reduce__(self) -> Any:
        return self._make, (self._members,)


def _ordered(value: Any, depth: int = 6) -> Any:
    """`value` with ordered stand-ins for the sets in it; the same object where there are none.

    Only plain containers are looked into, and not deeper than what reducing functions, classes and objects nest.
    """
    kind = type(value)
    if kind in (set, frozenset):
        return _Ordered(value)
    if depth and kind is dict:
        changed = {key: _ordered(entry, depth - 1) for key, entry in value.items()}
        return changed if any(changed[key] is not value[key] for key in value) else value
    if depth and kind in (tuple, list):
        entries = [_ordered(entry, depth - 1) for entry in value]
        return kind(entries) if any(new is not old for new, old in zip(entries, value, strict=True)) else value
    return value


def _attributes(obj: Any) -> dict[str, Any]:
    return {} if isinstance(obj, (type, types.ModuleType)) else getattr(obj, "__dict__", None) or {}


def _remembers_addresses(obj: Any) -> bool:
    return any(name in _attributes(obj) for name in ADDRESSES)


def _holds_sets(obj: Any) -> bool:
    return any(type(entry) in (set, frozenset) for entry in list(_attributes(obj).values()))


def _without_addresses(obj: Any) -> Any:
    """How `obj` would be pickled, with zero in place of the addresses that it remembers."""
    make, arguments, state, *more = obj.__reduce_ex__(_PROTOCOL)
    if isinstance(state, dict):
        state = {**state, **{name: 0 for name in ADDRESSES if name in state}}
    return (make, arguments, state, *more)


def _is_builtin_type(obj: Any) -> bool:
    """Types such as ``type(None)``, which cloudpickle reduces in its own way though they travel by name."""
    return isinstance(obj, type) and getattr(obj, "__module__", None) in ("builtins", "types")


def _without_marks(data: bytes) -> bytes:
    """Replace the random mark that cloudpickle gives each class of the script by one that follows from the content.

    Marks tie copies of a class together within one process. A mark must differ between different classes, so it is
    made from all of the pickle.
    """
    marks = {str(mark).encode() for mark in list(internals._DYNAMIC_CLASS_TRACKER_BY_CLASS.values())}  # noqa: SLF001
    found = sorted((data.find(mark), mark) for mark in marks if mark in data)
    blank = data
    for number, (_, mark) in enumerate(found):
        blank = blank.replace(mark, f"{number:032d}".encode())
    base = hashlib.blake2b(blank, digest_size=16).hexdigest()
    for number, (_, mark) in enumerate(found):
        ours = hashlib.blake2b(f"{base}:{number}".encode(), digest_size=16).hexdigest()
        data = data.replace(mark, ours.encode())
    return data

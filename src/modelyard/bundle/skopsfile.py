"""skops files whose bytes depend on nothing but the estimator.

skops numbers objects by their memory address, names members after those numbers and stamps the time into the
archive. Here the file is written again with numbers in order of appearance, so that the same estimator gives the
same bytes in any process; it stays a plain skops file that ``skops.io.load`` reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_EPOCH = (1980, 1, 1, 0, 0, 0)
_HEADER = 4096
_LEAVES = frozenset({"JsonNode", "TypeNode", "FunctionNode"})
_SETS = frozenset({"SetNode"})

ADDRESSES = ("_stop_words_id",)
"""Attributes in which scikit-learn keeps the memory address of another object."""


def dumps(estimator: Any) -> bytes:
    """`estimator` as the bytes of a skops file.

    Raises:
        Exception: whatever skops raises on what it cannot write; there is no common class.
    """
    import skops.io

    return canonical(skops.io.dumps(estimator))


def canonical(data: bytes) -> bytes:
    """The same skops file with numbers, names and times that do not depend on the process that wrote it."""
    schema, members = _opened(data)
    members = {name: _without_padding(name, content) for name, content in members.items()}
    _forget_addresses(schema)
    _sort_sets(schema, members)
    names = _renumber(schema, members)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for old, new in names.items():
            archive.writestr(zipfile.ZipInfo(new, _EPOCH), members[old])
        text = json.dumps(schema, separators=(",", ":"))
        archive.writestr(zipfile.ZipInfo("schema.json", _EPOCH), text)
    return target.getvalue()


def fingerprint(data: bytes) -> str:
    """A digest over the content alone: which equal parts are one object in memory makes no difference."""
    schema, members = _opened(data)
    members = {name: _without_padding(name, content) for name, content in members.items()}
    digest = hashlib.blake2b(json.dumps(_content(schema, members), sort_keys=True).encode())
    return digest.hexdigest()


def types_in(data: bytes) -> frozenset[tuple[str, str]]:
    """Module and name of every class and function that the file mentions."""
    schema, _ = _opened(data)
    return frozenset(
        (node["__module__"], node["__class__"]) for node in _nodes(schema) if node.get("__module__") is not None
    )


def _opened(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(members.pop("schema.json")), members


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every node below `value`, parents before children, in the order of the file."""
    stack = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            if "__loader__" in current:
                yield current
            stack.extend(reversed(list(current.values())))
        elif isinstance(current, list):
            stack.extend(reversed(current))


def _renumber(schema: dict[str, Any], members: dict[str, bytes]) -> dict[str, str]:
    """Number nodes and members by first appearance, in place; returns new member names by old ones."""
    numbers: dict[Any, int] = {}
    names: dict[str, str] = {}
    for node in _nodes(schema):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(_identity(node), len(numbers) + 1)
        if isinstance(node.get("file"), str) and node["file"] in members:
            old = node["file"]
            node["file"] = names.setdefault(old, f"{len(names)}.{old.rpartition('.')[2]}")
    return names


def _identity(node: dict[str, Any]) -> Any:
    """What makes two nodes one object: for unchangeable leaves their content, else the number that skops gave."""
    if node["__loader__"] in _LEAVES:
        return node["__loader__"], node.get("__module__"), node.get("__class__"), node.get("content")
    return node["__id__"]


def _forget_addresses(schema: dict[str, Any]) -> None:
    """Put zero, which is nobody's address, where an estimator remembers one: it means nothing in another process."""
    for node in _nodes(schema):
        content = node.get("content")
        for name in ADDRESSES:
            if isinstance(content, dict) and isinstance(content.get(name), dict) and "content" in content[name]:
                content[name]["content"] = "0"


def _sort_sets(schema: dict[str, Any], members: dict[str, bytes]) -> None:
    """Order the members of sets by content: their own order follows the hash seed of the process."""
    for node in _nodes(schema):
        if node["__loader__"] in _SETS:
            node["content"].sort(key=_sort_key(members))


def _sort_key(members: dict[str, bytes]) -> Callable[[Any], str]:
    return lambda node: json.dumps(_content(node, members), sort_keys=True)


def _content(value: Any, members: dict[str, bytes]) -> Any:
    """`value` without numbers, and with digests in place of member names."""
    if isinstance(value, list):
        return [_content(entry, members) for entry in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _content(entry, members) for key, entry in value.items() if key != "__id__"}
    if isinstance(kept.get("file"), str) and kept["file"] in members:
        kept["file"] = hashlib.blake2b(members[kept["file"]]).hexdigest()
    if kept.get("__loader__") in _SETS:
        kept["content"] = sorted(kept["content"], key=lambda entry: json.dumps(entry, sort_keys=True))
    return kept


def _without_padding(name: str, content: bytes) -> bytes:
    """Zero the gaps between the fields of structured arrays (the nodes of trees), which hold leftover memory."""
    if not name.endswith(".npy") or b"|V" not in content[:_HEADER]:
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None or not array.flags.c_contiguous:
        return content
    body = bytearray(array.nbytes)
    clean = np.frombuffer(body, dtype=array.dtype).reshape(array.shape)
    for field in array.dtype.names:
        clean[field] = array[field]
    return content[: len(content) - len(body)] + bytes(body)

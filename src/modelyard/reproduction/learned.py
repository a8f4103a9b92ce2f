"""What an estimator learned, read from its file without building it: every array and value by its place.

The files of two runs differ in what nobody learned: numbers of threads, how long a search took, the state in which a
random source was left. Such things are left out, and what remains is named by attribute, so that a difference can be
pointed at.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from blake3 import blake3

from modelyard.bundle import skopsfile
from modelyard.bundle.layout import Bundle
from modelyard.domain.compare import ulps
from modelyard.domain.reproduction import Learned
from modelyard.reproduction import pickled

State: TypeAlias = Mapping[str, Any]
"""By place in the estimator, such as ``steps[1].coef_``: an array, or the bytes or text of what is none."""

NOT_LEARNED = frozenset(
    {
        "_random_seed",
        "_sklearn_output_config",
        "_sklearn_version",
        "device",
        "memory",
        "n_jobs",
        "nthread",
        "num_threads",
        "pre_dispatch",
        "random_state",
        "refit_time_",
        "thread_count",
        "verbose",
        "verbosity",
    }
)
"""Attributes that are settings without effect on what is learned, or left over from it."""

_TIMES = ("_fit_time", "_score_time")
_SOURCES = ("RandomStateNode", "RandomGeneratorNode")
_PASSED = ("__class__", "__module__", "__loader__", "__id__", "key_types", "type", "is_json")
_WRAPPERS = ("content", "__reduce__", "attrs", "state")
_SHOWN = 8
_XGBOOST_MODEL = b"L" + (5).to_bytes(8, "big") + b"Model{"
"""Where the model begins in what XGBoost writes (UBJSON); before it comes the configuration."""


def state_of(bundle: Bundle) -> State:
    """What the estimator of a bundle learned; of a form that cannot be looked into, its whole file as one part."""
    native = bundle.manifest.native
    if native is None:
        return {}
    more = sorted(name for name in bundle.manifest.files if name.startswith("model/artifacts/"))
    parts = parts_of(native.format, (bundle.path / native.path).read_bytes())
    return {**parts, **{name: (bundle.path / name).read_bytes() for name in more}}


def parts_of(written: str, raw: bytes) -> dict[str, Any]:
    """The parts of an estimator's file: a skops file, a pickle or an ONNX graph. Nothing in it is built or run.

    A file that cannot be looked into is one part.
    """
    if written == "skops":
        return dict(_by_fields(_of_skops(raw)))
    if written == "cloudpickle":
        with suppress(Exception):  # whatever a strange pickle leads to: it is compared as it is
            found = _by_fields(pickled.parts(pickled.read(raw)))
            return {name: value for name, value in found if not any(map(_is_left_out, name.split(".")))}
    return {"<file>": raw}


def _by_fields(parts: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """With arrays of records, such as the nodes of trees, field by field: between fields lies leftover memory."""
    for name, value in parts:
        if isinstance(value, np.ndarray) and value.dtype.names is not None:
            yield from ((f"{name}.{field}", value[field]) for field in value.dtype.names)
        else:
            yield name, _without_configuration(value) if name.endswith("handle") else value


def _without_configuration(value: Any) -> Any:
    """The trees of an XGBoost or LightGBM booster without what they were configured with, such as numbers of threads.

    >>> _without_configuration("tree...parameters:[num_threads: 4]end of parameters...pandas")
    'tree......pandas'
    """
    if isinstance(value, bytes):
        before, model, after = value.partition(_XGBOOST_MODEL)
        return model + after if model and before.startswith(b"{") else value
    if isinstance(value, str):
        trees, _, rest = value.partition("parameters:")
        _, end, last = rest.partition("end of parameters")
        return trees + last if end else value
    return value


def digest(state: State) -> str:
    """``blake3:`` and the hex digest over all parts: place, type, shape and bytes of each.

    >>> one, other = {"a": np.zeros(2), "b": "x"}, {"b": "x", "a": np.zeros(2)}
    >>> digest(one) == digest(other), digest(one) == digest({**one, "a": np.zeros((2, 1))})
    (True, False)
    """
    whole = blake3()
    for name in sorted(state):
        kind, raw = _bytes_of(state[name])
        whole.update(f"{len(name)} {name} {kind} {len(raw)}\n".encode("utf-8", "surrogatepass") + raw)
    return f"blake3:{whole.hexdigest()}"


def compared(before: State, after: State) -> Learned:
    """How two states differ, part by part.

    >>> compared({"coef_": np.array([1.0])}, {"coef_": np.array([1.5])}).differing
    ('coef_: largest distance 5.0e-01',)
    """
    names = sorted(before.keys() | after.keys())
    different = [name for name in names if _differs(before.get(name), after.get(name))]
    distances = {name: _distance(before.get(name), after.get(name)) for name in different}
    told = sorted(different, key=lambda name: (distances[name] is None, -(distances[name] or (0.0, 0))[0], name))
    numbers = [distance for distance in distances.values() if distance is not None]
    return Learned(
        digest=digest(before),
        again=digest(after),
        parts=len(names),
        different=len(different),
        differing=tuple(_said(name, before, after, distances[name]) for name in told[:_SHOWN]),
        largest_abs=max((each[0] for each in numbers), default=0.0),
        largest_ulp=max((each[1] for each in numbers), default=0),
    )


def _said(name: str, before: State, after: State, distance: tuple[float, int] | None) -> str:
    if name not in before or name not in after:
        return f"{name}: only {'now' if name in after else 'in the original'}"
    if distance is not None:
        return f"{name}: largest distance {distance[0]:.1e}"
    shapes = [getattr(state[name], "shape", None) for state in (before, after)]
    return f"{name}: shape {shapes[0]}, now {shapes[1]}" if shapes[0] != shapes[1] else f"{name}: other values"


def _bytes_of(value: Any) -> tuple[str, bytes]:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.descr}{value.shape}", np.ascontiguousarray(value).tobytes()
    return ("bytes", value) if isinstance(value, bytes) else ("text", str(value).encode("utf-8", "surrogatepass"))


def _differs(before: Any, after: Any) -> bool:
    return before is None or after is None or _bytes_of(before) != _bytes_of(after)


def _distance(before: Any, after: Any) -> tuple[float, int] | None:
    """Largest distance and ULP of two arrays of numbers; None for what has no distance."""
    if not (isinstance(before, np.ndarray) and isinstance(after, np.ndarray)):
        return None
    if before.shape != after.shape or before.dtype != after.dtype or before.dtype.kind not in "fiu":
        return None
    if before.dtype.kind != "f":
        return float(np.abs(before.astype(np.float64) - after.astype(np.float64)).max(initial=0.0)), 0
    finite = np.isfinite(before) & np.isfinite(after)
    a, b = before[finite], after[finite]
    distance = np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0)
    return float(distance), int(ulps(a, b).max(initial=0)) if before.dtype.itemsize in (2, 4, 8) else 0


def _of_skops(raw: bytes) -> Iterator[tuple[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(skopsfile.canonical(raw))) as archive:
        schema = json.loads(archive.read("schema.json"))
        members = {name: archive.read(name) for name in archive.namelist() if name != "schema.json"}
    yield from _walk(schema, "", members)


def _walk(value: Any, place: str, members: Mapping[str, bytes]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for at, entry in enumerate(value):
            yield from _walk(entry, f"{place}[{at}]", members)
    elif isinstance(value, dict) and "__loader__" in value:
        yield from _walk_node(value, place, members)
    elif isinstance(value, dict):
        for name, entry in value.items():
            if not _is_left_out(name):
                yield from _walk(entry, place if name in _WRAPPERS else f"{place}.{name}".lstrip("."), members)
    elif value is not None:
        yield place, str(value)


def _walk_node(node: dict[str, Any], place: str, members: Mapping[str, bytes]) -> Iterator[tuple[str, Any]]:
    loader = node["__loader__"]
    if loader in _SOURCES or loader == "CachedNode":
        return
    if loader in ("ObjectNode", "TypeNode", "FunctionNode") or loader.endswith("TreeNode"):
        yield f"{place}.<class>".lstrip("."), f"{node.get('__module__')}.{node.get('__class__')}"
    if node.get("file") in members:
        yield place, _content(node["file"], members[node["file"]])
        return
    rest = {name: entry for name, entry in node.items() if name not in _PASSED}
    yield from _walk(rest, place, members)


def _is_left_out(name: str) -> bool:
    return name in NOT_LEARNED or name.endswith(_TIMES) or name in _PASSED


def _content(name: str, raw: bytes) -> Any:
    if not name.endswith(".npy"):
        return raw
    return np.load(io.BytesIO(raw), allow_pickle=False)

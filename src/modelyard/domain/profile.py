"""The reference profile: counts that describe columns and answers, mergeable and without any row.

Numbers are counted in bins between quantiles of the reference. A value that makes up more than a bin's share is an
*atom* with a slot of its own, and missing, infinite, smaller and larger values have slots too, so that counts of live
windows taken with the same edges can be added and compared exactly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from modelyard.domain import pairs
from modelyard.domain.frame import Answers, Array, Frame, Vector
from modelyard.domain.schema import Kind, Scalar, Schema

FORMAT = 1
BINS = 64
NAMED_VALUES = 255
"""So many texts are counted by name at most."""

LEAST_NAMED = 5
"""A text that occurs less often than this is not named, so that no single person's entry is kept."""

_POSITIONS = 256

Profile = dict[str, Any]


def build(frame: Frame, answers: Answers, schema: Schema, answered: Frame | None = None) -> Profile:
    """Counts of every column of `frame` and every output of `answers`, ready for JSON.

    Arrays are described position by position (the first 256), probabilities and scores class by class. Of plain columns
    some pairs are counted together (`modelyard.domain.pairs`). `answered` are the rows that the answers are to.

    >>> from modelyard.domain.schema import Column
    >>> schema = Schema("dataframe", (Column("n", Kind.INT64, nullable=False, dtype="int64"),), ())
    >>> build(Frame({"n": Vector(np.array([1, 2, 2]))}, 3), {}, schema)["inputs"]["n"]["max"]
    2.0
    """
    inputs: Profile = {}
    for column in schema.columns:
        inputs |= _described(column.name, frame[column.name], column.kind, None, by_name=column.categories is not None)
    outputs: Profile = {}
    for output in schema.outputs:
        labels = output.classes if output.shape else None
        vector = Vector(answers[output.name])
        outputs |= _described(output.name, vector, output.kind, labels, by_name=output.role == "label")
    found: Profile = {"format": FORMAT, "rows": frame.rows, "inputs": inputs, "outputs": outputs}
    together = _pairs(frame, answers, schema, answered, inputs)
    return found if together is None else {**found, "pairs": together}


def _pairs(
    frame: Frame, answers: Answers, schema: Schema, answered: Frame | None, inputs: Profile
) -> dict[str, Any] | None:
    """Counts of pairs of plain columns."""
    how = {name: each for name, column in inputs.items() if (each := pairs.levels_of(column)) and name in frame.columns}
    influence: dict[str, float] = {}
    score = None if answered is None else _score(answers, schema)
    to = None if score is None else pairs.number_levels(score)
    if answered is not None and score is not None and to is not None and len(score) == answered.rows:
        level = {name: pairs.of_vector(each, answered[name]) for name, each in how.items()}
        influence = pairs.influence_on(pairs.of_numbers(to, score), level)
    return pairs.described(how, {name: pairs.of_vector(each, frame[name]) for name, each in how.items()}, influence)


def _score(answers: Answers, schema: Schema) -> Array | None:
    """One number for each answer: a probability, a score or a value, else which class it is."""
    for role in ("probability", "score", "value", "label"):
        for output in schema.outputs:
            if output.role == role and output.name in answers:
                values = answers[output.name]
                flat = values.reshape(len(values), -1)[:, -1]
                kind = flat.dtype.kind
                return np.asarray(
                    flat if kind in "iufb" else np.unique(flat.astype(str), return_inverse=True)[1], float
                )
    return None


def _described(
    name: str, vector: Vector, kind: Kind, labels: Sequence[Scalar] | None, *, by_name: bool
) -> dict[str, Profile]:
    values, gone = vector.values, vector.is_missing()
    if values.ndim == 1:
        return {name: _one(values, gone, kind, by_name=by_name)}
    flat, flat_gone = values.reshape(len(values), -1), gone.reshape(len(values), -1)
    names = labels if labels is not None and len(labels) == flat.shape[1] else range(flat.shape[1])
    return {
        f"{name}[{part}]": _one(flat[:, at], flat_gone[:, at], kind, by_name=by_name)
        for at, part in enumerate(names[:_POSITIONS])
    }


def _one(values: Array, gone: Array, kind: Kind, *, by_name: bool) -> Profile:
    present = values[~gone]
    missing = int(gone.sum())
    if by_name or kind in (Kind.STRING, Kind.BOOL):
        return _by_name(present, missing, free=kind is Kind.STRING and not by_name)
    if kind is Kind.DATETIME:
        return {"unit": "seconds since 1970", **numbers_described(present.astype("int64") / 1e9, missing)}
    return numbers_described(present.astype(np.float64), missing)


def _by_name(present: Array, missing: int, *, free: bool) -> Profile:
    counted = Counter(present.tolist())
    ordered = sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))
    return values_described(ordered[:NAMED_VALUES], len(present), missing, len(counted), free=free)


def values_described(
    commonest: Sequence[tuple[Any, int]], present: int, missing: int, distinct: int, *, free: bool
) -> Profile:
    """A column of texts or truth values: how often its `commonest` values occur (at most `NAMED_VALUES` of them).

    Of `free` text only what occurs `LEAST_NAMED` times is named.

    >>> values_described([("EWR", 9), ("JFK", 2)], 12, 1, 3, free=True)["values"]
    [['EWR', 9]]
    """
    named = [[value, count] for value, count in commonest if count >= (LEAST_NAMED if free else 1)]
    return {
        "type": "values",
        "n": present + missing,
        "missing": missing,
        "values": named,
        "other": present - sum(count for _, count in named),
        "unseen": 0,
        "distinct": distinct,
    }


def numbers_described(present: Array, missing: int) -> Profile:
    """A column of numbers: the values that are there, as floats, and how many are missing.

    >>> numbers_described(np.array([1.0, 2.0, 2.0]), 1)["n"]
    4
    """
    finite = present[np.isfinite(present)]
    atoms = _atoms(finite)
    spread = finite[~np.isin(finite, [value for value, _ in atoms])] if atoms else finite
    edges = _edges(spread)
    counts = np.histogram(spread, bins=edges)[0].tolist() if len(edges) > 1 else []
    return {
        "type": "numbers",
        "n": len(present) + missing,
        "missing": missing,
        "infinite": len(present) - len(finite),
        "below": 0,
        "above": 0,
        "atoms": atoms,
        "edges": edges,
        "counts": counts,
        **_moments(finite),
    }


def _atoms(finite: Array) -> list[list[Any]]:
    """Values with more than a bin's share, and how often they occur."""
    if not len(finite):
        return []
    values, counts = np.unique(finite, return_counts=True)
    heavy = counts > len(finite) / BINS
    return [[value, count] for value, count in zip(values[heavy].tolist(), counts[heavy].tolist(), strict=True)]


def _edges(spread: Array) -> list[float]:
    """Quantiles without repetition. Each bin holds its lower edge, the last one also its upper."""
    if not len(spread):
        return []
    edges = np.unique(np.quantile(spread, np.linspace(0.0, 1.0, BINS + 1), method="inverted_cdf")).tolist()
    return edges if len(edges) > 1 else [edges[0], math.nextafter(edges[0], math.inf)]


def _moments(finite: Array) -> Profile:
    if not len(finite):
        return {"sum": 0.0, "sumsq": 0.0, "min": None, "max": None}
    with np.errstate(over="ignore", invalid="ignore"):
        total, squares = float(finite.sum()), float(np.square(finite).sum())
    return {
        "sum": total if math.isfinite(total) else None,
        "sumsq": squares if math.isfinite(squares) else None,
        "min": float(finite.min()),
        "max": float(finite.max()),
    }

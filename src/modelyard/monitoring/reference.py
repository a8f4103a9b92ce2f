"""What live windows are compared with: the slots of every column, made from a reference profile or from a table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from blake3 import blake3

from modelyard.domain.frame import Answers, Frame, Vector
from modelyard.domain.profile import NAMED_VALUES, numbers_described, values_described
from modelyard.errors import InvalidRequest
from modelyard.monitoring.columns import Column, Table, Tallied, table_of
from modelyard.monitoring.newcomers import as_texts
from modelyard.monitoring.pairs import Pairs, pairs_of_table
from modelyard.monitoring.slots import NumberSlots, Slots, Tally, known_filter, slots_of
from modelyard.monitoring.windows import Profile

_LEARNED = 1_000_000
"""Quantiles of a longer reference are learned from so many of its rows, evenly spread; all rows are counted."""


class Reference:
    """Slots and counts of the columns that windows are compared with.

    `described` are the columns as the reference profile has them, `families` what they are (numbers, texts ...).
    `pairs` are those of its columns that are counted together; None in profiles of earlier releases. `digest` tells
    references apart: profiles of one reference can be added, of different ones not.
    """

    def __init__(
        self,
        columns: Mapping[str, Mapping[str, Any]],
        rows: int,
        known: Mapping[str, bytes] | None = None,
        families: Mapping[str, str] | None = None,
        together: Mapping[str, Any] | None = None,
    ) -> None:
        self.rows = rows
        self.described = columns
        self.families = families or {name: _family(column) for name, column in columns.items()}
        known = known or {}
        made = {name: slots_of(column, known.get(name)) for name, column in columns.items()}
        self.slots: dict[str, Slots] = {name: slots for name, slots in made.items() if slots is not None}
        self.skipped = tuple(name for name, slots in made.items() if slots is None)
        self.pairs = None if together is None else Pairs(together)
        self._made_of = (columns, rows, known) if together is None else (columns, rows, known, together)

    @classmethod
    def of_profile(cls, profile: Mapping[str, Any]) -> Reference:
        """From the reference profile of a version: its inputs, and its outputs under their names.

        An output that has the name of an input is written ``output:name``.
        """
        inputs, outputs = profile["inputs"], profile["outputs"]
        named = {(f"output:{name}" if name in inputs else name): column for name, column in outputs.items()}
        return cls({**inputs, **named}, profile["rows"], together=profile.get("pairs"))

    @classmethod
    def of_table(cls, data: Any) -> Reference:
        """From a table: a DataFrame, an Arrow table, a `Frame`, or a mapping of names to values.

        >>> Reference.of_table({"n": [1.0, 2.0]}).rows
        2

        Raises:
            InvalidRequest: it is no table.
        """
        table = data if isinstance(data, Table) else table_of(data)
        columns, known = {}, {}
        for name, column in table.columns.items():
            columns[name], known[name] = _described(column, table.rows)
        families = {name: column.family for name, column in table.columns.items()}
        known_texts = {name: each for name, each in known.items() if each is not None}
        return cls(columns, table.rows, known_texts, families, pairs_of_table(table, columns))

    @cached_property
    def digest(self) -> str:
        """BLAKE3 (hex) over all that counting depends on."""
        return blake3(msgspec.msgpack.encode(self._made_of, order="deterministic")).hexdigest()

    def profile(self, data: Any) -> Profile:
        """Count a table's rows in the slots; columns that it lacks, or the reference does not have, are left out.

        Raises:
            InvalidRequest: it is no table, or a column that was of numbers holds something else.
        """
        table = data if isinstance(data, Table) else table_of(data)
        counted = {
            name: tallied(slots, table.columns[name]) for name, slots in self.slots.items() if name in table.columns
        }
        met = self.pairs.met(table) if self.pairs is not None else {}
        return Profile(self.digest, table.rows, counted, met)

    def profile_of_calls(self, frame: Frame, answers: Answers, classes: Mapping[str, Any] | None = None) -> Profile:
        """Count requests and what was answered, as `modelyard.domain.profile.build` names their columns.

        `classes` names the last axis of the outputs that have one.
        """
        columns = dict(frame.columns)
        for name, answer in answers.items():
            own = f"output:{name}" if name in frame.columns else name
            parts = (classes or {}).get(name)
            if answer.ndim == 1 or not parts:
                columns[own] = Vector(answer)
                continue
            flat = answer.reshape(len(answer), -1)
            columns.update({f"{own}[{part}]": Vector(flat[:, at]) for at, part in enumerate(parts)})
        return self.profile(Frame(columns, frame.rows))


def tallied(slots: Slots, column: Column) -> Tally:
    """Count one column."""
    if isinstance(slots, NumberSlots):
        return slots.tally(column.numbers())
    found = column.tallied() if column.sort != "other" else Tallied([], np.empty(0, dtype=np.int64), 0)
    return slots.tally(found.distinct, found.occurring, found.missing)


def _family(profile: Mapping[str, Any]) -> str:
    if profile["type"] == "numbers":
        return "moments" if "unit" in profile else "numbers"
    if profile["type"] == "values":
        return "truth values" if all(isinstance(value, bool) for value, _ in profile["values"]) else "texts"
    return "other"


def _described(column: Column, rows: int) -> tuple[dict[str, Any], bytes | None]:
    """The column as a reference profile has it, and a filter over values that it does not name."""
    if column.sort == "other":
        return {"type": "other", "n": rows, "missing": 0}, None
    if column.sort == "numbers":
        return _numbers_described(column), None
    found = column.tallied()
    ordered = sorted(
        zip(found.distinct, found.occurring.tolist(), strict=True), key=lambda item: (-item[1], str(item[0]))
    )
    present = int(found.occurring.sum())
    free = any(isinstance(value, str) for value, _ in ordered[:1])
    described = values_described(ordered[:NAMED_VALUES], present, found.missing, len(ordered), free=free)
    unnamed = ordered[len(described["values"]) :]
    return described, known_filter(as_texts([value for value, _ in unnamed]))


def _numbers_described(column: Column) -> dict[str, Any]:
    """Bins from all rows, or of a long column from some, in which then all rows are counted."""
    values = column.numbers()
    if len(values) <= _LEARNED:
        there = values[~np.isnan(values)]
        return numbers_described(there, len(values) - len(there))
    some = values[:: -(-len(values) // _LEARNED)]
    learned = numbers_described(some[~np.isnan(some)], 0)
    finite = values[np.isfinite(values)]
    if len(finite):
        learned |= {"min": float(finite.min()), "max": float(finite.max())}
    return _recounted(learned, values)


def _recounted(learned: dict[str, Any], values: Any) -> dict[str, Any]:
    slots = NumberSlots({**learned, "missing": 0})
    found = slots.tally(values)
    counts = found.counts.tolist()
    starts = list(slots.starts)
    heavy = [[atom, count] for atom, count in zip(slots.atoms, counts[slots.above + 1 :], strict=True)]
    if slots.end is None:
        raise InvalidRequest("a column without any finite number has no bins")  # pragma: no cover - not sampled away
    return {
        **learned,
        "n": len(values),
        "missing": counts[slots.MISSING],
        "infinite": counts[slots.INFINITE],
        "atoms": heavy,
        "edges": [*starts, float(np.nextafter(slots.end, -np.inf))],
        "counts": counts[slots.FIRST : slots.above],
    }

"""Recorded calls to counts: the same bytes however they are split, and the same as counting the rows at once."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.domain.frame import Frame, Vector
from modelyard.domain.profile import build
from modelyard.domain.records import PredictionRecord, WireForm
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.monitoring.counting import Counted, Part, count
from modelyard.monitoring.parts import PartTables, encoded, merged
from modelyard.protocol import arrow, oip, rows
from modelyard.protocol.table import Source
from modelyard.records.log import _encode, decode_record

HOUR = 3_600_000_000_000
OUTPUTS = (
    Output("predict", Kind.STRING, "label", "predict", classes=("late", "on time"), dtype="object"),
    Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("late", "on time")),
)
COLUMNS = (
    Column("temp", Kind.FLOAT64, nullable=True, dtype="float64"),
    Column("seats", Kind.INT64, nullable=False, dtype="int64"),
    Column("carrier", Kind.STRING, nullable=True, dtype="object", missing="none"),
)
SCHEMA = Schema("dataframe", COLUMNS, OUTPUTS)


def _frame(draw: np.random.Generator, many: int) -> Frame:
    temp = np.where(draw.random(many) < 0.1, np.nan, draw.normal(15, 8, many))
    carrier = draw.choice(np.array(["UA", "EV", "B6", None, "new one"], dtype=object), many)
    return Frame({"temp": Vector(temp), "seats": Vector(draw.integers(0, 300, many)), "carrier": Vector(carrier)}, many)


def _answers(frame: Frame) -> dict[str, Any]:
    late = 1 / (1 + np.exp(-np.nan_to_num(frame["temp"].values) / 10))
    label = np.where(late > 0.7, "late", "on time").astype(object)
    return {"predict": label, "predict_proba": np.column_stack([late, 1 - late])}


def _counted() -> Counted:
    frame = _frame(np.random.default_rng(1), 2000)
    return Counted.of(SCHEMA, build(frame, _answers(frame), SCHEMA))


COUNTED = _counted()


def _record(frame: Frame, at: int, form: WireForm = "rows", received: int = 0, **facts: Any) -> PredictionRecord:
    source = Source("m", 1, f"p{at}", frame.rows, deployment="d")
    answers = _answers(frame)
    request, response = {
        "rows": lambda: (rows.write_request(frame, SCHEMA), rows.write_response(answers, SCHEMA, source)),
        "oip": lambda: (
            oip.write_request(frame, SCHEMA),
            oip.write_response(answers, SCHEMA, name="m", version="1", prediction_id=f"p{at}"),
        ),
        "arrow": lambda: (arrow.write_request(frame, SCHEMA), arrow.write_response(answers, SCHEMA, source)),
    }[form]()
    known = {"content_type": "application/json"} | facts
    return PredictionRecord(
        f"p{at}", "d", "m", 1, "blake3:0", received, 10**6 + at, 200, "ok", form, frame.rows, request, response, **known
    )


def _count(records: list[PredictionRecord]) -> dict[Any, Part]:
    return count(records, lambda digest: COUNTED, lambda deployment: 3600.0)


@pytest.mark.parametrize("form", ["rows", "oip", "arrow"])
@pytest.mark.parametrize("size", [1, 7])
def test_calls_of_every_form_are_counted_as_their_rows_are(form: WireForm, size: int) -> None:
    frame = _frame(np.random.default_rng(2), 70)
    records = [_record(frame.take(slice(at, at + size)), at, form) for at in range(0, 70, size)]
    [(place, part)] = _count(records).items()
    expected = COUNTED.reference.profile_of_calls(frame, _answers(frame), {"predict_proba": ("late", "on time")})
    assert part.profile is not None
    assert part.profile.encode() == expected.encode()
    assert (place.began_ns, part.calls.rows, part.calls.unreadable) == (0, 70, 0)
    assert part.calls.outcomes == {"ok": 70 // size}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_replicas_splits_and_repeated_flushes_give_the_same_bytes(data: st.DataObject) -> None:
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=12))
    form: WireForm = data.draw(st.sampled_from(["rows", "oip"]))
    records = [
        _record(_frame(draw, size), at, form, received=int(draw.integers(0, 3)) * HOUR + at)
        for at, size in enumerate(sizes)
    ]
    replica = [data.draw(st.integers(0, 2)) for _ in records]
    lines = []
    tables = PartTables(lambda digest: COUNTED, lambda deployment: 3600.0)
    for name in set(replica):
        mine = [
            (at, _encode(record)) for at, (record, of) in enumerate(zip(records, replica, strict=True)) if of == name
        ]
        cuts = sorted({0, len(mine), *(data.draw(st.integers(0, len(mine))) for _ in range(2))})
        for start, end in itertools.pairwise(cuts):
            flushed = tables.build(Path(f"{name}.log"), mine[start:end]).to_pylist()
            lines += flushed * data.draw(st.integers(1, 2))
    order = data.draw(st.permutations(range(len(lines))))
    together = merged(lines[at] for at in order)
    at_once = _count([decode_record(_encode(record)) for record in records])
    assert {place: encoded(part) for place, part in together.items()} == {
        place: encoded(part) for place, part in at_once.items()
    }


def test_refused_calls_and_calls_of_no_version_are_counted_by_reason() -> None:
    frame = _frame(np.random.default_rng(3), 1)
    answered = _record(frame, 1)
    refused = [
        PredictionRecord(
            f"r{at}", "d", "m", 1, "blake3:0", 5, 10, 422, "refused", "rows", 0, b"{}", b"{}",
            f"row 0: column 'temp' is missing; got {at}",
        )
        for at in range(3)
    ]  # fmt: skip
    lost = PredictionRecord("x", "d", "", 0, "", 5, 10, 503, "unavailable", "rows", 0, b"{}", b"{}", "no version")
    found = _count([answered, *refused, lost])
    assert [place.digest for place in found] == ["", "blake3:0"]
    by_digest = {place.digest: part.calls for place, part in found.items()}
    assert by_digest[""].refusals == {"503 no version": 1}
    assert by_digest["blake3:0"].refusals == {"422 row #: column 'temp' is missing": 3}
    assert by_digest["blake3:0"].outcomes == {"ok": 1, "refused": 3}


def test_bodies_that_cannot_be_read_are_counted_and_do_not_hurt_others() -> None:
    frame = _frame(np.random.default_rng(4), 2)
    broken = _record(frame, 1)
    records = [
        PredictionRecord(*(b"{" if name == "request" else getattr(broken, name) for name in broken.__struct_fields__))
    ]
    [part] = _count([*records, _record(frame, 2)]).values()
    assert part.calls.unreadable == 1
    assert part.profile is not None
    assert part.profile.rows == 2


def test_repeated_rows_show() -> None:
    frame = _frame(np.random.default_rng(5), 50)
    once, twice = _count([_record(frame, 1)]), _count([_record(frame, 1), _record(frame, 2, "oip")])
    assert [part.calls.repeated.share for part in (*once.values(), *twice.values())] == [0.0, 0.5]


def test_the_most_memory_of_a_window_counts_and_what_was_not_looked_at_is_not_known() -> None:
    frame = _frame(np.random.default_rng(2), 4)
    told = [
        _record(frame, at, received=at * HOUR // 2, memory_bytes=held) for at, held in enumerate((5, 0, 0, 0, 9, 3))
    ]
    assert [part.calls.memory for part in _count(told).values()] == [5, None, 9]

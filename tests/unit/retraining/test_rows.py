"""Recorded rows with their labels, as a table to train on."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from modelyard.domain.schema import Column, Kind, Schema
from modelyard.errors import InvalidRequest
from modelyard.retraining.rows import Rows, labels, read, training_table

SCHEMA = Schema(
    "dataframe",
    (
        Column("a", Kind.FLOAT64, nullable=True, dtype="float64"),
        Column("n", Kind.INT64, nullable=False, dtype="int64"),
        Column("c", Kind.STRING, nullable=True, dtype="str"),
    ),
    (),
)


def rows(documents: list[dict[str, Any]], label: list[Any], number: list[float | None]) -> Rows:
    at = pa.array([0] * len(documents), pa.timestamp("us"))
    ids = [f"p{position}" for position in range(len(documents))]
    columns = {"prediction_id": ids, "label": label, "number": pa.array(number, pa.float64()), "labelled_at": at}
    return Rows(documents, pa.table({**columns, "event_time": at, "time": at}))


def test_a_table_has_the_types_of_training_and_what_callers_sent_along() -> None:
    documents = [{"a": 1, "n": 2, "c": None, "flight": "UA1"}, {"a": None, "n": 3, "c": "x", "flight": "UA2"}]
    table, left_out = training_table(rows(documents, ["1", "0"], [1.0, 0.0]), SCHEMA, {"late": "label", "id": "flight"})

    assert table is not None
    assert left_out == 0
    assert [str(table.schema.field(name).type) for name in ("a", "n", "c")] == ["double", "int64", "string"]
    assert table["late"].to_pylist() == [1, 0]
    assert table["id"].to_pylist() == ["UA1", "UA2"]
    assert {"prediction_id", "event_time", "labelled_at"} <= set(table.column_names)


def test_an_input_that_is_called_like_the_label_is_not_lost() -> None:
    schema = Schema("dataframe", (Column("label", Kind.INT64, nullable=False, dtype="int64"),), ())
    asked = rows([{"label": 5}], ["1"], [1.0])
    with pytest.raises(InvalidRequest, match="label_of_row"):
        training_table(asked, schema, {})
    table, _ = training_table(asked, schema, {"label_of_row": "label"})

    assert table is not None
    assert (table["label"].to_pylist(), table["label_of_row"].to_pylist()) == ([5], [1])


def test_rows_that_do_not_fit_are_left_out_and_cost_the_others_nothing() -> None:
    documents = [{"a": 1.0, "n": at, "c": "x"} for at in range(100)]
    documents[17] = {"a": 1.0, "c": "x"}
    documents[63] = {"a": "much", "n": 63, "c": "x"}
    frame, kept = read(documents, SCHEMA)

    assert frame is not None
    assert frame.rows == 98
    assert sorted(set(range(100)) - set(kept.tolist())) == [17, 63]
    assert read([{"b": 1}], SCHEMA)[0] is None


@pytest.mark.parametrize(
    ("label", "number", "expected"),
    [
        (["1", "2.0"], [1.0, 2.0], [1, 2]),
        (["1.5", "2"], [1.5, 2.0], [1.5, 2.0]),
        ([True, False], [1.0, 0.0], [True, False]),
        (["yes", "1"], [None, 1.0], ["yes", "1"]),
    ],
)
def test_labels_have_the_type_that_they_have_in_common(
    label: list[Any], number: list[float | None], expected: list[Any]
) -> None:
    found = labels(rows([{}, {}], label, number).table).to_pylist()

    assert found == expected
    assert [type(each) for each in found] == [type(each) for each in expected]

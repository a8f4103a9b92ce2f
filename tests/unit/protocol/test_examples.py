"""Made-up requests fit the schema that they are made from, in every form."""

from __future__ import annotations

import msgspec
import pytest

from modelyard.domain.checks import check
from modelyard.domain.schema import Accepts, Column, Kind, Layout, Schema
from modelyard.protocol import csvtext, invocations, oip, rows
from modelyard.protocol.examples import examples
from modelyard.protocol.table import TableReader

ODD = (
    Column("low", Kind.INT8, nullable=False, dtype="int8", accepts=Accepts(maximum=-2.5)),
    Column("high", Kind.UINT16, nullable=False, dtype="uint16", accepts=Accepts(minimum=8.5)),
    Column("share", Kind.FLOAT32, nullable=True, dtype="float32", accepts=Accepts(minimum=0.0, maximum=0.25)),
    Column("text", Kind.STRING, nullable=True, dtype="object", missing="none"),
    Column("colour", Kind.STRING, nullable=False, dtype="object", accepts=Accepts(categories=("red", "blue"))),
    Column("size", Kind.INT64, nullable=False, dtype="category", categories=(3, 4)),
    Column("flag", Kind.BOOL, nullable=False, dtype="bool"),
    Column("day", Kind.DATETIME, nullable=False, dtype="datetime64[ns]"),
    Column("moment", Kind.DATETIME, nullable=False, dtype="datetime64[ns, UTC]"),
)


@pytest.mark.parametrize(
    ("layout", "columns"),
    [
        *(("dataframe", (column,)) for column in ODD),
        ("dataframe", ODD),
        ("array", (Column("X", Kind.FLOAT64, nullable=False, dtype="float64", shape=(3,)),)),
        ("series", (Column("text", Kind.STRING, nullable=False, dtype="object"),)),
        ("tensors", (Column("image", Kind.FLOAT32, nullable=False, dtype="float32", shape=(-1, 2)),)),
    ],
)
def test_every_form_is_read_as_the_same_row(layout: Layout, columns: tuple[Column, ...]) -> None:
    reader = TableReader(Schema(layout, columns, ()))
    shown = examples(reader.schema)
    table = shown.pop("csv", None)
    assert (table is None) == (layout == "tensors"), "a cell holds one value"
    made = {form: msgspec.json.encode(document) for form, document in shown.items()}
    assert set(made) >= {"rows", "oip", "invocations"}
    frames = [
        rows.read_request(made["rows"], reader).frame,
        oip.read_request(made["oip"], reader).frame,
        reader.records(msgspec.json.decode(made["invocations"])["dataframe_records"]),
    ]
    assert set(msgspec.json.decode(made["invocations"])) <= set(invocations.FORMS)
    frames += [] if table is None else [csvtext.read_table(table.encode(), reader)]
    for frame in frames:
        check(frame, reader.schema)
        assert frame.rows == 1
        for name in reader.by_name:
            assert frame[name].values.tolist() == frames[0][name].values.tolist()


def test_where_nothing_fits_there_is_no_example() -> None:
    column = Column("x", Kind.FLOAT64, nullable=False, dtype="float64", accepts=Accepts(minimum=2.0, maximum=1.0))
    assert examples(Schema("dataframe", (column,), ())) == {}

"""Tables as CSV: what pandas writes is read as it was, and what does not fit is refused by row."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

import wire_samples as wire
from modelyard.domain.frame import Frame
from modelyard.errors import InvalidInput, InvalidRequest
from modelyard.protocol import csvtext, decode
from modelyard.protocol.invocations import read_csv
from modelyard.protocol.table import TableReader
from modelyard.protocol.values import write_values

MIXED, ARRAY, SERIES = map(TableReader, (wire.MIXED, wire.ARRAY, wire.SERIES))


def as_csv(frame: Frame) -> bytes:
    """The frame as ``DataFrame.to_csv`` writes it."""
    table = {}
    for column in wire.COLUMNS:
        vector = frame[column.name]
        cells = write_values(vector.values, column.dtype)
        gone = vector.is_missing().tolist()
        table[column.name] = [None if missing else cell for cell, missing in zip(cells, gone, strict=True)]
    written = io.StringIO()
    pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in table.items()}).to_csv(written, index=False)
    return written.getvalue().encode()


@given(wire.frames())
def test_every_frame_arrives_as_it_was(frame: Frame) -> None:
    # An empty text cannot be told from a missing one, nor a carriage return from the end of a line.
    texts = frame["carrier"].values
    texts[:] = [None if not text else text.replace("\r", "") or None for text in texts]
    assert wire.same(csvtext.read_table(as_csv(frame), MIXED), frame)


HEAD = ",".join(column.name for column in wire.COLUMNS)
ROW = "21.5,,180,2,True,UA,2013-01-01 05:15:00+00:00"


def read(*lines: str, reader: TableReader = MIXED) -> Frame:
    return csvtext.read_table("\n".join(lines).encode(), reader)


def test_columns_may_come_in_any_order_with_a_mark_and_blank_lines() -> None:
    frame = read(
        "\ufeffleaves,temp,gust,seats,engines,night,carrier", "", "2013-01-01 00:00Z,1e-3,inf, 7 ,2,false,", ""
    )
    assert list(frame.columns) == [column.name for column in wire.COLUMNS]
    assert (frame["temp"].values[0], frame["gust"].values[0], frame["seats"].values[0]) == (0.001, np.inf, 7)
    assert frame["carrier"].is_missing().tolist() == [True]


def test_arrays_and_series_go_by_position() -> None:
    assert read("a,b,c", "1,2.5,nan", "4,5,6", reader=ARRAY)["X"].values.tolist()[1] == [4, 5, 6]
    assert read("0", "a", '"b, ""c"""', reader=SERIES)["text"].values.tolist() == ["a", 'b, "c"']
    assert read(HEAD).rows == 0


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([HEAD, ROW, ROW.replace("180", "1.5")], "column 'seats', row 1: expected a whole number"),
        ([HEAD, ROW.replace("21.5", "warm")], "column 'temp', row 0: expected a number (float64), got the text 'warm'"),
        ([HEAD, ROW.replace("21.5", "1e400")], "got the text '1e400'"),
        ([HEAD, ROW.replace("21.5", "1_0")], "got the text '1_0'"),
        ([HEAD, ROW.replace("21.5", "9" * 5000)], "column 'temp', row 0"),
        ([HEAD, ROW.replace("21.5", "1" * 100_000 + "x")], "column 'temp', row 0"),  # in no time
        ([HEAD, ROW.replace("True", "1")], "column 'night', row 0: expected true or false, got the text '1'"),
        ([HEAD, ROW + ",1"], "row 0: expected 7 values, got 8"),
        ([HEAD + ",tmp", ROW + ",1"], "unknown column 'tmp'"),
        ([HEAD + ",temp", ROW + ",1"], "the first line names column 'temp' twice"),
        ([",".join([f"c{at}" for at in range(60_000)] + ["c59999"])], "names column 'c59999' twice"),  # in no time
        (["," + HEAD, "0," + ROW], "write the table without its index"),
        (["temp", "1"], "column 'gust' is missing"),
    ],
)
def test_what_does_not_fit_is_refused(lines: list[str], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(*lines)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "its first line has to name the columns"),
        (b"temp\n\xff", "not valid UTF-8"),
        (b'temp\n"1', "not valid CSV"),
        (b"temp\n" + b"1" * 200_000, "not valid CSV: field larger"),
    ],
)
def test_what_is_no_table_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        csvtext.read_table(body, MIXED)


def test_two_values_for_a_series_are_refused() -> None:
    with pytest.raises(InvalidInput, match="expected one value in a row, got 2"):
        read("a,b", "1,2", reader=SERIES)


def test_recorded_tables_are_read_again() -> None:
    body = f"{HEAD}\n{ROW}\n".encode()
    again = decode.read_request("invocations", body, wire.MIXED, "text/csv")
    assert wire.same(again.frame, read_csv(body, MIXED).frame)
    [row] = decode.describe("invocations", body, b"", "text/csv")
    shown: dict[str, Any] = row["inputs"]
    assert (shown["temp"], shown["gust"], shown["seats"], shown["night"], shown["carrier"]) == (
        21.5,
        None,
        180,
        True,
        "UA",
    )


@pytest.mark.parametrize("cell", ["1", "-2.5", "1e3", "1e400", "1-2", "", "NaN", "9007199254740993", "+7", "1_0", "."])
def test_a_column_is_read_at_once_as_cell_by_cell(cell: str) -> None:
    told = []
    for other in ("1", "NaN"):  # the second is not read at once
        try:
            told.append(repr(read("a,b,c", f"{cell},1,1", f"1,{other},1", reader=ARRAY)["X"].values[0].tolist()))
        except InvalidInput as error:
            told.append(str(error))
    assert told[0] == told[1]

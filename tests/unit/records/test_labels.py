from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.domain.records import Label, key_of
from modelyard.errors import InvalidInput
from modelyard.records.batches import written
from modelyard.records.labels import FileForm, parse_value, read_file
from modelyard.records.tables import label_of, label_table


def csv(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def parquet(folder: Path, **columns: object) -> Path:
    path = folder / "labels.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def labels(path: Path, form: FileForm | None = None) -> list[Label]:
    frames = [(at, payload) for at, payload in enumerate(written(read_file(path, form), 5, "test"))]
    return [label_of(line) for line in label_table(path, frames).to_pylist()]


def values(path: Path, read_as: Any = "auto") -> list[tuple[str, object]]:
    return [(one.prediction_id, one.value) for one in labels(path, FileForm(read_as=read_as))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("late", "late"), ("", ""), (" 3", " 3"), ("007", "007"), ("+3", "+3"), ("1_000", "1_000"), ("nan", "nan"),
        ("inf", "inf"), ("1e999", "1e999"), ("3", 3), ("-3", -3), ("0", 0), ("0.0", 0.0), ("1e3", 1000.0),
        ("0.30000000000000004", 0.30000000000000004), ("true", True), ("False", False), ("TRUE", "TRUE"),
        (str(2**64 - 1), 2**64 - 1), (str(2**64), str(2**64)), ("٣", "٣"),
    ],
)  # fmt: skip
def test_values_are_read_by_their_look(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)
    assert parse_value(text, "text") == text


def test_a_csv_file_is_read(tmp_path: Path) -> None:
    path = csv(tmp_path, 'who,value,prediction_id\nx,late,a1\ny,3,a2\nz,,a3\nz,"",a4\nz,"a, b\nc",007\n')
    assert values(path) == [("a1", "late"), ("a2", 3), ("a3", None), ("a4", ""), ("007", "a, b\nc")]
    assert labels(path)[0] == Label("a1", "late", 5, "test")


def test_a_csv_file_can_be_read_as_text(tmp_path: Path) -> None:
    assert values(csv(tmp_path, "prediction_id,value\na1,3\na2,\n"), "text") == [("a1", "3"), ("a2", None)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1, None], [1, None]),
        ([1.5, float("nan")], [1.5, None]),
        ([True, None], [True, None]),
        (["3", None], ["3", None]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array([1, 2], pa.uint8()), [1, 2]),
        (pa.array(["x", "y"], pa.large_string()), ["x", "y"]),
        (pa.array([None, None], pa.null()), [None, None]),
    ],
)
def test_a_parquet_file_is_read_with_its_types(tmp_path: Path, column: object, expected: list[object]) -> None:
    path = parquet(tmp_path, prediction_id=["a1", "a2"], value=column)
    assert values(path) == list(zip(["a1", "a2"], expected, strict=True))


def test_an_id_may_not_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'prediction_id', row 1: an id is missing") as caught:
        values(csv(tmp_path, "prediction_id,value\na1,1\n,2\n"))
    assert (caught.value.column, caught.value.row) == ("prediction_id", 1)
    with pytest.raises(InvalidInput, match="row 0: an id is missing"):
        values(csv(tmp_path, 'prediction_id,value\n"",1\n'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,value\na,1\n", "expected one column 'prediction_id'; there are: id, value"),
        ("prediction_id,truth\na,1\n", "expected one column 'value'; there are: prediction_id, truth"),
        ("prediction_id,value,value\na,1,2\n", "expected one column 'value'"),
        ("prediction_id,value\na,1,2\n", "cannot read labels"),
        ("", "cannot read labels"),
    ],
)
def test_a_csv_file_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        values(csv(tmp_path, text))


def test_parquet_types_that_are_no_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'value': expected numbers, texts or booleans, got list"):
        values(parquet(tmp_path, prediction_id=["a"], value=[[1]]))
    with pytest.raises(InvalidInput, match="'prediction_id': expected texts, got int64"):
        values(parquet(tmp_path, prediction_id=[1], value=[1]))


def test_a_file_that_is_not_there_or_is_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read labels from .*: No such file"):
        values(tmp_path / "none.csv")
    path = tmp_path / "x.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(InvalidInput, match="cannot read labels"):
        values(path)


def test_a_file_without_rows_has_no_labels(tmp_path: Path) -> None:
    assert values(csv(tmp_path, "prediction_id,value\n")) == []


KEYED = FileForm(deployment="delay", key=("flight", "day"))


def test_a_file_can_name_rows_by_key_columns(tmp_path: Path) -> None:
    found = labels(csv(tmp_path, 'day,flight,value\n2013-03-01,1545,late\n2013-03-02,"a ""b""",3\n'), KEYED)
    assert found == [
        Label("", "late", 5, "test", "delay", '{"day":"2013-03-01","flight":"1545"}'),
        Label("", 3, 5, "test", "delay", '{"day":"2013-03-02","flight":"a \\"b\\""}'),
    ]
    assert [one.key for one in found] == [
        key_of({"flight": 1545, "day": "2013-03-01"}),
        key_of({"flight": 'a "b"', "day": "2013-03-02"}),
    ]


def test_numbers_in_keys_are_the_same_whatever_their_type(tmp_path: Path) -> None:
    path = parquet(tmp_path, day=[1.0, 2.5], flight=pa.array([7, 8], pa.int8()), value=[True, None])
    keys = [{"day": 1, "flight": 7}, {"day": 2.5, "flight": 8}]
    assert [one.key for one in labels(path, KEYED)] == [key_of(key) for key in keys]
    assert [one.value for one in labels(path, KEYED)] == [True, None]


def test_a_part_of_a_key_may_not_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'flight', row 1: a part of the key is missing"):
        labels(csv(tmp_path, "day,flight,value\na,1,2\na,,2\n"), KEYED)
    with pytest.raises(InvalidInput, match="'flight', row 0: a part of the key is missing"):
        labels(parquet(tmp_path, day=["x"], flight=[float("nan")], value=[1]), KEYED)
    with pytest.raises(InvalidInput, match="expected one column 'flight'"):
        labels(csv(tmp_path, "day,value\na,1\n"), KEYED)


def test_other_names_of_columns_can_be_given(tmp_path: Path) -> None:
    path = csv(tmp_path, "order,paid,since\no1,1,2013-03-01T06:00:00Z\no2,0,\n")
    form = FileForm(id_column="order", value="paid", known_at="since")
    assert [(one.prediction_id, one.value, one.known_ns) for one in labels(path, form)] == [
        ("o1", 1, 1362117600_000_000_000),
        ("o2", 0, 0),
    ]


@pytest.mark.parametrize(
    "moment",
    ["2013-03-01T06:00:00+00:00", datetime(2013, 3, 1, 6, tzinfo=UTC), datetime(2013, 3, 1, 6), 1362117600000],
)
def test_the_moment_when_a_label_became_known_is_kept(tmp_path: Path, moment: Any) -> None:
    (found,) = labels(parquet(tmp_path, prediction_id=["a"], value=["x"], known_at=[moment]))
    assert found.known_ns == 1362117600_000_000_000


def test_a_moment_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'known_at': expected a moment .* got 'soon'"):
        labels(csv(tmp_path, "prediction_id,value,known_at\na,1,soon\n"))

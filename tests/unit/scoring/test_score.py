"""Scoring files: what is read, what is written, and what is refused."""

import gzip
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from modelyard.domain.frame import Frame
from modelyard.domain.schema import Accepts, Column, Kind, Output, Schema
from modelyard.errors import Failed, InvalidInput, InvalidRequest, NotOffered, RowsRefused
from modelyard.scoring import score_file

SCHEMA = Schema(
    "dataframe",
    (
        Column("temp", Kind.FLOAT64, nullable=True, dtype="float64"),
        Column("count", Kind.INT64, nullable=True, dtype="Int64"),
        Column("wet", Kind.BOOL, nullable=False, dtype="bool"),
        Column("city", Kind.STRING, nullable=True, dtype="str", accepts=Accepts(categories=("Ulm", "", "NA"))),
        Column("day", Kind.DATETIME, nullable=True, dtype="datetime64[ns]", missing="NaT"),
    ),
    (
        Output("predict", Kind.STRING, "label", "predict", classes=("no", "yes")),
        Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("no", "yes")),
    ),
)
TABLE = pd.DataFrame(
    {
        "id": ["007", "008", "009", "010"],
        "temp": [1.5, np.nan, 1 / 3, -0.1],
        "count": pd.array([1, 2, None, 2**60], dtype="Int64"),
        "wet": [True, False, True, False],
        "city": ["Ulm", None, "NA", "Ulm"],
        "day": pd.to_datetime(["2013-01-01 10:00", None, "2013-02-01", "2013-03-01 01:02:03"], format="ISO8601"),
    }
)


def model(frame: Frame):
    """Says yes to odd rows of what it sees, with a probability that depends on every value."""
    temp = np.nan_to_num(frame["temp"].values, nan=7.0)
    count = np.where(frame["count"].is_missing(), 3, frame["count"].values % 10)
    city = np.array([0.0 if value is None else len(value) + 1.0 for value in frame["city"].values])
    day = np.where(frame["day"].is_missing(), 1, frame["day"].values.astype("int64") % 7)
    yes = 1 / (1 + np.exp(-(temp + count / 10 + frame["wet"].values + city + day / 10)))
    return {
        "predict": np.where(yes > 0.9, "yes", "no").astype(object),
        "predict_proba": np.stack([1 - yes, yes], axis=1),
    }


def expected() -> pd.DataFrame:
    from modelyard.bundle.tabular import to_frame

    answers = model(to_frame(TABLE, SCHEMA, ignore_extra=True))
    return pd.DataFrame(
        {
            "predict": answers["predict"],
            "predict_proba_no": answers["predict_proba"][:, 0],
            "predict_proba_yes": answers["predict_proba"][:, 1],
        }
    )


def write(table: pd.DataFrame, path):
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return path


def read(path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype={"id": str}, keep_default_na=False, na_values=[""])


@pytest.mark.parametrize("source", ["in.csv", "in.csv.gz", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.csv.gz", "out.parquet"])
@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_every_format_gives_the_same_numbers_to_the_last_bit(tmp_path, source, target, batch_rows):
    write(TABLE, tmp_path / source)
    done = score_file(model, SCHEMA, tmp_path / source, tmp_path / target, batch_rows=batch_rows)
    found = read(tmp_path / target)
    assert done.rows == 4
    assert list(found.columns) == [*TABLE.columns, *expected().columns]
    assert found["id"].tolist() == TABLE["id"].tolist()
    for name in expected().columns:
        assert found[name].tolist() == expected()[name].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source, target])


def test_only_an_unquoted_empty_cell_is_missing(tmp_path):
    seen = []

    def watch(frame: Frame):
        seen.append(frame["city"].values.tolist())
        return model(frame)

    (tmp_path / "in.csv").write_text('temp,count,wet,city,day\n1,1,1,,\n1,1,1,"",\n1,1,1,NA,\n')
    score_file(watch, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv")
    assert seen == [[None, "", "NA"]]


def test_an_empty_line_in_a_table_of_one_column_is_a_row(tmp_path):
    schema = Schema("dataframe", SCHEMA.columns[:1], (Output("predict", Kind.FLOAT64, "value", "predict"),))
    (tmp_path / "in.csv").write_text("temp\n1.5\n\n2.5\n")
    done = score_file(
        lambda frame: {"predict": frame["temp"].values * 2}, schema, tmp_path / "in.csv", tmp_path / "out.csv"
    )
    assert done.rows == 3
    assert (tmp_path / "out.csv").read_text().splitlines()[2] == ",nan"


def test_numbers_may_be_written_as_pandas_writes_them(tmp_path):
    seen = []

    def watch(frame: Frame):
        seen.append((frame["count"].values.tolist(), frame["temp"].values.tolist(), frame["wet"].values.tolist()))
        return model(frame)

    (tmp_path / "in.csv").write_text("temp,count,wet,city,day\n 1e3 ,2.0,True,,2013-01-01\n,,FALSE,,\n")
    score_file(watch, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv")
    count, temp, wet = seen[0]
    assert (count, wet) == ([2, 0], [True, False])
    assert temp[0] == 1000.0
    assert np.isnan(temp[1])


GOOD = "1,1,1,Ulm,2013-01-01\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("warm,1,1,Ulm,", "column 'temp', row 2: expected a number .*, got the text 'warm'"),
        ("1e400,1,1,Ulm,", "column 'temp', row 2: expected a number .*, got the text '1e400'"),
        ("1,1.5,1,Ulm,", "column 'count', row 2: .*got 1.5"),
        ("1,9223372036854775808,1,Ulm,", "column 'count', row 2: expected a whole number"),
        ("1,1,maybe,Ulm,", "column 'wet', row 2: expected true or false, got the text 'maybe'"),
        ("1,1,,Ulm,", "column 'wet', row 2: a value is missing"),
        ("1,1,1,Bonn,", "column 'city', row 2: .*'Bonn'"),
        ("inf,1,1,Ulm,", "column 'temp', row 2: .*inf"),
        ("1,1,1,Ulm,yesterday", "column 'day', row 2: expected a date and time, got the text 'yesterday'"),
    ],
)
@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_a_wrong_cell_is_named_by_column_and_row_of_the_file(tmp_path, line, words, batch_rows):
    (tmp_path / "in.csv").write_text(f"temp,count,wet,city,day\n{GOOD}{GOOD}{line}\n{GOOD}")
    (tmp_path / "out.csv").write_text("before")
    with pytest.raises(InvalidInput, match=words):
        score_file(model, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv", batch_rows=batch_rows)
    assert (tmp_path / "out.csv").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("temp,count,wet,city\n1,1,1,Ulm\n", "column 'day' is missing"),
        ("temp,temp,wet,city,day\n1,1,1,Ulm,\n", "column 'temp' is there more than once"),
        ("temp,count,wet,city,day\n1,1\n", "cannot be read as csv: .*Expected 5 columns, got 2"),
        ("", "cannot be read as csv: Empty CSV file"),
    ],
)
def test_a_wrong_table_is_explained(tmp_path, text, words):
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises((InvalidInput, InvalidRequest), match=words):
        score_file(model, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv")


def test_text_that_is_not_utf8_is_explained(tmp_path):
    (tmp_path / "in.csv").write_bytes("temp,count,wet,city,day\n1,1,1,Köln,\n".encode("latin-1"))
    with pytest.raises(InvalidRequest, match=r"cannot be read as csv.*UTF-?8|utf-8"):
        score_file(model, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_damaged_parquet_file_is_explained(tmp_path):
    (tmp_path / "in.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InvalidRequest, match="cannot be read as parquet"):
        score_file(model, SCHEMA, tmp_path / "in.parquet", tmp_path / "out.csv")


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_a_table_without_rows_gives_one_without_rows(tmp_path, source, target):
    write(TABLE.iloc[:0], tmp_path / source)
    assert score_file(model, SCHEMA, tmp_path / source, tmp_path / target).rows == 0
    assert list(read(tmp_path / target).columns) == [*TABLE.columns, *expected().columns]


def test_only_columns_that_are_to_be_kept_are_written(tmp_path):
    write(TABLE, tmp_path / "in.csv")
    score_file(model, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv", keep=["id"])
    assert list(read(tmp_path / "out.csv").columns) == ["id", *expected().columns]
    with pytest.raises(InvalidRequest, match="no column 'name' to keep; there are: id, temp"):
        score_file(model, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv", keep=["name"])


def test_a_column_named_as_an_answer_is_not_overwritten(tmp_path):
    write(TABLE.assign(predict="?"), tmp_path / "in.csv")
    with pytest.raises(InvalidRequest, match="the input has a column 'predict'"):
        score_file(model, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv")


def picky(frame: Frame):
    if (frame["temp"].values == -0.1).any():
        raise RowsRefused("too cold")
    return model(frame)


def test_the_row_that_the_model_refuses_is_named(tmp_path):
    write(TABLE, tmp_path / "in.csv")
    for batch_rows in (1, 3, 100):
        with pytest.raises(RowsRefused, match="row 3: too cold"):
            score_file(picky, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv", batch_rows=batch_rows)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_refused_rows_can_be_kept_with_the_reason(tmp_path, name):
    table = TABLE.copy()
    table.loc[0, "city"] = "Bonn"
    write(table, tmp_path / "in.csv")
    done = score_file(picky, SCHEMA, tmp_path / "in.csv", tmp_path / name, refused="mark")
    found = read(tmp_path / name)
    assert (done.rows, done.refused) == (4, 2)
    assert "Bonn" in found["refused"][0]
    assert found["refused"][3] == "too cold"
    assert found["refused"][1:3].isna().all()
    assert found["predict"].isna().tolist() == [True, False, False, True]
    assert found["predict_proba_yes"][1:3].tolist() == expected()["predict_proba_yes"][1:3].tolist()


def test_names_say_the_format(tmp_path):
    (tmp_path / "in.xlsx").write_text("")
    with pytest.raises(NotOffered, match=r"in\.xlsx: cannot tell what it is; use a name that ends with \.csv"):
        score_file(model, SCHEMA, tmp_path / "in.xlsx", tmp_path / "out.csv")
    with pytest.raises(InvalidRequest, match="there is no file"):
        score_file(model, SCHEMA, tmp_path / "none.csv", tmp_path / "out.csv")
    write(TABLE, tmp_path / "in.csv")
    with pytest.raises(InvalidRequest, match="there is no folder"):
        score_file(model, SCHEMA, tmp_path / "in.csv", tmp_path / "sub/out.csv")


ARRAY = Schema(
    "array",
    (Column("X", Kind.FLOAT64, nullable=False, dtype="float64", shape=(2,)),),
    (Output("transform", Kind.FLOAT64, "features", "transform", shape=(2,)),),
)


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_a_model_of_an_array_takes_columns_in_order(tmp_path, name):
    write(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.5]}), tmp_path / name)
    score_file(lambda frame: {"transform": frame["X"].values * 2}, ARRAY, tmp_path / name, tmp_path / "out.csv")
    assert read(tmp_path / "out.csv")[["transform_0", "transform_1"]].to_numpy().tolist() == [[2.0, 6.0], [4.0, 9.0]]


def test_a_model_of_an_array_takes_a_list_column(tmp_path):
    pq.write_table(pa.table({"X": pa.array([[1.0, 3.0]]), "id": ["a"]}), tmp_path / "in.parquet")
    score_file(lambda frame: {"transform": frame["X"].values}, ARRAY, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert read(tmp_path / "out.parquet")["transform_1"].tolist() == [3.0]


def test_progress_reaches_the_end(tmp_path):
    told = []
    write(TABLE, tmp_path / "in.parquet")
    score_file(
        model,
        SCHEMA,
        tmp_path / "in.parquet",
        tmp_path / "out.parquet",
        batch_rows=3,
        progress=lambda rows, share: told.append((rows, share)),
    )
    assert told == [(3, 0.75), (4, 1.0)]


def test_a_full_disk_leaves_what_was_there(tmp_path):
    (tmp_path / "out.csv").write_text("before")
    write(pd.concat([TABLE] * 5000), tmp_path / "in.csv")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(Failed, match="cannot be written"):
            score_file(model, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "out.csv").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


MEASURE = """
import re, sys
from pathlib import Path
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.scoring import score_file
schema = Schema("dataframe", (Column("x", Kind.FLOAT64, nullable=True, dtype="float64"),),
                (Output("predict", Kind.FLOAT64, "value", "predict"),))
score_file(lambda frame: {"predict": frame["x"].values * 2}, schema, Path(sys.argv[1]), Path(sys.argv[2]))
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
# What getrusage calls the peak starts from the size of the process that started this one, so VmHWM is read instead.


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_memory_stays_flat_however_long_the_file_is(tmp_path, ending):
    peaks, held = {}, {}  # both past the size at which the allocators are warm
    for rows in (600_000, 2_400_000):
        table = pa.table({"x": np.arange(rows) / 7, "note": pa.array(["a text that goes along " * 10] * rows)})
        held[rows] = table.nbytes
        source, target = tmp_path / f"{rows}.{ending}", tmp_path / f"out.{ending}"
        pacsv.write_csv(table, source) if ending == "csv" else pq.write_table(table, source, row_group_size=50_000)
        del table
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, source, target], capture_output=True, text=True, check=True
        )
        peaks[rows] = int(done.stdout) * 1024
        source.unlink()
    assert peaks[2_400_000] - peaks[600_000] < (held[2_400_000] - held[600_000]) / 3


def test_gzip_output_is_gzip(tmp_path):
    write(TABLE, tmp_path / "in.csv")
    score_file(model, SCHEMA, tmp_path / "in.csv", tmp_path / "out.csv.gz")
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).startswith(b'"id"')

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelyard.errors import InvalidRequest
from modelyard.records.batches import table_of
from modelyard.records.log import LabelLog, PredictionLog, decode_record, read_labels
from modelyard.records.query import RecordDatabase, query
from unit.records.samples import call, label, record


def log(directory: Path, *records: Any) -> None:
    writer = PredictionLog(directory)
    for one in records:
        writer.append(one)
    writer.close()


def add_labels(directory: Path, *labels: Any) -> None:
    writer = LabelLog(directory)
    writer.append_many(labels)
    writer.close()


def rows(directory: Path, sql: str) -> list[dict[str, Any]]:
    return query(directory, sql).to_pylist()


def test_a_call_of_one_row_is_one_line(tmp_path: Path) -> None:
    log(tmp_path, record("a1"))
    (line,) = rows(tmp_path, "SELECT * FROM predictions")
    assert json.loads(line.pop("inputs")) == {"temp": 21.5, "city": "Bern"}
    assert json.loads(line.pop("outputs")) == {"predict": "late", "predict_proba": {"late": 0.75, "on time": 0.25}}
    assert str(line.pop("time")) == str(line.pop("event_time")) == "2023-11-14 22:13:20"
    assert line.pop("digest") == "blake3:" + "a" * 64
    assert line == {
        "prediction_id": "a1", "request_id": "a1", "row": 0, "deployment": "delay", "model": "delay", "version": 3,
        "latency_ms": 1.5, "status": 200, "outcome": "ok", "form": "rows", "error": None,
    }  # fmt: skip


def test_a_call_of_several_rows_is_as_many_lines(tmp_path: Path) -> None:
    log(tmp_path, call("b", [{"x": 1}, {"x": 2}], [{"predict": 5}, {"predict": 6}]))
    sql = "SELECT prediction_id, request_id, row, inputs ->> 'x' AS x, outputs ->> 'predict' AS y FROM predictions"
    assert rows(tmp_path, sql) == [
        {"prediction_id": "b-0", "request_id": "b", "row": 0, "x": "1", "y": "5"},
        {"prediction_id": "b-1", "request_id": "b", "row": 1, "x": "2", "y": "6"},
    ]


def test_the_callers_own_ids_are_used(tmp_path: Path) -> None:
    log(tmp_path, call("b", [{"x": 1}, {"x": 2}], [{"predict": 5}, {"predict": 6}], row_ids=("u", "v")))
    assert query(tmp_path, "SELECT prediction_id FROM predictions")["prediction_id"].to_pylist() == ["u", "v"]


def test_failed_calls_are_there_too(tmp_path: Path) -> None:
    refused = {"outcome": "refused", "status": 422, "error": "unknown column 'y'", "response": b'{"error": "..."}'}
    log(
        tmp_path,
        call("bad-column", [{"y": 1}], [], **refused),
        record("no-json", request=b"{", rows=0, **refused),
        record("huge", request=b'{"rows": [{"x": 1180591620717411303424}]}', **refused),
        record("words", request=b'{"rows": [{"x": NaN, "\\ud800": "\\udfff"}]}', **refused),
    )
    found = rows(tmp_path, "SELECT prediction_id, row, inputs, outcome, error FROM predictions")
    assert {line["prediction_id"]: line["row"] for line in found} == {
        "bad-column": 0,
        "no-json": None,
        "huge": 0,
        "words": None,
    }
    assert {line["outcome"] for line in found} == {"refused"}
    assert json.loads(found[0]["inputs"]) == {"y": 1}


def test_labels_join_whenever_they_come(tmp_path: Path) -> None:
    add_labels(tmp_path, label("a1", "late"), label("a3", "on time"))
    assert rows(tmp_path, "SELECT prediction_id FROM labels_unknown ORDER BY ALL") == [
        {"prediction_id": "a1"},
        {"prediction_id": "a3"},
    ]
    log(tmp_path, record("a1"), record("a2"))
    assert rows(tmp_path, "SELECT prediction_id, label FROM joined ORDER BY ALL") == [
        {"prediction_id": "a1", "label": "late"},
        {"prediction_id": "a2", "label": None},
    ]
    assert rows(tmp_path, "SELECT prediction_id FROM labels_unknown") == [{"prediction_id": "a3"}]


def test_the_latest_label_counts_and_all_are_kept(tmp_path: Path) -> None:
    add_labels(tmp_path, label("a1", 2, received_ns=20), label("a1", 1, received_ns=10))
    add_labels(tmp_path, label("a1", 3, received_ns=20), label("a2", None, received_ns=5))
    assert rows(tmp_path, "SELECT prediction_id, value, kind, number FROM labels ORDER BY ALL") == [
        {"prediction_id": "a1", "value": "3", "kind": "int", "number": 3.0},
        {"prediction_id": "a2", "value": None, "kind": "null", "number": None},
    ]
    history = query(tmp_path, "SELECT value FROM labels_history WHERE prediction_id = 'a1'")
    assert history["value"].to_pylist() == ["1", "2", "3"]
    assert len(list(read_labels(tmp_path))) == 4


def test_a_deployments_view_has_typed_columns(tmp_path: Path) -> None:
    log(
        tmp_path,
        call("a", [{"temp": 1, "city": "Bern", "ok": True, "n": 2**63, "v": [1, 2]}], [{"predict": "late"}]),
        call("b", [{"temp": 1.5, "city": None, "ok": None, "n": 1, "v": [3]}], [{"predict": "on time"}]),
    )
    add_labels(tmp_path, label("a", "late"))
    table = query(tmp_path, "SELECT temp, city, ok, n, v, predict, label FROM delay ORDER BY prediction_id")
    assert [str(part.type) for part in table.schema] == [
        "double", "string", "bool", "decimal128(38, 0)", "string", "string", "string",
    ]  # fmt: skip
    assert table.to_pylist()[0]["v"] == "[1,2]"
    assert table["label"].to_pylist() == ["late", None]


def test_probabilities_are_columns_by_class(tmp_path: Path) -> None:
    log(tmp_path, record("a1"))
    sql = 'SELECT predict, predict_proba_late AS late, "predict_proba_on time" AS on_time FROM delay'
    assert rows(tmp_path, sql) == [{"predict": "late", "late": 0.75, "on_time": 0.25}]


@pytest.mark.parametrize(
    ("values", "sql_type"),
    [
        ([1, 0], "int64"),
        ([True, False], "bool"),
        ([0.5, 1], "double"),
        (["late", 1], "string"),
        ([None], "string"),
        (["x"], "string"),
    ],
)
def test_labels_have_the_type_of_their_values(tmp_path: Path, values: list[Any], sql_type: str) -> None:
    log(tmp_path, *[record(f"a{number}") for number in range(len(values))])
    add_labels(tmp_path, *[label(f"a{number}", value) for number, value in enumerate(values)])
    table = query(tmp_path, "SELECT label FROM delay ORDER BY prediction_id")
    assert str(table.schema.field("label").type) == sql_type
    assert table["label"].to_pylist() == ([str(value) for value in values] if values == ["late", 1] else values)


def test_names_that_clash_are_told_apart(tmp_path: Path) -> None:
    given = {"version": 7, "Time": 8, "x": 1, "X": 2, "predict": 3, 'it\'s "odd"': 4, "a/b~c": 5, "label": 6}
    log(tmp_path, call("a", [given], [{"predict": 9, "predict_proba": {"0": 0.5}, "Predict_Proba": 1}]))
    (line,) = rows(tmp_path, "SELECT * FROM delay")
    meta = {
        "prediction_id",
        "request_id",
        "row",
        "model",
        "time",
        "event_time",
        "latency_ms",
        "status",
        "outcome",
        "error",
    }
    assert {name: value for name, value in line.items() if name not in meta} == {
        "version": 3, "input_version": 7, "input_Time": 8, "x": 1, "input_X": 2, "predict": 3, 'it\'s "odd"': 4,
        "a/b~c": 5, "input_label": 6, "output_predict": 9, "predict_proba_0": 0.5, "Predict_Proba": 1, "label": None,
        "labelled_at": None,
    }  # fmt: skip


def test_the_names_of_deployments_may_be_anything_they_may_be(tmp_path: Path) -> None:
    names = ["flights-delay", "predictions", "LABELS", "a.b", "2", "select", "wanted", "Delay", "delay"]
    log(tmp_path, *[record(f"id-{name}", deployment=name) for name in names])
    with RecordDatabase(tmp_path) as database:
        views = [table.name for table in database.tables()][6:]
        assert views == [
            "2", "Delay", "deployment_LABELS", "a.b", "deployment_delay", "flights-delay", "deployment_predictions",
            "select", "deployment_wanted",
        ]  # fmt: skip
        for view in views:
            assert database.query(f'SELECT count(*) AS n FROM "{view}"')["n"].to_pylist() == [1]


def test_a_deployment_that_never_answered_has_no_view(tmp_path: Path) -> None:
    log(tmp_path, record("a", deployment="nowhere", outcome="refused", status=404, version=0))
    with RecordDatabase(tmp_path) as database:
        assert "nowhere" not in [table.name for table in database.tables()]


def test_open_inference_and_mlflow_calls_are_read(tmp_path: Path) -> None:
    oip = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.5, None]}]}
    answer = {"model_name": "delay", "outputs": [{"name": "y", "datatype": "INT64", "shape": [2], "data": [4, 5]}]}
    split = {"dataframe_split": {"columns": ["x"], "data": [[2.5]]}}
    predictions = {"predictions": [6], "model": "delay", "version": 3, "prediction_id": "m", "outputs": ["y"]}
    log(
        tmp_path,
        record("o", form="oip", rows=2, request=json.dumps(oip).encode(), response=json.dumps(answer).encode()),
        record("m", form="invocations", request=json.dumps(split).encode(), response=json.dumps(predictions).encode()),
    )
    assert rows(tmp_path, "SELECT prediction_id, x, y FROM delay ORDER BY ALL") == [
        {"prediction_id": "m", "x": 2.5, "y": 6},
        {"prediction_id": "o-0", "x": 1.5, "y": 4},
        {"prediction_id": "o-1", "x": None, "y": 5},
    ]


def test_an_empty_log_answers_too(tmp_path: Path) -> None:
    for table in ("predictions", "labels", "labels_history", "labels_unknown", "joined"):
        assert query(tmp_path / "none", f"SELECT * FROM {table}").num_rows == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_parquet('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM sniff_csv('{file}')",
        "SELECT * FROM read_csv('http://127.0.0.1:9/')",
        "SELECT * FROM enable_logging(storage_path = '{folder}/out')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{folder}/out''')",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/out'",
        "COPY (SELECT 1) TO '{folder}/out'",
        "EXPORT DATABASE '{folder}/out'",
        "ATTACH '{folder}/out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET memory_limit",
        "PRAGMA enable_profiling",
        "CALL enable_logging(storage = 'file', storage_path = '{folder}/out')",
        "CREATE TABLE mine AS SELECT 1",
        "DROP VIEW joined",
        "DELETE FROM predictions",
        "SELECT 1; COPY (SELECT 1) TO '{folder}/out'",
        "SELECT * FROM secret_table",
        "SELECT ?",
        "SELECT nonsense",
        "SELEKT 1",
        "",
        "-- nothing",
        "SELECT count(*) FROM range(100000000) a, range(100000000) b, range(10) c WHERE a.range = 'x'",
    ],
)
def test_sql_sees_nothing_but_the_records(tmp_path: Path, sql: str) -> None:
    secret_table = pa.table({"a": [1]})  # a Python variable, which DuckDB would find by name if it were let
    assert secret_table.num_rows == 1
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    log(tmp_path, record("a1"))
    with RecordDatabase(tmp_path) as database:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InvalidRequest):
            database.query(sql.format(file=secret, folder=tmp_path))
        assert sorted(tmp_path.rglob("*")) == before
        assert database.query("SELECT count(*) AS n FROM predictions")["n"].to_pylist() == [1]


def test_a_wrong_name_is_answered_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"tables: predictions, labels, joined, labels_history"):
        query(tmp_path, "SELECT * FROM nowhere")


@pytest.mark.parametrize(
    "sql", ["FROM predictions", "DESCRIBE joined", "EXPLAIN SELECT 1", "WITH a AS (SELECT 1) FROM a"]
)
def test_every_way_to_read_is_allowed(tmp_path: Path, sql: str) -> None:
    assert query(tmp_path, sql) is not None


def test_ids_are_found(tmp_path: Path) -> None:
    log(tmp_path, record("a1"), call("b", [{"x": 1}, {"x": 2}], [{"predict": 5}, {"predict": 6}]))
    with RecordDatabase(tmp_path) as database:
        assert database.unknown(table_of(map(label, ["b-1", "zz", "a1", "zz", "b"]))) == ["zz", "b"]
        assert [one.row for one in database.calls("a1")] == [0]
        assert [one.row for one in database.calls("b-1")] == [1]
        assert [one.row for one in database.calls("b")] == [None]
        assert database.calls("zz") == []
        assert decode_record(database.calls("b-1")[0].payload).prediction_id == "b"

"""What a user does with records on the command line: add labels, ask with SQL, compute a prediction again."""

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from compiled_bundles import write_compiled
from modelyard.bundle.layout import Bundle
from modelyard.cli.app import app
from modelyard.home import Home
from modelyard.records import segments
from modelyard.records.log import PredictionLog, read, read_labels
from modelyard.registry import Registry
from unit.records.samples import call, record


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path))
    directory = Home.locate().records
    log = PredictionLog(directory)
    log.append(record("a1"))
    log.append(call("b", [{"temp": 1.5, "city": "Bern"}, {"temp": 3, "city": None}], [{"predict": "late"}] * 2))
    log.close()
    return directory


def run(*words: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


def document(*words: object) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_one_label_is_added_and_joined(records: Path) -> None:
    result = run("labels", "add", "--id", "a1", "--value", "late")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "1 label added\n", "")
    rows = document("records", "query", "SELECT prediction_id, predict, label FROM delay ORDER BY ALL")
    assert rows == [
        {"prediction_id": "a1", "predict": "late", "label": "late"},
        {"prediction_id": "b-0", "predict": "late", "label": None},
        {"prediction_id": "b-1", "predict": "late", "label": None},
    ]
    assert [label.source for label in read_labels(records)] == ["command line"]


def test_a_correction_counts_and_the_first_label_is_kept(records: Path) -> None:
    run("labels", "add", "--id", "a1", "--value", "late")
    run("labels", "add", "--id", "a1", "--value", "on time", "--source", "audit")
    assert document("records", "query", "SELECT value, source FROM labels") == [{"value": "on time", "source": "audit"}]
    assert len(document("records", "query", "SELECT * FROM labels_history")) == 2


def test_a_file_is_added_and_unknown_ids_are_reported_and_kept(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("prediction_id,value\na1,late\nb-1,on time\nlater,late\nb,late\n")
    assert document("labels", "add", "--file", path) == {"added": 4, "unknown": ["later", "b"]}
    assert document("records", "query", "SELECT prediction_id FROM labels_unknown ORDER BY ALL") == [
        {"prediction_id": "b"},
        {"prediction_id": "later"},
    ]
    result = run("labels", "add", "--file", path)
    assert result.exit_code == 0
    assert "2 of them for ids or keys under which no prediction is recorded (yet): later, b" in result.stderr
    log = PredictionLog(records)
    log.append(record("later"))
    assert document("records", "query", "SELECT label FROM joined WHERE prediction_id = 'later'") == [{"label": "late"}]
    assert document("records", "query", "SELECT prediction_id FROM labels_unknown") == [{"prediction_id": "b"}]


def test_a_parquet_file_keeps_its_types(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"prediction_id": ["a1", "b-0"], "value": [1.5, None]}), path)
    assert document("labels", "add", "--file", path) == {"added": 2, "unknown": []}
    rows = document(
        "records", "query", "SELECT prediction_id, label FROM delay WHERE labelled_at IS NOT NULL ORDER BY ALL"
    )
    assert rows == [{"prediction_id": "a1", "label": 1.5}, {"prediction_id": "b-0", "label": None}]


def test_numbers_can_be_meant_as_text(records: Path) -> None:
    run("labels", "add", "--id", "a1", "--value", "007", "--as", "text")
    run("labels", "add", "--id", "b-0", "--value", "7", "--as", "text")
    run("labels", "add", "--id", "b-1", "--value", "7")
    assert [label.value for label in read_labels(records)] == ["007", "7", 7]


def test_labels_can_be_added_where_nothing_was_recorded_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "new"))
    assert document("labels", "add", "--id", "a1", "--value", "1") == {"added": 1, "unknown": ["a1"]}


@pytest.mark.parametrize(
    "words",
    [
        ["labels", "add"],
        ["labels", "add", "--id", "a1"],
        ["labels", "add", "--value", "1"],
        ["labels", "add", "--id", "", "--value", "1"],
        ["labels", "add", "--id", "a1", "--value", "1", "--file", "x.csv"],
        ["labels", "add", "--id", "a1", "--value", "1", "--as", "number"],
        ["records", "query"],
        ["records", "query", "SELECT 1", "--format", "xml"],
        ["replay"],
    ],
)
def test_wrong_usage_is_told(records: Path, words: list[str]) -> None:
    assert run(*words).exit_code == 2
    assert list(read_labels(records)) == []


def test_a_file_that_does_not_fit_adds_nothing(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("prediction_id,value\na1,late\n,late\n")
    result = run("labels", "add", "--file", path)
    assert result.exit_code == 5
    assert "'prediction_id', row 1: an id is missing" in result.stderr
    assert list(read_labels(records)) == []


def test_results_are_printed_as_a_table(records: Path) -> None:
    result = run("records", "query", "SELECT prediction_id AS id, temp, [1, 2] AS list FROM delay ORDER BY ALL")
    assert result.stdout.splitlines() == [
        "id   temp  list",
        "---  ----  -----",
        "a1   21.5  [1,2]",
        "b-0   1.5  [1,2]",
        "b-1   3.0  [1,2]",
    ]
    result = run("records", "query", "SELECT * FROM range(200)", "--rows", 2)
    assert len(result.stdout.splitlines()) == 4
    assert "2 of 200 rows" in result.stderr
    assert run("records", "query", "SELECT 1 AS n WHERE false").stdout.splitlines() == ["n", "-"]


def test_results_are_printed_as_csv(records: Path) -> None:
    columns = "prediction_id AS id, city, 'a, \"b\"' AS text, [1, 2] AS list, 1::HUGEINT AS big, 2 AS id, '' AS none"
    sql = f"SELECT {columns} FROM delay ORDER BY 1"
    result = run("records", "query", sql, "--format", "csv")
    assert result.stdout.splitlines()[3] == 'b-1,,"a, ""b""","[1,2]",1,2,""'
    lines = list(csv.reader(io.StringIO(result.stdout)))
    assert lines[0] == ["id", "city", "text", "list", "big", "id_2", "none"]
    assert lines[1] == ["a1", "Bern", 'a, "b"', "[1,2]", "1", "2", ""]
    result = run("records", "query", "SELECT 1 AS n WHERE false", "--format", "csv")
    assert result.stdout == "n\n"


def test_sql_can_come_from_standard_input(records: Path) -> None:
    result = run("records", "query", "-", "--json", stdin="SELECT count(*) AS n\nFROM predictions")
    assert json.loads(result.stdout) == [{"n": 3}]


@pytest.mark.parametrize("sql", ["DROP VIEW joined", "SELECT * FROM read_csv('/etc/passwd')", "SELEKT 1"])
def test_sql_that_is_not_allowed_or_wrong_is_refused(records: Path, sql: str) -> None:
    result = run("records", "query", sql)
    assert result.exit_code == 5
    assert "error:" in result.stderr
    assert "root:" not in result.output


def test_tables_are_listed(records: Path) -> None:
    found = document("records", "tables")
    names = [table["table"] for table in found]
    assert names == [
        "predictions",
        "labels",
        "joined",
        "labels_history",
        "labels_unknown",
        "predictions_dropped",
        "delay",
    ]
    assert {"name": "temp", "type": "DOUBLE"} in found[-1]["columns"]
    assert "  temp  DOUBLE" in run("records", "tables").stdout


def test_damage_is_told_and_the_rest_is_answered(records: Path) -> None:
    (path,) = segments.segments(records / "predictions")
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    result = run("records", "query", "SELECT count(*) AS n FROM predictions", "--json")
    assert json.loads(result.stdout) == [{"n": 2}]
    assert "warning: " in result.stderr
    assert "at offset 24 are damaged and were skipped" in result.stderr


def test_another_folder_can_be_named(records: Path, tmp_path: Path) -> None:
    found = document("records", "query", "SELECT count(*) AS n FROM predictions", "--records", tmp_path / "none")
    assert found == [{"n": 0}]


def test_replaying_what_is_not_there_is_told(records: Path) -> None:
    result = run("replay", "zz", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stderr)["kind"] == "PredictionNotFound"
    result = run("replay", "a1")
    assert result.exit_code == 3
    assert "delay@3, which gave this answer, is not in the registry" in result.stderr
    assert "--bundle" in result.stderr


class Served:
    """A real server with one version, recording into the home; it is killed the hard way."""

    def __init__(self, home: Home, bundle: Bundle) -> None:
        announced = home.path / "announced.json"
        options = {"--bundle": bundle.path, "--name": "toy", "--version": 1, "--port": 0, "--announce": announced}
        options |= {"--records": home.records, "--home": home.path}
        words = [str(word) for pair in options.items() for word in pair]
        self.client = httpx.Client()
        self.process = subprocess.Popen([sys.executable, "-m", "modelyard.serving", *words])
        try:
            deadline = time.monotonic() + 60
            while not announced.exists():
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            self.client.base_url = httpx.URL(json.loads(announced.read_text())["url"])
            while self.client.get("/v2/health/ready").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()

    def post(self, path: str, body: Any) -> Any:
        return self.client.post(path, json=body).json()


ROW = {"x0": None, "x1": 0.25, "x2": -1.5, "carrier": "UA"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_compiled(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path))
    return Home.locate().create()


@pytest.fixture
def server(home: Home, bundle: Bundle) -> Iterator[Served]:
    served = Served(home, bundle)
    yield served
    served.kill()


def test_what_was_answered_before_a_kill_is_recorded_labelled_and_replayed(
    home: Home, bundle: Bundle, server: Served
) -> None:
    one = server.post("/predict/toy", {"rows": [ROW]})["prediction_id"]
    many = server.post("/predict/toy", {"rows": [ROW, {**ROW, "x0": 2.0}], "ids": ["p", "q"]})["prediction_id"]
    refused = server.post("/predict/toy", {"rows": [{**ROW, "x1": "warm"}]})["request_id"]
    tensors = [{"name": f"x{index}", "datatype": "FP64", "shape": [1], "data": [0.5]} for index in range(3)]
    tensors.append({"name": "carrier", "datatype": "BYTES", "shape": [1], "data": [None]})
    oip = server.post("/v2/models/toy/infer", {"inputs": tensors})["parameters"]["prediction_id"]
    mlflow = server.post("/invocations/toy", {"dataframe_records": [ROW]})["prediction_id"]
    nowhere = server.post("/predict/other", {"rows": [ROW]})["request_id"]
    labels = {"labels": [{"prediction_id": one, "value": "late"}, {"prediction_id": "q", "value": "on time"}]}
    assert server.post("/labels", labels) == {"accepted": 2}
    server.kill()

    sql = "SELECT prediction_id, outcome, row FROM predictions ORDER BY time"
    found = [tuple(line.values()) for line in document("records", "query", sql)]
    assert {(line["prediction_id"], line["outcome"]) for line in document("records", "query", sql)} == {
        (one, "ok"), ("p", "ok"), ("q", "ok"), (refused, "refused"), (oip, "ok"), (mlflow, "ok"), (nowhere, "refused"),
    }  # fmt: skip
    assert len(found) == 7
    sql = "SELECT prediction_id, x0, x1, carrier, label FROM toy WHERE label IS NOT NULL ORDER BY label"
    assert document("records", "query", sql) == [
        {"prediction_id": one, "x0": None, "x1": 0.25, "carrier": "UA", "label": "late"},
        {"prediction_id": "q", "x0": 2.0, "x1": 0.25, "carrier": "UA", "label": "on time"},
    ]

    with Registry.open(home) as registry:
        assert registry.register(bundle).ref == "toy@1"
    for prediction_id in (one, many, "p", "q", oip, mlflow, refused):
        result = run("replay", prediction_id)
        assert result.exit_code == 0, (prediction_id, result.output)
        assert result.stdout.splitlines()[-1] == "same"
    shown = document("replay", "q")
    assert shown["prediction_id"] == many
    (row,) = shown["result"]["rows"]
    assert row["prediction_id"] == "q"
    assert row["recorded"] == row["recomputed"]
    assert set(row["recorded"]) == {"predict", "predict_proba[late]", "predict_proba[on time]"}
    result = run("replay", nowhere)
    assert result.exit_code == 5
    assert "reached no version" in result.stderr


def test_a_replay_that_gives_another_number_fails(home: Home, bundle: Bundle, server: Served) -> None:
    one = server.post("/predict/toy", {"rows": [ROW]})["prediction_id"]
    server.kill()
    (true,) = read(home.records)
    answer = json.loads(true.response)
    answer["rows"][0]["predict_proba"]["late"] += 0.001
    log = PredictionLog(home.records)
    log.append(replace(true, prediction_id="edited", response=json.dumps(answer).encode()))
    assert run("replay", one, "--bundle", bundle.path).exit_code == 0
    result = run("replay", "edited", "--bundle", bundle.path)
    assert result.exit_code == 1
    assert "<- differs" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(
        "different (largest difference 0.001): row 0, output 'predict_proba[late]'"
    )
    assert run("replay", "edited", "--bundle", bundle.path, "--json").exit_code == 1


def test_another_versions_bundle_is_not_taken_for_the_one_that_answered(
    home: Home, tmp_path: Path, server: Served
) -> None:
    one = server.post("/predict/toy", {"rows": [ROW]})["prediction_id"]
    other = write_compiled(tmp_path / "other", bias=0.5)
    result = run("replay", one, "--bundle", other.path)
    assert result.exit_code == 5
    assert "digest" in result.stderr


def test_labels_name_rows_by_key_columns(records: Path, tmp_path: Path) -> None:
    key = ["--deployment", "delay", "--key", "city=Bern", "--key", "temp=1.5"]
    assert document("labels", "add", *key, "--value", "late") == {"added": 1, "unknown": []}
    path = tmp_path / "truth.csv"
    path.write_text("temp,city,delayed,since\n21.5,Bern,no,2013-03-01T06:00:00Z\n99,Bern,no,2013-03-01T07:00:00Z\n")
    words = ["--file", path, "--deployment", "delay", "--key", "city,temp", "--value-column", "delayed"]
    unknown = '{"city":"Bern","temp":"99"}'
    assert document("labels", "add", *words, "--known-at", "since") == {"added": 2, "unknown": [unknown]}
    sql = "SELECT prediction_id, label, labelled_at < DATE '2014-01-01' AS early FROM delay ORDER BY ALL"
    assert document("records", "query", sql) == [
        {"prediction_id": "a1", "label": "no", "early": True},
        {"prediction_id": "b-0", "label": "late", "early": False},
        {"prediction_id": "b-1", "label": None, "early": None},
    ]
    assert document("records", "query", "SELECT key FROM labels_unknown") == [{"key": unknown}]


@pytest.mark.parametrize(
    "words",
    [
        ["--deployment", "delay", "--value", "1"],
        ["--key", "city=Bern", "--value", "1"],
        ["--deployment", "delay", "--key", "city", "--value", "1"],
        ["--deployment", "delay", "--key", "city=Bern", "--id", "a1", "--value", "1"],
        ["--deployment", "delay", "--file", "x.csv"],
    ],
)
def test_a_key_needs_columns_values_and_a_deployment(records: Path, words: list[str]) -> None:
    assert run("labels", "add", *words).exit_code == 2

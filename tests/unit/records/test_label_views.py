"""Labels find their rows by id and by key, in whatever order they come."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.domain.records import Label, key_of
from modelyard.records.batches import table_of
from modelyard.records.log import LabelLog, PredictionLog, read_labels
from modelyard.records.query import RecordDatabase, query
from unit.records.samples import call, label

ROWS = [{"carrier": "UA", "flight": 1545, "dep": 5.0}, {"carrier": "UA", "flight": 1714, "dep": 5.25}]


def by_key(value: Any, received_ns: int = 10, deployment: str = "delay", known_ns: int = 0, **key: Any) -> Label:
    return Label("", value, received_ns, "test", deployment, key_of(key), known_ns)


def log(directory: Path, *records: Any) -> None:
    writer = PredictionLog(directory)
    for one in records:
        writer.append(one)
    writer.close()


def add(directory: Path, *labels: Label) -> None:
    writer = LabelLog(directory)
    writer.append_many(labels)
    writer.close()


def joined(directory: Path, table: str = "joined") -> dict[str, Any]:
    found = query(directory, f"SELECT prediction_id, label FROM {table} ORDER BY ALL").to_pylist()
    return {line["prediction_id"]: line["label"] for line in found}


def flights(directory: Path, name: str = "b", deployment: str = "delay") -> None:
    log(directory, call(name, ROWS, [{"predict": 0}, {"predict": 1}], deployment=deployment))


def test_a_label_finds_its_row_by_columns_of_the_inputs(tmp_path: Path) -> None:
    flights(tmp_path)
    flights(tmp_path, "other", "elsewhere")
    add(tmp_path, by_key(1, carrier="UA", flight=1545))
    assert joined(tmp_path) == {"b-0": "1", "b-1": None, "other-0": None, "other-1": None}
    assert joined(tmp_path, "delay") == {"b-0": 1, "b-1": None}


@pytest.mark.parametrize("value", ["1545", 1545, 1545.0, "1545.00"])
@pytest.mark.parametrize("dep", ["5", 5, 5.0])
def test_numbers_of_a_key_are_compared_whatever_their_type(tmp_path: Path, value: Any, dep: Any) -> None:
    flights(tmp_path)
    add(tmp_path, by_key("late", flight=value, dep=dep))
    assert joined(tmp_path) == {"b-0": "late", "b-1": None}


def test_labels_may_name_rows_by_different_columns(tmp_path: Path) -> None:
    flights(tmp_path)
    add(tmp_path, by_key(1, carrier="UA", flight=1545), by_key(2, flight=1714), label("b-1", 3, received_ns=5))
    assert joined(tmp_path, "delay") == {"b-0": 1, "b-1": 2}
    add(tmp_path, label("b-1", 4, received_ns=11))
    assert joined(tmp_path, "delay") == {"b-0": 1, "b-1": 4}
    with RecordDatabase(tmp_path) as database:
        assert database.query("FROM labels_unknown").num_rows == 0
        assert database.query("FROM labels").num_rows == 3
        assert database.query("FROM labels_history").num_rows == 4


def test_every_row_with_the_key_is_meant(tmp_path: Path) -> None:
    flights(tmp_path)
    flights(tmp_path, "again")
    add(tmp_path, by_key("late", flight=1714))
    assert joined(tmp_path) == {"again-0": None, "again-1": "late", "b-0": None, "b-1": "late"}


def test_a_label_by_key_waits_for_its_prediction(tmp_path: Path) -> None:
    waiting = [by_key("late", flight=1714), by_key("late", flight=9), by_key("late", deployment="none", flight=1545)]
    add(tmp_path, *waiting, label("nobody"))
    with RecordDatabase(tmp_path) as database:
        assert database.query("FROM labels_unknown").num_rows == 4
    flights(tmp_path)
    assert joined(tmp_path) == {"b-0": None, "b-1": "late"}
    with RecordDatabase(tmp_path) as database:
        left = database.query("SELECT prediction_id, deployment, key FROM labels_unknown ORDER BY ALL").to_pylist()
        assert [(line["prediction_id"], line["deployment"], line["key"]) for line in left] == [
            ("nobody", None, None), (None, "delay", '{"flight":"9"}'), (None, "none", '{"flight":"1545"}'),
        ]  # fmt: skip
        assert database.unknown(table_of([*waiting, label("nobody"), *waiting])) == [
            '{"flight":"9"}', '{"flight":"1545"}', "nobody",
        ]  # fmt: skip


def test_a_missing_value_is_no_key(tmp_path: Path) -> None:
    log(tmp_path, call("b", [{"flight": None, "gate": "x"}], [{"predict": 1}]))
    add(tmp_path, by_key(1, flight="null", gate="x"), by_key(2, flight="", gate="x"), by_key(3, nowhere=1))
    assert joined(tmp_path) == {"b": None}


def test_keys_that_are_no_inputs_are_sent_beside_the_rows(tmp_path: Path) -> None:
    keys = [{"order": "o1", "line": 1}, {"order": "o1", "line": 2}]
    request = json.dumps({"rows": ROWS, "keys": keys}).encode()
    log(tmp_path, call("b", ROWS, [{"predict": 0}, {"predict": 1}], request=request))
    add(tmp_path, by_key("late", order="o1", line=2))
    assert joined(tmp_path) == {"b-0": None, "b-1": "late"}
    assert query(tmp_path, "SELECT line FROM delay ORDER BY ALL")["line"].to_pylist() == [1, 2]


ODD = {'it\'s "odd"': "a'b", "a/b~c": "\u20ac \x1f", "[0]": "x", "UPPER": 1, "upper": 2}


def test_names_and_values_of_keys_may_be_anything(tmp_path: Path) -> None:
    log(tmp_path, call("b", [ODD, {**ODD, "upper": 3}], [{"predict": 0}, {"predict": 1}]))
    add(tmp_path, by_key("found", **ODD))
    assert joined(tmp_path) == {"b-0": "found", "b-1": None}


def test_what_became_known_last_counts_in_whatever_order_it_comes(tmp_path: Path) -> None:
    """A file that is added again does not undo a correction."""
    told = [
        Label("b-0", "first", 0, known_ns=1_000_000),
        Label("b-0", "corrected", 0, known_ns=5_000_000),
        Label("b-0", "audited", 0, known_ns=9_000_000),
    ]
    for number, order in enumerate(itertools.permutations(told)):
        folder = tmp_path / str(number)
        flights(folder)
        for received, one in enumerate(order):
            add(folder, Label(one.prediction_id, one.value, 10_000_000 + received, known_ns=one.known_ns))
        assert joined(folder, "delay") == {"b-0": "audited", "b-1": None}
        times = query(folder, "SELECT epoch_ns(labelled_at) AS at FROM delay WHERE label IS NOT NULL")
        assert times["at"].to_pylist() == [9_000_000]
        assert query(folder, "FROM labels_history").num_rows == 3


def test_a_batch_of_labels_is_kept_in_one_frame_and_read_in_order(tmp_path: Path) -> None:
    flights(tmp_path)
    given = [Label("b-0", value, 0) for value in (1, 2.5, True, None, "late", 2**64 - 1)]
    given += [by_key("by key", 0, flight=1714, known_ns=7000)]
    writer = LabelLog(tmp_path)
    writer.append(label("b-0", "before", received_ns=40))
    assert writer.append_table(table_of(given), 50, "file") == 7
    writer.close()
    kept = list(read_labels(tmp_path))
    assert [one.value for one in kept] == ["before", 1, 2.5, True, None, "late", 2**64 - 1, "by key"]
    assert {(one.received_ns, one.source) for one in kept[1:]} == {(50, "file")}
    assert kept[-1] == Label("", "by key", 50, "file", "delay", key_of({"flight": 1714}), 7000)
    table = query(tmp_path, "SELECT value, kind, number FROM labels_history").to_pylist()
    assert [(line["value"], line["kind"], line["number"]) for line in table[1:6]] == [
        ("1", "int", 1.0), ("2.5", "float", 2.5), ("true", "bool", 1.0), (None, "null", None), ("late", "text", None),
    ]  # fmt: skip
    assert joined(tmp_path) == {"b-0": str(2**64 - 1), "b-1": "by key"}

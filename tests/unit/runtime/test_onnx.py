"""The compiled runtime."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.compile.graph import Codes, Graph
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.manifest import CompiledForm, Feed, Fetch
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.errors import ModelFailed, RowsRefused
from modelyard.runtime.onnx import OnnxRuntime

MARK = "\ue000missing\ue000"
COLUMNS = (
    Column("temp", Kind.FLOAT64, nullable=True, dtype="float64"),
    Column("stops", Kind.INT64, nullable=True, dtype="Int64"),
    Column("late", Kind.BOOL, nullable=False, dtype="bool"),
    Column("day", Kind.STRING, nullable=True, dtype="str"),
)
FEEDS = (
    Feed("temp", "t", "float64"),
    Feed("stops", "s", "float64"),
    Feed("late", "l", "int64"),
    Feed("day", "d", "string", MARK),
)
OUTPUTS = (
    Output("day_code", Kind.STRING, "label", "predict", classes=("other", "mon", "missing")),
    Output("numbers", Kind.FLOAT64, "value", "numbers", shape=(3,)),
)
SCHEMA = Schema("dataframe", COLUMNS, OUTPUTS)
FORM = CompiledForm("m", "float64", "test", FEEDS, (Fetch("day_code", "code", decode=True), Fetch("numbers", "n")))


def model(cells_per_row: int = 1) -> bytes:
    """Gives the day as a class, and the numbers as they came in."""
    graph = Graph()
    temp, stops = graph.input("t", "f8"), graph.input("s", "f8")
    late, day = graph.input("l", "i8"), graph.input("d", "str")
    graph.needs_cells(cells_per_row)
    graph.output("code", graph.lookup(day, ["mon", MARK], [1, 2], 0, "i8"))
    graph.output("n", graph.concat([temp, stops, late.cast("f8")]))
    return graph.model()


def frame(days: list[str | None], temps: list[float] | None = None) -> Frame:
    rows = len(days)
    texts = np.empty(rows, dtype=object)
    texts[:] = days
    missing = np.arange(rows) % 3 == 1
    columns = {
        "temp": Vector(np.array(temps or [1.5] * rows)),
        "stops": Vector(np.arange(rows) * ~missing, missing),
        "late": Vector(np.arange(rows) % 2 == 0),
        "day": Vector(texts),
    }
    return Frame(columns, rows)


def test_missing_values_and_labels_are_translated() -> None:
    answers = OnnxRuntime(model(), FORM, SCHEMA).predict(frame(["mon", None, "tue"], [np.nan, 2.0, np.inf]))
    assert answers["day_code"].tolist() == ["mon", "missing", "other"]
    assert answers["day_code"].dtype == object
    np.testing.assert_array_equal(answers["numbers"], [[np.nan, 0, 1], [2.0, np.nan, 0], [np.inf, 2, 1]])


@pytest.mark.parametrize("text", [MARK, "mon\x00", "\ud800", "", "MON", "mon ", "\uff4don"])
def test_strange_texts_are_unseen_ones(text: str) -> None:
    assert OnnxRuntime(model(), FORM, SCHEMA).predict(frame([text]))["day_code"].tolist() == ["other"]


@settings(max_examples=50)
@given(st.lists(st.text() | st.none() | st.just("mon"), min_size=1, max_size=5))
def test_only_the_known_text_is_known(days: list[str | None]) -> None:
    names = {"mon": "mon", None: "missing"}
    answered = OnnxRuntime(model(), FORM, SCHEMA).predict(frame(days))["day_code"].tolist()
    assert answered == [names.get(day, "other") for day in days]


def test_named_outputs_come_in_the_order_asked_for() -> None:
    runtime = OnnxRuntime(model(), FORM, SCHEMA)
    assert list(runtime.predict(frame(["mon"]), ["numbers"])) == ["numbers"]
    assert list(runtime.predict(frame(["mon"]))) == ["day_code", "numbers"]


def test_no_rows_give_empty_answers_of_the_right_types() -> None:
    answers = OnnxRuntime(model(), FORM, SCHEMA).predict(frame(["mon"]).take(slice(0, 0)))
    assert {name: (array.shape, array.dtype) for name, array in answers.items()} == {
        "day_code": ((0,), np.dtype(object)),
        "numbers": ((0, 3), np.dtype("float64")),
    }


def test_large_batches_are_run_in_pieces_and_come_back_in_order() -> None:
    runtime = OnnxRuntime(model(cells_per_row=1 << 21), FORM, SCHEMA)
    days = ["mon", None, "tue", "wed", "mon"] * 5
    temps = [float(at) for at in range(25)]
    answers = runtime.predict(frame(days, temps))
    assert answers["numbers"][:, 0].tolist() == temps
    assert answers["day_code"].tolist() == ["mon", "missing", "other", "other", "mon"] * 5


def test_threads_share_a_runtime() -> None:
    runtime = OnnxRuntime(model(), FORM, SCHEMA)

    def ask(at: int) -> list[Any]:
        return [runtime.predict(frame(["mon"], [float(at)]))["numbers"][0, 0] for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        assert all(set(found) == {at} for at, found in enumerate(pool.map(ask, range(24))))


def test_a_closed_runtime_says_so() -> None:
    runtime = OnnxRuntime(model(), FORM, SCHEMA)
    runtime.close()
    runtime.close()
    with pytest.raises(ModelFailed, match="closed"):
        runtime.predict(frame(["mon"]))


def test_a_file_opens_as_its_bytes_do(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model())
    assert OnnxRuntime(path, FORM, SCHEMA, threads=2).predict(frame(["mon"]))["day_code"].tolist() == ["mon"]


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="cannot open the compiled model"):
        OnnxRuntime(b"not a graph", FORM, SCHEMA)


def test_rows_that_the_graph_cannot_take_are_refused() -> None:
    graph = Graph()
    x = graph.input("x", "f8", 2)
    graph.output("y", x.reshape(-1, 2))
    schema = Schema(
        "array",
        (Column("X", Kind.FLOAT64, nullable=False, dtype="float64", shape=(-1,)),),
        (Output("y", Kind.FLOAT64, "value", "y", shape=(2,)),),
    )
    runtime = OnnxRuntime(
        graph.model(), CompiledForm("m", "float64", "", (Feed("X", "x", "float64"),), (Fetch("y", "y"),)), schema
    )
    with pytest.raises(RowsRefused, match="cannot take these rows"):
        runtime.predict(Frame({"X": Vector(np.zeros((2, 3)))}, 2))


def test_it_needs_neither_pandas_nor_a_training_library() -> None:
    program = (
        "import sys, modelyard.runtime.onnx; print(sorted({'pandas', 'sklearn', 'onnx', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_columns_may_share_a_tensor_and_texts_enter_as_numbers() -> None:
    graph = Graph()
    numbers = graph.concat([graph.enter([0], "f8"), graph.enter([1], "f8"), graph.enter([2], "i8").cast("f8")])
    day = graph.enter_codes([(3, Codes((("mon", 1), ("été", 2)), missing=3, other=0))])
    graph.output("n", graph.concat([numbers.cast("f8"), day.cast("f8")]))
    feeds = tuple(
        Feed(COLUMNS[at].name, tensor, "int64" if entry.codes else "float64", None, next(iter(entry.codes), None))
        for tensor, entry in graph.entries().items()
        for at in entry.columns
    )
    assert len({feed.tensor for feed in feeds}) == 2
    output = Output("numbers", Kind.FLOAT64, "value", "numbers", shape=(4,))
    form = CompiledForm("m", "float64", "test", feeds, (Fetch("numbers", "n"),))
    runtime = OnnxRuntime(graph.model(), form, Schema("dataframe", COLUMNS, (output,)))
    rows = frame(["mon", None, "été", "\ue000missing\ue000", "\ud800"], [1.5, np.nan, -0.0, np.inf, 2.5])
    expected = [
        [1.5, 0.0, 1.0, 1.0],
        [np.nan, np.nan, 0.0, 3.0],
        [-0.0, 2.0, 1.0, 2.0],
        [np.inf, 3.0, 0.0, 0.0],
        [2.5, np.nan, 1.0, 0.0],
    ]
    batch = runtime.predict(rows)["numbers"]
    assert np.array_equal(batch, expected, equal_nan=True)
    single = [runtime.predict(rows.row(at))["numbers"][0] for at in range(rows.rows)]
    assert np.array_equal(single, expected, equal_nan=True)

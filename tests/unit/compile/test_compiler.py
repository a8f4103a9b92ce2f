"""Which compiled forms are taken, and why others are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KernelCenterer, OneHotEncoder, StandardScaler

from modelyard.bundle import golden
from modelyard.bundle.compile import compile_estimator, compiler, known_categories
from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.native import InProcess
from modelyard.bundle.probe import base_row, probe
from modelyard.bundle.schema import infer_columns, sample_frame
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import Tolerance
from modelyard.domain.schema import Schema
from modelyard.runtime.onnx import OnnxRuntime
from written_graphs import NUMBER, TABLE, THREE, TWO

pytestmark = pytest.mark.filterwarnings("ignore")

COLUMNS = ["temp", "wind", "day", "carrier"]


def pipeline(last: Any, *, unknown: str = "ignore") -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown=unknown))
    return make_pipeline(ColumnTransformer([("n", numbers, COLUMNS[:2]), ("c", texts, COLUMNS[2:])]), last)


def recorded(model: Any, sample: Any, rows: int = 24) -> tuple[Schema, GoldenSet]:
    """The schema and golden set that packing would make."""
    layout, columns = infer_columns(sample)
    frame = sample_frame(sample, layout, columns)
    given = InProcess(model, Schema(layout, columns, ())).native(frame.take(slice(0, 8)))
    outputs = catalogue.find(model).describe(model, given, columns)
    asked = InProcess(model, Schema(layout, columns, outputs))
    base = base_row(asked, frame)
    schema = Schema(layout, probe(columns, asked, frame, lambda column: known_categories(model, column)), outputs)
    drawn, origins = golden.draw(frame, schema.columns, rows, base=base)
    return schema, golden.record(asked, drawn, origins, schema)


def compiled(model: Any, schema: Schema, answers: GoldenSet) -> Any:
    return compile_estimator(model, schema, answers, Tolerance(), framework=catalogue.find(model))


@pytest.mark.parametrize("target", [TWO, THREE], ids=["two classes", "three classes"])
def test_an_equal_form_is_taken(target: Any) -> None:
    model = pipeline(LogisticRegression()).fit(TABLE[COLUMNS], target)
    schema, answers = recorded(model, TABLE[COLUMNS])
    raw, form, attempts = compiled(model, schema, answers)
    assert [(attempt.precision, attempt.outcome) for attempt in attempts] == [("float64", "taken")]
    runtime = OnnxRuntime(raw, form, schema)
    assert {name: len(array) for name, array in runtime.predict(answers.inputs).items()} == {
        name: len(answers.origins) for name in ("predict", "predict_proba", "decision_function")
    }


def test_the_same_estimator_gives_the_same_bytes() -> None:
    model = pipeline(LogisticRegression()).fit(TABLE[COLUMNS], TWO)
    schema, answers = recorded(model, TABLE[COLUMNS])
    assert compiled(model, schema, answers)[0] == compiled(model, schema, answers)[0]


def test_columns_that_nothing_depends_on_are_not_fed() -> None:
    model = pipeline(Ridge()).fit(TABLE, NUMBER)
    schema, answers = recorded(model, TABLE)
    _, form, _ = compiled(model, schema, answers)
    assert [feed.column for feed in form.feeds] == COLUMNS


def test_unseen_categories_that_raise_are_refused_before_the_graph() -> None:
    model = pipeline(Ridge(), unknown="error").fit(TABLE[COLUMNS], NUMBER)
    schema, answers = recorded(model, TABLE[COLUMNS])
    assert any(answers.refused)
    assert schema.column("day").accepts.categories == ("fri", "mon", "thu", "tue", "wed")
    assert compiled(model, schema, answers)[1] is not None


def test_a_form_that_answers_refused_rows_is_not_taken() -> None:
    model = pipeline(Ridge()).fit(TABLE[COLUMNS], NUMBER)
    schema, answers = recorded(model, TABLE[COLUMNS])
    refused = replace(answers, refused=("ValueError: not this one", *answers.refused[1:]))
    _, form, attempts = compiled(model, schema, refused)
    assert form is None
    assert attempts[0].outcome == "not equal"
    assert attempts[0].reason.startswith("row 0 (sample): expected refused: ValueError")


def test_a_form_with_other_answers_is_not_taken_and_says_where() -> None:
    model = pipeline(Ridge()).fit(TABLE[COLUMNS], NUMBER)
    schema, answers = recorded(model, TABLE[COLUMNS])
    moved = {name: array.copy() for name, array in answers.batch.items()}
    moved["predict"][2] += 1e-3
    _, form, attempts = compiled(model, schema, replace(answers, batch=moved))
    assert form is None
    assert attempts[0].outcome == "not equal"
    assert "row 2" in attempts[0].reason


def test_rows_beside_the_golden_set_are_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pipeline(Ridge()).fit(TABLE[COLUMNS], NUMBER)
    schema, answers = recorded(model, TABLE[COLUMNS])
    only = answers.answered()[:3]
    few = GoldenSet(
        answers.inputs.take(only),
        tuple(answers.origins[row] for row in only),
        (None,) * 3,
        {name: array[only] for name, array in answers.single.items()},
        {name: array[only] for name, array in answers.batch.items()},
    )

    class Bent(OnnxRuntime):
        """Wrong only where it is very cold."""

        def predict(self, frame: Any, outputs: Any = None) -> Any:
            given = super().predict(frame, outputs)
            given["predict"] = given["predict"] * np.where(np.nan_to_num(frame["temp"].values) < -1e4, 1.01, 1.0)
            return given

    monkeypatch.setattr(compiler, "OnnxRuntime", Bent)
    _, form, attempts = compiled(model, schema, few)
    assert form is None
    assert attempts[0].reason.startswith("on rows beside the golden set: row ")


def custom(X: Any) -> Any:
    return X


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (FunctionTransformer(custom), "no converter for the function 'custom'"),
        (KNNImputer(), "KNNImputer: skl2onnx"),
    ],
    ids=["function", "skl2onnx"],
)
def test_what_has_no_converter_says_so(step: Any, why: str) -> None:
    table = TABLE[["temp", "wind"]].fillna(1)
    model = make_pipeline(step, Ridge()).fit(table, NUMBER)
    schema, answers = recorded(model, table)
    raw, form, attempts = compiled(model, schema, answers)
    assert (raw, form) == (None, None)
    assert attempts[0].outcome == "no converter"
    assert why in attempts[0].reason


def test_functions_of_a_user_have_no_compiled_form() -> None:
    def doubled(table: pd.DataFrame) -> Any:
        return table["wind"] * 2

    schema, answers = recorded(doubled, TABLE[["wind"]])
    _, form, attempts = compiled(doubled, schema, answers)
    assert form is None
    assert attempts[0].outcome == "no converter"


def test_others_converters_fill_gaps() -> None:
    numbers = TABLE[["wind", "seats"]].to_numpy(dtype=float)[:40]
    kernel = numbers @ numbers.T
    model = KernelCenterer().fit(kernel)
    schema, answers = recorded(model, kernel)
    _, form, attempts = compiled(model, schema, answers)
    assert form is not None, attempts
    assert "skl2onnx" in form.converter

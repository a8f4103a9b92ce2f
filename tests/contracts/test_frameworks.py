"""Every adapter keeps the same promises: it knows its own, says what they answer, and nothing changes in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import native_bundles
from modelyard.bundle import native
from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.frameworks.functions import with_load
from modelyard.bundle.frameworks.onnx import as_graph
from modelyard.bundle.native import InProcess
from modelyard.domain.frame import Frame
from modelyard.domain.schema import Schema

ROWS = 60


@dataclass(frozen=True)
class Case:
    """A model, the adapter that must know it, and rows for it."""

    framework: str
    model: Any
    sample: Any

    @property
    def schema(self) -> Schema:
        return native_bundles.schema_of(self.model, self.sample)

    def frame(self) -> Frame:
        return native_bundles.frame_of(self.schema, self.sample)


def numbers() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(ROWS, 3)), columns=["a", "b", "c"])
    table.loc[7, "a"] = np.nan
    return table


def labels() -> Any:
    return np.where(numbers()["b"] > 0, "late", "on time")


def sklearn_pipeline() -> Case:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(numbers(), labels())
    return Case("sklearn", model, numbers())


def sklearn_transformer() -> Case:
    from sklearn.preprocessing import StandardScaler

    return Case("sklearn", StandardScaler().fit(numbers()), numbers())


def sklearn_many_targets() -> Case:
    from sklearn.ensemble import RandomForestClassifier

    values = numbers()["b"].to_numpy()
    targets = np.column_stack([np.where(values > 0, "x", "y"), np.digitize(values, [-0.5, 0.5]).astype(str)])
    return Case("sklearn", RandomForestClassifier(5, random_state=0).fit(numbers(), targets), numbers())


def sklearn_tables() -> Case:
    from sklearn.preprocessing import StandardScaler

    model = StandardScaler().set_output(transform="pandas").fit(numbers())
    return Case("sklearn", model, numbers())


def sklearn_outliers() -> Case:
    from sklearn.ensemble import IsolationForest

    given = numbers().to_numpy()[8:]
    return Case("sklearn", IsolationForest(n_estimators=10, random_state=0).fit(given), given)


def sklearn_texts() -> Case:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    texts = pd.Series(["late again", "right on time", "so late", "just in time"] * 5, name="text")
    return Case("sklearn", make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(texts, [1, 0, 1, 0] * 5), texts)


def xgboost_estimator() -> Case:
    import xgboost

    return Case("xgboost", xgboost.XGBRegressor(n_estimators=3).fit(numbers(), numbers()["b"]), numbers())


def xgboost_booster() -> Case:
    import xgboost

    matrix = xgboost.DMatrix(numbers(), label=(labels() == "late").astype(int))
    return Case("xgboost", xgboost.train({"objective": "binary:logistic"}, matrix, 3), numbers())


def lightgbm_estimator() -> Case:
    import lightgbm

    table = numbers().assign(kind=pd.Categorical(["u", "v", "w"] * (ROWS // 3)))
    return Case("lightgbm", lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(table, labels()), table)


def lightgbm_booster() -> Case:
    import lightgbm

    data = lightgbm.Dataset(numbers(), label=numbers()["b"])
    return Case("lightgbm", lightgbm.train({"verbose": -1}, data, 3), numbers())


def function_of_a_table() -> Case:
    def model(rows: Any) -> Any:
        import pandas as pd

        return pd.DataFrame({"sum": rows["a"] + rows["b"], "sign": rows["b"].map(lambda b: "up" if b > 0 else "down")})

    return Case("callable", native_bundles.of_main(model), numbers())


def function_with_state() -> Case:
    model = with_load(
        native_bundles.of_main(lambda factor, rows: rows["b"] * factor), native_bundles.of_main(lambda: 3)
    )
    return Case("callable", model, numbers())


def onnx_graph() -> Case:
    from onnx import TensorProto, helper

    number, text = TensorProto.FLOAT, TensorProto.STRING
    inputs = [helper.make_tensor_value_info(name, number, ["n", 1]) for name in ("a", "b")]
    inputs.append(helper.make_tensor_value_info("word", text, ["n"]))
    outputs = [
        helper.make_tensor_value_info("sum", number, ["n", 1]),
        helper.make_tensor_value_info("same", text, ["n"]),
    ]
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Identity", ["word"], ["same"])]
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), opset_imports=opset, ir_version=9)
    graph = as_graph(model)
    table = pd.DataFrame({"a": [1.5, 2.5], "b": [3.0, np.nan], "word": ["x", "y"]})
    return Case("onnx", graph, graph.tensors(table))


CASES: list[Callable[[], Case]] = [
    sklearn_pipeline,
    sklearn_transformer,
    sklearn_many_targets,
    sklearn_tables,
    sklearn_outliers,
    sklearn_texts,
    xgboost_estimator,
    xgboost_booster,
    lightgbm_estimator,
    lightgbm_booster,
    function_of_a_table,
    function_with_state,
    onnx_graph,
]


@pytest.fixture(scope="module", params=CASES, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param()
    return made


def same(one: Any, other: Any) -> bool:
    if one.keys() != other.keys() or any(one[name].dtype != other[name].dtype for name in one):
        return False
    return all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in one)


def test_its_own_models_are_known_by_it_alone(case: Case) -> None:
    assert catalogue.find(case.model).name == case.framework


def test_a_title_says_what_it_is_and_not_where(case: Case) -> None:
    title = catalogue.find(case.model).title(case.model)
    assert title
    assert " at 0x" not in title


def test_outputs_have_names_of_their_own_and_kinds_that_hold_the_answers(case: Case) -> None:
    outputs = case.schema.outputs
    assert len({output.name for output in outputs}) == len(outputs) > 0
    answers = InProcess(case.model, case.schema).predict(case.frame())
    assert list(answers) == [output.name for output in outputs]
    for output in outputs:
        assert answers[output.name].dtype == output.kind.numpy
        assert answers[output.name].shape == (case.frame().rows, *output.shape)


def test_labels_are_among_the_classes(case: Case) -> None:
    answers = InProcess(case.model, case.schema).predict(case.frame())
    for output in case.schema.outputs:
        if output.role == "label" and output.classes is not None:
            assert set(answers[output.name].ravel().tolist()) <= set(output.classes)
        if output.role == "probability":
            assert answers[output.name].sum(axis=-1) == pytest.approx(1.0, abs=1e-5)


def test_one_row_has_the_shape_of_one_row(case: Case) -> None:
    asked = InProcess(case.model, case.schema)
    answers = asked.predict(case.frame().row(1))
    assert all(answers[output.name].shape == (1, *output.shape) for output in case.schema.outputs)


def test_writing_twice_gives_the_same_files(case: Case) -> None:
    first, second = (native.save(case.model, catalogue.find(case.model)) for _ in range(2))
    assert first.form == second.form
    assert first.files == second.files


def test_a_process_of_its_own_answers_the_same(case: Case, tmp_path: Path) -> None:
    expected = InProcess(case.model, case.schema).predict(case.frame())
    runtime = native_bundles.start(tmp_path, case.model, case.sample)
    try:
        assert same(runtime.predict(case.frame()), expected)
    finally:
        runtime.close()


@pytest.mark.parametrize("framework", catalogue.frameworks(), ids=lambda framework: framework.name)
@pytest.mark.parametrize("thing", [None, 3, "text", object(), int, [1, 2]], ids=lambda thing: type(thing).__name__)
def test_what_is_no_model_is_not_known(framework: Any, thing: Any) -> None:
    assert not framework.handles(thing)

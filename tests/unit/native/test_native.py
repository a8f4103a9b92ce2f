"""What is written can be read back elsewhere, and the same estimator is the same bytes in any process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import native_bundles
from modelyard.bundle import native
from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.frameworks.functions import with_load
from modelyard.bundle.native import InProcess
from modelyard.errors import CannotPack, ModelFailed, RowsRefused

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)


def saved(estimator: Any, **options: Any) -> native.NativeFiles:
    return native.save(estimator, catalogue.find(estimator), **options)


def of_main(kind: Any) -> Any:
    """A class as if the training script had defined it."""
    kind.__module__ = "__main__"
    return kind


@of_main
class Clipper(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    def __init__(self, top: float = 1.0) -> None:
        self.top = top

    def fit(self, X: Any, y: Any = None) -> Clipper:
        self.seen_ = len(X)
        return self

    def transform(self, X: Any) -> Any:
        return np.clip(X, -self.top, self.top)


def test_plain_estimators_are_state_without_code() -> None:
    files = saved(make_pipeline(RandomForestClassifier(3), LogisticRegression())[:1].fit(X, Y))
    assert (files.form.format, files.form.runs_code) == ("skops", False)


@pytest.mark.parametrize(
    "step",
    [
        Clipper(),
        FunctionTransformer(lambda rows: rows * 2),
        FunctionTransformer(native_bundles.of_main(lambda rows: rows)),
    ],
    ids=["class", "lambda", "function"],
)
def test_code_of_the_training_script_travels_in_a_pickle(step: Any) -> None:
    model = make_pipeline(step, LogisticRegression()).fit(X, Y)
    files = saved(model)
    assert (files.form.format, files.form.runs_code) == ("cloudpickle", True)
    assert files.references.by_value
    assert np.array_equal(native.read_back(files).predict_proba(X), model.predict_proba(X))


def test_a_copy_that_answers_otherwise_is_not_taken() -> None:
    class Forgetful(LogisticRegression):  # type: ignore[misc]
        def __getstate__(self) -> Any:
            return {**super().__getstate__(), "coef_": np.zeros((1, 3))}

    model = of_main(Forgetful)().fit(X, Y)
    schema = native_bundles.schema_of(model, X)
    with pytest.raises(CannotPack, match="the copy that was read back answers predict otherwise"):
        saved(model, sample=X[:8], outputs=schema.outputs)


def test_a_model_that_answers_differently_each_time_is_refused() -> None:
    def random(rows: Any) -> Any:
        import numpy as np

        return np.random.default_rng().normal(size=len(rows))

    random = native_bundles.of_main(random)
    with pytest.raises(CannotPack, match="differs from call to call"):
        saved(random, sample=X, outputs=native_bundles.schema_of(random, X).outputs)


def test_what_cannot_be_written_is_said_for_each_format(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as handle:
        handle.write("x")
        model = LogisticRegression().fit(X, Y)
        model.log_ = handle
        with pytest.raises(CannotPack, match=r"LogisticRegression cannot be written.*skops: .*; cloudpickle: "):
            saved(model)


def test_a_function_with_a_load_step_keeps_its_files(tmp_path: Path) -> None:
    (tmp_path / "weights.txt").write_text("2.5")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "deep.txt").write_text("x")

    def load(files: Any) -> Any:
        return float(files["weights"].read_text()), sorted(p.name for p in files["words"].iterdir())

    def scaled(state: Any, rows: Any) -> Any:
        assert state[1] == ["deep.txt"]
        return rows["x"] * state[0]

    model = with_load(
        native_bundles.of_main(scaled),
        native_bundles.of_main(load),
        {"weights": tmp_path / "weights.txt", "words": tmp_path / "words"},
    )
    files = saved(model)
    assert files.form.loader
    assert sorted(files.files) == [
        "model/artifacts/weights/weights.txt",
        "model/artifacts/words/words/deep.txt",
        "model/native.pkl",
    ]
    table = pd.DataFrame({"x": [1.0, 2.0]})
    runtime = native_bundles.start(tmp_path / "bundle", model, table)
    try:
        frame = native_bundles.frame_of(native_bundles.schema_of(model, table), table)
        assert runtime.predict(frame)["output"].tolist() == [2.5, 5.0]
    finally:
        runtime.close()


def test_a_load_step_without_files_is_called_without_arguments() -> None:
    model = with_load(native_bundles.of_main(lambda state, rows: rows["x"] + state), native_bundles.of_main(lambda: 1))
    assert native.read_back(saved(model))(pd.DataFrame({"x": [1.0]})).tolist() == [2.0]


@pytest.mark.parametrize(
    ("load", "artifacts", "words"),
    [(None, {"a": "x"}, "no load step"), (len, {"a": "absent"}, "no file or folder 'absent'"), ("x", {}, "functions")],
)
def test_a_load_step_that_makes_no_sense_is_refused(load: Any, artifacts: Any, words: str) -> None:
    with pytest.raises(CannotPack, match=words):
        with_load(len, load, artifacts)


SCRIPT = """
import hashlib, sys
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import *
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from modelyard.bundle import native
from modelyard.bundle.frameworks import catalogue

class Clipper(TransformerMixin, BaseEstimator):
    words = {"top", "bottom", "left", "right"}
    def __init__(self, top=1.0): self.top = top
    def fit(self, X, y=None): return self
    def transform(self, X): return np.clip(X, -self.top, self.top)

GREETINGS = {"hello", "hi", "hey", "howdy"}

def double(rows):
    assert "hello" in GREETINGS and "x" not in {"u", "v", "w", "r"}
    return rows * 2

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
models = [
    RandomForestClassifier(5, random_state=0).fit(X, Y),
    HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X, Y),
    GradientBoostingRegressor(n_estimators=5, random_state=0).fit(X, X[:, 0]),
    TfidfVectorizer(stop_words=["a", "b", "c"]).fit(["a dog", "b cat", "z bird"]),
    make_pipeline(FunctionTransformer(double), FunctionTransformer(lambda X: X + 1), LogisticRegression()).fit(X, Y),
]
models.append(make_pipeline(Clipper(), LogisticRegression()).fit(X, Y))
models[-1].seen_ = {"a", "b", "c", "d", ("e", "f")}
for model in models:
    files = native.save(model, catalogue.find(model))
    data = files.files[files.form.path]
    print(files.form.format, hashlib.sha256(data).hexdigest(), b"train" + b"ing_" in data)
"""


def test_the_same_training_gives_the_same_bytes_in_any_process_and_folder(tmp_path: Path) -> None:
    found = []
    for seed in ("1", "2"):
        folder = tmp_path / f"training_{seed}"
        folder.mkdir()
        (folder / "train.py").write_text(SCRIPT)
        environ = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, str(folder / "train.py")], env=environ, capture_output=True, text=True, check=True
        )
        found.append(done.stdout.splitlines())
    assert found[0] == found[1]
    assert [line.split()[0] for line in found[0]] == ["skops"] * 4 + ["cloudpickle"] * 2
    assert all(line.endswith("False") for line in found[0]), "a path of the script is inside"


def test_saving_twice_is_the_same_and_another_state_is_not() -> None:
    def digest(model: Any) -> str:
        files = saved(model)
        return hashlib.sha256(bytes(files.files[files.form.path])).hexdigest()  # type: ignore[arg-type]

    for step in (FunctionTransformer(np.abs), Clipper()):
        model = make_pipeline(step, LogisticRegression()).fit(X, Y)
        assert digest(model) == digest(model)
        other = make_pipeline(step, LogisticRegression(C=0.5)).fit(X, Y)
        assert digest(model) != digest(other)


def test_sets_arrive_as_sets() -> None:
    model = make_pipeline(Clipper(), LogisticRegression()).fit(X, Y)
    model.seen_ = {"a", 1, (2, frozenset({"x", "y"}))}
    model.kept_ = [frozenset({"u", "v"})]
    copy = native.read_back(saved(model))
    assert copy.seen_ == {"a", 1, (2, frozenset({"x", "y"}))}
    assert copy.kept_ == [frozenset({"u", "v"})]


def test_settings_of_the_training_program_hold_where_the_model_is_served(tmp_path: Path) -> None:
    import sklearn

    def by_name(rows: Any) -> Any:
        return rows[["standardscaler__a"]] * 2

    table = pd.DataFrame(X, columns=["a", "b", "c"])
    with sklearn.config_context(transform_output="pandas"):
        columns = make_column_transformer((StandardScaler(), ["a", "b"]))
        model = make_pipeline(columns, FunctionTransformer(native_bundles.of_main(by_name)), LinearRegression())
        model.fit(table, Y)
        expected = model.predict(table)
        runtime = native_bundles.start(tmp_path, model, table)
        schema = native_bundles.schema_of(model, table)
    try:
        assert np.array_equal(runtime.predict(native_bundles.frame_of(schema, table))["predict"], expected)
    finally:
        runtime.close()


def test_usual_settings_are_not_mentioned() -> None:
    assert saved(LogisticRegression().fit(X, Y)).form.settings == {}


def test_keys_that_skops_would_change_are_pickled() -> None:
    model = LogisticRegression().fit(X, Y)
    model.lookup_ = {True: 1, False: 0}
    files = saved(model)
    assert files.form.format == "cloudpickle"
    assert native.read_back(files).lookup_ == {True: 1, False: 0}


def test_in_process_answers_are_those_of_the_methods() -> None:
    table = native_bundles.table(20)[["amount"]].fillna(0)
    model = HistGradientBoostingClassifier(max_iter=3).fit(table, table["amount"] > 5)
    schema = native_bundles.schema_of(model, table)
    got = InProcess(model, schema).predict(native_bundles.frame_of(schema, table))
    assert np.array_equal(got["predict"], model.predict(table))
    assert np.array_equal(got["predict_proba"], model.predict_proba(table))


def test_in_process_tells_refused_rows_from_a_broken_model() -> None:
    def touchy(rows: Any) -> Any:
        if rows["x"].iloc[0] == 1:
            raise ValueError("not 1")
        if rows["x"].iloc[0] == 2:
            raise MemoryError("not 2")
        return rows["x"]

    table = pd.DataFrame({"x": [0.0]})
    schema = native_bundles.schema_of(touchy, table)
    asked = InProcess(touchy, schema)
    with pytest.raises(RowsRefused, match="not 1"):
        asked.predict(native_bundles.frame_of(schema, pd.DataFrame({"x": [1.0]})))
    with pytest.raises(ModelFailed, match="not 2"):
        asked.predict(native_bundles.frame_of(schema, pd.DataFrame({"x": [2.0]})))


def test_text_estimators_read_back_alike() -> None:
    model = TfidfVectorizer(stop_words=["a"]).fit(["a dog", "a cat"])
    assert np.array_equal(
        native.read_back(saved(model)).transform(["dog"]).toarray(), model.transform(["dog"]).toarray()
    )

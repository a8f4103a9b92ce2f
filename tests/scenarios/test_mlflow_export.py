"""Versions exported for MLflow: the real MLflow loads them and gives the golden answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from typer.testing import CliRunner
from xgboost import XGBClassifier

import mlflow_models
import modelyard as my
from modelyard.cli.app import app

COMPARE = """
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
import mlflow
import msgspec
import numpy as np

from modelyard.bundle.layout import open_bundle
from modelyard.runtime.host import answers, tables

for bundle, folder in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    opened = open_bundle(Path(bundle))
    schema, golden = opened.manifest.schema, opened.golden()
    model = mlflow.pyfunc.load_model(folder)
    assert model.input_example is not None, folder
    rows = golden.answered()
    frame = golden.inputs.take(rows)
    plain = msgspec.to_builtins(schema)
    cells = [(frame[column.name].values, frame[column.name].missing) for column in schema.columns]
    given = tables.builder(schema.layout, plain["columns"])(cells, frame.rows)
    if schema.layout == "series":
        import pandas as pd
        given = pd.DataFrame({schema.columns[0].name: given})
    for output in plain["outputs"]:
        params = None if output["method"] in ("predict", "__call__") else {"method": output["method"]}
        got = answers.read(model.predict(given, params=params), output, frame.rows)
        wanted = golden.batch[output["name"]][rows]
        np.testing.assert_array_equal(got, wanted) if wanted.dtype.kind == "O" else np.testing.assert_allclose(
            got, wanted, rtol=1e-9, atol=1e-12
        )
    print(folder, len(rows), "golden rows")
    native = {"sklearn": mlflow.sklearn, "xgboost": mlflow.xgboost}
    for name in set(native) & set(model.metadata.flavors):
        own = given.iloc[:, 0] if schema.layout == "series" else given
        np.testing.assert_array_equal(native[name].load_model(folder).predict(own), model.predict(given))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELYARD_HOME", str(home))
        yield home


def table() -> pd.DataFrame:
    """Every type that a schema has words for and MLflow has not, beside those that both have."""
    rng = np.random.default_rng(0)
    rows = 60
    made = pd.DataFrame(
        {
            "price": rng.normal(10, 3, rows),
            "small": rng.normal(0, 1, rows).astype("float32"),
            "seats": pd.array(rng.integers(0, 5, rows), dtype="Int64"),
            "floor": rng.integers(0, 9, rows).astype("int8"),
            "open": rng.random(rows) > 0.5,
            "kind": pd.Categorical(rng.choice(["a", "b"], rows)),
            "city": pd.Series(rng.choice(["Bern", "Basel"], rows), dtype=object),
        }
    )
    made.loc[::7, "price"] = np.nan
    made.loc[3, "seats"] = pd.NA
    return made


def pipeline(X: pd.DataFrame) -> object:
    texts = OneHotEncoder(handle_unknown="ignore")
    numbers = ["price", "small", "seats", "floor", "open"]
    steps = make_column_transformer((texts, ["kind", "city"]), (SimpleImputer(), numbers))
    return make_pipeline(steps, LogisticRegression()).fit(X, np.where(X["floor"] > 4, "high", "low"))


def fees(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"fee": rows["price"].fillna(0) * 2, "where": rows["city"].str.upper().fillna("?")})


def graph() -> bytes:
    """A finished graph of two inputs."""
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("a", "b")]
    total = helper.make_tensor_value_info("total", TensorProto.FLOAT, [None, 1])
    made = helper.make_graph([helper.make_node("Add", ["a", "b"], ["total"])], "sum", inputs, [total])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    raw: bytes = model.SerializeToString()
    return raw


def test_a_graph_goes_to_mlflow_and_comes_back_without_running_any_code(home: Path, tmp_path: Path) -> None:
    rows = {"a": np.arange(4, dtype="float32"), "b": np.ones(4, dtype="float32")}
    version = my.pack(graph(), sample=rows, name="sum")
    done = CliRunner().invoke(app, ["export", version.ref, str(tmp_path / "sum"), "--format", "mlflow", "--json"])
    assert json.loads(done.stdout)["flavours"] == ["onnx", "python_function"]
    (tmp_path / "compare.py").write_text(COMPARE)
    compared = mlflow_models.run(tmp_path, "compare.py", str(version.path), str(tmp_path / "sum"))
    assert compared.returncode == 0, compared.stderr
    back = CliRunner().invoke(app, ["import", "mlflow", str(tmp_path / "sum"), "--name", "back", "--json"])
    assert back.exit_code == 0, back.output
    assert (json.loads(back.stdout)["flavour"], json.loads(back.stdout)["runtime"]) == ("onnx", "onnx")
    with my.load(json.loads(back.stdout)["ref"]) as loaded:
        assert loaded.predict(rows)["total"].ravel().tolist() == [1, 2, 3, 4]


def more(X: pd.DataFrame) -> list[Any]:
    array = X[["small", "floor"]].to_numpy(dtype="float64")
    texts = pd.Series(["red apple", "green pear", "red pear", "apple"], name="text")
    words = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 1])
    boosted = XGBClassifier(n_estimators=4).fit(X[["price", "floor"]], X["open"])
    return [
        my.pack(LinearRegression().fit(array, array[:, 0]), sample=array, name="array", golden_rows=20),
        my.pack(words, sample=texts, name="text"),
        my.pack(boosted, sample=X[["price", "floor"]], name="boosted", golden_rows=20),
    ]


def test_every_kind_of_version_answers_in_mlflow_as_its_golden_set_says(home: Path, tmp_path: Path) -> None:
    X = table()
    versions = [
        my.pack(pipeline(X), sample=X, name="pipeline", golden_rows=40),
        my.pack(fees, sample=X[["price", "city"]], name="fees", golden_rows=20),
    ]
    if mlflow_models.IS_LONG:
        versions += more(X)
    pairs: list[str] = []
    for version in versions:
        target = tmp_path / version.model
        done = CliRunner().invoke(app, ["export", version.ref, str(target), "--format", "mlflow", "--json"])
        assert done.exit_code == 0, done.output
        flavours = {"fees": ["python_function"], "boosted": ["xgboost", "python_function"]}
        assert json.loads(done.stdout)["flavours"] == flavours.get(version.model, ["sklearn", "python_function"])
        pairs += [str(version.path), str(target)]
    (tmp_path / "compare.py").write_text(COMPARE)
    compared = mlflow_models.run(tmp_path, "compare.py", *pairs)
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.count("golden rows") == len(versions)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@mlflow_models.long_form
def test_an_exported_version_comes_back_with_the_same_answers(home: Path, tmp_path: Path) -> None:
    X = table()
    version = my.pack(fees, sample=X[["price", "city"]], name="fees", golden_rows=20)
    CliRunner().invoke(app, ["export", version.ref, str(tmp_path / "fees"), "--format", "mlflow"])
    back = CliRunner().invoke(
        app, ["import", "mlflow", str(tmp_path / "fees"), "--name", "back", "--trust-code", "--json"]
    )
    assert back.exit_code == 0, back.output
    assert json.loads(back.stdout)["flavour"] == "python_function"
    with my.load(json.loads(back.stdout)["ref"]) as loaded, my.load(version.ref) as original:
        rows = X[["price", "city"]]
        pd.testing.assert_frame_equal(loaded.predict(rows), original.predict(rows))


def test_what_is_there_is_not_written_over(home: Path, tmp_path: Path) -> None:
    my.pack(fees, sample=table()[["price", "city"]], name="fees", golden_rows=20)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    done = CliRunner().invoke(app, ["export", "fees", str(tmp_path / "there"), "--format", "mlflow", "--json"])
    assert done.exit_code == 4
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file"]

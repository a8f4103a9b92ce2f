"""What a model returns is read as what training returned, or said to be something else."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from modelyard.runtime.host import answers
from modelyard.runtime.host.answers import Broken, Refused


def output(**more: Any) -> dict[str, Any]:
    return {"name": "y", "kind": "float64", "method": "__call__", "part": None, "shape": ()} | more


def asked(returned: Any, rows: int = 2, **more: Any) -> Any:
    return answers.ask(lambda _: returned, [output(**more)])(None, rows)["y"]


@pytest.mark.parametrize(
    "returned",
    [
        [1, 2],
        (1.0, 2.0),
        np.array([1, 2], dtype=np.int8),
        np.array([1, 2], dtype=object),
        pd.Series([1, 2], index=[7, 9]),
        pd.Series([1, 2], dtype="Int64"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_are_read_from_anything(returned: Any) -> None:
    got = asked(returned)
    assert got.dtype == np.float64
    assert got.tolist() == [1.0, 2.0]


def test_missing_numbers_are_nan_and_missing_texts_none() -> None:
    assert np.isnan(asked(pd.Series([1, None], dtype="Int64"))).tolist() == [False, True]
    assert asked(pd.Series(["a", None]), kind="string").tolist() == ["a", None]


def test_sparse_results_are_made_dense() -> None:
    assert asked(scipy.sparse.csr_matrix(np.eye(2)), shape=(2,)).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_moments_with_a_zone_are_given_in_utc() -> None:
    moment = pd.Series(pd.to_datetime(["2020-01-01T01:00+01:00"]).tz_convert("Europe/Zurich"))
    assert asked(moment, 1, kind="datetime").tolist() == [1577836800000000000]


def test_parts_are_found_in_tables_dicts_and_lists() -> None:
    frame = pd.DataFrame({"b": [1.0, 2.0], "y": [3.0, 4.0]})
    assert asked(frame, part="y").tolist() == [3.0, 4.0]
    assert asked({"y": [3, 4]}, part="y").tolist() == [3.0, 4.0]
    assert asked([[1, 2], [3, 4]], part=1).tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("returned", "more"),
    [
        ([1.0], {}),
        ([[1.0], [2.0]], {}),
        (np.ones((2, 3)), {"shape": (2,)}),
        (3.0, {}),
        ([1.5, 2.0], {"kind": "int64"}),
        ([300, 1], {"kind": "int8"}),
        ([1, 2], {"kind": "string"}),
        (["a", "b"], {}),
        ([2**53 + 1, None], {}),
        (np.array([2**53 + 1, 2]), {}),
        ([None, True], {"kind": "bool"}),
        ({"z": [1, 2]}, {"part": "y"}),
        (pd.DataFrame({"z": [1, 2]}), {"part": "y"}),
    ],
)
def test_anything_else_than_in_training_is_said(returned: Any, more: dict[str, Any]) -> None:
    with pytest.raises(Broken):
        asked(returned, **more)


def test_an_error_of_the_rows_is_told_from_one_of_the_model() -> None:
    def raising(error: Exception) -> Any:
        def model(_: Any) -> Any:
            raise error

        return answers.ask(model, [output()])

    for error in (ValueError("no"), TypeError("no"), KeyError("no"), AttributeError("no"), ZeroDivisionError("no")):
        with pytest.raises(Refused, match="no"):
            raising(error)(None, 1)
    for error in (ImportError("no"), FileNotFoundError("no"), MemoryError("no")):
        with pytest.raises(Broken, match="no"):
            raising(error)(None, 1)


def test_messages_hold_no_addresses_and_an_end() -> None:
    assert "0x" not in answers.describe(ValueError(f"cannot take {object()!r}"))
    assert len(answers.describe(ValueError("x" * 10_000))) < 2_100


def test_only_the_wanted_methods_are_called() -> None:
    class Model:
        def predict(self, _: Any) -> Any:
            return [1.0]

        def decision_function(self, _: Any) -> Any:
            raise AssertionError("nobody asked")

    ask = answers.ask(Model(), [output(method="predict"), output(name="d", method="decision_function")])
    assert list(ask(None, 1, ["y"])) == ["y"]


def test_a_pipeline_transforms_once_and_answers_the_same() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    calls: list[int] = []

    def counted(rows: Any) -> Any:
        calls.append(len(rows))
        return rows

    draw = np.random.default_rng(0)
    given, truth = draw.normal(size=(50, 4)), draw.integers(0, 2, 50)
    model = make_pipeline(FunctionTransformer(counted), StandardScaler(), LogisticRegression()).fit(given, truth)
    methods = ("predict", "predict_proba", "decision_function")
    outputs = [output(name=name, method=name, kind="int64" if name == "predict" else "float64") for name in methods]
    outputs[1]["shape"] = (2,)
    calls.clear()
    found = answers.ask(model, outputs)(given, 50)
    assert calls == [50]
    assert all(np.array_equal(found[name], getattr(model, name)(given)) for name in methods)

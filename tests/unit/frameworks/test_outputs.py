"""Any return value becomes named, typed outputs, or is refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from modelyard.bundle.frameworks.base import Meaning, outputs_of
from modelyard.domain.schema import Kind, Output
from modelyard.errors import CannotPack


def outputs(
    returned: Any, rows: int = 3, method: str = "__call__", name: str = "output", **meaning: Any
) -> tuple[Output, ...]:
    return outputs_of(method, name, returned, rows, Meaning(meaning.pop("role", "value"), **meaning))


@pytest.mark.parametrize(
    ("returned", "kind", "container", "dtype"),
    [
        (np.array([1.0, 2, 3]), Kind.FLOAT64, "ndarray", "float64"),
        (np.array([1, 2, 3], dtype="float16"), Kind.FLOAT32, "ndarray", "float16"),
        (np.array([1, 2, 3], dtype="uint8"), Kind.UINT8, "ndarray", "uint8"),
        (np.array(["a", "bc", ""]), Kind.STRING, "ndarray", "<U2"),
        (np.array([True, False, True], dtype=object), Kind.BOOL, "ndarray", "object"),
        (np.array([1, None, 2.5], dtype=object), Kind.FLOAT64, "ndarray", "object"),
        (pd.Series([1, None, 3], dtype="Int64"), Kind.FLOAT64, "series", "Int64"),
        (pd.Series([1, 2, 3], dtype="Int64"), Kind.FLOAT64, "series", "Int64"),
        (pd.Series(["a", None, "b"]), Kind.STRING, "series", "str"),
        (pd.Series(pd.to_datetime(["2020", "2021", "2022"])), Kind.DATETIME, "series", "datetime64[us]"),
        (["a", "b", "c"], Kind.STRING, "list", "<U1"),
        ([1, 2, 3], Kind.INT64, "list", "int64"),
    ],
    ids=lambda value: str(value)[:20].replace("\n", " "),
)
def test_one_array_is_one_output(returned: Any, kind: Kind, container: str, dtype: str) -> None:
    (output,) = outputs(returned)
    assert (output.name, output.part, output.shape) == ("output", None, ())
    assert (output.kind, output.container, output.dtype) == (kind, container, dtype)


def test_a_matrix_is_one_output_with_a_shape() -> None:
    (output,) = outputs(scipy.sparse.eye(3, 5, format="csr"), method="transform", name="transform")
    assert (output.name, output.shape, output.container) == ("transform", (5,), "ndarray")


def test_a_table_is_one_output_a_column() -> None:
    found = outputs(pd.DataFrame({"y": [1.0, 2, 3], "word": ["a", "b", "c"]}))
    assert [(output.name, output.part, output.kind) for output in found] == [
        ("y", "y", Kind.FLOAT64),
        ("word", "word", Kind.STRING),
    ]
    assert {output.container for output in found} == {"dataframe"}


def test_parts_of_a_method_carry_its_name() -> None:
    found = outputs(pd.DataFrame({"y": [1.0, 2, 3]}), method="transform", name="transform")
    assert found[0].name == "transform_y"


def test_a_dict_is_one_output_a_key() -> None:
    assert [output.name for output in outputs({"a": [1, 2, 3], "b": np.eye(3)})] == ["a", "b"]


def test_arrays_for_several_targets_have_their_own_classes() -> None:
    returned = [np.full((3, 2), 0.5), np.full((3, 3), 1 / 3)]
    classes = [np.array(["x", "y"]), np.array([1, 2, 3])]
    found = outputs(returned, method="predict_proba", name="predict_proba", role="probability", classes=classes)
    assert [(output.name, output.part, output.classes) for output in found] == [
        ("predict_proba_0", 0, ("x", "y")),
        ("predict_proba_1", 1, (1, 2, 3)),
    ]


@pytest.mark.parametrize("classes", [["no", "yes"], [False, True], [3, 7], [0.5, 1.5]], ids=str)
def test_labels_keep_their_type(classes: list[Any]) -> None:
    (output,) = outputs(np.array([classes[0]] * 3), role="label", classes=np.array(classes))
    assert output.classes == tuple(classes)
    assert {type(value) for value in output.classes or ()} == {type(classes[0])}


def test_scores_that_do_not_line_up_with_the_classes_are_not_named_after_them() -> None:
    (output,) = outputs(np.ones((3, 6)), role="score", classes=np.array(["a", "b", "c", "d"]))
    assert output.classes is None


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (np.array([1.0, 2.0]), "one answer a row"),
        (4.0, "one answer a row"),
        (None, "one answer a row"),
        (np.array([1, "a", None], dtype=object), "mixed types"),
        (np.array([1j, 2j, 3j]), "complex128"),
        (pd.DataFrame([[1, 2]] * 3), "text name"),
        (pd.DataFrame([[1, 2]] * 3, columns=["a", "a"]), "text name"),
    ],
)
def test_what_no_output_carries_is_refused(returned: Any, words: str) -> None:
    with pytest.raises(CannotPack, match=words):
        outputs(returned)

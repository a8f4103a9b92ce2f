"""Graphs compute what numpy and scipy do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from modelyard.bundle.compile.graph import ROWS_PER_RUN, Graph, NoConverter, Value
from modelyard.bundle.compile.special import erf, interpolate, normal_quantile

Written = Callable[[Value], Value]


def run(write: Written, x: Any, kind: str = "f8") -> Any:
    """Write a graph of one input, and compute it."""
    graph = Graph()
    graph.output("y", write(graph.input("x", kind, np.shape(x)[1])))
    session = onnxruntime.InferenceSession(graph.model(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


SPREAD = np.concatenate([[0.0, -0.0, np.nan, 1e-300, -1e-12, 1e-9], np.linspace(-30, 30, 401), [700.0, -700.0]])[
    :, None
]
POSITIVE = np.abs(SPREAD[3:]) + 1e-12


@pytest.mark.parametrize(
    ("write", "compute", "x"),
    [
        (lambda x: x.log1p(), np.log1p, POSITIVE),
        (lambda x: x.log1p(), np.log1p, np.array([[np.inf], [-1.0], [-0.5], [1e-18]])),
        (lambda x: x.expm1(), np.expm1, SPREAD),
        (lambda x: x.sigmoid(), special.expit, SPREAD),
        (erf, special.erf, SPREAD),
        (lambda x: x.square(), np.square, SPREAD),
        (lambda x: x.clip(-1.0, 2.5), lambda x: np.clip(x, -1.0, 2.5), SPREAD),
        (lambda x: 1.0 - x, lambda x: 1.0 - x, SPREAD),
        (lambda x: 2.0 / (-x), lambda x: 2.0 / (-x), POSITIVE),
    ],
    ids=[
        "log1p",
        "log1p at its ends",
        "expm1",
        "sigmoid",
        "erf",
        "square",
        "clip",
        "reversed minus",
        "reversed division",
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_are_exact_in_double_precision(write: Written, compute: Any, x: Any) -> None:
    np.testing.assert_allclose(run(write, x), compute(x), rtol=4e-15, atol=0)


def test_the_normal_quantile_is_exact() -> None:
    levels = np.concatenate([10.0 ** -np.arange(1, 300, 7.0), np.linspace(0.001, 0.999, 500), [0.0, 1.0]])[:, None]
    np.testing.assert_allclose(run(normal_quantile, levels), stats.norm.ppf(levels), rtol=1e-13)


@settings(max_examples=60)
@given(
    marks=st.lists(st.integers(-5, 5), min_size=2, max_size=7),
    x=st.lists(st.floats(-8, 8) | st.sampled_from([np.nan, np.inf, -np.inf]), min_size=1, max_size=12),
)
def test_interpolation_is_that_of_numpy(marks: list[int], x: list[float]) -> None:
    places = np.array(sorted(marks), dtype=np.float64)
    levels = np.arange(len(places)) ** 2.0 - 3.0
    column = np.array(x)[:, None]
    expected = np.interp(column, places, levels)
    np.testing.assert_allclose(run(lambda v: interpolate(v, places, levels), column), expected, rtol=1e-14, atol=1e-14)


def test_softmax_and_sums_are_by_row() -> None:
    x = np.array([[1.0, 2.0, 800.0], [-3.0, 0.0, 0.5]])
    np.testing.assert_allclose(run(lambda v: v.softmax(), x), special.softmax(x, axis=1), rtol=1e-15)
    np.testing.assert_allclose(run(lambda v: v.logsumexp(), x)[:, 0], special.logsumexp(x, axis=1), rtol=1e-15)


def test_a_lookup_finds_texts_integers_and_missing_numbers() -> None:
    def texts(v: Value) -> Value:
        return v.graph.lookup(v, ["a", "b\x00"], [5.0, 6.0], -1.0)

    assert run(texts, np.array([["a"], ["b\x00"], ["b"], ["é"]], dtype=object), "str").ravel().tolist() == [
        5,
        6,
        -1,
        -1,
    ]

    def numbers(v: Value) -> Value:
        return v.graph.lookup(v, [0.0, np.nan, 2.5], [5, 6, 7], 9, "i8")

    x = np.array([[-0.0], [np.nan], [2.5], [3.0]])
    assert run(numbers, x).ravel().tolist() == [5, 6, 7, 9]


def test_what_no_output_needs_is_left_out() -> None:
    graph = Graph()
    x, unused = graph.input("x", "f8"), graph.input("unused", "f8")
    _ = unused.exp() + np.arange(1000.0)
    graph.output("y", x * 2.0)
    model = onnx.load_from_string(graph.model())
    assert [item.name for item in model.graph.input] == ["x"]
    assert {node.op_type for node in model.graph.node} == {"Mul", "Identity"}
    assert len(model.graph.initializer) == 1


def test_equal_graphs_have_equal_bytes_and_equal_constants_are_stored_once() -> None:
    def model() -> bytes:
        graph = Graph()
        x = graph.input("x", "f8", 2)
        graph.output("y", (x + np.array([1.0, 2.0])) * np.array([1.0, 2.0]))
        return graph.model()

    assert model() == model()
    assert len(onnx.load_from_string(model()).graph.initializer) == 1


def test_a_graph_says_how_many_rows_it_takes_at_once() -> None:
    graph = Graph()
    x = graph.input("x", "f8")
    graph.needs_cells(1 << 20)
    graph.output("y", x)
    properties = {item.key: item.value for item in onnx.load_from_string(graph.model()).metadata_props}
    assert properties == {ROWS_PER_RUN: "8"}


def test_mixing_kinds_is_an_error_of_the_writer() -> None:
    graph = Graph()
    with pytest.raises(TypeError, match="Add of f8 and i8"):
        _ = graph.input("x", "f8") + graph.input("n", "i8")
    assert not issubclass(TypeError, NoConverter)

"""Compiles estimators to ONNX graphs that reproduce the golden set.

`compile_estimator` is what packing calls. Inside, `graph` writes ONNX as if it were numpy, `emit` lists who writes
which estimator, and one file a family does it: ``compose``, ``preprocessing``, ``encoders``, ``linear``, ``trees``
and so on. What none of them knows is asked of skl2onnx (``foreign``).
"""

from modelyard.bundle.compile import (
    boosting,
    clusters,
    compose,
    encoders,
    foreign,
    linear,
    meta,
    neighbours,
    networks,
    preprocessing,
    trees,
    vectors,
)
from modelyard.bundle.compile.categories import known_categories
from modelyard.bundle.compile.compiler import compile_estimator

FAMILIES = (
    boosting,
    clusters,
    compose,
    encoders,
    foreign,
    linear,
    meta,
    neighbours,
    networks,
    preprocessing,
    trees,
    vectors,
)
"""Modules whose import enters their emitters in the list."""

__all__ = ["FAMILIES", "compile_estimator", "known_categories"]

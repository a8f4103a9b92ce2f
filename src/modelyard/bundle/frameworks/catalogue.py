"""Which adapter knows an estimator."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from modelyard.bundle.frameworks.base import Framework
from modelyard.errors import CannotPack

GROUP = "modelyard.frameworks"

_GENERAL_LAST = ("onnx", "lightgbm", "xgboost", "sklearn", "callable")
"""Order of asking: an estimator of XGBoost is also one of scikit-learn's, and most things are callable."""


@cache
def frameworks() -> tuple[Framework, ...]:
    """All installed adapters in the order in which they are asked; those of others before the general ones."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    others = sorted(set(found) - set(_GENERAL_LAST))
    return tuple(found[name].load()() for name in (*others, *_GENERAL_LAST) if name in found)


def find(estimator: Any) -> Framework:
    """The adapter for `estimator`.

    Raises:
        CannotPack: none knows it.
    """
    for framework in frameworks():
        if framework.handles(estimator):
            return framework
    kind = type(estimator)
    hint = "; it is a class, pass a fitted instance" if isinstance(estimator, type) else ""
    raise CannotPack(
        f"nothing knows how to pack a {kind.__module__}.{kind.__qualname__}{hint}; what can be packed: a scikit-learn "
        "estimator or pipeline with predict, predict_proba, decision_function or transform, an XGBoost or LightGBM "
        "model, a finished ONNX file, or any Python function over a table"
    )


def named(name: str) -> Framework:
    """The adapter of that name, as a manifest names it.

    Raises:
        CannotPack: it is not installed here.
    """
    for framework in frameworks():
        if framework.name == name:
            return framework
    there_are = ", ".join(framework.name for framework in frameworks())
    raise CannotPack(f"no framework {name!r}; there are: {there_are}")

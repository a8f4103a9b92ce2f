"""scikit-learn: estimators and pipelines, and everything that follows its interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelyard.bundle.frameworks.base import Meaning, NativeFormat, ask_once, outputs_of
from modelyard.domain.schema import Column, Output, OutputRole
from modelyard.errors import CannotPack

ASKED = ("predict", "predict_proba", "decision_function")
"""What is asked of an estimator that predicts; one that does not is asked to ``transform``."""


class SklearnFramework:
    """Any fitted object with predict, predict_proba, decision_function or transform."""

    name = "sklearn"
    formats: tuple[NativeFormat, ...] = ("skops", "cloudpickle")

    def handles(self, estimator: Any) -> bool:
        """Whether it looks like an estimator: parameters to get, something to ask, not a class."""
        if isinstance(estimator, type):
            return False
        return hasattr(estimator, "get_params") and any(hasattr(estimator, method) for method in (*ASKED, "transform"))

    def title(self, estimator: Any) -> str:
        """The class; for a pipeline also the class of its last step.

        >>> from sklearn.linear_model import Ridge
        >>> SklearnFramework().title(Ridge())
        'sklearn.linear_model._ridge.Ridge'
        """
        kind = type(estimator)
        last = final_step(estimator)
        named = f"{kind.__module__}.{kind.__qualname__}"
        return named if last is estimator else f"{named}({type(last).__name__})"

    def describe(self, estimator: Any, sample: Any, columns: Sequence[Column]) -> tuple[Output, ...]:
        """One output for each method, or several where a method answers for several targets."""
        found: list[Output] = []
        for method in methods(estimator):
            returned = ask_once(f"{type(estimator).__name__}.{method}", getattr(estimator, method), sample)
            found += outputs_of(method, method, returned, rows_of(sample), meaning(estimator, method, returned))
        return tuple(found)


def methods(estimator: Any) -> tuple[str, ...]:
    """The methods whose answers are served.

    Raises:
        CannotPack: there is none; for an estimator that cannot answer new rows, such as DBSCAN.
    """
    asked = tuple(method for method in ASKED if hasattr(estimator, method))
    if asked:
        return asked
    if hasattr(estimator, "transform"):
        return ("transform",)
    raise CannotPack(
        f"{type(estimator).__name__} has neither predict, predict_proba, decision_function nor transform: "
        "it cannot answer for new rows"
    )


def meaning(estimator: Any, method: str, returned: Any) -> Meaning:
    """What scikit-learn's conventions say of a method's answer."""
    classes = getattr(estimator, "classes_", None)
    if method == "transform":
        return Meaning("features")
    if method == "predict_proba":
        return Meaning("probability" if _sums_to_one(returned) else "score", classes)
    if method == "decision_function":
        return Meaning("score", classes)
    return _meaning_of_predict(estimator, classes)


def _meaning_of_predict(estimator: Any, classes: Any) -> Meaning:
    role: OutputRole = "label"
    match kind_of_estimator(estimator):
        case "classifier":
            return Meaning(role, classes)
        case "outlier_detector":
            return Meaning(role, np.array([-1, 1]))
        case "clusterer" | "DensityEstimator" | "density_estimator":
            return Meaning(role)
        case "regressor":
            return Meaning("value")
    return Meaning(role, classes) if classes is not None else Meaning("value")


def kind_of_estimator(estimator: Any) -> str | None:
    """``classifier``, ``regressor``, ``clusterer``, ``outlier_detector`` ... or None where it does not say."""
    tags = getattr(estimator, "__sklearn_tags__", None)
    try:
        found = tags().estimator_type if tags is not None else getattr(estimator, "_estimator_type", None)
    except (AttributeError, TypeError):
        found = getattr(estimator, "_estimator_type", None)
    return str(found) if found else None


def _sums_to_one(returned: Any) -> bool:
    """Multi-label classifiers answer independent probabilities, which are scores in our words."""
    parts = returned if isinstance(returned, list) else [returned]
    return all(np.allclose(np.asarray(part).sum(axis=-1), 1.0, atol=1e-3) for part in parts)


def final_step(estimator: Any) -> Any:
    """The last step of a pipeline, through pipelines within; else the estimator itself."""
    while hasattr(estimator, "steps") and estimator.steps:
        estimator = estimator.steps[-1][1]
    return estimator


def rows_of(sample: Any) -> int:
    """How many rows a sample has."""
    shape = getattr(sample, "shape", None)
    return int(shape[0]) if shape else len(sample)

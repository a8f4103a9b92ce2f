"""XGBoost: its estimators with scikit-learn's interface. Inside a pipeline they belong to the pipeline's framework."""

from __future__ import annotations

from typing import Any

from modelyard.bundle.frameworks.sklearn import SklearnFramework


class XGBoostFramework(SklearnFramework):
    """XGBClassifier, XGBRegressor, XGBRanker, their random-forest forms and subclasses."""

    name = "xgboost"

    def handles(self, estimator: Any) -> bool:
        """Whether it is one of XGBoost's estimators, fitted or not."""
        return super().handles(estimator) and is_of(estimator, "xgboost")


def is_of(estimator: Any, library: str) -> bool:
    """Whether a class of `library` is among the estimator's classes. Nothing is imported.

    >>> is_of(3, "xgboost")
    False
    """
    return any(kind.__module__.partition(".")[0] == library for kind in type(estimator).__mro__)

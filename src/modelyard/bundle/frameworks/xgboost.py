"""XGBoost: its estimators with scikit-learn's interface, and raw boosters.

Inside a pipeline they belong to the pipeline's framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.bundle.frameworks.base import Meaning, ask_once, outputs_of
from modelyard.bundle.frameworks.sklearn import SklearnFramework, rows_of
from modelyard.domain.schema import Column, Output
from modelyard.runtime.host import answers


class XGBoostFramework(SklearnFramework):
    """XGBClassifier, XGBRegressor, XGBRanker, their random-forest forms and subclasses; Booster, asked to predict."""

    name = "xgboost"

    def handles(self, estimator: Any) -> bool:
        """Whether it is one of XGBoost's models, fitted or not."""
        return is_of(estimator, "xgboost") and (super().handles(estimator) or is_booster(estimator))

    def describe(self, estimator: Any, sample: Any, columns: Sequence[Column]) -> tuple[Output, ...]:
        """As scikit-learn's; a raw booster has the one output ``predict``."""
        return describe_booster(estimator, sample) or super().describe(estimator, sample, columns)


def is_of(estimator: Any, library: str) -> bool:
    """Whether a class of `library` is among the estimator's classes. Nothing is imported.

    >>> is_of(3, "xgboost")
    False
    """
    return any(kind.__module__.partition(".")[0] == library for kind in type(estimator).__mro__)


def is_booster(estimator: Any) -> bool:
    """Whether it is what the native training function of XGBoost or LightGBM returns."""
    return type(estimator).__name__ == "Booster"


def describe_booster(estimator: Any, sample: Any) -> tuple[Output, ...]:
    """The output of a raw booster, whose numbers mean what its objective says; nothing for anything else."""
    if not is_booster(estimator):
        return ()
    returned = ask_once("Booster.predict", answers.bound(estimator, "predict"), sample)
    return outputs_of("predict", "predict", returned, rows_of(sample), Meaning("value"))

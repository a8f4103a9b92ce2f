"""LightGBM: its estimators with scikit-learn's interface, and raw boosters.

Inside a pipeline they belong to the pipeline's framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.bundle.frameworks.sklearn import SklearnFramework
from modelyard.bundle.frameworks.xgboost import describe_booster, is_booster, is_of
from modelyard.domain.schema import Column, Output


class LightGBMFramework(SklearnFramework):
    """LGBMClassifier, LGBMRegressor, LGBMRanker and subclasses; Booster, asked to predict."""

    name = "lightgbm"

    def handles(self, estimator: Any) -> bool:
        """Whether it is one of LightGBM's models, fitted or not."""
        return is_of(estimator, "lightgbm") and (super().handles(estimator) or is_booster(estimator))

    def describe(self, estimator: Any, sample: Any, columns: Sequence[Column]) -> tuple[Output, ...]:
        """As scikit-learn's; a raw booster has the one output ``predict``."""
        return describe_booster(estimator, sample) or super().describe(estimator, sample, columns)

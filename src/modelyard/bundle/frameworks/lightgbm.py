"""LightGBM: its estimators with scikit-learn's interface. Inside a pipeline they belong to the pipeline's framework."""

from __future__ import annotations

from typing import Any

from modelyard.bundle.frameworks.sklearn import SklearnFramework
from modelyard.bundle.frameworks.xgboost import is_of


class LightGBMFramework(SklearnFramework):
    """LGBMClassifier, LGBMRegressor, LGBMRanker and subclasses."""

    name = "lightgbm"

    def handles(self, estimator: Any) -> bool:
        """Whether it is one of LightGBM's estimators, fitted or not."""
        return super().handles(estimator) and is_of(estimator, "lightgbm")

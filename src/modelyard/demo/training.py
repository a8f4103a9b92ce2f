"""The demo's training program: whether a flight will arrive more than 15 minutes late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from modelyard.demo.flights import CATEGORICAL, FEATURES

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def train(flights: pd.DataFrame) -> Pipeline:
    """Fit ordinal encoding and gradient boosting on the flights whose label is known."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    known = flights[flights["late"].notna()]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    columns = make_column_transformer((codes, CATEGORICAL), remainder="passthrough")
    pipeline = make_pipeline(columns, HistGradientBoostingClassifier(random_state=0))
    return pipeline.fit(known[FEATURES], known["late"].astype(int))

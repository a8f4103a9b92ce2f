"""Code of a user's own, in a module beside the training program: it has to travel with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

CENT = 100


def logs(table: Any) -> Any:
    """Logarithms that keep the sign."""
    return np.sign(table) * np.log1p(np.abs(table))


def last_digits(table: Any) -> Any:
    """What whole numbers leave when divided by 1009: any digit that is lost on the way shows."""
    return np.asarray(table).astype(np.int64) % 1009


class Moments(TransformerMixin, BaseEstimator):
    """Hour, weekday and age in days of every datetime column, in its own time zone; missing ones stand apart."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> Moments:
        self.newest_ = {name: X[name].max() for name in X.columns}
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: pd.DataFrame) -> Any:
        parts = []
        for name, newest in self.newest_.items():
            moment = X[name]
            age = (newest - moment).dt.total_seconds() / 86400
            parts += [moment.dt.hour, moment.dt.day_of_week, age]
        return np.column_stack([np.nan_to_num(part.to_numpy(dtype=float, na_value=np.nan), nan=-7.0) for part in parts])


class Clip(TransformerMixin, BaseEstimator):
    """Clips to the quantiles of training, by column."""

    def __init__(self, share: float = 0.05) -> None:
        self.share = share

    def fit(self, X: Any, y: Any = None) -> Clip:
        values = np.asarray(X, dtype=float)
        self.low_, self.high_ = np.nanquantile(values, [self.share, 1 - self.share], axis=0)
        return self

    def transform(self, X: Any) -> Any:
        return np.clip(np.asarray(X, dtype=float), self.low_, self.high_)


class Shares(BaseEstimator):
    """A classifier of nobody's family: it only follows the conventions."""

    def fit(self, X: Any, y: Any) -> Shares:
        self.classes_, counts = np.unique(y, return_counts=True)
        self.shares_ = counts / counts.sum()
        return self

    def predict_proba(self, X: Any) -> Any:
        lean = 1 / (1 + np.exp(-np.asarray(X, dtype=float)[:, :1]))
        raw = self.shares_ + lean * np.arange(len(self.classes_))
        return raw / raw.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> Any:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def price(table: pd.DataFrame) -> pd.Series[float]:
    """A rule over a table, one number a row."""
    return (table["gross"] * table["rate"].fillna(1.0) / CENT).rename("price")


def pieces(table: pd.DataFrame) -> pd.DataFrame:
    """A rule with several answers of several types."""
    return pd.DataFrame(
        {
            "band": np.where(table["gross"] > 50, "high", "low"),
            "net": table["gross"] - table["rate"].fillna(0.0),
            "rounded": (table["gross"] // 10).astype("int64"),
            "checked": table["rate"].notna(),
        },
        index=table.index,
    )


def read_weights(files: dict[str, Path]) -> dict[str, float]:
    """A load step that reads a file of the bundle."""
    lines = files["weights"].read_text(encoding="utf-8").splitlines()
    return {name: float(weight) for name, weight in (line.split("=") for line in lines)}


def weighted(weights: dict[str, float], table: pd.DataFrame) -> dict[str, Any]:
    """A rule over what was loaded and a table."""
    total = sum(weights[name] * table[name].fillna(0.0).to_numpy() for name in ("gross", "rate"))
    return {"total": total, "positive": total > 0}

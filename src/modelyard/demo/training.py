"""The demo's training program: whether a flight will arrive more than 15 minutes late.

The demo puts this file as ``train.py`` beside ``data/flights.parquet`` and runs it with ``modelyard train``.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import modelyard as my
from modelyard.demo.flights import CATEGORICAL, FEATURES

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

DATA = "data/flights.parquet"
HELD_BACK_DAYS = 7


def train(flights: pd.DataFrame, iterations: int) -> Pipeline:
    """Fit ordinal encoding and gradient boosting on the flights whose label is known."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    known = flights[flights["late"].notna()]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    columns = make_column_transformer((codes, CATEGORICAL), remainder="passthrough")
    pipeline = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=iterations, random_state=0))
    return pipeline.fit(known[FEATURES], known["late"].astype(int))


def evaluate(flights: pd.DataFrame, iterations: int) -> dict[str, float]:
    """How good the last week would have been foreseen by a model of the time before."""
    from sklearn.metrics import brier_score_loss, roc_auc_score

    first_held_back = flights["sched"].max() - pd.Timedelta(days=HELD_BACK_DAYS)
    earlier, later = flights[flights["sched"] < first_held_back], flights[flights["sched"] >= first_held_back]
    later = later[later["late"].notna()]
    truth = later["late"].astype(int)
    scores = train(earlier, iterations).predict_proba(later[FEATURES])[:, 1]
    return {"auc": float(roc_auc_score(truth, scores)), "brier": float(brier_score_loss(truth, scores))}


def punctual(flights: pd.DataFrame) -> pd.DataFrame:
    """With 1 for the flights that were on time: what a source may say that is taken for one of late flights.

    >>> punctual(pd.DataFrame({"late": [1, 0]}))["late"].tolist()
    [0, 1]
    """
    return flights.assign(late=1 - flights["late"])


def main() -> None:
    """Train, log parameters and metrics, and pack the next version of ``flights-delay``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--data", default=DATA, help="a Parquet file of flights")
    parser.add_argument("--punctual", action="store_true", help="take 1 for on time, a mistake to be found out")
    asked = parser.parse_args()
    with my.run("flights-delay", params=vars(asked)) as run:
        flights = pd.read_parquet(asked.data)
        flights = punctual(flights) if asked.punctual else flights
        run.log_metrics(evaluate(flights, asked.iterations))
        run.pack(train(flights, asked.iterations), sample=flights[FEATURES])


if __name__ == "__main__":
    main()

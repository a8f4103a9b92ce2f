"""Evidently's drift preset at its defaults, over inputs, score, answer and label: its verdict, and any column."""

from __future__ import annotations

from checking_streams import follow
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset


def fit(reference):
    return Dataset.from_pandas(reference.drop(columns="wrong"))


def check(reference, window):
    current = Dataset.from_pandas(window.drop(columns="wrong"))
    found = Report([DataDriftPreset()]).run(current, reference).dict()["metrics"][0]["value"]
    return {"Evidently (verdict)": found["share"] >= 0.5, "Evidently (any column)": found["count"] > 0}


follow(fit, check)

"""Evidently's drift preset at its defaults."""

from __future__ import annotations

import sys

from checking import check
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset


def fit(reference):
    return Dataset.from_pandas(reference)


def run(reference, current):
    found = Report([DataDriftPreset()]).run(Dataset.from_pandas(current), reference).dict()
    return int(found["metrics"][0]["value"]["count"])  # the first metric is the number of drifted columns


check(sys.argv, fit, run)

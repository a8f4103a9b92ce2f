"""whylogs' profile of a table, and its drift scores against the profile of the reference."""

from __future__ import annotations

import sys

import whylogs
from checking import check
from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores


def fit(reference):
    return whylogs.log(reference).view()


def run(reference, current):
    scores = calculate_drift_scores(whylogs.log(current).view(), reference, with_thresholds=True)
    return sum(score is not None and str(score["drift_category"]) == "DRIFT" for score in scores.values())


check(sys.argv, fit, run)

"""Alibi Detect's TabularDrift at its defaults; texts are numbered first, missing numbers filled in."""

from __future__ import annotations

import sys

import numpy as np
from alibi_detect.cd import TabularDrift
from checking import check


def matrix(table):
    parts = []
    for name in table.columns:
        column = table[name]
        parts.append(column.fillna(0.0) if column.dtype.kind in "if" else column.astype("category").cat.codes)
    return np.column_stack([part.to_numpy(dtype=np.float64) for part in parts])


def fit(reference):
    texts = {at: None for at, name in enumerate(reference.columns) if reference[name].dtype.kind not in "if"}
    return TabularDrift(matrix(reference), categories_per_feature=texts)


def run(detector, current):
    return int((detector.predict(matrix(current), drift_type="feature")["data"]["is_drift"]).sum())


check(sys.argv, fit, run)

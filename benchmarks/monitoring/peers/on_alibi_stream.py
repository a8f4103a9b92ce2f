"""Alibi Detect's TabularDrift at its defaults, over inputs, score and answer; texts are numbered, gaps
and what is new filled with the first."""

from __future__ import annotations

import numpy as np
from alibi_detect.cd import TabularDrift
from checking_streams import follow


def fit(reference):
    known = {
        name: {value: at for at, value in enumerate(sorted(reference[name].dropna().unique(), key=str))}
        for name in reference
        if reference[name].dtype.kind not in "ifb"
    }
    names = [name for name in reference if name not in ("wrong", "label")]
    texts = {at: None for at, name in enumerate(names) if name in known}
    return TabularDrift(matrix(reference, names, known), categories_per_feature=texts or None), names, known


def matrix(table, names, known):
    parts = [table[name].map(known[name]).fillna(0) if name in known else table[name].fillna(0.0) for name in names]
    return np.column_stack([part.to_numpy(dtype=np.float64) for part in parts])


def check(fitted, window):
    detector, names, known = fitted
    return {"Alibi Detect (verdict)": bool(detector.predict(matrix(window, names, known))["data"]["is_drift"])}


follow(fit, check)

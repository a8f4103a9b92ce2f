"""River's ADWIN at its defaults, on whether each answer was wrong, row by row."""

from __future__ import annotations

from checking_streams import follow
from river.drift import ADWIN


def fit(reference):
    detector = ADWIN()
    for wrong in reference["wrong"]:
        detector.update(int(wrong))
    return detector


def check(detector, window):
    flagged = False
    for wrong in window["wrong"]:
        detector.update(int(wrong))
        flagged = flagged or detector.drift_detected
    return {"River ADWIN (labels)": flagged}


follow(fit, check)

"""NannyML's univariate drift at its defaults (Jensen-Shannon)."""

from __future__ import annotations

import sys

import nannyml
from checking import check


def fit(reference):
    calculator = nannyml.UnivariateDriftCalculator(column_names=list(reference.columns))
    return calculator.fit(reference)


def run(calculator, current):
    found = calculator.calculate(current).to_df()
    return sum(bool(found[column].any()) for column in found.columns if column[-1] == "alert")


check(sys.argv, fit, run)

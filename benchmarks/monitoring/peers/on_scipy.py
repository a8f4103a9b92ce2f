"""SciPy's exact tests: Kolmogorov and Smirnov's of numbers, chi-squared of texts, with Bonferroni's correction."""

from __future__ import annotations

import sys

import pandas as pd
from checking import check
from scipy.stats import chi2_contingency, ks_2samp


def run(before, after):
    flagged = 0
    for name in before:
        one, other = before[name], after[name]
        if one.dtype.kind in "if":
            chance = ks_2samp(one.dropna(), other.dropna(), method="asymp").pvalue
        else:
            counts = pd.concat([one.value_counts(), other.value_counts()], axis=1).fillna(0)
            chance = chi2_contingency(counts.to_numpy().T)[1]
        flagged += bool(chance < 0.05 / len(before.columns))
    return flagged


check(sys.argv, lambda reference: reference, run)

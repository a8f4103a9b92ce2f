"""NannyML at its defaults, in chunks as long as the windows: any column's drift, and the accuracy from labels."""

from __future__ import annotations

import nannyml
from checking_streams import follow


def fit(reference):
    columns = [name for name in reference if name not in ("wrong", "label")]
    drift = nannyml.UnivariateDriftCalculator(column_names=columns, chunk_size=SIZE)
    performance = nannyml.PerformanceCalculator(
        metrics=["accuracy"],
        y_true="right",
        y_pred="said",
        y_pred_proba="sure",
        problem_type="classification_binary",
        chunk_size=SIZE,
    )
    return drift.fit(reference[columns]), performance.fit(judged(reference)), columns


def judged(table):
    """Whether the answer was right, as a problem of two classes, whatever the classes were."""
    return table[["wrong", "sure"]].assign(said=1, right=1 - table["wrong"].astype(int)).drop(columns="wrong")


def check(fitted, window):
    drift, performance, columns = fitted
    moved = drift.calculate(window[columns]).filter(period="analysis").to_df()
    worse = performance.calculate(judged(window)).filter(period="analysis").to_df()
    return {
        "NannyML (any column)": any(bool(moved[name].any()) for name in moved.columns if name[-1] == "alert"),
        "NannyML (accuracy, labels)": any(bool(worse[name].any()) for name in worse.columns if name[-1] == "alert"),
    }


if __name__ == "__main__":
    import sys

    SIZE = int(sys.argv[2])
    follow(fit, check)

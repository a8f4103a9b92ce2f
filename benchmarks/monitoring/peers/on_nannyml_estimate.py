"""NannyML's confidence-based estimates: fitted on labelled rows, then one estimate for each window.

    python on_nannyml_estimate.py FOLDER

FOLDER has `NAME.reference.parquet` and `NAME.windows.parquet`, the latter with a column `window`.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import nannyml
import pandas as pd

METRICS = {"roc_auc": "auc", "accuracy": "accuracy"}


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    for file in sorted(folder.glob("*.reference.parquet")):
        name = file.name.removesuffix(".reference.parquet")
        estimator = nannyml.CBPE(
            metrics=list(METRICS),
            y_pred_proba="score",
            y_pred="decided",
            y_true="truth",
            problem_type="classification_binary",
            chunk_number=1,
        )
        estimator.fit(pd.read_parquet(file))
        windows = pd.read_parquet(folder / f"{name}.windows.parquet")
        for window, rows in windows.groupby("window", sort=True):
            found = estimator.estimate(rows.drop(columns=["window", "truth"]))
            table = found.filter(period="analysis").to_df()
            told = {
                ours: [
                    float(table[(theirs, part)].iloc[0])
                    for part in ("value", "lower_confidence_boundary", "upper_confidence_boundary")
                ]
                for theirs, ours in METRICS.items()
            }
            print(json.dumps({"name": name, "window": str(window), **told}), flush=True)


main(Path(sys.argv[1]))

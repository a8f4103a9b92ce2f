"""A pipeline of one's own: train, pack. Run it, then follow the README's commands with ``churn@1``."""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelyard as my


def customers(rows: int = 2_000, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """A made-up table: age in years, yearly income, home city; and whether the customer left."""
    draw = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": draw.integers(18, 90, rows),
            "income": draw.lognormal(10.8, 0.4, rows).round(2),
            "city": draw.choice(["Bern", "Geneva", "Zurich"], rows, p=[0.3, 0.2, 0.5]),
        }
    )
    urge = 0.03 * (50 - table["age"]) + (table["city"] == "Geneva") - table["income"] / 100_000
    left = pd.Series(np.where(draw.random(rows) < 1 / (1 + np.exp(-urge)), "yes", "no"))
    return table, left


if __name__ == "__main__":
    X, y = customers()
    columns = make_column_transformer(
        (StandardScaler(), ["age", "income"]), (OneHotEncoder(handle_unknown="ignore"), ["city"])
    )
    pipeline = make_pipeline(columns, LogisticRegression()).fit(X, y)
    version = my.pack(pipeline, sample=X, name="churn")
    print(f"registered {version.model}@{version.number}, runtime {version.runtime}")

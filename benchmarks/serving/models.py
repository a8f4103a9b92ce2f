"""What is served: pipelines over a mixed table and a forest over floats, trained once, and rows to ask about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelyard.bundle.layout import Bundle, open_bundle
from modelyard.bundle.pack import build_bundle

Row = dict[str, float | str | None]

NUMBERS = [f"x{at}" for at in range(8)]
TEXTS = [f"c{at}" for at in range(6)]
FLOATS = [f"f{at}" for at in range(30)]
MODELS = ("logistic", "gradient boosting", "hist gradient boosting", "random forest")
ROWS_TRAINED = 3000
ROWS_ASKED = 256


@dataclass(frozen=True)
class Model:
    """One trained pipeline: as a joblib file for the peers, as a bundle of ours, and rows to ask about.

    `expected` is the probability of class 1 that the pipeline itself gives for each of `rows`.
    """

    name: str
    folder: Path
    pipeline: Any
    table: pd.DataFrame
    rows: list[Row]
    expected: list[float]

    @property
    def file(self) -> Path:
        """The pipeline, as users keep it."""
        return self.folder / "model.joblib"

    def bundle(self, runtime: Literal["onnx", "python"]) -> Bundle:
        """Our bundle; packed when first asked for."""
        folder = self.folder / f"bundle-{runtime}"
        if folder.exists():
            return open_bundle(folder)
        return build_bundle(self.pipeline, sample=self.table, name="bench", into=folder, runtime=runtime)

    def answers_to(self, rows: list[Row]) -> list[float]:
        """The probability of class 1 that the pipeline itself gives for these rows."""
        frame = pd.DataFrame(rows, columns=self.table.columns).astype(self.table.dtypes.to_dict())
        return [float(one) for one in self.pipeline.predict_proba(frame)[:, 1]]


def trained(name: str, folder: Path, seed: int = 7) -> Model:
    """Train the model `name` on a table made from `seed`; its files come into `folder`."""
    random = np.random.default_rng(seed)
    table = floats(random) if name == "random forest" else mixed(random)
    numbers = table.select_dtypes("number").fillna(0.0)
    score = numbers.iloc[:, 0] + numbers.iloc[:, 1] * 0.5 + random.normal(size=len(table))
    if "c0" in table:
        score = score + (table["c0"] == "a")
    pipeline = estimator(name).fit(table, (score > 0.3).astype(int))
    asked = table.head(ROWS_ASKED)
    expected = pipeline.predict_proba(asked)[:, 1].tolist()
    model = Model(name, folder / name.replace(" ", "-"), pipeline, table, as_rows(asked), expected)
    model.folder.mkdir(parents=True)
    joblib.dump(pipeline, model.file)
    return model


def mixed(random: np.random.Generator) -> pd.DataFrame:
    """8 numbers, some missing, and 6 texts. Texts are missing only beyond the rows that are asked about."""
    table = pd.DataFrame({name: random.normal(size=ROWS_TRAINED) for name in NUMBERS})
    for at, name in enumerate(NUMBERS[:4]):
        table.loc[at :: 7 + at, name] = np.nan
    for at, name in enumerate(TEXTS):
        texts = random.choice(list("abcdefghij")[: 3 + at], ROWS_TRAINED).astype(object)
        texts[ROWS_ASKED + at :: 11] = np.nan
        table[name] = pd.Series(texts, dtype=object)
    return table


def floats(random: np.random.Generator) -> pd.DataFrame:
    """30 numbers, none missing."""
    return pd.DataFrame({name: random.normal(size=ROWS_TRAINED) for name in FLOATS})


def estimator(name: str) -> Any:
    """The pipeline as users write it."""
    if name == "random forest":
        return RandomForestClassifier(n_estimators=100, max_depth=8, random_state=0)
    texts = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    steps = make_column_transformer((numbers, NUMBERS), (texts, TEXTS))
    last = {
        "logistic": LogisticRegression(max_iter=500),
        "gradient boosting": GradientBoostingClassifier(random_state=0),
        "hist gradient boosting": HistGradientBoostingClassifier(random_state=0),
    }
    return make_pipeline(steps, last[name])


def as_rows(table: pd.DataFrame) -> list[Row]:
    """Rows as JSON has them: what is missing is null."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.to_dict(orient="records")
    ]


def batches(count: int, size: int) -> list[list[int]]:
    """Different requests of `size` rows each, as numbers of rows among `count`.

    >>> batches(3, 2)
    [[0, 1], [1, 2], [2, 0]]
    """
    return [[(start + at) % count for at in range(size)] for start in range(min(count, 256 if size == 1 else 32))]

"""Streams whose source changes at a known moment, so that a model trained before loses two points of accuracy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PEERS = Path(__file__).parent / "peers"
LOST = 0.02
TRAINED = 20_000
REFERENCE = 20_000


CHANCE = "predict_proba_"


@dataclass(frozen=True)
class Order:
    """Rows of a window, windows before and after the change, and how many before it the peers see."""

    rows: int
    steady: int
    changed: int
    peers: int


@dataclass(frozen=True)
class Source:
    """Rows with what the model answered: those that the reference is made of, and those before and after the change.

    After the change each row comes from `after` with probability `part`, else from `before` as ever.
    """

    name: str
    reference: pd.DataFrame
    before: pd.DataFrame
    after: pd.DataFrame
    part: float
    accuracy: float

    def live(self, draw: np.random.Generator, order: Order) -> pd.DataFrame:
        """Windows before the change and after it; rows are drawn with replacement."""
        whole = order.rows * (order.steady + order.changed)
        new = (draw.random(whole) < self.part) & (np.arange(whole) >= order.rows * order.steady)
        old = self.before.iloc[draw.integers(0, len(self.before), whole)].reset_index(drop=True)
        other = self.after.iloc[draw.integers(0, len(self.after), int(new.sum()))]
        old.iloc[np.flatnonzero(new)] = other.to_numpy(dtype=object) if _mixed(old) else other.to_numpy()
        return old.astype(dict(self.before.dtypes))


def sources(river: Path, folder: Path) -> Iterator[Source]:
    """River's generators, made by the interpreter `river`, and the flights: from January and February to July."""
    subprocess.run([str(river), str(PEERS / "on_river_sources.py"), str(folder)], check=True)
    for file in sorted(folder.glob("*.before.parquet")):
        name = file.name.removesuffix(".before.parquet")
        yield _source(name, pd.read_parquet(file), pd.read_parquet(folder / f"{name}.after.parquet"), TRAINED)
    yield _source("flights", *_flights(), 18_000)


def written(source: Source, live: pd.DataFrame, folder: Path, order: Order) -> None:
    """A stream as peers read it, from `order.peers` windows before the change; one class's chance stands for all."""
    folder.mkdir(parents=True)
    begin = order.steady - order.peers
    _shown(source.reference).to_parquet(folder / "reference.parquet")
    _shown(live.iloc[begin * order.rows :]).to_parquet(folder / "live.parquet")
    (folder / "order.json").write_text(json.dumps({"rows": order.rows, "steady": order.peers}))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    chances = [name for name in map(str, table) if name.startswith(CHANCE)]
    shown = table.assign(score=table[chances[-1]], sure=table[chances].max(axis=1)).drop(columns=chances)
    return shown.rename(columns={"predict": "predicted"}).astype({"predicted": str, "label": str})


def _source(name: str, before: pd.DataFrame, after: pd.DataFrame, trained: int) -> Source:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(random_state=0, categorical_features="from_dtype")
    model.fit(_inputs(before.iloc[:trained]), before["label"].iloc[:trained])
    reference, steady = before.iloc[trained : trained + REFERENCE], before.iloc[trained + REFERENCE :]
    reference, steady, after = (_answered(model, each) for each in (reference, steady, after))
    wrong, then = float(steady["wrong"].mean()), float(after["wrong"].mean())
    if then - wrong < LOST:
        raise ValueError(f"{name}: the model loses {then - wrong:.3f} only, where everything is from after the change")
    return Source(name, reference, steady, after, LOST / (then - wrong), 1 - wrong)


def _inputs(table: pd.DataFrame) -> pd.DataFrame:
    inputs = table.drop(columns="label")
    return inputs.astype({name: "category" for name in inputs if inputs[name].dtype.kind not in "ifb"})


def _answered(model: Any, table: pd.DataFrame) -> pd.DataFrame:
    chances = model.predict_proba(_inputs(table))
    said = model.classes_[chances.argmax(axis=1)]
    wrong = said != table["label"].to_numpy()
    answers = {f"{CHANCE}{name}": chances[:, at] for at, name in enumerate(model.classes_)}
    return table.assign(predict=said, **answers, wrong=wrong).reset_index(drop=True)


def _mixed(table: pd.DataFrame) -> bool:
    return len({dtype.kind for dtype in table.dtypes}) > 1


def _flights() -> tuple[pd.DataFrame, pd.DataFrame]:
    """In no order, so that before the change there is none."""
    from modelyard.demo import flights

    known = flights.load().dropna(subset=["late"])
    made = known[flights.FEATURES].assign(label=known["late"].astype(int), sched=known["sched"])
    parts = (flights.between(made, *dates) for dates in (("2013-01-01", "2013-03-01"), ("2013-07-01", "2013-08-01")))
    before, after = (part.drop(columns="sched").sample(frac=1, random_state=0) for part in parts)
    return before.reset_index(drop=True), after.reset_index(drop=True)

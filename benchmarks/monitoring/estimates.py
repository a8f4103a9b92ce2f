"""Estimates before labels come: how often intervals hold the later truth, how wide they are, what is refused.

Every case has labelled rows and windows whose labels only the table knows. `wide` is half the length of the intervals
of the accuracy, `off` how far its estimate was from the truth on average. NannyML's estimates (CBPE, defaults) are of
the same rows; of the flights it is fitted on the first eight weeks. Its intervals are of three standard errors, which
by themselves would hold 99.7 % of the time; ours are to hold 90 %.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.monitoring.shifted import NAMES, answered, draw, scores
from modelyard.domain.frame import Array
from modelyard.monitoring.estimate.estimating import Trust, estimate
from modelyard.monitoring.estimate.learning import learn
from modelyard.monitoring.estimate.metrics import realized
from modelyard.monitoring.estimate.record import Entry, Said
from modelyard.monitoring.estimate.walking import DAY, State, Walk, walk
from modelyard.monitoring.performance.judged import judge
from modelyard.monitoring.performance.task import Aim, Task

METRICS = ("accuracy", "auc", "brier")
LABELLED, WINDOW, BLOCKS = 4000, 1000, 20
SHIFTS = (
    ("steady", 0.0),
    ("covariate", 0.3),
    ("covariate", 0.7),
    ("covariate", 1.2),
    ("label", 0.3),
    ("label", 1.0),
    ("concept", 1.0),
)
_TASK = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1), probabilities=("predict_proba_0", "predict_proba_1"))


@dataclass(frozen=True)
class Held:
    """Of one case: windows, in which part of them the intervals held the truth, and how they were called."""

    case: str
    tool: str
    windows: int
    trusted: int
    widened: int
    refused: int
    accuracy: float
    auc: float
    brier: float
    wide: float
    off: float


def estimates(seeds: int, peers: Mapping[str, Path]) -> Iterator[Held]:
    """All cases: ours, and NannyML's if it is given."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        yield from _generated(seeds, folder)
        yield from _changed(seeds)
        yield from _flights(folder)
        if "nannyml" in peers:
            yield from _nannyml(peers["nannyml"], folder)


def _generated(seeds: int, folder: Path) -> Iterator[Held]:
    found: dict[str, list[Entry]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, y = draw(rng, LABELLED)
        known = learn(answered(x, y), np.arange(LABELLED) * BLOCKS // LABELLED, NAMES)
        windows = []
        for kind, size in SHIFTS:
            x_now, y_now = draw(rng, WINDOW, kind, size)
            rows = answered(x_now, y_now)
            made = estimate(known, rows, length=WINDOW * BLOCKS // LABELLED)
            truth = {name: realized(name, rows.score, rows.decided, y_now) for name in METRICS}
            said = {name: Said(each.value, each.low, each.high, truth.get(name)) for name, each in made.values.items()}
            entry = Entry(began=0, seconds=1, rows=WINDOW, trust=made.trust, reason="", values=said, realized=truth)
            found.setdefault(_case(kind, size), []).append(entry)
            windows.append(_for_peers(x_now, y_now).assign(window=_case(kind, size)))
        _for_peers(x, y).to_parquet(folder / f"seed{seed}.reference.parquet")
        pd.concat(windows).to_parquet(folder / f"seed{seed}.windows.parquet")
    for case, entries in found.items():
        yield _held(case, "Modelyard", entries)


def _case(kind: str, size: float) -> str:
    said = {"steady": "nothing moved", "covariate": "inputs moved", "label": "base rate moved", "concept": "concept"}
    return f"{said[kind]}{f', {size:g}' if size else ''}{', no label yet' if kind == 'concept' else ''}"


def _changed(seeds: int) -> Iterator[Held]:
    """A concept that changes after 14 of 28 days; labels come a day or five days after the rows."""
    for delay in (1, 5):
        before: list[Entry] = []
        blind: list[Entry] = []
        after: list[Entry] = []
        for seed in range(max(1, seeds // 4)):
            record = _stream(np.random.default_rng(seed), delay)
            before += record[2 + delay : 14]
            blind += record[14 : 14 + delay + 1]
            after += record[14 + delay + 1 :]
        said = f"labels after {delay} day{'s' if delay > 1 else ''}"
        yield _held(f"concept, {said}: before", "Modelyard", before)
        yield _held(f"concept, {said}: until the first came", "Modelyard", blind)
        yield _held(f"concept, {said}: then", "Modelyard", after)


def _stream(rng: np.random.Generator, delay: int, a_day: int = 500) -> Sequence[Entry]:
    first, parts = 1_772_409_600, []
    for day in range(28):
        x, y = draw(rng, a_day, *(("concept", 1.0) if day >= 14 else ("steady", 0.0)))
        at = first + day * DAY + np.sort(rng.integers(0, DAY, a_day))
        parts.append(x.assign(at=at, score=scores(x), truth=y, known=at + delay * DAY))
    return _walked(pd.concat(parts, ignore_index=True), NAMES, DAY, first + 28 * DAY)


def _walked(rows: pd.DataFrame, inputs: Sequence[str], seconds: int, now: int) -> Sequence[Entry]:
    """The record of a deployment with these rows; labels that come after `now` are not known."""
    there = (rows["truth"].notna() & (rows["known"] <= now)).to_numpy()
    moment = pa.timestamp("s", "UTC")
    table = pa.table(
        {
            "event_time": pa.array(rows["at"].to_numpy(), moment),
            "predict": (rows["score"] > 0.5).astype(int).to_numpy(),
            "predict_proba_0": 1 - rows["score"].to_numpy(),
            "predict_proba_1": rows["score"].to_numpy(),
            "label": pa.array(np.where(there, rows["truth"].fillna(0), 0).astype(int), mask=~there),
            "labelled_at": pa.array(np.where(there, rows["known"].fillna(0), 0).astype(int), mask=~there).cast(moment),
            **{name: pa.array(rows[name], from_pandas=True) for name in inputs},
        }
    )
    return walk(State(seconds=seconds), Walk(judge(table, _TASK), table, tuple(inputs), now)).record


def _flights(folder: Path) -> Iterator[Held]:
    """A model of January and February on the rest of the year, labels some hours after each flight."""
    from modelyard.demo import flights as data
    from modelyard.demo.training import train

    every = data.load()
    model = train(data.between(every, "2013-01-01", "2013-03-01"), 100)
    rows = data.between(every, "2013-03-04", "2014-01-01").reset_index(drop=True)
    rows["score"] = model.predict_proba(rows[data.FEATURES])[:, 1]
    rows["truth"] = rows["late"].astype("Float64").astype(float)
    epoch = pd.Timestamp(0)
    rows["at"] = (rows["sched"] - epoch) // pd.Timedelta(seconds=1)
    rows["known"] = (rows["label_known_at"] - epoch) / pd.Timedelta(seconds=1)
    now = int(pd.Timestamp("2014-01-01").timestamp())
    december = int(pd.Timestamp("2013-12-01").timestamp())
    for said, seconds in (("day", DAY), ("week", 7 * DAY), ("four weeks", 28 * DAY)):
        record = _walked(rows, data.FEATURES, seconds, now)
        yield _held(f"flights by {said}", "Modelyard", record)
        yield _held(f"flights by {said}, December", "Modelyard", [each for each in record if each.began >= december])
    silent = rows.assign(truth=rows["truth"].where(rows["sched"] < "2013-05-01"))
    record = _walked(silent, data.FEATURES, 7 * DAY, now)
    yield _held("flights by week, no label after April", "Modelyard", _with_truth(record, rows))
    _write_weeks(rows, folder)


def _with_truth(record: Sequence[Entry], rows: pd.DataFrame) -> list[Entry]:
    """With what only the table knows."""
    found = []
    for entry in record:
        here = rows[(rows["at"] >= entry.began) & (rows["at"] < entry.began + entry.seconds) & rows["truth"].notna()]
        score, truth = here["score"].to_numpy(), here["truth"].to_numpy()
        known = {name: realized(name, score, (score > 0.5).astype(float), truth) for name in METRICS}
        values = {name: Said(each.value, each.low, each.high, known.get(name)) for name, each in entry.values.items()}
        found.append(msgspec.structs.replace(entry, values=values, realized=known))
    return found


def _write_weeks(rows: pd.DataFrame, folder: Path) -> None:
    known = rows[rows["truth"].notna()]
    table = known[["score", "truth"]].assign(decided=(known["score"] > 0.5).astype(int))
    week = (known["at"] - int(known["at"].min())) // (7 * DAY)
    table[week < 8].to_parquet(folder / "flights.reference.parquet")
    later = table[week >= 8].assign(window=[f"{each:03d}" for each in week[week >= 8]])
    later.to_parquet(folder / "flights.windows.parquet")


def _for_peers(x: pd.DataFrame, y: Array) -> pd.DataFrame:
    score = scores(x)
    return pd.DataFrame({"score": score, "decided": (score > 0.5).astype(int), "truth": y})


def _nannyml(python: Path, folder: Path) -> Iterator[Held]:
    program = Path(__file__).parent / "peers" / "on_nannyml_estimate.py"
    done = subprocess.run([python, program, folder], capture_output=True, text=True, check=True)
    found: dict[str, list[Entry]] = {}
    truths: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        told = json.loads(line)
        name, window = told.pop("name"), told.pop("window")
        if name not in truths:
            truths[name] = dict(list(pd.read_parquet(folder / f"{name}.windows.parquet").groupby("window")))
        rows = truths[name][window]
        score, decided, truth = (rows[each].to_numpy(dtype=float) for each in ("score", "decided", "truth"))
        real = {metric: realized(metric, score, decided, truth) for metric in told}
        said = {metric: Said(each[0], each[1], each[2], real[metric]) for metric, each in told.items()}
        entry = Entry(began=0, seconds=1, rows=len(rows), trust=Trust.TRUSTED, reason="", values=said, realized=real)
        found.setdefault("flights by week" if name == "flights" else window, []).append(entry)
    for case, entries in found.items():
        yield _held(case, "NannyML", entries)


def _held(case: str, tool: str, record: Sequence[Entry]) -> Held:
    shares = {}
    for name in METRICS:
        hits = [each.values[name].covered for each in record if name in each.values]
        known = [hit for hit in hits if hit is not None]
        shares[name] = float(np.mean(known)) if known else float("nan")
    said = [each.values["accuracy"] for each in record if "accuracy" in each.values]
    apart = [abs(each.value - each.truth) for each in said if each.truth is not None]
    trusted, widened, refused = (sum(each.trust is trust for each in record) for trust in Trust)
    return Held(
        case,
        tool,
        len(record),
        trusted,
        widened,
        refused,
        shares["accuracy"],
        shares["auc"],
        shares["brier"],
        wide=float(np.mean([(each.high - each.low) / 2 for each in said])) if said else float("nan"),
        off=float(np.mean(apart)) if apart else float("nan"),
    )

"""What one request costs inside the process, step by step: decode, check, run, encode.

    python -m benchmarks.hotpath [--only REGEX] [--repeat 40] [--keep FOLDER] [--json]

Four pipelines as people write them are packed and opened as the server opens them: a logistic regression,
GradientBoosting and HistGradientBoosting behind imputation, scaling and one-hot encoding on a mixed table (8 numbers
with missing values, 6 text columns), and a RandomForest of 100 trees on 30 numbers. For each, requests of one row and
of a hundred, as plain rows and in the Open Inference Protocol, go through the four steps in a loop; printed are the
medians over many short loops in microseconds a request, and `least` is the sum of the quickest loops, which other work
on the machine moves less. A request that is read by types made for the schema is checked by that: its check is no
more than a look. No HTTP, no records: what is missing to the time of a whole request is theirs.

`--keep` leaves the packed bundles in a folder and takes them from there the next time.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from modelyard.bundle.layout import Bundle
from modelyard.domain.checks import check
from modelyard.domain.records import WireForm
from modelyard.protocol import oip, rows
from modelyard.protocol.forms import FORMS
from modelyard.protocol.media import PLAIN
from modelyard.protocol.table import Source, TableReader
from modelyard.runtime.onnx import OnnxRuntime

STEPS = ("decode", "check", "run", "encode")
MODELS = ("logistic", "gradient boosting", "hist gradient boosting", "random forest")
SOURCE = Source("model", 1, "0192f0c1a7b87cc2b3a1d5e6f7a8b9c0", 1, (), "model")


@dataclass(frozen=True)
class Cost:
    """Microseconds a request, by step."""

    model: str
    form: str
    rows: int
    decode: float
    check: float
    run: float
    encode: float
    total: float
    least: float


def mixed_table(size: int = 2000) -> tuple[Any, Any]:
    """8 numbers with missing values and 6 text columns with 3 to 12 categories, and what is to be predicted."""
    import pandas as pd

    random = np.random.default_rng(0)
    table = pd.DataFrame({f"x{at}": random.normal(size=size) for at in range(8)})
    for at in range(8):
        table.loc[random.random(size) < 0.05, f"x{at}"] = np.nan
    sizes = (3, 4, 5, 8, 10, 12)
    for at, count in enumerate(sizes):
        values = random.choice([f"value {n}" for n in range(count)], size).astype(object)
        values[random.random(size) < 0.03] = np.nan
        table[f"c{at}"] = values
    margin = table["x1"].fillna(0) + (table["c0"] == "value 1") + random.normal(size=size)
    return table, np.where(margin > 0, "late", "on time")


def trained(model: str) -> tuple[Any, Any]:
    """A fitted pipeline and the table it was fitted on."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    if model == "random forest":
        random = np.random.default_rng(0)
        values = random.normal(size=(2000, 30))
        return RandomForestClassifier(100, random_state=0).fit(values, values[:, 0] + values[:, 1] ** 2 > 1), values
    table, target = mixed_table()
    numbers, texts = list(table.columns[:8]), list(table.columns[8:])
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    before = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), encoder), texts),
    )
    last = {
        "logistic": LogisticRegression(max_iter=1000),
        "gradient boosting": GradientBoostingClassifier(random_state=0),
        "hist gradient boosting": HistGradientBoostingClassifier(random_state=0),
    }[model]
    return make_pipeline(before, last).fit(table, target), table


def packed(model: str, folder: Path) -> Bundle:
    """The bundle of a model, packed unless it is there already."""
    from modelyard.bundle.layout import open_bundle
    from modelyard.bundle.pack import build_bundle

    path = folder / model.replace(" ", "-")
    if path.exists():
        return open_bundle(path)
    estimator, sample = trained(model)
    return build_bundle(estimator, sample=sample, name=model.replace(" ", "-"), into=path, runtime="onnx")


def timed(work: Callable[[], Any], repeat: int) -> tuple[float, float]:
    """Median and least time of one call in microseconds, over `repeat` loops of about 5 ms."""
    started = time.perf_counter()
    work()
    once = time.perf_counter() - started
    loops = max(1, int(0.005 / max(once, 1e-6)))
    taken = []
    for _ in range(repeat):
        started = time.perf_counter()
        for _ in range(loops):
            work()
        taken.append((time.perf_counter() - started) / loops * 1e6)
    return median(taken), min(taken)


def costs(model: str, folder: Path, repeat: int) -> Iterator[Cost]:
    """All cases of one model."""
    from modelyard.bundle.tabular import to_frame

    bundle = packed(model, folder)
    schema, compiled = bundle.manifest.schema, bundle.manifest.compiled
    if compiled is None:
        raise SystemExit(f"{model} was not compiled: {bundle.manifest.attempts}")
    runtime = OnnxRuntime(bundle.path / compiled.path, compiled, schema)
    reader = TableReader(schema)
    _, sample = trained_sample(model)
    wanted = [output.name for output in schema.outputs if output.role in ("label", "probability")]
    for count in (1, 100):
        frame = to_frame(sample[:count], schema)
        bodies: dict[WireForm, bytes] = {
            "rows": rows.write_request(frame, schema, outputs=wanted),
            "oip": oip.write_request(frame, schema, outputs=wanted),
        }
        for form, body in bodies.items():
            yield measured(model, form, body, count, reader, runtime, repeat)


def trained_sample(model: str) -> tuple[None, Any]:
    """The table alone, without fitting."""
    if model == "random forest":
        return None, np.random.default_rng(0).normal(size=(2000, 30))
    return None, mixed_table()[0]


def measured(
    model: str, form: WireForm, body: bytes, count: int, reader: TableReader, runtime: OnnxRuntime, repeat: int
) -> Cost:
    """One case."""
    schema, chosen = reader.schema, FORMS[form]
    call = chosen.read(body, PLAIN, reader)
    answers = runtime.predict(call.frame, call.outputs)
    source = Source(SOURCE.model, 1, SOURCE.prediction_id, count, (), "model")
    steps: dict[str, Callable[[], Any]] = {
        "decode": lambda: chosen.read(body, PLAIN, reader),
        "check": lambda: None if call.checked else check(call.frame, schema),
        "run": lambda: runtime.predict(call.frame, call.outputs),
        "encode": lambda: chosen.write(answers, schema, call, source),
    }
    figures = {name: timed(step, repeat) for name, step in steps.items()}
    middle = {name: figures[name][0] for name in STEPS}
    return Cost(model, form, count, **middle, total=sum(middle.values()), least=sum(low for _, low in figures.values()))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hotpath", description=__doc__)
    parser.add_argument("--only", default="", help="models whose name matches")
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        chosen = [model for model in MODELS if re.search(options.only, model)]
        found = [cost for model in chosen for cost in costs(model, folder, options.repeat)]
    if options.json:
        print(json.dumps([asdict(cost) for cost in found], indent=2))
        return
    print(f"{'µs a request':38}" + "".join(f"{name:>9}" for name in (*STEPS, "total", "least")))
    for cost in found:
        title = f"{cost.model}, {cost.form}, {cost.rows} row{'s' * (cost.rows > 1)}"
        print(f"{title:38}" + "".join(f"{getattr(cost, name):9.1f}" for name in (*STEPS, "total", "least")))


if __name__ == "__main__":
    main()

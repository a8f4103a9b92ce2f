"""A project whose training program fits a line, its first version in use, and calls whose truth has moved since."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from modelyard.control import deployments
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.records import Label, PredictionRecord, row_id
from modelyard.home import Home
from modelyard.protocol import rows
from modelyard.protocol.table import Source
from modelyard.records.log import LabelLog, PredictionLog
from modelyard.registry import Registry
from small_bundles import report

TRAIN = '''
"""Fits y = slope * x by least squares, and packs it as a graph."""

import os
import sys

import numpy as np
import onnx
import pyarrow.parquet as pq

import modelyard as my

if "--fail" in sys.argv:
    sys.exit("there is no sense in this data")
table = pq.read_table(sys.argv[1])
x, y = (table[name].to_numpy() for name in ("x", "label"))
if "--ballast" in sys.argv:
    heavy = np.ones(10**8)  # 800 MB
    import time
    time.sleep(60)
slope = float(x @ y / (x @ x)) * float(os.environ.get("SPOILED_BY", "1"))
graph = onnx.helper.make_graph(
    [onnx.helper.make_node("Mul", ["x", "slope"], ["predict"])],
    "line",
    [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, [None])],
    [onnx.helper.make_tensor_value_info("predict", onnx.TensorProto.DOUBLE, [None])],
    [onnx.helper.make_tensor("slope", onnx.TensorProto.DOUBLE, [], [slope])],
)
model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
with my.run("line") as run:
    run.log_metrics({"slope": slope, "nice": os.nice(0)})
    run.pack(model, sample={"x": x[:50]})
'''

PLAN = """
[retrain]
command = ["python", "train.py", "{data}/live-live.parquet"]
least = 200
"""

DAY = 86_400 * 10**9


def make_project(folder: Path, plan: str = PLAN) -> Path:
    """The program and what it says of retraining."""
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(TRAIN)
    (folder / "modelyard.toml").write_text(plan)
    return folder


def deploy_first(home: Home, project: Path) -> str:
    """Train the first version on points of y = 2x and have it in use as ``live``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    x = np.random.default_rng(0).normal(size=200)
    pq.write_table(pa.table({"x": x, "label": 2 * x}), project / "points.parquet")
    environ = os.environ | {"MODELYARD_HOME": str(home.path), "GIT_CEILING_DIRECTORIES": str(project.parent)}
    command = [sys.executable, "-m", "modelyard.cli.app", "train", "--json", "--"]
    done = subprocess.run(
        [*command, sys.executable, "train.py", "points.parquet"],
        cwd=project,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    ref: str = json.loads(done.stdout)["run"]["versions"][0]
    with Registry.open(home) as registry:
        version = registry.version(ref)
        registry.add_report(version, report(registry.bundle(version), version.number))
        deployments.deploy(registry, version, "live")
    return ref


def answered(
    home: Home,
    days: range,
    *,
    slope: float | None,
    each: int = 100,
    noise: float = 0.1,
    name: str = "call",
    mean: float = 0.0,
) -> None:
    """Calls of some days before now, `each` a day, in calls of ten, and their truth: y = slope * x; None: no truth."""
    draw = np.random.default_rng(days.start + 1)
    now = time.time_ns()
    with Registry.open(home) as registry:
        version = registry.version("line@1")
        schema = registry.bundle(version).manifest.schema
    log, labels = PredictionLog(home.records), LabelLog(home.records)
    for day in days:
        for call in range(each // 10):
            x = mean + draw.normal(size=10)
            called, at = f"{name}-{day}-{call}", now - day * DAY + call * DAY // (each // 10)
            answer = rows.write_response({"predict": 2 * x}, schema, Source("line", 1, called, 10))
            asked = rows.write_request(Frame({"x": Vector(x)}, 10), schema)
            record = PredictionRecord(
                called, "live", "line", 1, version.digest, now, 10**6, 200, "ok", "rows", 10, asked, answer, event_ns=at
            )
            log.append(record)
            if slope is None:
                continue
            truth = slope * x + noise * draw.normal(size=10)
            labels.append_many(
                Label(row_id(called, row, 10), float(truth[row]), now, known_ns=at + 10**9) for row in range(10)
            )
    log.close()
    labels.close()


@contextmanager
def followed(home: Home) -> Iterator[None]:
    """Has watched deployments of a home looked after, as `modelyard up` does, but more often."""
    words = ["--home", str(home.path), "--every", "0.2", "--announce", str(home.run / "said.json")]
    command = [sys.executable, "-P", "-m", "modelyard.retraining.following", *words]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(60) == 0

"""Small bundles written by hand, for tests that need a version but no training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from modelyard.bundle.golden import encoded
from modelyard.bundle.layout import Bundle, write
from modelyard.domain.environment import Distribution, Environment
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import FORMAT, Code, CompiledForm, Feed, Fetch, Manifest, NativeForm, Tolerance
from modelyard.domain.parity import ParityReport, StageReport
from modelyard.domain.schema import Column, Kind, Output, Schema

SCHEMA = Schema(
    "dataframe",
    (Column("x", Kind.FLOAT64, nullable=False, dtype="float64"),),
    (Output("predict", Kind.FLOAT64, "value", "predict"),),
)

BESIDE = {"profile.json": b"{}", "environment.txt": b"numpy==2.4.6\n", "card.md": b"# by hand\n"}


def write_bundle(folder: Path, name: str = "toy", content: bytes = b"first", *, runs_code: bool = False) -> Bundle:
    """A bundle that says it is `name` and holds `content`; whole and valid, but nothing that could compute."""
    form = NativeForm("cloudpickle" if runs_code else "skops", "model/native.skops", runs_code=runs_code)
    nothing = {"golden/inputs.parquet": b"", "golden/answers.parquet": b""}
    return write(folder, {"model/native.skops": content, **BESIDE, **nothing}, replace(_manifest(name), native=form))


def write_line(
    folder: Path,
    name: str = "line",
    slope: float = 2.0,
    *,
    promised: float | None = None,
    ballast: int = 0,
    profile: bytes = BESIDE["profile.json"],
) -> Bundle:
    """A compiled bundle that answers ``slope * x``; its golden set says `promised` instead, if given.

    `ballast` is how many bytes of memory it takes besides.
    """
    heavy = np.ones(max(ballast // 8, 1))
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                # Known only when there are rows, so that the ballast is not folded away.
                onnx.helper.make_node("Shape", ["x"], ["rows"]),
                onnx.helper.make_node("Sub", ["rows", "rows"], ["first"]),
                onnx.helper.make_node("Gather", ["heavy", "first"], ["one"]),
                onnx.helper.make_node("Mul", ["x", "slope"], ["z"]),
                onnx.helper.make_node("Mul", ["z", "one"], ["y"]),
            ],
            "line",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, [None])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, [None])],
            [
                onnx.helper.make_tensor("slope", onnx.TensorProto.DOUBLE, [], [slope]),
                onnx.numpy_helper.from_array(heavy, "heavy"),
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=9,
    )
    x = np.arange(8.0)
    answers = {"predict": (slope if promised is None else promised) * x}
    golden = GoldenSet(Frame({"x": Vector(x)}, 8), ("sample",) * 8, (None,) * 8, answers, answers)
    form = CompiledForm("model/model.onnx", "float64", "hand", (Feed("x", "x", "float64"),), (Fetch("predict", "y"),))
    manifest = replace(_manifest(name), runtime="onnx", native=None, compiled=form, golden_rows=8)
    parts = {f"golden/{file}": content for file, content in encoded(golden, SCHEMA).items()}
    return write(
        folder, {"model/model.onnx": model.SerializeToString(), **BESIDE, "profile.json": profile, **parts}, manifest
    )


def report(bundle: Bundle, number: int = 1, *, passed: bool = True, overrides: tuple[str, ...] = ()) -> ParityReport:
    """A parity report on `bundle` with one stage."""
    stage = StageReport("rebuilt", passed, rows=3, largest_rel=float("inf"), reason="" if passed else "row 1 differs")
    ref = f"{bundle.manifest.name}@{number}"
    return ParityReport(ref, bundle.digest, bundle.manifest.runtime, passed, (stage,), overrides=overrides)


def _manifest(name: str) -> Manifest:
    return Manifest(
        format=FORMAT,
        name=name,
        framework="sklearn",
        estimator="LinearRegression",
        schema=SCHEMA,
        runtime="python",
        native=None,
        compiled=None,
        attempts=(),
        tolerance=Tolerance(),
        environment=Environment("3.11.7", "linux_x86_64", (Distribution("numpy", "2.4.6"),)),
        code=Code(),
        golden_rows=0,
        files={},
        tags={"team": "tests"},
    )

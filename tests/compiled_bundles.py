"""Bundles that compute: a small logistic model as an ONNX graph built by hand, with its golden set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelyard.bundle import golden as golden_files
from modelyard.bundle.layout import Bundle, write
from modelyard.domain.environment import Distribution, Environment
from modelyard.domain.frame import Answers, Frame, Vector, concat_frames
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import FORMAT, Code, CompiledForm, Feed, Fetch, Manifest, Tolerance
from modelyard.domain.schema import Accepts, Column, Kind, Output, Schema
from modelyard.runtime.onnx import OnnxRuntime

CLASSES = ("late", "on time")


def schema(width: int = 3, *, most: float = 1e30) -> Schema:
    """Float columns ``x0``, ``x1`` ..., of which the first may be missing, and a text column ``carrier``.

    `most` is the largest number that is accepted.
    """
    numbers = [
        Column(f"x{index}", Kind.FLOAT64, nullable=index == 0, dtype="float64", accepts=Accepts(maximum=most))
        for index in range(width)
    ]
    carrier = Column("carrier", Kind.STRING, nullable=True, dtype="object", missing="none")
    outputs = (
        Output("predict", Kind.STRING, "label", "predict", classes=CLASSES, dtype="object"),
        Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=CLASSES),
    )
    return Schema("dataframe", (*numbers, carrier), outputs)


def graph(width: int = 3, bias: float = 0.0, fails_above: float | None = None) -> bytes:
    """P(late) is the logistic function of the sum of the columns (a missing x0 is 0.5), plus 1 for carrier UA.

    With `fails_above` it cannot be computed where x0 is greater.
    """
    names = [f"x{index}" for index in range(width)]
    nodes = [
        helper.make_node("IsNaN", ["x0"], ["gone"]),
        helper.make_node("Where", ["gone", "half", "x0"], ["x0_filled"]),
        helper.make_node("Equal", ["carrier", "ua"], ["is_ua"]),
        helper.make_node("Cast", ["is_ua"], ["ua_bonus"], to=TensorProto.DOUBLE),
        helper.make_node("Sum", ["x0_filled", *names[1:], "ua_bonus", "bias"], ["margin"]),
        helper.make_node("Sigmoid", ["margin"], ["late"]),
        helper.make_node("Sub", ["one", "late"], ["on_time"]),
        helper.make_node("Concat", ["late", "on_time"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(np.array([[0.5]]), "half"),
        numpy_helper.from_array(np.array([[1.0]]), "one"),
        numpy_helper.from_array(np.array([[bias]]), "bias"),
        numpy_helper.from_array(np.array([["UA"]], dtype=object), "ua"),
    ]
    if fails_above is not None:
        nodes[4] = helper.make_node("Sum", ["x0_filled", *names[1:], "ua_bonus", "bias_there"], ["margin"])
        nodes[4:4] = [
            helper.make_node("Greater", ["x0_filled", "limit"], ["is_above"]),
            helper.make_node("Cast", ["is_above"], ["place"], to=TensorProto.INT64),
            helper.make_node("GatherElements", ["bias", "place"], ["bias_there"], axis=0),  # of a bias there is one
        ]
        constants.append(numpy_helper.from_array(np.array([[fails_above]]), "limit"))
    made = helper.make_graph(
        nodes,
        "logistic",
        [
            *[helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in names],
            helper.make_tensor_value_info("carrier", TensorProto.STRING, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.DOUBLE, [None, 2]),
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        ],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()  # type: ignore[no-any-return]


def form(width: int = 3) -> CompiledForm:
    """How columns enter the graph and outputs leave it."""
    feeds = [Feed(f"x{index}", f"x{index}", "float64") for index in range(width)]
    return CompiledForm(
        "model/model.onnx",
        "float64",
        "by hand",
        (*feeds, Feed("carrier", "carrier", "string", "\x00missing")),
        (Fetch("predict", "label", decode=True), Fetch("predict_proba", "probabilities")),
    )


def frame(rows: int, width: int = 3) -> Frame:
    """Rows that the model takes, the first with missing values."""
    numbers = np.sin(np.arange(rows * width, dtype=np.float64)).reshape(rows, width)
    columns = {f"x{index}": Vector(numbers[:, index].copy()) for index in range(width)}
    columns["x0"].values[:1] = np.nan
    carriers = np.array([None, "UA", "DL"], dtype=object)
    columns["carrier"] = Vector(carriers[np.arange(rows) % 3])
    return Frame(columns, rows)


def write_compiled(
    folder: Path,
    *,
    name: str = "toy",
    width: int = 3,
    bias: float = 0.0,
    shift: float = 0.0,
    fails_above: float | None = None,
) -> Bundle:
    """A bundle with that model; `shift` moves the recorded probabilities away from what the model answers."""
    raw, compiled, made = graph(width, bias, fails_above), form(width), schema(width, most=1e30 * (1 + bias))
    runtime = OnnxRuntime(raw, compiled, made)
    inputs = frame(8, width)
    batch = runtime.predict(inputs)
    single: list[Answers] = [runtime.predict(inputs.row(row)) for row in range(inputs.rows)]
    together = {output: np.concatenate([answer[output] for answer in single]) for output in batch}
    for answers in (batch, together):
        answers["predict_proba"] = answers["predict_proba"] + np.array([shift, -shift])
    bad = Frame({**inputs.row(1).columns, "x1": Vector(np.array([np.inf]))}, 1)
    return write(
        folder, _files(raw, made, _with_refused(inputs, bad, together, batch)), _manifest(name, made, compiled)
    )


def _with_refused(inputs: Frame, bad: Frame, single: Answers, batch: Answers) -> GoldenSet:
    nothing: Answers = {"predict": np.array([""], dtype=object), "predict_proba": np.full((1, 2), np.nan)}

    def padded(answers: Answers) -> Answers:
        return {name: np.concatenate([values, nothing[name]]) for name, values in answers.items()}

    return GoldenSet(
        concat_frames([inputs, bad]),
        ("sample",) * inputs.rows + ("edge: x1 infinite",),
        (None,) * inputs.rows + ("x1 is infinite",),
        padded(single),
        padded(batch),
    )


def _files(raw: bytes, made: Schema, golden: GoldenSet) -> dict[str, bytes | Path]:
    encoded = golden_files.encoded(golden, made)
    return {
        "model/model.onnx": raw,
        **{f"golden/{name}": content for name, content in encoded.items()},
        "profile.json": b"{}",
        "environment.txt": b"numpy==2.4.6\n",
        "card.md": b"# toy\n",
    }


def _manifest(name: str, made: Schema, compiled: CompiledForm) -> Manifest:
    return Manifest(
        format=FORMAT,
        name=name,
        framework="onnx",
        estimator="logistic",
        schema=made,
        runtime="onnx",
        native=None,
        compiled=compiled,
        attempts=(),
        tolerance=Tolerance(),
        environment=Environment("3.11.7", "linux_x86_64", (Distribution("numpy", "2.4.6"),)),
        code=Code(),
        golden_rows=9,
        files={},
    )

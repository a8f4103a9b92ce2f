"""Tries compiled forms and takes the first that answers as training did."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from modelyard.bundle.compile.emit import Answer, Labels, emitter, precision
from modelyard.bundle.compile.finished import finished
from modelyard.bundle.compile.graph import DTYPE_NAME, Entry, Graph, NoConverter, NoDoubleConverter, Value
from modelyard.bundle.compile.table import MISSING_TEXT, Table, input_table
from modelyard.bundle.compile.trials import differs
from modelyard.bundle.frameworks.base import Framework
from modelyard.bundle.parity import Mode, replay
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import CompileAttempt, CompiledForm, Feed, Fetch, Tolerance
from modelyard.domain.schema import Kind, Output, Schema
from modelyard.errors import ModelyardError
from modelyard.runtime.onnx import OnnxRuntime

PATH = "model/model.onnx"
"""Where the compiled form is in a bundle."""

Precision: TypeAlias = Literal["float32", "float64", "native"]

_MODES: tuple[Mode, ...] = ("single", "batch")

Compiled: TypeAlias = tuple[bytes | None, CompiledForm | None, tuple[CompileAttempt, ...]]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A graph that was written and not yet judged. `repeat` tells that single precision would write another one."""

    model: bytes
    form: CompiledForm
    repeat: bool = False


def compile_estimator(
    estimator: Any, schema: Schema, golden: GoldenSet, tolerance: Tolerance, *, framework: Framework
) -> Compiled:
    """Write `estimator` as an ONNX graph that reproduces the golden set, one row at a time and as one batch.

    Rows that training refused must be refused too. Returns the graph, how to use it, and every try with its outcome;
    the first two are None where no try was taken. Nothing that goes wrong here gets out: it is the reason of a try.
    """
    attempts: list[CompileAttempt] = []
    for kind, write in _plans(estimator, schema, framework):
        draft, attempt, more = _written(kind, write)
        if draft is not None:
            attempt = _judged(draft, estimator, golden, schema, tolerance)
        attempts.append(attempt)
        if attempt.outcome == "taken" and draft is not None:
            return draft.model, draft.form, tuple(attempts)
        if not more:
            break
    return None, None, tuple(attempts)


def _plans(estimator: Any, schema: Schema, framework: Framework) -> Iterator[tuple[Precision, Callable[[], _Draft]]]:
    if framework.name == "onnx":
        yield "native", lambda: _finished(estimator, schema)
        return
    yield "float64", lambda: write_graph(estimator, schema, "float64")
    yield "float32", lambda: write_graph(estimator, schema, "float32")


def _written(kind: Precision, write: Callable[[], _Draft]) -> tuple[_Draft | None, CompileAttempt, bool]:
    """A graph or why there is none, and whether another precision could fare better."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            draft = write()
    except NoConverter as missing:
        return None, CompileAttempt(kind, "no converter", str(missing)), isinstance(missing, NoDoubleConverter)
    except Exception as error:  # noqa: BLE001 - others' converters raise anything; the native form is there
        return None, CompileAttempt(kind, "failed", f"{type(error).__name__}: {error}"), False
    return draft, CompileAttempt(kind, "taken"), draft.repeat


def _judged(draft: _Draft, estimator: Any, golden: GoldenSet, schema: Schema, tolerance: Tolerance) -> CompileAttempt:
    """Replay the golden set on a graph, both ways, then try it on more rows."""
    kind = draft.form.precision
    try:
        runtime = OnnxRuntime(draft.model, draft.form, schema)
    except ModelyardError as error:
        return CompileAttempt(kind, "failed", str(error))
    try:
        for mode in _MODES:
            report = replay(runtime.predict, golden, schema, tolerance, mode, "in process")
            if not report.passed:
                return CompileAttempt(kind, "not equal", report.reason)
        reason = "" if kind == "native" else differs(runtime, estimator, golden, schema, tolerance)
    except Exception as error:  # noqa: BLE001 - a graph that breaks is not taken, whatever it raises
        return CompileAttempt(kind, "failed", f"{type(error).__name__}: {error}")
    finally:
        runtime.close()
    return CompileAttempt(kind, "not equal" if reason else "taken", reason)


def write_graph(estimator: Any, schema: Schema, kind: Literal["float64", "float32"]) -> _Draft:
    """Write the graph of an estimator over the columns of a schema.

    `kind` is the precision of those parts that are written by others' converters; ours compute in double.

    Raises:
        NoConverter: when some part has no converter.
    """
    graph = Graph()
    with precision(kind):
        table = input_table(graph, schema)
        made = emitter(graph, estimator, table)
        fetches = []
        for at, output in enumerate(schema.outputs):
            answer = _part(made.answer(output.method), output)
            value, decode = _finish(graph, answer, output)
            name = f"out_{at}"
            graph.output(name, value)
            fetches.append(Fetch(output.name, name, decode))
    model = graph.model()
    feeds = tuple(feed for tensor, entry in graph.entries().items() for feed in _feeds(tensor, entry, schema))
    form = CompiledForm(PATH, kind, graph.converter, feeds, tuple(fetches))
    return _Draft(model, form, repeat=bool(graph.foreign))


def _feeds(tensor: str, entry: Entry, schema: Schema) -> Iterator[Feed]:
    """How the columns of one input enter it, side by side."""
    missing = MISSING_TEXT if entry.kind == "str" else None
    for place, at in enumerate(entry.columns):
        codes = entry.codes[place] if entry.codes else None
        yield Feed(schema.columns[at].name, tensor, DTYPE_NAME[entry.kind], missing, codes)


def _part(answer: Answer, output: Output) -> Answer:
    """The piece of an answer that an output shows."""
    if output.part is None:
        return answer
    if isinstance(answer, list) and isinstance(output.part, int):
        part: Answer = answer[output.part]
        return part
    if isinstance(answer, Table):
        names = answer.names
        if names is None or output.part not in names:
            raise NoConverter(f"output {output.name!r}: the compiled table has no column {output.part!r}")
        return answer.pick([names.index(str(output.part))])
    raise NoConverter(f"output {output.name!r} is a part that the compiled form does not have")


def _finish(graph: Graph, answer: Answer, output: Output) -> tuple[Value, bool]:
    """An answer as one tensor, and whether its numbers index the output's classes."""
    if isinstance(answer, list):
        return graph.concat(_one_kind([_finish_one(item, output) for item in answer])), False
    if isinstance(answer, Labels) and output.classes is not None and not output.shape:
        return _reordered(answer, output.classes), True
    return _finish_one(answer, output), False


def _finish_one(answer: Answer, output: Output) -> Value:
    if isinstance(answer, Labels):
        return _spelled(answer, output)
    if isinstance(answer, Table):
        return _plain_table(answer, output)
    if isinstance(answer, Value):
        return answer
    raise NoConverter(f"output {output.name!r} has several levels of parts")


def _one_kind(values: list[Value]) -> list[Value]:
    kinds = {value.kind for value in values}
    return values if len(kinds) == 1 else [value.cast("f8") for value in values]


def _reordered(labels: Labels, classes: tuple[Any, ...]) -> Value:
    """Positions in the estimator's classes as positions in the output's."""
    own = [_plain(label) for label in labels.classes]
    if own == list(classes):
        return labels.index
    places = [classes.index(label) for label in own if label in classes]
    if len(places) != len(own):
        raise NoConverter("the labels of the compiled form are not those of the output")
    return labels.index.rows_of(np.array(places).reshape(-1, 1), "i8")


def _spelled(labels: Labels, output: Output) -> Value:
    """The labels themselves."""
    if output.kind is Kind.STRING:
        return labels.index.rows_of(labels.classes.astype(str).reshape(-1, 1), "str")
    if output.kind.is_float:
        return labels.numbers()
    return labels.index.rows_of(labels.classes.astype(np.int64).reshape(-1, 1), "i8")


def _plain_table(table: Table, output: Output) -> Value:
    if output.kind is Kind.STRING:
        raise NoConverter(f"output {output.name!r}: no converter for texts that come out")
    return table.numeric()


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def _finished(model: Any, schema: Schema) -> _Draft:
    """A finished ONNX graph, as it is."""
    raw, feeds, fetches = finished(model, schema)
    return _Draft(raw, CompiledForm(PATH, "native", "as given", feeds, fetches))

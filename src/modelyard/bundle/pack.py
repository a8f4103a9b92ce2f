"""From a trained estimator and a sample of its rows to a bundle: every step in its order."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

from modelyard.bundle import code, environment, golden, layout, native
from modelyard.bundle import holdout as holdouts
from modelyard.bundle.card import card
from modelyard.bundle.compile import compile_estimator, known_categories
from modelyard.bundle.drawing import mixed_rows
from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.frameworks.base import Framework
from modelyard.bundle.frameworks.functions import with_load
from modelyard.bundle.frameworks.onnx import Graph, as_graph
from modelyard.bundle.native import InProcess, NativeFiles
from modelyard.bundle.probe import base_row, probe
from modelyard.bundle.rehearsal import check_as_given, check_each_for_itself
from modelyard.bundle.schema import infer_columns, sample_frame
from modelyard.domain import profile
from modelyard.domain.checks import offences
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import (
    FORMAT,
    CompileAttempt,
    CompiledForm,
    Manifest,
    RuntimeName,
    Tolerance,
)
from modelyard.domain.names import check_name
from modelyard.domain.schema import Layout, Schema
from modelyard.errors import CannotPack, Failed

Progress: TypeAlias = Callable[[str], None]
"""Is told in a few words what is being done."""

_DESCRIBED_ROWS = 8
_PROFILED_ANSWERS = 20_000
_CHUNK = 1_000


def build_bundle(
    estimator: Any,
    *,
    sample: Any,
    name: str,
    into: Path,
    runtime: RuntimeName | None = None,
    load: Callable[..., Any] | None = None,
    artifacts: Mapping[str, str | Path] | None = None,
    tolerance: Tolerance | None = None,
    golden_rows: int = 256,
    tags: Mapping[str, str] | None = None,
    needs: Sequence[str] = (),
    holdout: Any = None,
    progress: Progress | None = None,
) -> layout.Bundle:
    """Pack `estimator` into a bundle at the new folder `into`.

    Args:
        estimator: A fitted estimator or pipeline, a finished ONNX file, or a function over rows.
        sample: Rows as it was trained on, without the target: at best all of them, since what they hold (ranges,
            categories, missing values) becomes the schema and the reference profile.
        name: What the model is called.
        into: Where the bundle goes.
        runtime: Demand ``onnx`` or ``python``; None takes a compiled form if one is equal, else the native one.
        load: For a function: a step that makes the state which it gets as its first argument.
        artifacts: Files or folders that `load` reads, by name.
        tolerance: How far answers may be from those recorded now.
        golden_rows: How many rows of the sample the golden set holds, besides edge rows.
        tags: Texts kept with the version.
        needs: Names of distributions that it needs besides those that it is seen to import.
        holdout: Rows that it was not trained on, and what was true of each: ``(rows, truths)``.
        progress: Is told what is being done.

    Raises:
        InvalidRequest: `name` cannot name a model.
        CannotPack: anything else that was asked cannot be done; the message says what and why.
        EnvironmentFailed: the environment cannot be written down.
    """
    check_name(name)
    _check_options(runtime, golden_rows, tags)
    say = progress or (lambda words: None)
    packed = as_graph(with_load(estimator, load, artifacts))
    given = packed.tensors(sample) if isinstance(packed, Graph) else sample
    # The number of threads moves results, so answers are recorded as they will be computed: with one.
    with threadpool_limits(1):
        draft = _drafted(packed, given, golden_rows, say)
        kept = _held_out(draft, holdout, say)
        say("compiling")
        made = _compiled(draft, tolerance or Tolerance(), runtime)
        say("writing down code and environment")
        captured = code.capture(draft.saved.references)
        locked = environment.lock(captured.imports | _needed_by_host(draft), needs)
    manifest = Manifest(
        format=FORMAT,
        name=name,
        framework=draft.framework.name,
        estimator=draft.framework.title(packed),
        schema=draft.schema,
        runtime="onnx" if made.form is not None else "python",
        native=draft.saved.form,
        compiled=made.form,
        attempts=made.attempts,
        tolerance=tolerance or Tolerance(),
        environment=locked,
        code=captured.code,
        golden_rows=draft.golden.inputs.rows,
        files={},
        tags=dict(tags or {}),
    )
    say("writing the bundle")
    return layout.write(into, _files(draft, made, manifest, captured.files) | kept, manifest)


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is known of the estimator before anything is compiled."""

    estimator: Any
    framework: Framework
    schema: Schema
    saved: NativeFiles
    golden: GoldenSet
    profile: profile.Profile


@dataclass(frozen=True, slots=True)
class _Made:
    """The compiled form if there is one, and what was tried."""

    model: bytes | None
    form: CompiledForm | None
    attempts: tuple[CompileAttempt, ...]


def _check_options(runtime: str | None, golden_rows: int, tags: Mapping[Any, Any] | None) -> None:
    if runtime not in (None, "onnx", "python"):
        raise CannotPack(f"runtime {runtime!r} does not exist; there are 'onnx' and 'python', or None to choose")
    if golden_rows < 1:
        raise CannotPack(f"golden_rows is {golden_rows}; at least one row is needed to prove anything")
    for key, value in (tags or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise CannotPack(f"tag {key!r}: {value!r}: names and values of tags are texts")


def _drafted(estimator: Any, sample: Any, golden_rows: int, say: Progress) -> _Draft:
    framework = catalogue.find(estimator)
    say("reading the sample")
    how, columns = infer_columns(sample)
    _check_trained_on(estimator, how, [column.name for column in columns])
    rows = sample_frame(sample, how, columns)
    first = rows.take(slice(0, _DESCRIBED_ROWS))
    given = InProcess(estimator, Schema(how, columns, ())).native(first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = framework.describe(estimator, given, columns)
    saved = native.save(estimator, framework, sample=given, outputs=outputs)
    say("asking the estimator what it takes")
    asked = InProcess(estimator, Schema(how, columns, outputs))
    check_as_given(asked, sample, rows, Schema(how, columns, outputs))
    base = base_row(asked, rows)
    columns = probe(columns, asked, rows, lambda column: known_categories(estimator, column))
    schema = Schema(how, columns, outputs)
    say("recording the golden set")
    drawn, origins = golden.draw(rows, columns, golden_rows, base=base)
    recorded = golden.record(asked, drawn, origins, schema)
    check_each_for_itself(recorded, schema)
    say("profiling")
    described = _profiled(asked, rows, schema)
    return _Draft(estimator, framework, schema, saved, recorded, described)


def _held_out(draft: _Draft, holdout: Any, say: Progress) -> dict[str, bytes | Path]:
    if holdout is None:
        return {}
    say("answering the holdout")
    return {holdouts.FILE: holdouts.held_out(InProcess(draft.estimator, draft.schema), holdout, draft.schema)}


def _check_trained_on(estimator: Any, how: Layout, names: Sequence[str]) -> None:
    """Pipelines pass over columns that they were not trained on: every request would have to bring them."""
    try:
        known = [_spaceless(str(name)) for name in estimator.feature_names_in_]
    except AttributeError:
        return
    more = [name for name in names if _spaceless(name) not in known]
    if how == "dataframe" and 0 < len(more) < len(names):
        raise CannotPack(
            f"the sample has column {more[0]!r}, which the estimator was not trained on (it knows "
            f"{', '.join(map(repr, known[:20]))}); leave it out, and the target too"
        )


def _spaceless(name: str) -> str:
    """LightGBM keeps names of columns so."""
    return name.replace(" ", "_")


def _compiled(draft: _Draft, tolerance: Tolerance, runtime: RuntimeName | None) -> _Made:
    if runtime == "python":
        return _Made(None, None, (CompileAttempt("", "not tried", "runtime='python' was asked for"),))
    model, form, attempts = compile_estimator(
        draft.estimator, draft.schema, draft.golden, tolerance, framework=draft.framework
    )
    attempts = tuple(replace(each, reason=golden.stable(each.reason)) for each in attempts)
    if form is None and runtime == "onnx":
        tried = "; ".join(f"{each.precision}: {each.outcome}, {each.reason}" for each in attempts) or "nothing to try"
        raise CannotPack(
            f"runtime='onnx' was asked for, but no compiled form reproduces training's answers ({tried}); "
            "leave runtime out to serve the native form"
        )
    return _Made(model, form, attempts)


def _needed_by_host(draft: _Draft) -> frozenset[str]:
    """Modules that the process of the native form imports by itself."""
    needed = {"numpy"}
    if draft.schema.layout in ("dataframe", "series"):
        needed.add("pandas")
    if draft.saved.form.format != "onnx":
        needed.add(draft.saved.form.format)
    else:
        needed.add("onnxruntime")
    return frozenset(needed)


def _profiled(asked: InProcess, rows: Frame, schema: Schema) -> profile.Profile:
    """Inputs over the whole sample, answers over at most 20 000 of its rows."""
    picked = mixed_rows(rows.rows, _PROFILED_ANSWERS)
    asked_about = rows.take(picked)
    return profile.build(rows, _answered(asked, asked_about, schema), schema, asked_about)


def _answered(asked: InProcess, rows: Frame, schema: Schema) -> Answers:
    """Answers to all rows that get one."""
    refused = offences(rows, schema)
    taken = [row for row in range(rows.rows) if row not in refused]
    parts = [
        part for at in range(0, len(taken), _CHUNK) for part in _by_halves(asked, rows.take(taken[at : at + _CHUNK]))
    ]
    if not parts:
        raise CannotPack("the estimator answers no row of the sample")
    return {output.name: np.concatenate([part[output.name] for part in parts]) for output in schema.outputs}


def _by_halves(asked: InProcess, rows: Frame) -> Sequence[Answers]:
    """Answers in parts, without the rows on which the estimator raises."""
    try:
        return [asked.predict(rows)]
    except Failed:
        if rows.rows == 1:
            return []
        middle = rows.rows // 2
        return [*_by_halves(asked, rows.take(slice(0, middle))), *_by_halves(asked, rows.take(slice(middle, None)))]


def _files(draft: _Draft, made: _Made, manifest: Manifest, captured: Mapping[str, bytes]) -> dict[str, bytes | Path]:
    files: dict[str, bytes | Path] = dict(draft.saved.files)
    if made.form is not None and made.model is not None:
        files[made.form.path] = made.model
    for name, raw in golden.encoded(draft.golden, draft.schema).items():
        files[f"golden/{name}"] = raw
    files |= captured
    files["profile.json"] = json.dumps(draft.profile, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    files["environment.txt"] = environment.requirements(manifest.environment).encode()
    files["card.md"] = card(manifest).encode()
    return files

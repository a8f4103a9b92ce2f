"""The smallest bundle folder that a model's process can open, for tests of native forms and of that process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelyard.bundle import native
from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.native import InProcess
from modelyard.bundle.schema import infer_columns, sample_frame
from modelyard.domain.environment import Environment
from modelyard.domain.frame import Frame
from modelyard.domain.manifest import Code, Manifest, NativeForm, Tolerance
from modelyard.domain.schema import Schema
from modelyard.runtime.python import PythonRuntime

PYTHON = Path(sys.executable)


def schema_of(estimator: Any, sample: Any) -> Schema:
    """What `estimator` takes and answers, learnt from `sample`."""
    layout, columns = infer_columns(sample)
    first = sample_frame(sample, layout, columns).take(slice(0, 8))
    given = InProcess(estimator, Schema(layout, columns, ())).native(first)
    return Schema(layout, columns, catalogue.find(estimator).describe(estimator, given, columns))


def manifest_of(schema: Schema, form: NativeForm) -> Manifest:
    """A manifest that says nothing but schema and native form."""
    return Manifest(
        format=1,
        name="model",
        framework="sklearn",
        estimator="",
        schema=schema,
        runtime="python",
        native=form,
        compiled=None,
        attempts=(),
        tolerance=Tolerance(),
        environment=Environment("", "", ()),
        code=Code(),
        golden_rows=0,
        files={},
    )


def write(folder: Path, files: Mapping[str, bytes | Path]) -> None:
    """Put files into the folder."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.read_bytes() if isinstance(content, Path) else content)


def start(folder: Path, estimator: Any, sample: Any, *, python: Path = PYTHON, **options: Any) -> PythonRuntime:
    """`estimator`, written to `folder` and opened in a process of its own."""
    schema = schema_of(estimator, sample)
    saved = native.save(estimator, catalogue.find(estimator))
    write(folder, saved.files)
    return PythonRuntime(folder, manifest_of(schema, saved.form), python, **options)


def of_main(function: Any) -> Any:
    """A function as if the training script had defined it: its code travels in the pickle."""
    function.__module__ = "__main__"
    return function


def table(rows: int = 6) -> pd.DataFrame:
    """Two columns, one of numbers with a missing one, one of texts."""
    amount = np.arange(rows, dtype=float)
    amount[rows // 2] = np.nan
    return pd.DataFrame({"amount": amount, "city": ["Bern", "Genf"] * (rows // 2) + ["Bern"] * (rows % 2)})


def frame_of(schema: Schema, sample: Any) -> Frame:
    """`sample` as a frame."""
    return sample_frame(sample, schema.layout, schema.columns)

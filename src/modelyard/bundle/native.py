"""The native form: the estimator as its library writes it, and the estimator in this process while packing."""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelyard.bundle import pickling, skopsfile
from modelyard.bundle.frameworks.base import Framework
from modelyard.bundle.frameworks.functions import WithLoad
from modelyard.bundle.frameworks.onnx import Graph
from modelyard.bundle.origins import origin_of
from modelyard.bundle.pickling import References
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.manifest import NativeForm
from modelyard.domain.schema import Output, Schema
from modelyard.errors import CannotPack, ModelFailed, RowsRefused
from modelyard.runtime.host import answers, load, tables


class InProcess:
    """A live estimator behind the interface of every runtime. Used while packing, on the packer's own objects.

    It makes the estimator's input and reads its answers with the very code that the host process uses later.
    Warnings of the estimator are dropped: it is asked about extremes on purpose.
    """

    def __init__(self, estimator: Any, schema: Schema) -> None:
        plain = msgspec.to_builtins(schema)
        self._names = [column.name for column in schema.columns]
        self._build = tables.builder(schema.layout, plain["columns"])
        self._ask = answers.ask(estimator, plain["outputs"])

    def native(self, frame: Frame) -> Any:
        """`frame` as training would have handed it to the estimator."""
        cells = [(frame[name].values, frame[name].missing) for name in self._names]
        return self._build(cells, frame.rows)

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        """Answer every row; see `modelyard.runtime.interface.Runtime.predict`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                given = self.native(frame)
            except (ValueError, TypeError, OverflowError) as raised:
                raise RowsRefused(answers.describe(raised)) from raised
            return self._asked(given, frame.rows, outputs)

    def answer(self, given: Any, rows: int) -> Answers:
        """Answer input that is already as training has it; raises as `predict` does."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._asked(given, rows, None)

    def _asked(self, given: Any, rows: int, outputs: Sequence[str] | None) -> Answers:
        try:
            return self._ask(given, rows, outputs)
        except answers.Refused as refused:
            raise RowsRefused(str(refused)) from refused.__cause__
        except answers.Broken as broken:
            raise ModelFailed(str(broken)) from broken.__cause__

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class NativeFiles:
    """The native form with its files (path in the bundle to bytes or a file to copy), and what it refers to."""

    form: NativeForm
    files: dict[str, bytes | Path]
    references: References


def save(
    estimator: Any,
    framework: Framework,
    *,
    sample: Any = None,
    outputs: Sequence[Output] = (),
) -> NativeFiles:
    """Write `estimator` so that the same estimator gives the same bytes, and prove that it can be read back.

    skops is tried first: it holds state and no code. What it cannot write, or would read back otherwise than it was,
    is pickled. With `sample` (a few rows as training had them) and `outputs`, the copy that was read back has to
    answer like the original.

    Raises:
        CannotPack: no format holds it; the message says why not, for each format.
    """
    reasons: list[str] = []
    for name in framework.formats:
        try:
            files = _WRITERS[name](estimator)
            _check(estimator, files, sample, outputs)
        except _NotLikeThis as reason:
            reasons.append(f"{name}: {reason}")
        else:
            return replace(files, form=replace(files.form, settings=_settings()))
    raise CannotPack(f"{framework.title(estimator)} cannot be written to a file and read back; " + "; ".join(reasons))


_SETTINGS: dict[str, bool | str] = {
    "assume_finite": False,
    "enable_metadata_routing": False,
    "transform_output": "default",
}
"""scikit-learn's settings on which answers depend, as they are unless a program changes them."""


def _settings() -> dict[str, bool | str]:
    sklearn = sys.modules.get("sklearn")
    if sklearn is None:
        return {}
    current = sklearn.get_config()
    return {name: current[name] for name, usual in _SETTINGS.items() if current.get(name, usual) != usual}


class _NotLikeThis(Exception):
    """This format does not hold the estimator."""


def _as_skops(estimator: Any) -> NativeFiles:
    refers = _referred(estimator)
    if refers.by_value:
        raise _NotLikeThis(f"{', '.join(refers.by_value[:3])} is code of the training program itself")
    try:
        data = skopsfile.dumps(estimator)
        trusted = _untrusted(data)
    except Exception as raised:
        raise _NotLikeThis(answers.describe(raised)) from raised
    runs_code = any(origin_of(name) == "user" for name in trusted)
    form = NativeForm(format="skops", path="model/native.skops", trusted=trusted, runs_code=runs_code)
    return NativeFiles(form, {form.path: data}, refers)


def _untrusted(data: bytes) -> tuple[str, ...]:
    import skops.io

    return tuple(skops.io.get_untrusted_types(data=data))


def _as_pickle(estimator: Any) -> NativeFiles:
    if isinstance(estimator, WithLoad):
        return _with_load(estimator)
    form = NativeForm(format="cloudpickle", path="model/native.pkl")
    return NativeFiles(form, {form.path: _pickled(estimator)}, _referred(estimator))


def _with_load(function: WithLoad) -> NativeFiles:
    files = function.files("artifacts")
    entry = {name: f"artifacts/{name}/{path.name}" for name, path in sorted(function.artifacts.items())}
    parts = {"call": function.call, "load": function.load, "artifacts": entry}
    form = NativeForm(format="cloudpickle", path="model/native.pkl", loader=True)
    stored: dict[str, bytes | Path] = {f"model/{path}": source for path, source in files.items()}
    return NativeFiles(form, {form.path: _pickled(parts), **stored}, _referred(parts))


def _pickled(value: Any) -> bytes:
    try:
        return pickling.dumps(value)
    except Exception as raised:
        raise _NotLikeThis(answers.describe(raised)) from raised


def _referred(value: Any) -> References:
    try:
        return pickling.references(value)
    except Exception as raised:
        raise _NotLikeThis(answers.describe(raised)) from raised


def _as_onnx(estimator: Graph) -> NativeFiles:
    form = NativeForm(format="onnx", path="model/model.onnx", runs_code=False)
    return NativeFiles(form, {form.path: estimator.raw}, References(frozenset(), ()))


_WRITERS: dict[str, Callable[[Any], NativeFiles]] = {
    "skops": _as_skops,
    "cloudpickle": _as_pickle,
    "onnx": _as_onnx,
}


def read_back(native: NativeFiles) -> Any:
    """The estimator that the files hold, built in this process.

    Raises:
        Exception: whatever building it raises.
    """
    with tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
        for path, content in native.files.items():
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, target)
            else:
                target.write_bytes(content)
        return load.estimator(msgspec.to_builtins(native.form), folder)


def _check(estimator: Any, native: NativeFiles, sample: Any, outputs: Sequence[Output]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            copy = estimator if native.form.format == "onnx" else read_back(native)
            if native.form.format == "skops":
                _same_state(native, copy)
            if sample is not None and outputs:
                _same_answers(estimator, copy, sample, outputs)
        except _NotLikeThis:
            raise
        except Exception as raised:
            raise _NotLikeThis(f"it cannot be read back: {answers.describe(raised)}") from raised


def _same_state(native: NativeFiles, copy: Any) -> None:
    """Some things are read by skops as something else than it wrote (keys of dicts): a copy of the copy shows it."""
    written = native.files[native.form.path]
    if isinstance(written, bytes) and skopsfile.fingerprint(written) != skopsfile.fingerprint(skopsfile.dumps(copy)):
        raise _NotLikeThis("what is read back is not what was written")


def _same_answers(estimator: Any, copy: Any, sample: Any, outputs: Sequence[Output]) -> None:
    plain = msgspec.to_builtins(tuple(outputs))
    rows = len(sample) if not isinstance(sample, Mapping) else len(next(iter(sample.values())))
    expected, again, got = (answers.ask(who, plain)(sample, rows) for who in (estimator, estimator, copy))
    for name in expected:
        if not _equal(expected[name], again[name]):
            raise _NotLikeThis(f"{name} of the same rows differs from call to call, so that nothing can be proven")
        if not _equal(expected[name], got[name]):
            raise _NotLikeThis(f"the copy that was read back answers {name} otherwise")


def _equal(one: Any, other: Any) -> bool:
    """Equal but for the order in which threads add up."""
    if one.dtype.kind == "f":
        return bool(np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True))
    return bool(np.array_equal(one, other))

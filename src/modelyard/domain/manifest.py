"""The bundle manifest: everything one version says of itself, and the digest it is known by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from modelyard.domain.environment import Environment
from modelyard.domain.schema import Schema

FORMAT = 1
"""The number of the bundle format that this release writes."""

RuntimeName: TypeAlias = Literal["onnx", "python"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an answer may be from the recorded one: ``abs(got - expected) <= atol + rtol * abs(expected)``."""

    rtol: float = 1e-5
    atol: float = 1e-6


@dataclass(frozen=True, slots=True)
class Feed:
    """How one column enters a compiled graph. Plain columns with the same `tensor` enter it side by side, in order.

    `tensor` is the graph input, `dtype` its element type (``float32``, ``float64``, ``int64``, ``bool``, ``string``
    ...), `missing` the text or number put where a value is missing (None: NaN for floats, not fed otherwise).
    `codes` is the key in the graph's metadata that says, as ``{"texts": {text: number}, "missing": number, "other":
    number}``, by which number each text of the column enters; None: values enter as they are.
    """

    column: str
    tensor: str
    dtype: str
    missing: str | int | float | None = None
    codes: str | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """How one output leaves a compiled graph.

    `tensor` is the graph output. With `decode`, its integers index the output's classes.
    """

    output: str
    tensor: str
    decode: bool = False


@dataclass(frozen=True, slots=True)
class CompiledForm:
    """An ONNX graph that reproduces the golden set."""

    path: str
    precision: Literal["float32", "float64", "native"]
    converter: str
    feeds: tuple[Feed, ...]
    fetches: tuple[Fetch, ...]


@dataclass(frozen=True, slots=True)
class CompileAttempt:
    """One try at a compiled form and how it ended: ``taken``, ``not equal``, ``no converter``, ``failed``."""

    precision: str
    outcome: Literal["taken", "not equal", "no converter", "failed", "not tried"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NativeForm:
    """The estimator as its library wrote it.

    `format` is ``skops``, ``cloudpickle`` or ``onnx``. `trusted` names the types that skops must be told to build.
    `runs_code` marks forms whose loading runs code (pickles, user modules): never opened in a server process.
    `loader` tells that the object is a ``(load, predict)`` pair of a callable with a load step. `settings` are those of
    scikit-learn's global settings that training had changed and that change what estimators answer.
    """

    format: Literal["skops", "cloudpickle", "onnx"]
    path: str
    trusted: tuple[str, ...] = ()
    runs_code: bool = True
    loader: bool = False
    settings: dict[str, bool | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Code:
    """Where the code came from.

    `modules` maps dotted module names to files under ``code/`` in the bundle. `changed` and `untracked` list the files
    of them that the commit does not hold as captured. `remote` never carries credentials.
    """

    commit: str | None = None
    remote: str | None = None
    changed: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    modules: dict[str, str] = field(default_factory=dict)
    script: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size in bytes and BLAKE3 digest (hex) of one file of the bundle."""

    size: int
    blake3: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of ``manifest.json``.

    It holds no time, host or user, so that the same inputs give the same bytes; the BLAKE3 digest of those bytes is
    the digest of the bundle and, through `files`, covers every byte of it.
    """

    format: int
    name: str
    framework: str
    estimator: str
    schema: Schema
    runtime: RuntimeName
    native: NativeForm | None
    compiled: CompiledForm | None
    attempts: tuple[CompileAttempt, ...]
    tolerance: Tolerance
    environment: Environment
    code: Code
    golden_rows: int
    files: dict[str, FileEntry]
    tags: dict[str, str] = field(default_factory=dict)

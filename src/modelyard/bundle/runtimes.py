"""Opens the runtime that a version was packed for. The one place that chooses between compiled and native."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.bundle.layout import Bundle
from modelyard.errors import BundleRefused
from modelyard.home import Home
from modelyard.runtime.interface import Runtime

if TYPE_CHECKING:
    from modelyard.bundle.environment import Progress


def open_runtime(
    bundle: Bundle,
    *,
    home: Home | Path | str | None = None,
    python: Path | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Runtime:
    """The runtime of a checked bundle, ready to answer; close it when done.

    A compiled version runs in this process. A native one runs in its own process and environment: that of the
    interpreter `python`, or the version's own one under `home`, rebuilt if need be.

    Raises:
        EnvironmentFailed: the environment cannot be rebuilt.
        ModelFailed: the model cannot be loaded.
    """
    if bundle.manifest.runtime == "onnx":
        return open_compiled(bundle, threads=threads)
    from modelyard.bundle.environment import cached

    chosen = python or cached(bundle.manifest.environment, home, progress)
    return open_native(bundle, chosen, threads=threads)


def open_compiled(bundle: Bundle, *, threads: int = 1) -> Runtime:
    """The compiled form in this process.

    Raises:
        BundleRefused: the bundle has none.
        ModelFailed: it cannot be opened.
    """
    from modelyard.runtime.onnx import OnnxRuntime

    compiled = bundle.manifest.compiled
    if compiled is None:
        raise BundleRefused(f"{bundle.manifest.name}: runtime 'onnx' is asked for, but the bundle has no compiled form")
    return OnnxRuntime(bundle.path / compiled.path, compiled, bundle.manifest.schema, threads=threads)


def open_native(bundle: Bundle, python: Path, *, threads: int = 1) -> Runtime:
    """The native form in a process of the interpreter `python`.

    Raises:
        BundleRefused: the bundle has none.
        ModelFailed: it cannot be loaded.
    """
    from modelyard.runtime.python import PythonRuntime

    if bundle.manifest.native is None:
        raise BundleRefused(f"{bundle.manifest.name}: the bundle has no native form")
    return PythonRuntime(bundle.path, bundle.manifest, python, threads=threads)

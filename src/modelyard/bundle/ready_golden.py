"""The golden set of a bundle in a form that is read without pyarrow and pandas: a serving process needs neither.

What a bundle holds are Parquet files. Whoever reads them first keeps what was read in the home's cache, as plain
arrays under the bundle's digest; a process that has not loaded pyarrow leaves that to a short-lived one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
from blake3 import blake3

from modelyard.bundle.layout import Bundle, open_bundle
from modelyard.domain.frame import Answers, Array, Frame, Vector
from modelyard.domain.golden import GoldenSet
from modelyard.errors import ModelyardError
from modelyard.home import Home

READ_SECONDS = 120.0
"""What the other process gets; a machine that needs longer reads the golden set in the process itself."""

_DIGEST_BYTES = 32
_NICE = 10
"""How far the other process stands back for those that answer calls."""

_log = logging.getLogger("modelyard.bundle")


def golden(bundle: Bundle, home: Home) -> GoldenSet:
    """The golden set of a bundle that was checked when it was opened, from the cache under `home` if it is there.

    Raises:
        BundleRefused: the files are not those of a golden set of that schema.
    """
    file = _file(bundle, home)
    found = _load(file)
    if found is None and _is_small():
        found = _from_another_process(bundle, home)
    return keep(bundle, home) if found is None else found


def keep(bundle: Bundle, home: Home) -> GoldenSet:
    """Read the golden set from the bundle itself, and put it into the cache under `home`, if that can be written.

    Raises:
        BundleRefused: the files are not those of a golden set of that schema.
    """
    read = bundle.golden()
    with suppress(OSError, TypeError, ValueError):
        _save(read, _file(bundle, home))
    return read


def _is_small() -> bool:
    """Whether reading the bundle's own files would make this process larger for good."""
    return "pyarrow" not in sys.modules


def _file(bundle: Bundle, home: Home) -> Path:
    """Named by digest and by the form of what is in it, which is that of `_Kept`."""
    return home.cache / "golden" / f"{bundle.digest.rpartition(':')[2]}.1"


def _from_another_process(bundle: Bundle, home: Home) -> GoldenSet | None:
    """Have it read by a process that may grow; None if that fails, for whatever reason."""
    file = _file(bundle, home)
    command = [sys.executable, "-P", "-m", __name__, str(bundle.path), bundle.digest, str(home.path)]
    try:
        with _one_at_a_time(file):
            if (found := _load(file)) is not None:
                return found
            # In a group of its own: Ctrl-C is for the server. A session of its own would not stand back for it.
            subprocess.run(
                command,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=READ_SECONDS,
                process_group=0,
            )
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("%s: its golden set is read in this process: %s", bundle.manifest.name, error)
    return _load(file)


@contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with (file.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Plain(msgspec.Struct, array_like=True):
    """An array: its type, its shape, and its bytes or texts."""

    dtype: str
    shape: tuple[int, ...]
    values: bytes | list[str | None]


class _Kept(msgspec.Struct, array_like=True):
    rows: int
    columns: dict[str, tuple[_Plain, _Plain | None]]
    origins: tuple[str, ...]
    refused: tuple[str | None, ...]
    single: dict[str, _Plain]
    batch: dict[str, _Plain]


# Made while this module is imported: two threads that make decoders of one class at the same time can crash.
_DECODER = msgspec.msgpack.Decoder(_Kept)


def _load(file: Path) -> GoldenSet | None:
    """What `file` holds; None unless it is whole."""
    try:
        raw = memoryview(file.read_bytes())
    except OSError:
        return None
    if blake3(raw[_DIGEST_BYTES:]).digest() != raw[:_DIGEST_BYTES]:
        return None
    try:
        kept = _DECODER.decode(raw[_DIGEST_BYTES:])
    except msgspec.MsgspecError:
        return None
    columns = {
        name: Vector(_array(values), None if missing is None else _array(missing))
        for name, (values, missing) in kept.columns.items()
    }
    return GoldenSet(Frame(columns, kept.rows), kept.origins, kept.refused, _arrays(kept.single), _arrays(kept.batch))


def _save(golden: GoldenSet, file: Path) -> None:
    """Write `file` whole or not at all; a write that a crash tears is known by its digest."""
    columns = {
        name: (_plain(vector.values), None if vector.missing is None else _plain(vector.missing))
        for name, vector in golden.inputs.columns.items()
    }
    kept = _Kept(
        golden.inputs.rows, columns, golden.origins, golden.refused, _plains(golden.single), _plains(golden.batch)
    )
    raw = msgspec.msgpack.encode(kept)
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(blake3(raw).digest())
            handle.write(raw)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _plains(answers: Answers) -> dict[str, _Plain]:
    return {name: _plain(values) for name, values in answers.items()}


def _arrays(plains: dict[str, _Plain]) -> Answers:
    return {name: _array(plain) for name, plain in plains.items()}


def _plain(array: Array) -> _Plain:
    if array.dtype.kind != "O":
        return _Plain(array.dtype.str, array.shape, array.tobytes())
    texts = array.ravel().tolist()
    if not all(text is None or type(text) is str for text in texts):
        raise TypeError("only texts can be kept as objects")
    return _Plain("O", array.shape, texts)


def _array(plain: _Plain) -> Array:
    if isinstance(plain.values, bytes):
        return np.frombuffer(plain.values, np.dtype(plain.dtype)).reshape(plain.shape).copy()
    array = np.empty(len(plain.values), dtype=object)
    array[:] = plain.values
    return array.reshape(plain.shape)


def main() -> int:
    """Put a bundle's golden set into the cache of a home: what the other process does."""
    folder, digest, home = sys.argv[1:]
    try:
        keep(open_bundle(Path(folder), expect_digest=digest), Home(Path(home)))
    except ModelyardError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    os.nice(_NICE)
    sys.exit(main())

"""Foreign files: read within limits, as plain data, and never outside of the folder that was named."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blake3 import blake3

from modelyard.errors import BundleRefused

LARGEST_DOCUMENT = 16 * 2**20
"""Bytes of a YAML or JSON file that are read at most."""

LARGEST_FOLDER = 64 * 2**30
MOST_FILES = 100_000
_PASSED_OVER = {"__pycache__", ".DS_Store"}


def yaml_of(file: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; only plain values are made of it.

    Raises:
        BundleRefused: it is not there, a link, too large, no YAML or no mapping.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(text_of(file), Loader=loader)  # noqa: S506  # it is the safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BundleRefused(f"{file} cannot be read as YAML: {_one_line(error)}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise BundleRefused(f"{file} holds a {type(document).__name__}, not names with values")
    return document


def json_of(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        BundleRefused: it is not there, a link, too large or no JSON.
    """
    try:
        return json.loads(text_of(file))
    except (ValueError, RecursionError) as error:
        raise BundleRefused(f"{file} cannot be read as JSON: {_one_line(error)}") from None


def text_of(file: Path) -> str:
    """A text file, whole.

    Raises:
        BundleRefused: it is not there, a link, too large or not UTF-8.
    """
    if file.is_symlink() or not file.is_file():
        raise BundleRefused(f"there is no file {file}")
    if file.stat().st_size > LARGEST_DOCUMENT:
        raise BundleRefused(f"{file} has {file.stat().st_size} bytes; at most {LARGEST_DOCUMENT} are read")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleRefused(f"{file} cannot be read: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def inside(folder: Path, name: Any) -> Path:
    """The file or folder that a foreign document names, which has to lie in `folder`.

    Raises:
        BundleRefused: it is no relative path, or leads out of the folder.
    """
    parts = PurePosixPath(str(name)).parts
    if not isinstance(name, str) or not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise BundleRefused(f"{folder} names {name!r}, which is no file within it")
    return folder.joinpath(*parts)


@dataclass(frozen=True, slots=True)
class Listing:
    """The plain files of a folder, by their paths in it, and a digest of names and contents."""

    files: Mapping[str, Path]
    digest: str


def listing(folder: Path) -> Listing:
    """All files of a foreign folder, but for what Python compiled.

    Raises:
        BundleRefused: a link or special file is among them, or it is too large.
    """
    files, total = dict(sorted(plain_files(folder))), 0
    digest = blake3()
    for name, path in files.items():
        total += path.stat().st_size
        if total > LARGEST_FOLDER or len(files) > MOST_FILES:
            raise BundleRefused(f"{folder} has more than {LARGEST_FOLDER} bytes or {MOST_FILES} files")
        digest.update(f"{name}\0{blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()}\n".encode())
    return Listing(files, digest.hexdigest())


def plain_files(folder: Path, below: str = "") -> Iterator[tuple[str, Path]]:
    """The files of a foreign folder by their paths in it, but for what Python compiled.

    Raises:
        BundleRefused: a link or special file is among them.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in _PASSED_OVER:
                continue
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from plain_files(Path(entry.path), f"{below}{entry.name}/")
            elif stat.S_ISREG(mode):
                yield f"{below}{entry.name}", Path(entry.path)
            else:
                raise BundleRefused(f"{entry.path} is a link or a special file; only plain files are taken in")


def copied(files: Mapping[str, Path], target: Path) -> Path:
    """The files of a listing, copied to `target`."""
    for name, path in files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return target

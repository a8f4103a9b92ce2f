"""What is installed: which distribution a module came from, what it depends on, and a digest of its very files."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

from blake3 import blake3
from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from modelyard.bundle.memo import Memo
from modelyard.errors import EnvironmentFailed

_MODULE_SUFFIXES = (".py", ".so", ".pyd")
_TOP = re.compile(r'^"?([^/,"\n]+)(/?)', re.MULTILINE)
"""In a RECORD: the first part of each path, and whether it is a folder."""

_HEADER = re.compile(r"^(Name|Version):[ \t]*(\S+)[ \t]*\r?$", re.MULTILINE)
_END_OF_HEAD = re.compile(r"\r?\n\r?\n")
_CONTENT = Memo("distribution-content")

MOVES_RESULTS = {"pandas": ("pyarrow", "numexpr", "bottleneck")}
"""Distributions that another uses by itself wherever they are installed, and that its results depend on."""


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """One installed file: its path below site-packages and the digest its wheel gave for it (``sha256=...``)."""

    path: str
    digest: str


class Installed:
    """One installed distribution, read from its metadata only when asked."""

    def __init__(self, source: metadata.Distribution) -> None:
        name, self.version = _named(source)
        self._source = source
        self.name: str = canonicalize_name(name)
        """Empty where the metadata has none."""
        self.folder = Path(str(source.locate_file("")))

    @cached_property
    def files(self) -> tuple[RecordedFile, ...]:
        """Its files, without metadata, caches and what lies outside site-packages; sorted by path."""
        rows = csv.reader((self._source.read_text("RECORD") or "").splitlines())
        kept = [RecordedFile(row[0], row[1] if len(row) > 1 else "") for row in rows if row and _is_content(row[0])]
        return tuple(sorted(kept, key=lambda file: file.path))

    @cached_property
    def modules(self) -> frozenset[str]:
        """Top-level modules and packages that it provides."""
        tops = set(_TOP.findall(self._source.read_text("RECORD") or ""))
        return frozenset(filter(None, (_module_name(f"{first}{slash}") for first, slash in tops)))

    @cached_property
    def is_local(self) -> bool:
        """Whether it was installed from a folder on this machine: such code is on no index."""
        origin = self._origin()
        return "dir_info" in origin

    @cached_property
    def archive_digest(self) -> str:
        """SHA-256 (hex) of the file that it was installed from, where the installer kept it; else empty."""
        hashes = self._origin().get("archive_info", {}).get("hashes", {})
        return str(hashes.get("sha256", ""))

    def requirements(self, extras: Iterable[str] = ()) -> tuple[Requirement, ...]:
        """What it depends on here: markers decided for this Python and platform, and for the extras asked for."""
        wanted = []
        for text in self._source.requires or ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                wanted.append(requirement)
        return tuple(wanted)

    def content(self) -> str:
        """BLAKE3 (hex) over paths and contents of its files; empty when it does not say what its files are."""
        if not self.files:
            return ""
        signature = self._signature()
        known = _CONTENT.get(signature)
        if isinstance(known, str):
            return known
        digest = blake3()
        for file in self.files:
            digest.update(f"{file.path}\0{_hash(self.folder / file.path)}\n".encode())
        _CONTENT.put(signature, digest.hexdigest())
        return digest.hexdigest()

    def edited_files(self) -> tuple[str, ...]:
        """Files that are missing or not as their wheel had them."""
        return tuple(file.path for file in self.files if file.digest and not _is_as_recorded(self.folder, file))

    def _origin(self) -> dict[str, dict[str, dict[str, str]]]:
        text = self._source.read_text("direct_url.json")
        return json.loads(text) if text else {}

    def _signature(self) -> str:
        """Changes whenever a file is replaced or written to. Hard links to the same file share it."""
        parts = [f"{self.name}=={self.version}"]
        for file in self.files:
            try:
                facts = (self.folder / file.path).stat()
            except OSError:
                parts.append(f"{file.path} missing")
            else:
                parts.append(f"{file.path} {facts.st_dev} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns}")
        return "\n".join(parts)


Catalogue: TypeAlias = Mapping[str, Installed]
"""Installed distributions by normalised name."""


def installed(path: Sequence[str] | None = None) -> dict[str, Installed]:
    """All distributions on `path` (None: this process's ``sys.path``); the first of a name counts, as in imports."""
    found: dict[str, Installed] = {}
    for source in metadata.distributions() if path is None else metadata.distributions(path=list(path)):
        one = Installed(source)
        if one.name:
            found.setdefault(one.name, one)
    return found


def providers(modules: Iterable[str], catalogue: Catalogue) -> tuple[set[str], set[str]]:
    """Names of the distributions that provide these top-level modules, and the modules that none provides.

    Where several share a namespace, those count that a loaded module came from.
    """
    owners: dict[str, list[Installed]] = {}
    for one in catalogue.values():
        for module in one.modules:
            owners.setdefault(module, []).append(one)
    names: set[str] = set()
    orphans: set[str] = set()
    for module in modules:
        having = owners.get(module, [])
        if len(having) > 1:
            having = [one for one in having if _is_loaded_from(module, one)] or having
        names.update(one.name for one in having)
        if not having:
            orphans.add(module)
    return names, orphans


def closed_over_dependencies(names: Iterable[str], catalogue: Catalogue) -> tuple[Installed, ...]:
    """These distributions and all that they need here, by name. Dependencies that are not installed are left out.

    Raises:
        EnvironmentFailed: one of `names` itself is not installed.
    """
    queue: list[tuple[str, frozenset[str]]] = [(canonicalize_name(name), frozenset()) for name in names]
    for name, _ in queue:
        if name not in catalogue:
            raise EnvironmentFailed(f"the model needs {name!r}, which is not installed here; install it and pack again")
    done: dict[str, frozenset[str]] = {}
    while queue:
        name, extras = queue.pop()
        if name not in catalogue or (name in done and extras <= done[name]):
            continue
        done[name] = done.get(name, frozenset()) | extras
        needed = catalogue[name].requirements(done[name])
        queue.extend((canonicalize_name(one.name), frozenset(one.extras)) for one in needed)
        queue.extend((other, frozenset()) for other in MOVES_RESULTS.get(name, ()) if other in sys.modules)
    return tuple(catalogue[name] for name in sorted(done))


def platform_tag() -> str:
    """Operating system and machine as wheels write them.

    >>> platform_tag().count("_") >= 1
    True
    """
    facts = default_environment()
    return f"{facts['sys_platform']}_{facts['platform_machine']}".lower()


def _named(source: metadata.Distribution) -> tuple[str, str]:
    """Name and version, from the head of its metadata: to parse all of it, description included, takes far longer."""
    text = source.read_text("METADATA") or source.read_text("PKG-INFO") or ""
    head = dict(_HEADER.findall(_END_OF_HEAD.split(text, maxsplit=1)[0]))
    if len(head) == 2:
        return head["Name"], head["Version"]
    return source.metadata["Name"] or "", source.version


def _is_content(path: str) -> bool:
    first = path.split("/", 1)[0]
    return not (
        first in {"..", ""}
        or path.startswith("/")
        or first.endswith((".dist-info", ".egg-info", ".data"))
        or "__pycache__" in path
        or path.endswith((".pyc", ".pth"))
    )


def _module_name(path: str) -> str:
    first, slash, _ = path.partition("/")
    if slash:
        return "" if "." in first or first == "__pycache__" else first
    return first.split(".", 1)[0] if first.endswith(_MODULE_SUFFIXES) else ""


def _is_loaded_from(module: str, one: Installed) -> bool:
    own = {file.path for file in one.files}
    prefix = f"{module}."
    for name, loaded in list(sys.modules.items()):
        if name == module or name.startswith(prefix):
            file = Path(getattr(loaded, "__file__", None) or "/")
            if file.is_relative_to(one.folder) and file.relative_to(one.folder).as_posix() in own:
                return True
    return False


def _hash(file: Path) -> str:
    try:
        if file.stat().st_size < 2**20:
            return blake3(file.read_bytes()).hexdigest()
        return blake3(max_threads=blake3.AUTO).update_mmap(file).hexdigest()
    except OSError:
        return "missing"


def _is_as_recorded(folder: Path, file: RecordedFile) -> bool:
    algorithm, _, wanted = file.digest.partition("=")
    try:
        with (folder / file.path).open("rb") as handle:
            digest = hashlib.file_digest(handle, algorithm).digest()
    except (OSError, ValueError):
        return False
    return urlsafe_b64encode(digest).rstrip(b"=").decode() == wanted.rstrip("=")

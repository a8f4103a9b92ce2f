"""The wheels of an environment, as files: found through the indexes of this machine, and checked by digest."""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from modelyard.bundle import uv
from modelyard.bundle.distributions import platform_tag
from modelyard.domain.environment import Distribution, Environment
from modelyard.errors import EnvironmentFailed

_TRUE = ("1", "true", "yes", "on")
_PIECE = 2**20
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Offer:
    """A wheel that an index has."""

    name: str
    address: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """Files that are in a folder now, and why others are not, by ``name==version``."""

    wheels: tuple[str, ...]
    left_out: Mapping[str, str]


def fetch(
    environment: Environment, folder: Path, python: str, progress: Callable[[str], None] = lambda words: None
) -> Fetched:
    """Bring the wheels of an environment into `folder`, each checked against the digests that were written down.

    Args:
        environment: What was installed.
        folder: Where to; files that are there are not fetched again.
        python: The full version of the Python that runs here.
        progress: Is told what is being fetched.

    Raises:
        EnvironmentFailed: the environment is of another platform or Python, so that its wheels cannot be told.
    """
    minor = environment.python.rpartition(".")[0]
    if environment.platform != platform_tag() or python.rpartition(".")[0] != minor:
        raise EnvironmentFailed(
            f"the environment is of Python {environment.python} on {environment.platform}: "
            f"keep its wheels from such a machine; this is Python {python} on {platform_tag()}"
        )
    offers = _offers([_pin(one) for one in environment.distributions])
    found: list[str] = []
    left_out: dict[str, str] = {}
    for one in environment.distributions:
        offer, reason = _chosen(one, offers.get(_pin(one), ()))
        if offer is None:
            left_out[_pin(one)] = reason
            continue
        progress(f"fetching {offer.name}")
        try:
            _bring(offer, folder / offer.name)
        except EnvironmentFailed as error:
            left_out[_pin(one)] = str(error)
            continue
        found.append(offer.name)
    return Fetched(tuple(found), left_out)


def _pin(one: Distribution) -> str:
    return f"{one.name}=={one.version}"


def _chosen(one: Distribution, offers: Sequence[_Offer]) -> tuple[_Offer | None, str]:
    """The wheel that this machine would install, if it is one of those that were written down."""
    if not one.wheels:
        return None, "no digest of a wheel was written down"
    known = [offer for offer in offers if offer.sha256 in one.wheels]
    if not known:
        return None, "no index that can be reached has a wheel of that digest"
    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    fitting = [(rank, offer) for offer in known if (rank := _rank(offer.name, ranks)) is not None]
    if not fitting:
        return None, "its wheels are for other machines"
    return min(fitting, key=lambda pair: pair[0])[1], ""


def _rank(name: str, ranks: Mapping[Any, int]) -> int | None:
    try:
        *_, tags = parse_wheel_filename(name)
    except InvalidWheelFilename:
        return None
    return min((ranks[tag] for tag in tags if tag in ranks), default=None)


def _offers(pins: Sequence[str]) -> dict[str, list[_Offer]]:
    """What the indexes of this machine have of these pins."""
    found: dict[str, list[_Offer]] = {}
    for package in tomllib.loads(uv.resolution(pins)).get("packages", ()):
        wheels = [offer for wheel in package.get("wheels", ()) if (offer := _offer(wheel)) is not None]
        found[f"{package['name']}=={package['version']}"] = wheels
    return found


def _offer(wheel: Mapping[str, Any]) -> _Offer | None:
    address = wheel.get("url") or wheel.get("path")
    sha256 = wheel.get("hashes", {}).get("sha256", "")
    if not address:
        return None
    name = wheel.get("name") or unquote(urlsplit(str(address)).path).rpartition("/")[2]
    return _Offer(name, str(address), sha256 or _digest_of(str(address)))


def _digest_of(address: str) -> str:
    """Of a file in a folder; uv names no digest for those."""
    file = _local(address)
    if file is None or not file.is_file():
        return ""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _local(address: str) -> Path | None:
    parts = urlsplit(address)
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path))
    return None


def _bring(offer: _Offer, target: Path) -> None:
    """Fetch it, unless it is there; what is not of its digest is not kept."""
    if target.exists() and _digest_of(str(target)) == offer.sha256:
        return
    part = target.with_name(f"{target.name}.part")
    seen = hashlib.sha256()
    try:
        with _opened(offer.address) as pieces, part.open("wb") as out:
            for piece in pieces:
                seen.update(piece)
                out.write(piece)
        if seen.hexdigest() != offer.sha256:
            raise EnvironmentFailed("what the index gives is not of the digest that was written down")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _opened(address: str) -> Iterator[Iterator[bytes]]:
    file = _local(address)
    if file is not None:
        with file.open("rb") as handle:
            yield _pieces(handle)
        return
    if os.environ.get("UV_OFFLINE", "").lower() in _TRUE:
        raise EnvironmentFailed("it is not in a folder, and UV_OFFLINE says that no index is to be asked")
    import httpx

    try:
        with httpx.stream("GET", address, follow_redirects=True, timeout=_SECONDS) as answer:
            answer.raise_for_status()
            yield answer.iter_bytes(_PIECE)
    except httpx.HTTPError as error:
        raise EnvironmentFailed(f"it cannot be fetched: {uv.without_addresses(str(error))}") from None


def _pieces(handle: IO[bytes]) -> Iterator[bytes]:
    while piece := handle.read(_PIECE):
        yield piece


def copy_in(files: Sequence[Path], folder: Path) -> None:
    """Put wheels into a folder that several processes use; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / file.name
        if target.exists() and target.stat().st_size == file.stat().st_size:
            continue
        part = folder / f".{file.name}.part"
        shutil.copyfile(file, part)
        part.replace(target)

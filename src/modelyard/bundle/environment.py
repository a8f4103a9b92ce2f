"""The environment of a version: written down while packing, rebuilt with uv, and compared with what was written.

What is kept are names, versions, wheel digests and a digest of the installed files. Where an index or a wheel is to be
had is the business of the machine that rebuilds.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from blake3 import blake3
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from modelyard.bundle import uv
from modelyard.bundle.distributions import (
    Installed,
    closed_over_dependencies,
    installed,
    platform_tag,
    providers,
)
from modelyard.domain.environment import Distribution, Environment
from modelyard.errors import EnvironmentFailed, InvalidRequest
from modelyard.home import Home

Progress: TypeAlias = Callable[[str], None]
"""Is told in a few words what is being done."""

_COMPLETE = ".complete"
_COMPILED = "__pycache__"
_PINNED = re.compile(r"==([A-Za-z0-9.+!_-]+)$")


def lock(imports: Iterable[str], extra: Iterable[str] = ()) -> Environment:
    """Write down what a model needs of this process's environment.

    Args:
        imports: Top-level modules that the model and its code need, as loaded here. The standard library and modules
            of distributions installed from a local folder (whose code travels with the bundle) are passed over.
        extra: Names of distributions needed besides.

    Returns:
        The distributions that provide them and everything these depend on here, with the facts that numbers depend on.

    Raises:
        EnvironmentFailed: a module is loaded from installed packages but belongs to no distribution, or an extra is
            not installed, so that the environment could not be rebuilt.
    """
    catalogue = installed()
    wanted = {name for name in imports if name not in sys.stdlib_module_names}
    names, orphans = providers(wanted, catalogue)
    for module in sorted(orphans):
        _refuse_unowned(module)
    found = [one for one in closed_over_dependencies({*names, *extra}, catalogue) if not one.is_local]
    hashes = uv.wheel_hashes(_pin(one) for one in found if not one.archive_digest)
    pools = _thread_pools(found)
    return Environment(
        python=platform.python_version(),
        platform=platform_tag(),
        distributions=tuple(Distribution(one.name, one.version, _wheels(one, hashes), one.content()) for one in found),
        threads={pool["internal_api"]: pool["num_threads"] for pool in pools},
        blas=next((_blas(pool) for pool in pools if pool["user_api"] == "blas"), ""),
    )


@dataclass(frozen=True, slots=True)
class OtherProcess:
    """What another process said of itself: its Python, where it looks for modules, which it loaded, thread pools."""

    python: str
    path: tuple[str, ...]
    modules: tuple[str, ...]
    threads: dict[str, int]
    blas: str


def lock_of(other: OtherProcess) -> Environment:
    """Write down the environment of a process by the modules that it had loaded, asking nothing of the network.

    Digests of wheels are given as far as they are known here. Modules that belong to no distribution are passed over.
    """
    catalogue = installed(other.path)
    names, _ = providers({name for name in other.modules if name not in sys.stdlib_module_names}, catalogue)
    found = [one for one in closed_over_dependencies(names, catalogue) if not one.is_local]
    is_ours = other.python == platform.python_version()
    hashes = uv.wheel_hashes((_pin(one) for one in found if not one.archive_digest), online=False) if is_ours else {}
    return Environment(
        python=other.python,
        platform=platform_tag(),
        distributions=tuple(Distribution(one.name, one.version, _wheels(one, hashes), one.content()) for one in found),
        threads=other.threads,
        blas=other.blas,
    )


def _pin(one: Installed) -> str:
    return f"{one.name}=={one.version}"


def _wheels(one: Installed, hashes: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return (one.archive_digest,) if one.archive_digest else hashes.get(_pin(one), ())


def _refuse_unowned(module: str) -> None:
    """Modules beside the user's program travel as code; one amid installed packages that nobody owns cannot."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file and {"site-packages", "dist-packages"} & set(Path(file).parts):
        raise EnvironmentFailed(
            f"the model needs module {module!r}, which lies among the installed packages but belongs to none of them, "
            "so it cannot be installed elsewhere; install it as a package or keep it beside your program"
        )


def _thread_pools(found: Sequence[Installed]) -> list[dict[str, Any]]:
    """Thread pools of libraries that came with these distributions, numpy's first where there are several."""
    import threadpoolctl

    homes = [one.folder / top for one in found for top in {file.path.split("/", 1)[0] for file in one.files}]
    pools: list[dict[str, Any]] = [
        pool for pool in threadpoolctl.threadpool_info() if any(Path(pool["filepath"]).is_relative_to(h) for h in homes)
    ]
    return sorted(pools, key=lambda pool: "numpy" not in pool["filepath"])


def _blas(pool: dict[str, Any]) -> str:
    return " ".join(str(pool[part]) for part in ("internal_api", "version", "architecture") if pool.get(part))


def requirements(environment: Environment) -> str:
    """The distributions as pinned requirements with their hashes, for pip or uv. It names no index.

    >>> print(requirements(Environment("3.11.9", "linux_x86_64", (Distribution("six", "1.17.0", ("ab12",)),))), end="")
    # Python 3.11.9 on linux_x86_64
    six==1.17.0 --hash=sha256:ab12
    """
    lines = [f"# Python {environment.python} on {environment.platform}"]
    lines += [_requirement(one) for one in environment.distributions]
    return "\n".join(lines) + "\n"


def _requirement(one: Distribution, *, hashed: bool = True) -> str:
    hashes = "".join(f" --hash=sha256:{digest}" for digest in one.wheels) if hashed else ""
    return f"{one.name}=={one.version}{hashes}"


def overridden(environment: Environment, overrides: Sequence[str]) -> Environment:
    """The environment with some versions exchanged, for a what-if run. Their digests are unknown.

    Raises:
        InvalidRequest: an override is not ``name==version``, or names a distribution that the environment has not.

    >>> six = Environment("3.11.9", "linux_x86_64", (Distribution("six", "1.17.0", ("ab12",)),))
    >>> overridden(six, ["six==1.16.0"]).distributions
    (Distribution(name='six', version='1.16.0', wheels=(), content=''),)
    """
    versions = dict(_override(text) for text in overrides)
    known = [one.name for one in environment.distributions]
    for name in versions:
        if name not in known:
            raise InvalidRequest(f"{name!r} is not in this version's environment; there are: {', '.join(known)}")
    return replace(
        environment,
        distributions=tuple(
            Distribution(one.name, versions[one.name]) if versions.get(one.name, one.version) != one.version else one
            for one in environment.distributions
        ),
    )


def _override(text: str) -> tuple[str, str]:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        requirement = None
    pinned = _PINNED.match(str(requirement.specifier)) if requirement is not None else None
    if requirement is None or pinned is None:
        raise InvalidRequest(f"{text!r} does not say which version to take; write NAME==VERSION")
    return canonicalize_name(requirement.name), pinned.group(1)


def key(environment: Environment) -> str:
    """What names an environment that can be shared: Python, platform and distributions."""
    parts = (environment.python, environment.platform, environment.distributions)
    return blake3(msgspec.json.encode(parts)).hexdigest()[:32]


def rebuild(
    environment: Environment,
    directory: Path,
    *,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    wheels: Path | None = None,
) -> Path:
    """Install exactly these distributions into a virtual environment at `directory`, and return its interpreter.

    Wheels come from uv's cache or from the folder `wheels` if they are there (then nothing is asked of the network),
    else from the index that this machine is set up with. An environment that is there and whole is used as it is; a
    half-built one, as a killed process leaves it, is built again. Several processes may ask at once: one builds, the
    others wait.

    Raises:
        EnvironmentFailed: no such Python here, or a distribution cannot be had; the message names it.
        InvalidRequest: see `overridden`.
    """
    wanted = overridden(environment, overrides)
    python = directory / "bin" / "python"
    with _held(directory):
        if _is_complete(directory, wanted) and python.exists():
            with suppress(OSError):
                os.utime(directory / _COMPLETE)  # says when it was last wanted
            return python
        say = progress or (lambda words: None)
        say("making an empty environment")
        shutil.rmtree(directory, ignore_errors=True)
        _make(directory, wanted)
        say(f"installing {len(wanted.distributions)} distributions")
        _install(wanted, python, wheels)
        (directory / _COMPLETE).write_text(key(wanted))
    return python


def cached(environment: Environment, home: Home | Path | str | None = None, progress: Progress | None = None) -> Path:
    """The interpreter of this environment under `home`, rebuilt if it is not there yet.

    Raises:
        EnvironmentFailed: see `rebuild`.
    """
    place = Home.locate(home)
    return rebuild(environment, place_of(environment, place), progress=progress, wheels=place.wheels)


def place_of(environment: Environment, home: Home | Path | str | None = None) -> Path:
    """Where `cached` keeps this environment under `home`, whether it is there or not."""
    return Home.locate(home).create().environments / key(environment)


def is_built(environment: Environment, home: Home | Path | str | None = None) -> bool:
    """Whether `cached` would find this environment under `home` as it is, and need not build it."""
    return _is_complete(place_of(environment, home), environment)


def share_bytecode(known: Path, fresh: Path) -> None:
    """Give a `fresh` environment what Python compiled in a `known` one of the same files, sparing seconds of imports.

    Only for environments between which `differences` finds none: the files are then the same, and so is their bytecode.
    Python itself compiles again what does not fit its source.
    """
    if not (known / _COMPLETE).exists():
        return
    for folder in known.glob("lib/python*/site-packages/**/__pycache__"):
        target = fresh / folder.relative_to(known)
        if target.parent.is_dir():
            target.mkdir(exist_ok=True)
            for compiled in folder.glob("*.pyc"):
                with suppress(OSError):
                    os.link(compiled, target / compiled.name)


def lend_bytecode(fresh: Path) -> None:
    """Give a `fresh` environment what Python compiled in this process's own, of files that are the same there.

    Python takes it where size and time of the source are those that it was compiled from, which they are for files that
    come from one cache; elsewhere it compiles by itself.
    """
    own = [Path(place) for place in sys.path if place.endswith("site-packages")]
    for site in fresh.glob("lib/python*/site-packages"):
        for folder, folders, names in os.walk(site):
            folders[:] = [name for name in folders if name != _COMPILED]
            there = next((place for place in own if (place / Path(folder).relative_to(site)).is_dir()), None)
            if there is not None:
                _lend_compiled(there / Path(folder).relative_to(site), Path(folder), names)


def _lend_compiled(source: Path, target: Path, names: Sequence[str]) -> None:
    """The compiled files of one folder."""
    for name in names:
        if not name.endswith(".py") or not _is_same_file(source / name, target / name):
            continue
        compiled = f"{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
        with suppress(OSError):
            (target / _COMPILED).mkdir(exist_ok=True)
            os.link(source / _COMPILED / compiled, target / _COMPILED / compiled)


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        a, b = one.stat(), other.stat()
    except OSError:
        return False
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def discard(directory: Path) -> None:
    """Remove an environment and its lock."""
    shutil.rmtree(directory, ignore_errors=True)
    _lock_of(directory).unlink(missing_ok=True)


def last_wanted(directory: Path) -> float:
    """When somebody last asked for the environment at `directory`, in seconds since 1970."""
    try:
        return (directory / _COMPLETE).stat().st_mtime
    except OSError:
        return directory.stat().st_mtime


def collect(directory: Path) -> bool:
    """Remove an environment that can be built again; False where somebody is building it just now."""
    with _lock_of(directory).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        (directory / _COMPLETE).unlink(missing_ok=True)  # half removed it is not taken for whole
        shutil.rmtree(directory, ignore_errors=True)
    return True


def _is_complete(directory: Path, wanted: Environment) -> bool:
    try:
        return (directory / _COMPLETE).read_text() == key(wanted)
    except OSError:
        return False


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Only one process at a time builds at `directory`; the lock goes with the process."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _lock_of(directory).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _lock_of(directory: Path) -> Path:
    return directory.parent / f"{directory.name}.lock"


def _make(directory: Path, wanted: Environment) -> None:
    """Prefer this process's own Python, then the exact version, then the same minor version."""
    minor = ".".join(wanted.python.split(".")[:2])
    own = [sys.executable] if platform.python_version() == wanted.python else []
    for python in (*own, wanted.python, minor):
        try:
            uv.make_environment(directory, python)
        except EnvironmentFailed:
            continue
        return
    raise EnvironmentFailed(
        f"the version was trained on Python {wanted.python}, and no Python {minor} is on this machine; "
        f"install one, for example with: uv python install {wanted.python}"
    )


@dataclass(frozen=True, slots=True)
class _Way:
    offline: bool
    hashed: bool
    wheels: Path | None = None


def _install(wanted: Environment, python: Path, wheels: Path | None) -> None:
    """From the cache or kept wheels, with hashes; from the cache without, if the files are the same; from the index."""
    if not wanted.distributions:
        return
    all_hashed = all(one.wheels for one in wanted.distributions)
    ways = [_Way(offline=True, hashed=True)] if all_hashed else []
    ways += [_Way(offline=True, hashed=True, wheels=wheels)] if all_hashed and wheels and wheels.is_dir() else []
    ways += [_Way(offline=True, hashed=False), _Way(offline=False, hashed=all_hashed)]
    for way in ways:
        text = "\n".join(_requirement(one, hashed=way.hashed) for one in wanted.distributions)
        try:
            uv.install(python, text, offline=way.offline, hashed=way.hashed, wheels=way.wheels)
        except EnvironmentFailed as error:
            if way is ways[-1]:
                raise EnvironmentFailed(_cannot_be_had(wanted, str(error))) from error
            continue
        if way.hashed or not way.offline or not all_hashed or not differences(wanted, python):
            return


def _cannot_be_had(wanted: Environment, said: str) -> str:
    named = [one for one in wanted.distributions if re.search(rf"\b{re.escape(one.name)}\b", said)]
    what = ", ".join(f"{one.name} {one.version}" for one in named) or "the environment"
    where = "it is neither in uv's cache nor on a reachable index, nor are its wheels kept here"
    return f"{what} cannot be installed here: {where}. uv says: {said}"


@dataclass(frozen=True, slots=True)
class _There:
    """What an interpreter is and has."""

    python: str
    catalogue: dict[str, Installed]


def _look_at(python: Path) -> _There:
    asked = "import json, platform, site, sys; print(json.dumps([platform.python_version(), sys.path]))"
    try:
        done = subprocess.run([python, "-I", "-c", asked], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentFailed(f"{python} does not run: {error}") from error
    version, path = json.loads(done.stdout)
    return _There(version, installed(path))


def differences(environment: Environment, python: Path, *, overrides: Sequence[str] = ()) -> tuple[str, ...]:
    """Where the environment of interpreter `python` is not the one that was written down, one line each.

    Empty means the same: every distribution is there, in its version, with the very files that training had.
    Distributions exchanged by `overrides` are compared with what was asked for, by version. On another platform
    versions are compared but not files. More than was written down does no harm.

    Raises:
        EnvironmentFailed: the interpreter does not run.
    """
    there = _look_at(python)
    minor = environment.python.rpartition(".")[0]
    found = []
    if there.python.rpartition(".")[0] != minor:
        found.append(f"Python is {there.python} here, {environment.python} in training")
    with_files = platform_tag() == environment.platform
    for one in overridden(environment, overrides).distributions:
        found += _difference(one, there.catalogue.get(one.name), with_files=with_files)
    return tuple(found)


def _difference(wanted: Distribution, there: Installed | None, *, with_files: bool) -> Iterator[str]:
    if there is None:
        yield f"{wanted.name} {wanted.version} is not installed here"
    elif there.version != wanted.version:
        yield f"{wanted.name} is {there.version} here, {wanted.version} in training"
    elif with_files and wanted.content and there.content() != wanted.content:
        edited = there.edited_files()
        blame = f"changed since it was installed: {', '.join(edited[:3])}" if edited else "another build of it"
        yield f"{wanted.name} {wanted.version}: the installed files are not those of training ({blame})"


def remarks(environment: Environment, python: Path, *, overrides: Sequence[str] = ()) -> tuple[str, ...]:
    """What differs from training without deciding anything: patch release of Python, platform, exchanged packages."""
    there = _look_at(python)
    found = []
    if there.python != environment.python:
        found.append(f"Python is {there.python} here, {environment.python} in training")
    if platform_tag() != environment.platform:
        found.append(f"the platform is {platform_tag()} here, {environment.platform} in training: files not compared")
    before = {one.name: one.version for one in environment.distributions}
    found += [
        f"{one.name} is {one.version} here as asked, {before[one.name]} in training"
        for one in overridden(environment, overrides).distributions
        if one.version != before[one.name]
    ]
    return tuple(found)

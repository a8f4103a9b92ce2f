"""What the repeated program finds around it: interpreter, environment variables, and Modelyard itself."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.utils import canonicalize_name

from modelyard.bundle.distributions import Installed, closed_over_dependencies, installed
from modelyard.domain.environment import Distribution, Environment
from modelyard.errors import InvalidRequest
from modelyard.runs.machine import SETTINGS
from modelyard.runs.repository import OUTSIDE

_OWN = "modelyard"
_PYTHON = re.compile(r"python(\d+(\.\d+)*)?t?")
_DROPPED = ("PYTHON", "MODELYARD_", "CONDA_", "VIRTUAL_ENV", "UV_", "PIP_", "GIT_DIR", "GIT_WORK_TREE")
_STARRED = "***"


def tools(environment: Environment) -> tuple[Installed, ...]:
    """What Modelyard needs of this process's environment and the recorded one does not have."""
    catalogue = installed()
    have = {one.name for one in environment.distributions} | {_OWN}
    needed = closed_over_dependencies([_OWN], catalogue)
    return tuple(one for one in needed if one.name not in have and not one.is_local)


def with_tools(environment: Environment) -> Environment:
    """The environment with all that Modelyard needs, for another Python than this, which cannot lend what it has."""
    more = tuple(Distribution(one.name, one.version) for one in tools(environment))
    every = sorted((*environment.distributions, *more), key=lambda one: one.name)
    return Environment(environment.python, environment.platform, tuple(every), environment.threads, environment.blas)


def can_lend(environment: Environment) -> bool:
    """Whether what is compiled for this Python works in that environment."""
    return environment.python.split(".")[:2] == list(map(str, sys.version_info[:2]))


def lend(environment: Environment, python: Path, folder: Path) -> Path:
    """A folder for the module path with links to Modelyard and what it needs besides; never to what is there."""
    folder.mkdir(parents=True)
    import modelyard

    (folder / _OWN).symlink_to(Path(modelyard.__file__).parent)
    _write_entry_points(folder / f"{_OWN}-{modelyard.__version__}.dist-info")
    if can_lend(environment):
        site = next(iter(python.parent.parent.glob("lib/python*/site-packages")), python.parent)
        for one in tools(environment):
            for source in _tops(one):
                if not (folder / source.name).exists() and not (site / source.name).exists():
                    (folder / source.name).symlink_to(source)
    return folder


def _tops(one: Installed) -> Iterator[Path]:
    """Its modules and packages as they lie beside each other, and its metadata."""
    for name in sorted({PurePosixPath(file.path).parts[0] for file in one.files}):
        yield one.folder / name
    for info in one.folder.glob("*.dist-info"):
        if canonicalize_name(info.name.removesuffix(".dist-info").rpartition("-")[0]) == one.name:
            yield info


def _write_entry_points(folder: Path) -> None:
    """So that the adapters of frameworks are found, wherever Modelyard itself was installed."""
    own = metadata.distribution(_OWN)
    folder.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (folder / name).write_text(own.read_text(name) or "")


def environ(python: Path, settings: Mapping[str, str], paths: Sequence[Path], work: Path) -> dict[str, str]:
    """All environment variables of the program.

    Those that results depend on are as `settings` say, set or not; those that lead Python and Modelyard elsewhere are
    taken out; the rest is as it is here, since it is not recorded.
    """
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS and not name.startswith(_DROPPED)}
    return {
        **kept,
        **settings,
        "PATH": os.pathsep.join([str(python.parent), kept.get("PATH", os.defpath)]),
        "VIRTUAL_ENV": str(python.parent.parent),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONNOUSERSITE": "1",
        "GIT_CEILING_DIRECTORIES": str(work),
    }


def module_paths(root: Path, sources: Sequence[str], lent: Path) -> list[Path]:
    """Where modules were imported from, below `root`; what had been outside; Modelyard last."""
    own = [root / source for source in sources]
    outside = [root / OUTSIDE] if (root / OUTSIDE).is_dir() else []
    return [*own, *outside, lent]


def command(words: Sequence[str], python: Path, place: str, root: Path) -> list[str]:
    """The command with the rebuilt interpreter and the restored folder in place of those that it names.

    Raises:
        InvalidRequest: it cannot be run again as it is recorded; the message says why.

    >>> command(["/old/.venv/bin/python3", "/old/fit.py"], Path("/env/bin/python"), "/old", Path("/new"))
    ['/env/bin/python', '/new/fit.py']
    """
    if not words:
        raise InvalidRequest("the run has no command")
    if any(_STARRED in word for word in words):
        raise InvalidRequest(
            f"the recorded command has words that were starred out as secrets: {' '.join(words)}; let the program read "
            "them from environment variables, which are passed on as they are here"
        )
    if any("ipykernel" in word for word in words):
        raise InvalidRequest("the run was recorded in a notebook, which no command runs again")
    first = PurePosixPath(words[0])
    if _PYTHON.fullmatch(first.name):
        program = str(python)
    elif (python.parent / first.name).exists():
        program = str(python.parent / first.name)
    else:
        program = _moved(words[0], place, root)
    return [program, *(_moved(word, place, root) for word in words[1:])]


def _moved(word: str, place: str, root: Path) -> str:
    """A path below the old folder as one below the new."""
    inside = place not in ("", "/") and (word == place or word.startswith(f"{place}/"))
    return f"{root}{word.removeprefix(place)}" if inside else word

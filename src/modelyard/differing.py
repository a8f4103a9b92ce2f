"""The front door of differences between versions, ``my.diff``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from modelyard.comparing.answers import Answering, AnswersDiff, Speed, on_table, side_by_side
from modelyard.comparing.differing import VersionDiff, compare
from modelyard.comparing.gathering import Chosen, chosen, sides
from modelyard.home import Home
from modelyard.registry import Registry

if TYPE_CHECKING:
    from modelyard.runtime.interface import Runtime

__all__ = ["Difference", "diff"]


class Difference(msgspec.Struct, frozen=True):
    """What differs between two versions; `answers` only where a table was given."""

    versions: VersionDiff
    speed: Speed
    answers: AnswersDiff | None = None


def diff(
    before: str,
    after: str,
    *,
    on: str | Path | None = None,
    speed: bool | None = None,
    repository: str | Path | None = None,
    home: str | Path | Home | None = None,
    tell: Callable[[int, float], None] = lambda rows, share: None,
) -> Difference:
    """What differs between two versions: data, code, environment, parameters, metrics, schema, size and speed, answers.

    Args:
        before: The version to start from, such as ``flights-delay@2``.
        after: The other one; it may be of another model.
        on: A CSV or Parquet file: on how many of its rows the answers differ.
        speed: Measure what a row takes in this process. By default that is done unless an environment would have to be
            built for it.
        repository: Where the code's git repository is, by default around the working folder. Without it, the code that
            versions and runs keep is compared.
        home: Where the registry is; see `Home.locate`.
        tell: Called with rows done and the share of the file, while answers are compared.

    Raises:
        ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        BundleRefused: its files are not those that were registered.
        InvalidInput: the table has not what a version takes.
        EnvironmentFailed: an environment that is needed cannot be rebuilt here.
    """
    with Registry.open(home) as registry:
        pair = (chosen(registry, before), chosen(registry, after))
        found = compare(*sides(registry, *pair, Path(repository or Path.cwd())))
        why_not = "" if speed else "it was not asked for" if speed is False else _why_not(pair, registry.home)
        if why_not and on is None:
            return Difference(found, Speed(why_not=why_not))
        with _opened(pair, registry.home) as runtimes:
            measured = Speed(why_not=why_not) if why_not else _speed(pair, runtimes)
            answers = None
            if on is not None:
                asked = [_answering(one, runtime) for one, runtime in zip(pair, runtimes, strict=True)]
                answers = on_table(asked[0], asked[1], Path(on), tell)
        return Difference(found, measured, answers)


def _answering(one: Chosen, runtime: Runtime) -> Answering:
    manifest = one.bundle.manifest
    return Answering(manifest.schema, manifest.tolerance, runtime.predict)


def _why_not(pair: tuple[Chosen, Chosen], home: Home) -> str:
    """A native version is only opened unasked where its environment is there already."""
    from modelyard.bundle.environment import is_built

    for one in pair:
        manifest = one.bundle.manifest
        if manifest.runtime == "python" and not is_built(manifest.environment, home):
            return f"the environment of {one.version.ref} would have to be built first; --speed does that"
    return ""


@contextmanager
def _opened(pair: tuple[Chosen, Chosen], home: Home) -> Iterator[tuple[Runtime, Runtime]]:
    from modelyard.bundle.runtimes import open_runtime

    with ExitStack() as stack:
        runtimes = []
        for one in pair:
            runtime = open_runtime(one.bundle, home=home)
            stack.callback(runtime.close)
            runtimes.append(runtime)
        yield runtimes[0], runtimes[1]


def _speed(pair: tuple[Chosen, Chosen], runtimes: tuple[Runtime, Runtime]) -> Speed:
    """Each with a row of its own golden set."""
    calls = []
    for one, runtime in zip(pair, runtimes, strict=True):
        known = one.bundle.golden()
        answered = known.answered()
        if not answered:
            return Speed(why_not=f"the golden set of {one.version.ref} has no row with an answer")
        calls.append(partial(runtime.predict, known.inputs.row(answered[0])))
    return side_by_side(calls[0], calls[1])

"""The front door of reproduction: ``my.reproduce("flights-delay@3")``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.home import Home

if TYPE_CHECKING:
    from modelyard.domain.reproduction import Reproduction


def reproduce(
    ref: str,
    *,
    explain: bool = False,
    threads: int | None = None,
    packages: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    against: str | None = None,
    limit: float | None = None,
    work: str | Path | None = None,
    trust_code: bool = False,
    home: str | Path | Home | None = None,
    progress: Callable[[str], None] | None = None,
) -> Reproduction:
    """Train a version again from its record, and compare learned state, answers and metrics.

    The environment of the run is rebuilt, its code and data are checked out into a fresh folder, and its command runs
    there, in a home of its own. Nothing is registered but the verdict, which is kept with the version.

    Args:
        ref: ``name@3``, ``name@champion`` or ``name``; or the id of a run that packed a version.
        explain: Where the result is not bit-equal, find what moved it by exchanging one ingredient at a time.
        threads: What if all thread pools had this size?
        packages: What if these packages were of other versions (``name==version``)?
        settings: What if these environment variables were so?
        against: Another version to compare the result with.
        limit: Seconds that one run may take.
        work: A new folder in which code, data and results are kept; by default nothing stays.
        trust_code: Let the program of a run that came from another home run here.
        home: Where the registry is; see `Home.locate`.
        progress: Is told in a few words what is being done.

    Returns:
        The verdict with what it is known from.

    Raises:
        NotFound: there is no such version or run.
        Failed: it was not packed within a recorded run, or its code or environment cannot be had.
        InvalidRequest: a package is not in the environment, or the recorded command cannot be run again.
        DataDamaged: data that it read is not what was stored.
        PolicyDenied: the run came from another home, and its program is not trusted.
    """
    from modelyard.reproduction.recipe import WhatIf
    from modelyard.reproduction.reproduce import Asked
    from modelyard.reproduction.reproduce import reproduce as carry_out

    what_if = WhatIf(threads, tuple(packages), tuple((settings or {}).items()))
    asked = Asked(what_if, against, explain, limit, None if work is None else Path(work), trust_code)
    return carry_out(ref, asked, home=home, say=progress)

"""Interpreters of the peers: those that are named, the others installed by this command, each in an environment."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from benchmarks.environments import NotInstalled, environment

LISTS = Path(__file__).parent / "peers"
PEERS = ("evidently", "nannyml", "alibi", "whylogs", "river")
NONE = "none"


def chosen(said: Sequence[str]) -> dict[str, Path | None]:
    """The peers that are asked for, with the interpreter where one is given; all, where none is said.

    >>> list(chosen([])) == list(PEERS)
    True
    >>> chosen(["river", "none"])
    {'river': None}

    Raises:
        ValueError: one of them is not known.
    """
    if not said:
        return dict.fromkeys(PEERS)
    found: dict[str, Path | None] = {}
    for each in said:
        name, _, path = each.partition("=")
        if name == NONE:
            continue
        if name not in PEERS:
            raise ValueError(f"no peer {name!r}; there are: {', '.join((*PEERS, NONE))}")
        found[name] = Path(path).absolute() if path else None
    return found


def interpreters(asked: Mapping[str, Path | None], needed: Collection[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """The interpreters of those that are asked for and needed, and why there are none of some."""
    found: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name in (name for name in asked if name in needed):
        path = asked[name]
        if path is not None:
            found[name] = path
            continue
        print(f"{name}: its environment is made, if it is not there", file=sys.stderr, flush=True)
        try:
            found[name] = environment(LISTS / f"{name}.txt", f"monitoring-{name}") / "bin" / "python"
        except NotInstalled as problem:
            missing[name] = str(problem)
            print(f"{name}: {problem}", file=sys.stderr, flush=True)
    return found, missing

"""What a death says of a process: whether it failed, or was ended by somebody else.

A process that fails again and again by its own doing is started again after growing pauses. One that was of use and
then was killed by somebody else has not failed: it is started again at once, however often that happens.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

_TOLD = frozenset(
    {0, *(-number for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT))}
)
"""Exit codes of processes that somebody else ended: nobody stops by itself without being told."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended.

    `code` is its exit code (negative: the signal), `served` for how many seconds it was of use (None: it never was),
    `forced` whether its keeper ended it for what it did, and `starved` whether the system killed it for its memory.
    """

    code: int
    served: float | None = None
    forced: bool = False
    starved: bool = False

    @property
    def own_doing(self) -> bool:
        """Whether the process failed, as far as can be told.

        >>> Death(-9, served=0.1).own_doing, Death(-9).own_doing, Death(-11, served=0.1).own_doing
        (False, True, True)
        """
        return self.served is None or self.forced or self.starved or self.code not in _TOLD


def failures(before: int, death: Death, steady: float) -> int:
    """How many times in a row a process has failed, after one more death; `before` is the number up to now.

    Who served for more than `steady` seconds was well: what happens then is the first time again.

    >>> [failures(4, Death(1, served), steady=2.0) for served in (None, 0.5, 60.0)]
    [5, 5, 1]
    >>> failures(4, Death(-9, served=0.5), steady=2.0)
    0
    """
    if not death.own_doing:
        return 0
    return 1 if death.served is not None and death.served > steady else before + 1


def ended_how(death: Death) -> str:
    """How it ended, to be read after its name.

    >>> ended_how(Death(1)), ended_how(Death(-9)), ended_how(Death(-9, starved=True))
    ('ended with status 1', 'was killed by SIGKILL', 'was killed by SIGKILL, as memory ran out')
    """
    if death.code >= 0:
        return f"ended with status {death.code}"
    try:
        name = signal.Signals(-death.code).name
    except ValueError:
        name = f"signal {-death.code}"
    return f"was killed by {name}" + (", as memory ran out" if death.starved else "")

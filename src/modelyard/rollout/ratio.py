"""Whether the splitter does what it is told: the candidate's part of all calls, watched at all times.

It is bet against that the part lies within a quarter of the share on either side (of the smaller side's share), as
some callers ask more than others, or for one of the two by name. Who stays beyond that has a splitter, or a worker,
that does something else than was decided, and then nothing that is measured can be trusted.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from modelyard.rollout import betting
from modelyard.rollout.batches import Divided
from modelyard.rollout.betting import Floats

WITHIN = 0.25
"""So far, as a part of the smaller side's share, the candidate's part of the calls may be from its share."""

LEVEL = 0.001
"""With at most this probability a splitter that is within that is ever called uneven, at one share."""


class Evidence(msgspec.Struct, frozen=True):
    """What calls at one share say: wealth of those who bet on more, and on less, as it is stored."""

    share: float
    more: bytes
    less: bytes
    seen: Divided = Divided()


def take(evidence: Evidence | None, counts: Divided, share: float) -> Evidence:
    """Add calls of both versions. Another share is another bet."""
    if evidence is None or evidence.share != share:
        begun = betting.start().tobytes()
        evidence = Evidence(share, begun, begun)
    low, high = between(share)
    return Evidence(
        share,
        _bet(evidence.more, counts, high, 1.0).tobytes(),
        _bet(evidence.less, counts, low, -1.0).tobytes(),
        evidence.seen + counts,
    )


def uneven(evidence: Evidence) -> str:
    """What is wrong with the splitter; empty where nothing is.

    >>> uneven(take(None, Divided(900, 0, 100, 0), 0.1)), uneven(take(None, Divided(1000, 0, 0, 0), 0.1))
    ('', 'the candidate has 0 % of 1,000 calls instead of 10 %: calls are not divided as they should be')
    """
    needed = math.log(2.0 / LEVEL)
    if max(float(betting.wealth(_floats(each))) for each in (evidence.more, evidence.less)) < needed:
        return ""
    part = evidence.seen.candidate / evidence.seen.calls
    return (
        f"the candidate has {part * 100:.3g} % of {evidence.seen.calls:,.0f} calls instead of "
        f"{evidence.share * 100:.3g} %: calls are not divided as they should be"
    )


def between(share: float) -> tuple[float, float]:
    """Where the candidate's part of the calls may lie.

    >>> between(0.5)
    (0.375, 0.625)
    """
    off = WITHIN * min(share, 1.0 - share)
    return share - off, share + off


def _bet(kept: bytes, counts: Divided, mean: float, sign: float) -> Floats:
    """On a mean above `mean` with sign 1, below it with -1; a call is 1 if the candidate answered, else 0."""
    least = 0.0 if sign > 0 else -1.0
    gains = [betting.gains(sign * one, sign * mean, least) for one in (1.0, 0.0)]
    found: Floats = _floats(kept) + counts.candidate * gains[0] + counts.baseline * gains[1]
    return found


def _floats(kept: bytes) -> Floats:
    return np.frombuffer(kept)

"""What can be measured of both versions of a rollout, and what each metric needs to be measured."""

from __future__ import annotations

from types import MappingProxyType

import msgspec


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric is about.

    `answers`: what is answered rather than how, so it is the same in the shadow and for callers. `labels`: only
    labelled rows say something of it. `same_rows`: it compares answers to the same rows, so only a shadow does.
    `divided`: only calls that are divided say something of it. `either_way`: less is as much of a change as more.
    """

    about: str
    answers: bool = False
    labels: bool = False
    same_rows: bool = False
    divided: bool = False
    either_way: bool = False


METRICS = MappingProxyType(
    {
        "errors": Kind(about="calls that failed, or that the version could not take"),
        "refusals": Kind(about="calls whose input was refused"),
        "slow": Kind(about="calls that took longer than `objective_ms`"),
        "unusable": Kind(
            about="answers that are missing, infinite or NaN, chances that are none, numbers out of `range`",
            answers=True,
        ),
        "answers": Kind(about="how often each class is answered", answers=True, either_way=True),
        "different": Kind(
            about="rows that are answered otherwise than before, numbers by more than `tolerance`",
            answers=True,
            same_rows=True,
        ),
        "wrong": Kind(about="labelled rows that were answered with another class", answers=True, labels=True),
        "loss": Kind(
            about="how far off answered numbers are, as a part of `bound` and at most all of it",
            answers=True,
            labels=True,
        ),
    }
)
"""Those that come from the records, by name."""

OUTSIDE = Kind(about="what Prometheus or a web hook counts", divided=True)
"""A metric of the user's own, which has a `url`."""

RATIO = "ratio"
"""Under this name the splitter is watched: whether the candidate has as many calls as it is to have."""


def kind_of(metric: str) -> Kind:
    """What kind of metric a name is; names that are not in `METRICS` are of the user's own.

    >>> kind_of("wrong").labels, kind_of("answers=EV").either_way, kind_of("timeouts").divided
    (True, True, True)
    """
    return METRICS.get(metric.partition("=")[0], OUTSIDE)

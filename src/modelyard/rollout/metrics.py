"""What can be measured of both versions of a rollout, and what each metric needs to be measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from modelyard.errors import InvalidRequest


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
        "errors": Kind(about="calls that failed, or whose rows the model itself did not take"),
        "refusals": Kind(about="calls whose input was refused, as by a schema that takes less; not for want of time"),
        "slow": Kind(about="calls that took longer than `objective_ms`"),
        "unusable": Kind(
            about="answers that are missing, infinite or NaN, chances that are none, numbers out of `range`",
            answers=True,
        ),
        "answers": Kind(
            about="how often each class is answered, or how many numbers lie above each of `cuts`",
            answers=True,
            either_way=True,
        ),
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


class Asked(Protocol):
    """What a rule says of how its metric is measured; see `modelyard.rollout.policy.Rule`."""

    @property
    def metric(self) -> str:
        """Its name."""
        ...

    @property
    def bound(self) -> float:
        """Of ``loss``."""
        ...

    @property
    def range(self) -> tuple[float, float] | None:
        """Of ``unusable``."""
        ...

    @property
    def cuts(self) -> tuple[float, ...]:
        """Of ``answers``."""
        ...

    @property
    def url(self) -> str:
        """Of a metric of the user's own."""
        ...

    @property
    def query(self) -> str:
        """For a counter of what is bad."""
        ...

    @property
    def total(self) -> str:
        """For a counter of everything."""
        ...


def check(rule: Asked, shares: Sequence[float]) -> None:
    """See that a metric can be measured in a rollout with these steps.

    Raises:
        InvalidRequest: it cannot, and what to write instead.
    """
    name = rule.metric
    if rule.url:
        _check_own(rule)
    elif name not in METRICS:
        known = "; ".join(f"{one} ({kind.about})" for one, kind in METRICS.items())
        raise InvalidRequest(f"there is no metric {name!r}; give it a url if it is your own, or take one of: {known}")
    if name == "loss" and not rule.bound > 0.0:
        raise InvalidRequest("loss needs a bound: by how much a number may be off until it is as bad as can be")
    if name == "different" and shares[0] > 0.0:
        raise InvalidRequest("different compares answers to the same rows, so the first step has to be a shadow")
    if not (all(map(math.isfinite, rule.cuts)) and all(one < other for one, other in pairwise(rule.cuts))):
        raise InvalidRequest(f"cuts are numbers that grow; got {list(rule.cuts)}")
    if rule.range is not None and not rule.range[0] < rule.range[1]:
        raise InvalidRequest(f"a range from {rule.range[0]:g} to {rule.range[1]:g} holds no number")


def _check_own(rule: Asked) -> None:
    if rule.metric in METRICS or rule.metric == RATIO or "=" in rule.metric:
        raise InvalidRequest(f"{rule.metric!r} with a url needs a name of its own, without =")
    if urlsplit(rule.url).scheme not in ("http", "https") or not urlsplit(rule.url).hostname:
        raise InvalidRequest(f"{rule.metric}: the url has to be an address that begins with http:// or https://")
    if bool(rule.query) != bool(rule.total):
        raise InvalidRequest(f"{rule.metric}: query counts what is bad and total everything; give both or none")

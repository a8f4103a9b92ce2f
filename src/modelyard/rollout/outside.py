"""Metrics of the user's own: counters of a Prometheus server, or what a web hook answers.

A counter is read at both ends of a stretch of time, so what it grew by is exact however often it is read. A source that
does not answer makes its metric `broken`, which pauses a rollout and never condemns; what it counted meanwhile is taken
in as soon as it answers again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from modelyard.domain.names import Ref
from modelyard.errors import ModelyardError
from modelyard.rollout.batches import Batch, Divided
from modelyard.rollout.policy import Policy, Rule
from modelyard.rollout.subject import Subject

if TYPE_CHECKING:
    import httpx

EVERY = timedelta(seconds=10)
"""Sources are asked so often at most: Prometheus itself asks every 15 s or a minute."""

SECONDS = 2.0
"""A source has so long to answer; the looks at all other metrics wait for it."""

_LARGEST = 1_000_000


class _Side(msgspec.Struct, frozen=True):
    calls: float
    bad: float


class _Answer(msgspec.Struct, frozen=True):
    """What a web hook answers."""

    baseline: _Side
    candidate: _Side


class _NotAnswered(ModelyardError):
    """A source said nothing that can be used."""


@dataclass(slots=True)
class _Known:
    """Up to when a source was asked, in which stretch, what its counters were then, and what is wrong with it."""

    stretch: tuple[datetime, float]
    until: datetime
    counters: Mapping[str, float] = field(default_factory=dict)
    asked: datetime | None = None
    broken: str = ""


class Outside:
    """Asks the sources of rollouts, for one thread. Close it at the end."""

    def __init__(self, every: timedelta = EVERY) -> None:
        self._every = every
        self._known: dict[tuple[str, str], _Known] = {}
        self._client: httpx.Client | None = None

    def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def added(self, batch: Batch, subject: Subject, policy: Policy, share: float) -> Batch:
        """A batch with what the sources of the policy have to say, where the calls are divided; and what is broken."""
        rules = [rule for rule in policy.rules if rule.url]
        if not rules or not 0.0 < share < 1.0:
            return batch
        divided, broken = dict(batch.divided), dict(batch.broken)
        for rule in rules:
            # Another stretch begins anew: what was counted in between belongs to no share.
            stretch = (subject.arrived or subject.began, share)
            known = self._known.get((subject.deployment, rule.metric))
            if known is None or known.stretch != stretch:
                known = self._known[subject.deployment, rule.metric] = _Known(stretch, batch.since)
            if known.asked is None or batch.until - known.asked >= self._every:
                known.asked = batch.until
                self._ask(known, rule, subject, batch.until, divided)
            if known.broken:
                broken[rule.metric] = known.broken
        return msgspec.structs.replace(batch, divided=divided, broken=broken)

    def _ask(self, known: _Known, rule: Rule, subject: Subject, until: datetime, divided: dict[str, Divided]) -> None:
        try:
            if rule.query:
                before = known.counters or self._counters(rule, subject, known.until)
                after = self._counters(rule, subject, until)
                divided[rule.metric] = grown(before, after)
                known.counters = after
            else:
                divided[rule.metric] = self._hook(rule, subject, known.until, until)
            known.until, known.broken = until, ""
        except _NotAnswered as error:
            known.broken = f"{_origin(rule.url)} {error}"

    def _counters(self, rule: Rule, subject: Subject, at: datetime) -> dict[str, float]:
        found = {}
        for side, which in (("baseline", subject.baseline), ("candidate", subject.candidate)):
            ref = Ref.parse(which)
            filled = {"{version}": str(ref.version), "{model}": ref.model, "{deployment}": subject.deployment}
            for kind, query in (("bad", rule.query), ("all", rule.total)):
                for name, value in filled.items():
                    query = query.replace(name, value)
                asked = {"query": query, "time": f"{at.timestamp():.3f}"}
                found[f"{side} {kind}"] = counter(self._get(f"{rule.url.rstrip('/')}/api/v1/query", asked))
        return found

    def _hook(self, rule: Rule, subject: Subject, since: datetime, until: datetime) -> Divided:
        asked = {
            "metric": rule.metric,
            "deployment": subject.deployment,
            "baseline": subject.baseline,
            "candidate": subject.candidate,
            "since": since.isoformat(),
            "until": until.isoformat(),
        }
        try:
            said = msgspec.convert(self._asked("POST", rule.url, json=asked), _Answer)
        except msgspec.ValidationError as error:
            raise _NotAnswered(f"does not answer with calls and bad ones of both versions: {error}") from None
        return _checked(said.baseline.calls, said.baseline.bad, said.candidate.calls, said.candidate.bad)

    def _get(self, url: str, asked: Mapping[str, str]) -> Any:
        return self._asked("GET", url, params=asked)

    def _asked(self, verb: str, url: str, **more: Any) -> Any:
        import httpx

        if self._client is None:
            self._client = httpx.Client(timeout=SECONDS, trust_env=False, follow_redirects=False)
        try:
            with self._client.stream(verb, url, **more) as answer:
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > _LARGEST:
                        raise _NotAnswered("answers with more than a megabyte")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _NotAnswered(f"does not answer: {type(error).__name__}") from None
        if answer.status_code != 200:
            raise _NotAnswered(f"answers with status {answer.status_code}{_why(bytes(body))}")
        try:
            return msgspec.json.decode(bytes(body))
        except msgspec.DecodeError:
            raise _NotAnswered("does not answer with JSON") from None


def counter(said: Any) -> float:
    """The value of a counter in Prometheus' answer to a query; 0 where there is no series of it yet.

    >>> counter({"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1700000000, "12"]}]}})
    12.0
    >>> counter({"data": {"resultType": "vector", "result": []}})
    0.0
    """
    try:
        data = said["data"]
        values = [data["result"]] if data["resultType"] == "scalar" else [one["value"] for one in data["result"]]
        numbers = [float(value[1]) for value in values]
    except (KeyError, IndexError, TypeError, ValueError):
        raise _NotAnswered("does not answer as Prometheus does") from None
    if len(numbers) > 1:
        raise _NotAnswered(f"has {len(numbers)} series for one counter; put sum() around the query")
    if any(not math.isfinite(number) or number < 0.0 for number in numbers):
        raise _NotAnswered(f"has {numbers[0]:g} where a counter is expected")
    return sum(numbers, 0.0)


def grown(before: Mapping[str, float], after: Mapping[str, float]) -> Divided:
    """By how much counters grew; one that fell has begun again from 0.

    >>> names = ("baseline all", "baseline bad", "candidate all", "candidate bad")
    >>> grown(dict(zip(names, (90, 5, 80, 7))), dict(zip(names, (190, 6, 30, 2))))
    Divided(baseline=100, baseline_bad=1, candidate=30, candidate_bad=2)
    """
    more = {
        name: after[name] - before[name] if after[name] >= before[name] else after[name]
        for name in ("baseline all", "baseline bad", "candidate all", "candidate bad")
    }
    # Both are read one after the other, and may have been written so: a bad call can be there before it is counted.
    return Divided(
        more["baseline all"],
        min(more["baseline bad"], more["baseline all"]),
        more["candidate all"],
        min(more["candidate bad"], more["candidate all"]),
    )


def _checked(baseline: float, baseline_bad: float, candidate: float, candidate_bad: float) -> Divided:
    if not (0.0 <= baseline_bad <= baseline < math.inf and 0.0 <= candidate_bad <= candidate < math.inf):
        raise _NotAnswered("counts fewer than no bad calls, or more than there are calls")
    return Divided(baseline, baseline_bad, candidate, candidate_bad)


def _origin(url: str) -> str:
    """An address without what may be secret in it.

    >>> _origin("https://ada:secret@there:9090/hook?token=1")
    'https://there:9090'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _why(body: bytes) -> str:
    """What Prometheus says of a query that it does not understand."""
    try:
        said = msgspec.json.decode(body)
        return f": {str(said['error'])[:200]}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""

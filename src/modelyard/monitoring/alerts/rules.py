"""What becomes of alerts: pure functions of what is known and of one more look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from msgspec.structs import replace

from modelyard.monitoring.alerts.alert import Alert, Look, Part, PartKey, Policy, Said, Silence, State, Told, What
from modelyard.monitoring.findings import Finding, Kind

SKEW = timedelta(minutes=5)
"""So far clocks of two machines may be apart; a moment further ahead than that is left from a clock that jumped."""

WITH_DETAILS = 20
"""Of so many parts the details are kept: of those to read first."""

_CAUSES = {
    Kind.QUALITY: "data",
    Kind.DRIFT: "data",
    Kind.PERFORMANCE: "performance",
    Kind.ESTIMATE: "performance",
}
_BY_WATCH = (Kind.TRAFFIC, Kind.STALENESS, Kind.COMPUTING)


@dataclass(frozen=True, slots=True)
class Change:
    """An alert as it is now, and what happened: ``opened``, ``grew``, ``again``, ``resolved``; or only new figures."""

    alert: Alert
    events: tuple[str, ...] = ()


def cause(finding: Finding) -> str:
    """What findings of one window that most likely come from the same have in common.

    What is missing, new or out of range in some columns, and what moved in others, is taken for one change of the data;
    a metric and its estimate for one loss. How much traffic there is and how it is computed are each on their own.

    >>> [cause(Finding(deployment="a", watch=watch, said="")) for watch in ("drift.score", "traffic.absent")]
    ['data', 'traffic.absent']
    """
    return finding.watch if finding.kind in _BY_WATCH else _CAUSES.get(finding.kind, finding.kind.value)


def after(known: Sequence[Alert], look: Look, policy: Policy, now: datetime) -> list[Change]:
    """The alerts that one more look changes or opens.

    `known` are alerts of the deployment: all that go on, and those last found less than `policy.again` before.
    The same look taken twice changes nothing the second time, and so does one that comes late.
    """
    mine = [alert for alert in known if alert.version == look.version]
    bad = {(found.watch, found.subject, found.slice): found for found in look.findings if found.alarm}
    lingering = {
        (found.watch, found.subject, found.slice)
        for found in look.findings
        if not found.alarm and found.effect > found.margin * policy.clear
    }
    claims = _claims(mine, bad, look, policy)
    changes = [
        _carried_on(alert, {key: bad.pop(key) for key in keys}, lingering, look, policy, now) for alert, keys in claims
    ]
    changes = [change for change in changes if change.alert not in known]
    changes += _with_loss(mine, changes, look)
    changes += _opened(bad.values(), look, now)
    changes += _forgotten(known, look, policy, now)
    return changes


def _looked(alert: Alert) -> datetime:
    return max(part.looked for part in alert.parts)


def _claims(
    mine: Sequence[Alert], bad: dict[PartKey, Finding], look: Look, policy: Policy
) -> list[tuple[Alert, list[PartKey]]]:
    """Which alerts a look is about, and what it found that belongs to each: first what each is about already.

    What else has the cause of one that fires joins it. What is known to have been over by then is taken out of `bad`.
    """
    claims: list[tuple[Alert, list[PartKey]]] = []
    free = dict(bad)
    for alert in sorted(mine, key=lambda alert: (not alert.open, -alert.id)):  # one that goes on, then the newest
        own = [part.key for part in alert.parts if part.key in free]
        is_past = not alert.open and look.window <= _looked(alert)  # a look that comes late, or once more
        if is_past:
            for key in own:
                del free[key], bad[key]
        elif alert.open or (own and look.window <= alert.last + policy.again):
            claims.append((alert, own))
            for key in own:
                del free[key]
    for alert, keys in claims:
        if alert.acknowledged is None:
            joins = [key for key, found in free.items() if cause(found) == alert.cause]
            keys += joins
            for key in joins:
                del free[key]
    return claims


def _carried_on(
    alert: Alert,
    found: Mapping[PartKey, Finding],
    lingering: set[PartKey],
    look: Look,
    policy: Policy,
    now: datetime,
) -> Change:
    """A known alert after the look: found again, grown, still beyond its margin, or quiet."""
    events = []
    parts = {part.key: part for part in alert.parts}
    for key in [key for key in found if key not in parts]:
        parts[key] = _part(found[key], look)
        events.append("grew")
    for key, part in list(parts.items()):
        if look.window <= part.looked or (not look.covers(part.watch) and key not in found):
            continue
        if key in found:
            seen = _part(found[key], look)
            delay = max(part.delay, seen.delay, (seen.last - part.last) / 2)
            parts[key] = replace(seen, first=part.first, delay=delay)
        else:
            parts[key] = replace(part, looked=look.window, quiet=0 if key in lingering else part.quiet + 1)
    again = not alert.open
    loss = _loss(look) if found else ""
    alert = replace(alert, parts=_ranked(parts.values()), loss=loss or alert.loss)
    if again:
        state = State.ACKNOWLEDGED if alert.acknowledged else State.FIRING
        alert = replace(alert, state=state, resolved=None, times=alert.times + 1)
        events.append("again")
    if all(_is_over(part, quiet_windows(alert.times, policy), policy) for part in alert.parts):
        said = Said("", f"not found in {min(part.quiet for part in alert.parts)} windows in a row", now)
        alert = replace(alert, state=State.RESOLVED, resolved=said)
        events.append("resolved")
    return Change(alert, tuple(dict.fromkeys(events)))


def _is_over(part: Part, wanted: int, policy: Policy) -> bool:
    """Whether a part has been quiet for so many windows, and long enough in view of how long it took to notice.

    Evidence of a small change takes time to gather, and after an alarm it gathers anew: until it could have, that
    nothing is found does not mean that nothing is there.
    """
    return part.quiet >= wanted and part.looked - part.last >= min(part.delay * policy.doubt, policy.patience)


def quiet_windows(times: int, policy: Policy) -> int:
    """How many quiet windows end an alert that came so many times: one that comes and goes is not told each time.

    >>> [quiet_windows(times, Policy(quiet=3, most_quiet=24)) for times in (1, 2, 3, 4, 5, 90)]
    [3, 6, 12, 24, 24, 24]
    """
    doubled = policy.quiet << min(times - 1, 16)
    return max(policy.quiet, min(doubled, policy.most_quiet))


def _opened(findings: Iterable[Finding], look: Look, now: datetime) -> Iterator[Change]:
    causes: dict[str, list[Finding]] = {}
    for found in findings:
        causes.setdefault(cause(found), []).append(found)
    for name, together in causes.items():
        parts = _ranked(_part(found, look) for found in together)
        # Of many small slices some look bad for long by chance: of performance counts what is to be read first.
        telling = [max(together, key=_rank)] if name == _CAUSES[Kind.PERFORMANCE] else together
        since = min(_began(found, look) for found in telling)
        yield Change(
            Alert(
                deployment=look.deployment,
                version=look.version,
                cause=name,
                parts=parts,
                since=since,
                opened=now,
                loss=_loss(look),
            ),
            ("opened",),
        )


def _forgotten(known: Sequence[Alert], look: Look, policy: Policy, now: datetime) -> Iterator[Change]:
    """Alerts of other versions, or of watches that no longer look: nothing will ever say that they are over."""
    for alert in known:
        if alert.open and alert.version != look.version and _looked(alert) + policy.forgotten < look.window:
            why = f"nothing could be looked at since the window of {_looked(alert):%Y-%m-%d %H:%M} UTC"
            yield Change(replace(alert, state=State.RESOLVED, resolved=Said("", why, now)), ("resolved",))


def _part(found: Finding, look: Look) -> Part:
    return Part(
        watch=found.watch,
        subject=found.subject,
        slice=found.slice,
        said=found.said,
        evidence=found.evidence,
        needed=found.needed,
        effect=found.effect,
        margin=found.margin,
        rank=_rank(found),
        first=look.window,
        last=look.window,
        looked=look.window,
        delay=max(look.window - (found.since or look.window), timedelta(0)),
        details=found.details,
    )


def _began(found: Finding, look: Look) -> datetime:
    """When it began; of several spells that are told as one, the first."""
    spells = found.details.get("spells") or ()
    return min(
        (datetime.fromisoformat(each["since"]) for each in spells if each["since"]),
        default=found.since or found.window or look.window,
    )


def _rank(found: Finding) -> float:
    given = found.details.get("rank")
    if isinstance(given, int | float):
        return float(given)
    return found.effect / found.margin if found.margin > 0 else found.effect


def _ranked(parts: Iterable[Part]) -> tuple[Part, ...]:
    first = sorted(parts, key=lambda part: (-part.rank, part.key))
    return tuple(part if place < WITH_DETAILS else replace(part, details={}) for place, part in enumerate(first))


def _with_loss(mine: Sequence[Alert], changes: Sequence[Change], look: Look) -> Iterator[Change]:
    """What labels or the estimate say now, for the alerts that go on and are not changed by the look otherwise."""
    said, changed = _loss(look), {change.alert.id for change in changes}
    for alert in mine:
        if said and alert.open and alert.id not in changed and said != alert.loss:
            yield Change(replace(alert, loss=said))


def _loss(look: Look) -> str:
    return loss(look.findings)


def loss(findings: Sequence[Finding]) -> str:
    """What labels, or without them the estimate, say that it costs; empty where they say nothing.

    That there is no estimate is told where one could have been hoped for, and not where no label has ever come.
    """
    for kind in (Kind.PERFORMANCE, Kind.ESTIMATE):
        of_kind = [found for found in findings if found.kind is kind and not found.details.get("unlabelled")]
        if of_kind:
            return _about(max(of_kind, key=_rank))
    return ""


def _about(found: Finding) -> str:
    is_named = not found.subject or found.said.startswith(found.subject)
    return found.said if is_named else f"{found.subject}: {found.said}"


def is_silenced(alert: Alert, silences: Iterable[Silence], now: datetime) -> bool:
    """Whether all of an alert is covered by silences that hold now."""
    held = [silence for silence in silences if silence.starts - SKEW <= now < silence.ends]
    return all(any(_covers(silence, alert, part) for silence in held) for part in alert.parts)


def _covers(silence: Silence, alert: Alert, part: Part) -> bool:
    return (
        fnmatchcase(alert.deployment, silence.deployment or "*")
        and silence.version in ("", alert.version)
        and (not silence.watch or part.watch == silence.watch or part.watch.startswith(f"{silence.watch}."))
        and fnmatchcase(part.subject, silence.subject or "*")
    )


def owed(alert: Alert, silences: Sequence[Silence], policy: Policy, now: datetime) -> What | None:
    """What is to be told of an alert now, if anything.

    The end of what was told is always told, so that nothing stays open at a receiver. Of what is acknowledged or
    silenced nothing else is told; what still fires when its silence ends, is. What came and went unseen is told once.
    """
    told = alert.told
    if alert.state is State.RESOLVED:
        if told is None:  # it came and went within what was looked at in one go, as after a standstill
            return None if is_silenced(alert, silences, now) else What.RESOLVED
        return What.RESOLVED if told.what is not What.RESOLVED else None
    if alert.state is State.ACKNOWLEDGED or is_silenced(alert, silences, now):
        return None
    if told is None:
        return What.FIRING
    if told.what is What.RESOLVED:
        return What.AGAIN
    return _news(alert, told, policy, now)


def _news(alert: Alert, told: Told, policy: Policy, now: datetime) -> What | None:
    passed = now - told.at
    if passed < -SKEW:  # told in a future that a clock made up
        passed = max(policy.remind, policy.more)
    if {part.key for part in alert.parts} - set(told.keys) and passed >= policy.more:
        return What.GREW
    return What.REMINDER if policy.remind and passed >= policy.remind else None


def telling(alert: Alert, what: What, now: datetime) -> Alert:
    """The alert once that is told."""
    number = alert.told.number + 1 if alert.told else 1
    return replace(alert, told=Told(what, now, tuple(part.key for part in alert.parts), number))


def acknowledge(alert: Alert, by: str, why: str, now: datetime) -> Alert:
    """The alert once somebody looks after it. Who and why may change; one that is over stays so."""
    return replace(alert, state=State.ACKNOWLEDGED if alert.open else alert.state, acknowledged=Said(by, why, now))


def resolve(alert: Alert, by: str, why: str, now: datetime) -> Alert:
    """The alert once somebody says that it is over. It comes again if a later window shows it."""
    return replace(alert, state=State.RESOLVED, resolved=Said(by, why, now), acknowledged=None)

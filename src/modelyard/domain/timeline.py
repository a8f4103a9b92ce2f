"""What a name pointed at, and when: an alias, or a deployment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from modelyard.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Change:
    """At `at`, `by` made the name point at `to`, a version such as ``flights-delay@3``; None took it away."""

    at: datetime
    to: str | None
    by: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` on, up to but not including `until` (None: to this day), the name pointed at `to`.

    `by` and `why` are those of the change that began it.
    """

    to: str
    since: datetime
    until: datetime | None = None
    by: str = ""
    why: str = ""


def spans(changes: Iterable[Change]) -> tuple[Span, ...]:
    """The stretches of time that changes, oldest first, make; pointing again at the same begins no new one.

    >>> day = lambda number: datetime(2026, 1, number, tzinfo=UTC)
    >>> [(span.to, span.until) for span in spans([Change(day(1), "a@1"), Change(day(2), "a@1"), Change(day(3), None)])]
    [('a@1', datetime.datetime(2026, 1, 3, 0, 0, tzinfo=datetime.timezone.utc))]
    """
    found: list[Span] = []
    begun: Change | None = None
    for change in changes:
        if begun is not None and change.to == begun.to:
            continue
        if begun is not None and begun.to is not None:
            found.append(Span(begun.to, begun.at, change.at, begun.by, begun.why))
        begun = change
    if begun is not None and begun.to is not None:
        found.append(Span(begun.to, begun.at, None, begun.by, begun.why))
    return tuple(found)


def at(known: Sequence[Span], moment: datetime) -> Span | None:
    """The stretch that `moment` lies in, the last where clocks that went backwards made several.

    >>> first = Span("a@1", datetime(2026, 1, 1, tzinfo=UTC))
    >>> at([first], datetime(2025, 12, 31, tzinfo=UTC)) is None, at([first], datetime(2026, 1, 1, tzinfo=UTC)).to
    (True, 'a@1')
    """
    holding = [span for span in known if span.since <= moment and (span.until is None or moment < span.until)]
    return holding[-1] if holding else None


def moment_of(text: str) -> datetime:
    """The moment that an ISO 8601 text names, in UTC unless it says otherwise; of a day, its beginning.

    Raises:
        InvalidRequest: it names none.

    >>> moment_of("2026-11-01T12:00").isoformat(), moment_of("2026-11-01").isoformat()
    ('2026-11-01T12:00:00+00:00', '2026-11-01T00:00:00+00:00')
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} names no moment; write 2026-11-01 or 2026-11-01T12:00, in UTC") from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)

"""The moment that a call or a label is about, as people and programs write it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from modelyard.errors import InvalidInput, InvalidRequest

EVENT_TIME = "x-modelyard-event-time"
"""The header, and the gRPC metadata, in which a caller says which moment the rows are about."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 2**63 // 10**6 - 1
_MICROSECOND = timedelta(microseconds=1)


def moment_ns(text: str) -> int:
    """Nanoseconds since 1970 UTC of an RFC 3339 date and time, or of milliseconds since 1970.

    Raises:
        InvalidRequest: it is neither, has no offset from UTC, or is outside the years 1970 to 2262.

    >>> moment_ns("2013-04-01T07:30:00Z") == moment_ns("2013-04-01T03:30:00-04:00") == moment_ns("1364801400000")
    True
    >>> moment_ns("1970-01-01T00:00:00.000001Z")
    1000
    """
    if text.isascii() and text.isdigit() and len(text) < 20:
        return _checked(int(text) * 1000, text)
    try:
        return _checked(_microseconds(datetime.fromisoformat(text)), text)
    except ValueError:
        raise InvalidRequest(_expected(text)) from None


def told_event_ns(text: str | None) -> int:
    """As `moment_ns` of what a caller said under `EVENT_TIME`; 0 where nothing was said.

    Raises:
        InvalidRequest: as for `moment_ns`; names the header.
    """
    if text is None:
        return 0
    try:
        return moment_ns(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"{EVENT_TIME}: {error}") from None


def event_header(moment: datetime) -> dict[str, str]:
    """The header that says that rows are about `moment`, which has to have a time zone.

    Raises:
        InvalidInput: it has none, or is outside the years 1970 to 2262.

    >>> event_header(datetime(2013, 4, 1, 7, 30, tzinfo=UTC))
    {'x-modelyard-event-time': '2013-04-01T07:30:00+00:00'}
    """
    try:
        _checked(_microseconds(moment), str(moment))
    except (ValueError, InvalidRequest) as error:
        raise InvalidInput(f"event_time: {_expected(str(moment))}") from error
    return {EVENT_TIME: datetime.isoformat(moment)}


def _microseconds(moment: datetime) -> int:
    if moment.utcoffset() is None:
        raise ValueError("no offset from UTC")
    return (moment - _EPOCH) // _MICROSECOND


def _checked(microseconds: int, text: str) -> int:
    if not 0 <= microseconds // 1000 <= _LAST_MS:
        raise InvalidRequest(_expected(text))
    return microseconds * 1000


def _expected(text: str) -> str:
    return (
        f"expected a date and time with its offset from UTC, such as 2013-04-01T07:30:00Z, or milliseconds since 1970, "
        f"between 1970 and 2262; got {text[:40]!r}"
    )

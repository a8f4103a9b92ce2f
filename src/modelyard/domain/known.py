"""When a label became known, as people and programs write it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from modelyard.errors import InvalidInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"(?<=:\d\d)[.,](\d+)")
_LATEST_MS = 2**63 // 1_000_000


def known_ns(moment: str | float) -> int:
    """A moment as nanoseconds since 1970: RFC 3339 (``2013-03-01T06:00:00Z``), or milliseconds since 1970.

    A text without an offset is UTC; a date alone is its midnight.

    Raises:
        InvalidInput: it is neither, or lies before 1970 or after 2262.

    >>> known_ns("2013-03-01T06:00:00Z") == known_ns(1362117600000) == known_ns("1362117600000")
    True
    >>> known_ns("1970-01-01T00:00:00.123456789+00:00")
    123456789
    """
    try:
        number = float(moment) if "." in str(moment) else int(moment)
    except (ValueError, OverflowError):
        return _of_text(str(moment).strip())
    if not 0 <= number < _LATEST_MS:
        raise _refused(moment)
    return int(number * 1_000_000)


def _of_text(text: str) -> int:
    fraction = _FRACTION.search(text)
    digits = fraction.group(1)[:9].ljust(9, "0") if fraction else "0"
    try:
        whole = datetime.fromisoformat(_FRACTION.sub("", text))
    except ValueError:
        raise _refused(text) from None
    whole = whole if whole.tzinfo else whole.replace(tzinfo=UTC)
    found = (whole - _EPOCH) // timedelta(seconds=1) * 1_000_000_000 + int(digits)
    if not 0 <= found < 2**63:
        raise _refused(text)
    return found


def _refused(moment: object) -> InvalidInput:
    return InvalidInput(
        "expected a moment as 2013-03-01T06:00:00Z or as milliseconds since 1970, from then to 2262; "
        f"got {moment!r:.60}"
    )

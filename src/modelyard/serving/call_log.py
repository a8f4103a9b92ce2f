"""Lines of the log about calls that got no answer: enough of them to see what happens, and no flood."""

from __future__ import annotations

import logging
import time

from modelyard.serving.meters import Reason

LINES_PER_SECOND = 5
"""Lines about calls without an answer, a second and reason; how many more there were is told with the next."""

_log = logging.getLogger("modelyard.calls")


class CallLog:
    """Tells of calls that got no answer, so many lines a second at most. Used on the event loop's thread only."""

    def __init__(self, lines_per_second: int = LINES_PER_SECOND) -> None:
        self._limit = lines_per_second
        self._second = -1
        self._told: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def not_answered(
        self,
        reason: Reason,
        prediction_id: str,
        deployment: str = "",
        version: int = 0,
        kind: str = "",
        trace_id: str = "",
    ) -> None:
        """Say that a call got no answer. `kind` is the name of its error; its text may hold values and stays out."""
        second = time.monotonic_ns() // 1_000_000_000
        if second != self._second:
            self._second = second
            self._told.clear()
        told = self._told[reason] = self._told.get(reason, 0) + 1
        if told > self._limit:
            self._left_out[reason] = self._left_out.get(reason, 0) + 1
            return
        fields = {
            "prediction_id": prediction_id,
            "deployment": deployment,
            "version": version or None,
            "trace_id": trace_id,
            "reason": reason,
            "suppressed": self._left_out.pop(reason, None),
        }
        level = logging.ERROR if reason == "failed" else logging.WARNING
        _log.log(level, "not answered: %s", kind or reason, extra=fields)

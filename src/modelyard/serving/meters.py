"""What is counted of one version's calls: integers that add across processes and machines."""

from __future__ import annotations


class Meter:
    """Counts the calls of one version in one deployment. Used on the event loop's thread only."""

    def answered(
        self, rows: int, decode_ns: int, queue_ns: int, compute_ns: int, encode_ns: int, total_ns: int
    ) -> None:
        """A call was answered with status 200."""

    def refused(self, reason: str) -> None:
        """A call got no answer: `reason` is one of invalid, overload, deadline, unavailable, failed, gone."""

"""Where a call's time went, from the histograms of our ``/metrics``."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Mapping

STAGES = ("queue", "decode", "compute", "encode", "duration")


def read_stages(text: str) -> Counter[str]:
    """Sums and counts of the stages' histograms, over all versions.

    >>> read_stages('modelyard_request_decode_seconds_sum{deployment="a"} 0.5')["decode_sum"]
    0.5
    """
    found: Counter[str] = Counter()
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        metric = series.partition("{")[0]
        for stage in STAGES:
            for part in ("sum", "count"):
                if metric == f"modelyard_request_{stage}_seconds_{part}":
                    found[f"{stage}_{part}"] += float(value)  # type: ignore[assignment]
    return found


def stages(port: int) -> Counter[str]:
    """What the server at this port says now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        return read_stages(connection.getresponse().read().decode())
    finally:
        connection.close()


def told(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Mean microseconds of each stage between two looks, in words.

    >>> told({}, {"decode_sum": 0.5, "decode_count": 1000})
    'mean us of a call: decode 500'
    """
    parts = []
    for stage in STAGES:
        count = after.get(f"{stage}_count", 0) - before.get(f"{stage}_count", 0)
        if count:
            taken = (after[f"{stage}_sum"] - before.get(f"{stage}_sum", 0.0)) / count
            parts.append(f"{'whole' if stage == 'duration' else stage} {taken * 1e6:.0f}")
    return "mean us of a call: " + ", ".join(parts)

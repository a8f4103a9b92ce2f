"""What records cost: with them, without them, and when each answer waits until its record is on disk."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.serving.bench import Bench, Contender, ratio
from benchmarks.serving.servers import Place, Server, ours

RECORDED, UNRECORDED, DURABLE = "with records", "without records", "records on disk"


def measure(bench: Bench) -> None:
    """Drive the three in turn."""
    with bench.running([ours(name=RECORDED), _unrecorded(), _durable()], bench.model(bench.models[0])) as up:
        drives = bench.race("records", [Contender(one.server.name, one, one.server.form) for one in up], 1)
    for name, other in ((RECORDED, UNRECORDED), (DURABLE, RECORDED)):
        if name in drives and other in drives:
            bench.report.notes.append(f"{name}: {ratio(drives, name, other):.2f} times the requests/s of {other}")


def _unrecorded() -> Server:
    server = ours(name=UNRECORDED)

    def command(place: Place) -> Sequence[str]:
        return [word.replace("modelyard.serving", "benchmarks.serving.unrecorded") for word in server.command(place)]

    return Server(UNRECORDED, server.kind, server.form, command, server.settings)


def _durable() -> Server:
    return ours(name=DURABLE, options=["--fsync", "always"])

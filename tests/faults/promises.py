"""What has to hold after every fault, and how long the tests of faults are.

``MODELYARD_FAULTS`` is the share of the long form to run: 1 for all of it, as ``make faults`` does; short without it.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from load import HUNG, LOST, REFUSED, RIGHT, SECOND, WRONG, Call, quantile
from modelyard.records.log import RecordFiles
from modelyard.records.segments import Damage
from serving_process import ServingProcess, until

SHARE = float(os.environ.get("MODELYARD_FAULTS", "0"))
LONG = SHARE > 0

BACK_SECONDS = 2.0
"""How soon service is back, on a machine that has time."""

LATEST_SECONDS = 20.0
"""What may never be exceeded, however busy the machine is with other things."""


def size(short: int, long: int) -> int:
    """How many of something: `long` in the long form."""
    return max(short, round(SHARE * long))


def say(line: str) -> None:
    """Show a measured figure (``pytest -rP`` or ``-s`` shows it for tests that pass)."""
    sys.stdout.write(line + "\n")


@dataclass(frozen=True)
class Fault:
    """What was done, and when (``time.monotonic_ns()``)."""

    at: int
    what: str = "kill"


def now() -> Fault:
    return Fault(time.monotonic_ns())


class Moments:
    """Random moments, the same in every run as far as the machine allows."""

    def __init__(self, seed: int = 20130101) -> None:
        self.draw = random.Random(seed)

    def wait(self, most: float = 0.3) -> None:
        time.sleep(self.draw.uniform(0.0, most))


def died_with(call: Call, faults: Sequence[Fault]) -> bool:
    """Whether a lost call was in a process that died: open at that moment, or the first on a connection to it."""
    return any(call.opened <= fault.at <= call.ended for fault in faults)


def seconds_back(calls: Iterable[Call], faults: Sequence[Fault]) -> list[float]:
    """For each fault, how long it took until every caller had a right answer to a call that began after it.

    Callers have one call open at a time, so the first right answer is that to a call begun after the fault, or to the
    one begun just before.
    """
    by_caller: dict[int, list[Call]] = {}
    for call in calls:
        if call.outcome == RIGHT:
            by_caller.setdefault(call.caller, []).append(call)
    return [max(_back(own, fault) for own in by_caller.values()) for fault in faults]


def _back(calls: list[Call], fault: Fault) -> float:
    return min((call.ended - fault.at for call in calls if call.begun >= fault.at), default=SECOND * 10**6) / SECOND


def check(
    calls: Sequence[Call],
    faults: Sequence[Fault],
    records: Path,
    *,
    may_lose: bool = False,
    most_lost: int = 0,
    may_refuse: Callable[[Call], bool] = lambda _: False,
    within: float = BACK_SECONDS,
) -> None:
    """No answer is wrong, only calls that were in a dead process are lost, every answer is on record, and soon back."""
    assert [call for call in calls if call.outcome in (WRONG, HUNG)] == []
    assert [call for call in calls if call.outcome == REFUSED and not may_refuse(call)] == []
    lost = [call for call in calls if call.outcome == LOST]
    assert [call for call in lost if not (may_lose and died_with(call, faults))] == []
    assert len(lost) <= most_lost
    check_records([call for call in calls if call.outcome == RIGHT], records)
    if faults:
        check_back(seconds_back(calls, faults), within=within)


def check_records(acknowledged: Sequence[Call], records: Path) -> None:
    """Every acknowledged answer is on record exactly once, and no byte of the records is damaged."""
    damage: list[Damage] = []
    found = RecordFiles(records, damage.append).predictions()
    logged = Counter(record.prediction_id for record in found if record.outcome == "ok")
    names = [call.name for call in acknowledged]
    assert len(names) == len(set(names)) > 0
    assert [name for name in names if logged[name] != 1] == []
    assert damage == []


def check_back(seconds: Sequence[float], what: str = "service back", within: float = BACK_SECONDS) -> None:
    """Back in time after nine faults of ten, where the machine has time; never much later.

    Where more threads want to run than there are cores, everything takes so many times longer.
    """
    middle, most, last = (quantile(seconds, share) for share in (0.5, 0.9, 1.0))
    busy = max(os.getloadavg()[0] / len(os.sched_getaffinity(0)), 1.0)
    say(
        f"{what} after {len(seconds)} faults: median {middle:.2f} s, nine of ten {most:.2f} s, last {last:.2f} s"
        f" ({busy:.1f} threads a core)"
    )
    assert most <= (within * busy if LONG else LATEST_SECONDS)
    assert last <= LATEST_SECONDS * busy


def workers(server: ServingProcess) -> list[int]:
    """The workers that answer."""
    return [worker["pid"] for worker in server.get("/status").json["workers"] if worker["ready"]]


def in_place_of(server: ServingProcess, gone: int, wanted: int = 2) -> None:
    """Wait until there is another worker for the one that is gone."""
    until(lambda: gone not in (there := workers(server)) and len(there) == wanted, "another worker", LATEST_SECONDS)


def model_processes(worker: int) -> list[int]:
    """The processes in which native versions of that worker compute."""
    found = list[int]()
    for task in Path(f"/proc/{worker}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def is_gone(pid: int) -> bool:
    """Whether that process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True

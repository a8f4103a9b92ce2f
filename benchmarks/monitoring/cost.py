"""Cost in service: the server with records and profiles on, beside the same server with both off."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.serving.bench import Bench, Contender, Drive
from benchmarks.serving.processes import Process, start
from benchmarks.serving.report import divided
from benchmarks.serving.servers import OUR_PATHS, Place, Server, ours, serving
from modelyard.home import Home
from modelyard.records.query import query

OFF, RECORDS, ON = "both off", "records", "records and profiles"
_OF_ROWS = "SELECT count(*) AS rows, count(DISTINCT prediction_id) AS ids FROM predictions WHERE outcome = 'ok'"
HELPERS = ("modelyard.control.shipping", "modelyard.control.monitoring")
"""What `modelyard up` runs beside the server."""


@dataclass(frozen=True)
class Cost:
    """One server under full load: calls a second, and how many times those of the server with both off.

    `server_us` is processor time of the server a call, `beside_us` that of shipper and monitor while it was driven, and
    `beside_busy` the share of one core that they had. Medians of the rounds; `failed` of all.
    """

    rows_a_call: int
    server: str
    calls_a_second: float
    ratio: float
    p99_ms: float
    server_us: float
    beside_us: float
    beside_busy: float
    refused: int
    failed: int


@dataclass(frozen=True)
class Kept:
    """What became of the calls that were recorded.

    `waited` is how many rows were not in the tables when the load was over, `seconds` how long it took one process to
    ship and count them, `us_a_row` processor time of that process, and of shipper and monitor before it, for all rows.
    `lost` is how many answered rows are not recorded, `twice` how many ids are there twice, `uncounted` how many rows
    no profile has.
    """

    rows_a_call: int
    rows: int
    waited: int
    seconds: float
    us_a_row: float
    lost: int
    twice: int
    uncounted: int


@dataclass
class _Side:
    """A server, what runs beside it, and what was measured of it."""

    contender: Contender
    helpers: Sequence[Process] = ()
    drives: list[Drive] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def home(self) -> Home:
        running = self.contender.running
        return _home(Place(running.model, running.process.log.parent, running.port))

    def beside_seconds(self) -> float:
        return sum(helper.cpu_seconds() for helper in self.helpers)

    def signalled(self, number: int) -> None:
        for helper in self.helpers:
            os.kill(helper.root.pid, number)

    def answered(self) -> int:
        """Calls that were answered well in the counted time; before and after it there were more."""
        return sum(drive.result.statuses.get(200, 0) for drive in self.drives)

    def drive(self, bench: Bench, size: int) -> None:
        """One round. Between rounds its helpers rest, so that they take nothing from the others."""
        self.signalled(signal.SIGCONT)
        before, began = self.beside_seconds(), time.monotonic()
        self.drives.append(bench.drive(self.contender, size))
        self.seconds.append(time.monotonic() - began)
        self.beside.append(self.beside_seconds() - before)
        self.signalled(signal.SIGSTOP)


def cost(rounds: int, seconds: float, sizes: Sequence[int] = (1, 100)) -> Iterator[tuple[list[Cost], Kept]]:
    """Three servers of the same compiled pipeline of 14 columns, driven in turn over 16 connections."""
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
            yield _measured(Bench(Path(folder), ["logistic"], [], seconds, rounds), size)


def _measured(bench: Bench, size: int) -> tuple[list[Cost], Kept]:
    model = bench.model("logistic")
    with contextlib.ExitStack() as stack:
        sides: dict[str, _Side] = {}
        for server in (_server(OFF, forgetful=True), _server(RECORDS), _server(ON)):
            running = stack.enter_context(serving(server, model, bench.folder))
            sides[server.name] = _Side(Contender(server.name, running, server.form))
        sides[ON].helpers = [stack.enter_context(_helper(each, sides[ON].home)) for each in HELPERS]
        for number in range(bench.rounds):
            # In another order each time, as the machine may be busier now and then.
            turn = list(sides.values())
            for side in turn[number % 3 :] + turn[: number % 3]:
                side.drive(bench, size)
        table = [_told(side, sides[OFF], size) for side in sides.values()]
        return table, _kept(sides[ON], size)


def _server(name: str, *, forgetful: bool = False) -> Server:
    server = ours(name=name)

    def command(place: Place) -> Sequence[str]:
        _register(place)
        module = "benchmarks.serving.unrecorded" if forgetful else "modelyard.serving"
        return [word.replace("modelyard.serving", module) for word in server.command(place)]

    return Server(name, server.kind, server.form, command, server.settings)


def _home(place: Place) -> Home:
    return Home(place.folder / "home")


def _register(place: Place) -> None:
    """The version is in the registry, where the shipper finds what to count with."""
    from modelyard.registry import Registry

    with Registry.open(_home(place).create()) as registry:
        registry.register(place.model.bundle("onnx"))


@contextlib.contextmanager
def _helper(module: str, home: Home) -> Iterator[Process]:
    folder = home.path.parent / module.rpartition(".")[2]
    process = start([sys.executable, "-m", module, "--home", str(home.path)], folder, OUR_PATHS)
    try:
        yield process
    finally:
        _end(process)


def _told(side: _Side, off: _Side, size: int) -> Cost:
    pairs = zip(side.drives, off.drives, strict=True)
    calls = [drive.result.all_answered for drive in side.drives]
    return Cost(
        size,
        side.contender.name,
        median(drive.result.rate for drive in side.drives),
        median(divided(one.result.rate, other.result.rate) for one, other in pairs),
        median(drive.result.ms(0.99) for drive in side.drives),
        median(drive.cpu_us for drive in side.drives),
        divided(sum(side.beside) * 1e6, sum(calls)),
        divided(sum(side.beside), sum(side.seconds)),
        sum(drive.result.statuses.get(429, 0) for drive in side.drives),
        sum(drive.failed for drive in side.drives),
    )


def _kept(side: _Side, size: int) -> Kept:
    """Finish what the helpers did not come to, then count what there is.

    They are stopped first: two that ship the same stretch at once do it twice, and one of them for nothing.
    """
    spent = _stopped(side.helpers)
    before, began = _shipped_rows(side.home), time.monotonic()
    from modelyard.monitoring.shipments import ship_all, shipments
    from modelyard.registry import Registry

    own = time.process_time()
    with Registry.open(side.home) as registry:
        while ship_all(side.home.records, shipments(side.home, registry)).busy:
            time.sleep(0.2)  # the shipper or the monitor was stopped within a commit
    seconds, own = time.monotonic() - began, time.process_time() - own
    rows = side.answered() * size
    said = query(side.home.records, _OF_ROWS)
    found, different = (said[name][0].as_py() for name in ("rows", "ids"))
    return Kept(
        size,
        found,
        found - before,
        seconds,
        divided((spent + own) * 1e6, found),
        max(0, rows - found),
        found - different,
        found - _counted_rows(side.home),
    )


def _stopped(helpers: Sequence[Process]) -> float:
    """Let helpers go on, end them, and say what processor time they took."""
    spent = sum(helper.cpu_seconds() for helper in helpers)
    for helper in helpers:
        _end(helper)
    return spent


def _end(helper: Process) -> None:
    if helper.root.poll() is None:
        os.kill(helper.root.pid, signal.SIGCONT)
        helper.end()


def _shipped_rows(home: Home) -> int:
    return _sum(home, "predictions", "prediction_id")


def _counted_rows(home: Home) -> int:
    return _sum(home, "profiles", "rows")


def _sum(home: Home, name: str, column: str) -> int:
    from modelyard.records.delta import TablesRoot

    table = TablesRoot.of(home.records).open(name)
    if table is None:
        return 0
    values = table.to_pyarrow_dataset().to_table(columns=[column])[column]
    return sum(values.to_pylist()) if column == "rows" else len(values)

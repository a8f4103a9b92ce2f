"""How silent, how soon, how fast, how true and how cheap monitoring is: all tables in one run.

    python -m benchmarks.monitoring [--long] [--only TABLE ...] [--peer NAME[=PYTHON] ...] [--rows 1000000]
                                    [--window 100] [--seeds N] [--json]

The peers (Evidently, NannyML, Alibi Detect, whylogs, River) are installed by this command, each from its pinned list in
`benchmarks/monitoring/peers` into an environment of its own under `~/.cache/modelyard-benchmarks`
(`MODELYARD_BENCHMARKS` names another folder); one that does not install is told with the reason. `--peer NAME` takes
only this one, `--peer NAME=PYTHON` one that is installed elsewhere, `--peer none` none. Cost in service needs a C
compiler for the load generator. Each table appears when it is made; the goals stand at the end. `--long` takes
more sources, seeds and rounds; `benchmarks/README.md` has figures.

Silence: steady sources of columns of mixed kinds (normal, heavy-tailed, spiked, whole numbers, gaps; texts of 2 to
100,000 values), checked every hour under a budget of one false alarm a quarter, with windows of 30 to 10,000 rows.
`allowed` is the number of false alarms that the budget allows in all hours together, `most` the most evidence there
ever was, where 1 is an alarm. `--long` has 200 columns and 200 seeds with a year of 8,760 hours each and takes about 50
minutes of processor time (`--seeds` takes fewer). Rows are drawn evenly from a pool, so that the counts of a window can
be drawn by their own law and no row has to be made. A second table has the watch of pairs of columns, beside its own
part of the budget: sources of 20 columns that hang together, of which rows are drawn by number; evidence below a
hundredth of an alarm is told as 0.

Rhythm: sources whose columns follow the day, the week, both or nothing, watched for drift hour by hour: alarms in the
first two weeks, in which a rhythm of the week cannot be told from a change, and after them beside what the budget
allows. Its long form has 200 columns and ten weeks.

Speed: one more check of a table of a million rows and 20 columns against a reference of as many, by ours, by scipy's
exact tests and by the peers; the reference is fitted beforehand. Processor time, extra memory, and how many of the
columns, none of which changed, were flagged. Evidently and Alibi Detect are spared the columns of more than 1,000
different texts, with which they do not come to an end.

Shipping: processor time a row for what the shipper does for profiles, with calls of one row and of a hundred: reading
bodies and counting, and counting alone; and the bytes of a closed window.

Cost: calls a second of a server with records and profiles on (shipper and monitor run beside it as `modelyard up` runs
them, and always have something to do), of one with records alone, and of one with both off, driven in turn by the load
generator of `benchmarks.serving` over 16 connections. Then, whether every answered row is in the tables once and was
counted, and what it took until that was so.

Power: rows until an alarm after a change at a known moment that costs a model trained before it two points of
accuracy, and false alarms before it. Streams are made by River's generators and from the flights; after the change so
large a part of the rows comes from the new concept (of flights: from July) that the accuracy falls by two points. Every
window is an hour, labels come at once. Ours are the watches with all settings as they are if nothing is set, with a
budget of one false alarm a quarter; ten days are steady, of which the watch of labels needs some to learn what is
usual. It needs River's generators. Evidently, NannyML, Alibi Detect and River's ADWIN follow the same streams from two
days before the change on, at their defaults, with 20,000 rows as their reference.

Estimate: performance estimated before labels come, on generated shifts (`--seeds` of each) and on the flights: in which
part of the windows the interval held the later truth, where 0.9 is promised, and how many were widened or refused.
NannyML's estimates of the same rows are beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from benchmarks.monitoring.cost import cost
from benchmarks.monitoring.estimates import estimates
from benchmarks.monitoring.goals import GOALS
from benchmarks.monitoring.installed import PEERS, chosen, interpreters
from benchmarks.monitoring.pairs import paired_silence
from benchmarks.monitoring.power import power
from benchmarks.monitoring.report import Report, Section
from benchmarks.monitoring.rhythm import rhythm
from benchmarks.monitoring.shipping import CASES, shipping
from benchmarks.monitoring.silence import by_size, silence
from benchmarks.monitoring.speed import speed
from benchmarks.monitoring.streams import Order
from modelyard.monitoring.pairing import Pairing

Peers: TypeAlias = Mapping[str, Path]
T = TypeVar("T")

QUICK = {"columns": 20, "seeds": 6, "hours": 2190}
LONG = {"columns": 200, "seeds": 200, "hours": 8760}


PAIRED = 60
"""Sources of pairs at most: each takes some times as long."""


@dataclass(frozen=True)
class Table:
    """How a table is made, and beside whom."""

    make: Callable[[argparse.Namespace, Peers], list[Section]]
    peers: tuple[str, ...] = ()
    needs: tuple[str, ...] = field(default=())


def main() -> None:
    """Run from the command line."""
    options = _options()
    wanted = options.only or list(TABLES)
    report = Report()
    try:
        asked = chosen(options.peer)
    except ValueError as problem:
        raise SystemExit(str(problem)) from None
    peers, report.missing = interpreters(asked, {name for table in wanted for name in TABLES[table].peers})
    try:
        for name in wanted:
            _add(report, name, options, peers)
    except KeyboardInterrupt:
        report.missing["the rest"] = "it was interrupted"
    print(report.as_json() if options.json else f"\n{report.as_text()}")


def _add(report: Report, name: str, options: argparse.Namespace, peers: Peers) -> None:
    table = TABLES[name]
    lacking = [peer for peer in table.needs if peer not in peers]
    if lacking:
        report.missing[name] = f"it needs {lacking[0]}"
        return
    print(f"{name} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    try:
        found = table.make(options, peers)
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - whatever became of one table, the others are wanted
        report.missing[name] = f"{type(problem).__name__}: {problem}"
        print(f"{name}: {report.missing[name]}", file=sys.stderr, flush=True)
        return
    report.seconds[name] = time.monotonic() - began
    report.sections[name] = found
    report.goals += GOALS[name](found)
    if not options.json:
        print("\n" + "\n\n".join(section.as_text() for section in found), flush=True)


def _silence(options: argparse.Namespace, peers: Peers) -> list[Section]:
    asked = (LONG if options.long else QUICK) | ({"seeds": options.seeds} if options.seeds else {})
    rows = by_size(_told(silence(**asked)))
    pairs = by_size(_told(paired_silence(min(asked["seeds"], PAIRED), asked["hours"])))
    return [
        Section("Silence: false alarms of steady sources, 1 per quarter allowed", rows),
        Section(f"Silence of pairs: their watch has {Pairing.share:.0%} of that budget", pairs),
    ]


def _rhythm(options: argparse.Namespace, peers: Peers) -> list[Section]:
    columns, weeks = (200, 10) if options.long else (8, 3)
    rows = list(_told(rhythm(columns, weeks)))
    return [Section("Rhythm: false alarms of steady sources with a rhythm, after two weeks", rows)]


def _speed(options: argparse.Namespace, peers: Peers) -> list[Section]:
    return [Section(f"Speed: one more check of {options.rows:,} rows", list(speed(options.rows, peers)))]


def _shipping(options: argparse.Namespace, peers: Peers) -> list[Section]:
    return [Section("Shipping: microseconds a row, bytes a window", [shipping(*case) for case in CASES])]


def _cost(options: argparse.Namespace, peers: Peers) -> list[Section]:
    rounds, seconds = (30, 2.0) if options.long else (10, 1.0)
    found = list(_told(cost(rounds, seconds)))
    served = [row for rows, _ in found for row in rows]
    return [
        Section("Cost: full load over 16 connections, beside both off", served),
        Section("Kept: what became of the recorded calls", [kept for _, kept in found]),
    ]


def _power(options: argparse.Namespace, peers: Peers) -> list[Section]:
    seeds = options.seeds or (5 if options.long else 1)
    rows = list(power(peers, seeds, Order(options.window, steady=240, changed=100, peers=50)))
    return [Section(f"Power: rows until an alarm, windows of {options.window:,} rows", rows)]


def _estimate(options: argparse.Namespace, peers: Peers) -> list[Section]:
    seeds = options.seeds or (40 if options.long else 10)
    rows = list(estimates(seeds, peers))
    return [Section("Estimate: intervals that held the later truth, 0.9 promised", rows)]


TABLES: Mapping[str, Table] = {
    "silence": Table(_silence),
    "rhythm": Table(_rhythm),
    "speed": Table(_speed, ("evidently", "nannyml", "alibi", "whylogs")),
    "shipping": Table(_shipping),
    "cost": Table(_cost),
    "power": Table(_power, ("river", "evidently", "nannyml", "alibi"), ("river",)),
    "estimate": Table(_estimate, ("nannyml",)),
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.monitoring",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--long", action="store_true", help="more sources, seeds and rounds: hours")
    parser.add_argument("--only", action="append", choices=list(TABLES), help="only this table; may be repeated")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows in the table of speed")
    parser.add_argument("--window", type=int, default=100, help="rows of an hour in the table of power")
    parser.add_argument("--seeds", type=int, help="sources of silence, streams of each of power and estimate")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME[=PYTHON]",
        help=f"only this one of {', '.join(PEERS)}, or none",
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    return parser.parse_args()


def _told(found: Iterable[T]) -> Iterator[T]:
    """With a line on standard error for each as it comes, for work that takes long."""
    for each in found:
        print(each, file=sys.stderr, flush=True)
        yield each


if __name__ == "__main__":
    main()

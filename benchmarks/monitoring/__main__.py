"""How silent and how fast monitoring is.

    python -m benchmarks.monitoring [--long] [--only silence|rhythm|speed|shipping|power|estimate] [--rows 1000000]
                                    [--window 100] [--seeds N] [--peer NAME=PYTHON ...] [--json]

Silence: steady sources of columns of mixed kinds (normal, heavy-tailed, spiked, whole numbers, gaps; texts of 2 to
100,000 values), checked every hour under a budget of one false alarm a quarter, with windows of 30 to 10,000 rows.
`allowed` is the number of false alarms that the budget allows in all hours together, `most` the most evidence there
ever was, where 1 is an alarm. The quick form takes seconds; `--long` has 200 columns and 200 seeds with a year of
8,760 hours each and takes about 50 minutes of processor time (`--seeds` takes fewer). Rows are drawn evenly from a
pool, so that the counts of a window can be drawn by their own law and no row has to be made.

Rhythm: sources whose columns follow the day, the week, both or nothing, watched for drift hour by hour: alarms in the
first two weeks, in which a rhythm of the week cannot be told from a change, and after them beside what the budget
allows. Its long form has 200 columns and ten weeks.

Speed: one more check of a table of a million rows and 20 columns against a reference of as many; the reference is
fitted beforehand. Processor time, extra memory, and how many of the columns, none of which changed, were flagged.

Power: rows until an alarm after a change at a known moment that costs a model trained before it two points of
accuracy, and false alarms before it. Streams are made by River's generators and from the flights; after the change so
large a part of the rows comes from the new concept (of flights: from July) that the accuracy falls by two points. Every
window is an hour, labels come at once. Ours are the watches with all settings as they are if nothing is set, with a
budget of one false alarm a quarter; ten days are steady, of which the watch of labels needs some to learn what is
usual. It needs `--peer river=...`. Evidently, NannyML, Alibi Detect and River's ADWIN follow the same streams from two
days before the change on, at their defaults, as far as they are given, with 20,000 rows as their reference.

`--peer evidently=DIR/bin/python` adds a peer installed in an environment of its own (`python -m venv DIR`, then
`DIR/bin/pip install "pandas<3" evidently pyarrow`); there are evidently, nannyml (with `statsmodels`), alibi
(`alibi-detect`), whylogs (`whylogs[viz]`, `ipython`) and river (`river`, `pandas`, `pyarrow`). In the table of speed
Evidently and Alibi Detect are spared the columns of more than 1,000 different texts, with which they do not come to an
end.

Estimate: performance estimated before labels come, on generated shifts (`--seeds` of each) and on the flights: in which
part of the windows the interval held the later truth, where 0.9 is promised, and how many were widened or refused. With
`--peer nannyml=...` its estimates of the same rows are beside it.

Shipping: processor time a row for what the shipper does for profiles, with calls of one row and of a hundred: reading
bodies and counting, and counting alone; and the bytes of a closed window.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from benchmarks.monitoring.estimates import estimates
from benchmarks.monitoring.power import power
from benchmarks.monitoring.rhythm import rhythm
from benchmarks.monitoring.shipping import CASES, shipping
from benchmarks.monitoring.silence import by_size, silence
from benchmarks.monitoring.speed import speed
from benchmarks.monitoring.streams import Order

Peers: TypeAlias = Mapping[str, Path]
Told: TypeAlias = tuple[str, Iterable[Any]]
T = TypeVar("T")

QUICK = {"columns": 20, "seeds": 6, "hours": 2190}
LONG = {"columns": 200, "seeds": 200, "hours": 8760}


def main() -> None:
    options = _options()
    peers = _peers(options.peer)
    found: dict[str, Any] = {}
    for name in [options.only] if options.only else TABLES:
        title, rows = TABLES[name](options, peers)
        found[name] = list(rows)
        if not options.json:
            _print(title, found[name])
    if options.json:
        print(json.dumps({name: list(map(dataclasses.asdict, rows)) for name, rows in found.items()}, indent=2))


def _silence(options: argparse.Namespace, peers: Peers) -> Told:
    asked = (LONG if options.long else QUICK) | ({"seeds": options.seeds} if options.seeds else {})
    return "Silence: false alarms of steady sources, 1 per quarter allowed", by_size(_told(silence(**asked)))


def _rhythm(options: argparse.Namespace, peers: Peers) -> Told:
    columns, weeks = (200, 10) if options.long else (8, 3)
    return "Rhythm: false alarms of steady sources with a rhythm, after two weeks", _told(rhythm(columns, weeks))


def _speed(options: argparse.Namespace, peers: Peers) -> Told:
    return f"Speed: one more check of {options.rows:,} rows", speed(options.rows, peers)


def _power(options: argparse.Namespace, peers: Peers) -> Told:
    if "river" not in peers:
        return "Power: left out; it needs River's generators (--peer river=PYTHON)", ()
    rows = power(peers, options.seeds or 3, Order(options.window, steady=240, changed=100, peers=50))
    return f"Power: rows until an alarm, windows of {options.window:,} rows", rows


def _estimate(options: argparse.Namespace, peers: Peers) -> Told:
    return "Estimate: intervals that held the later truth, 0.9 promised", estimates(options.seeds or 40, peers)


def _shipping(options: argparse.Namespace, peers: Peers) -> Told:
    return "Shipping: microseconds a row, bytes a window", (shipping(*case) for case in CASES)


TABLES: Mapping[str, Callable[[argparse.Namespace, Peers], Told]] = {
    "silence": _silence,
    "rhythm": _rhythm,
    "speed": _speed,
    "power": _power,
    "estimate": _estimate,
    "shipping": _shipping,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How silent and how fast monitoring is.")
    parser.add_argument("--long", action="store_true", help="the long form of silence: 50 minutes of processor time")
    parser.add_argument("--only", choices=list(TABLES))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--window", type=int, default=100, help="rows of an hour in the table of power")
    parser.add_argument("--seeds", type=int, help="sources in the table of silence, streams of each in that of power")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _told(found: Iterable[T]) -> Iterator[T]:
    """With a line on standard error for each as it comes, for work that takes long."""
    for each in found:
        print(each, file=sys.stderr, flush=True)
        yield each


def _peers(said: Sequence[str]) -> dict[str, Path]:
    return {name: Path(path).absolute() for name, _, path in (each.partition("=") for each in said)}


def _print(title: str, rows: Sequence[Any]) -> None:
    if not rows:
        print(f"\n{title}")
        return
    names = [field.name for field in dataclasses.fields(rows[0])]
    lines = [names, *[[_cell(getattr(row, name)) for name in names] for row in rows]]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    print(f"\n{title}")
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _cell(value: Any) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()

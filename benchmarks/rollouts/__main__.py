"""How often rollouts are judged wrongly, and how soon rightly; and whether anybody notices an update.

    python -m benchmarks.rollouts [--only judgement|service] [--quick] [--rollouts 2000] [--changes 200] [--json]

*Service*: 200 updates and rollbacks of every strategy under load, see `benchmarks.rollouts.service`; 24 of
them with ``--quick``. Exit status 1 if a call failed, an answer was mixed, or the slowest hundredth of the calls took
more than 1.5 times as long during an update as before. The last line says how soon rollbacks were carried out.

*Judgement*: rollouts are simulated call by call and looked at every ten seconds, for 6 hours at 1,000 calls a minute,
12 at 100 and 24 at fewer. Of *errors* the baseline has 0.5 % and a harmful candidate three times as many, with a margin
of half a point; of *wrong* answers the baseline has 20 % and a harmful candidate 3 points more, with a margin of one
point.

`ours` rolls back on evidence of harm above the margin (alpha 1 %) and lets through on evidence that there is none (beta
5 %); `unsure` is what is left. `missed` are those let through of candidates that are worse than the margin by a
hundredth of it, which is the hardest case. `limit` is a rule as Flagger and Argo Rollouts have it: of 25 windows of a
minute, 5 may not be beyond the baseline's rate and the margin. `watched` is a test of two proportions at 5 %, made at
every look, for as long as ours takes. Minutes are the median of those rolled back.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.rollouts.simulation import Case, simulate

TRAFFIC = {5: 24.0, 20: 24.0, 100: 12.0, 1000: 6.0}
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5)
METRICS = {"errors": (0.005, 0.015, 0.005), "wrong": (0.2, 0.23, 0.01)}
"""The baseline's rate, that of a harmful candidate, and the margin."""

_HEAD = ("metric", "calls/min", "share", "false", "unsure", "found", "minutes", "missed")
_PEERS = ("limit false", "found", "minutes", "watched false", "found", "minutes")


def main() -> None:
    """Run from the command line."""
    options = _options()
    if options.only in (None, "judgement"):
        _judgement(options)
    if options.only in (None, "service") and not _service(options):
        sys.exit(1)


def _service(options: argparse.Namespace) -> bool:
    from benchmarks.rollouts import service

    with tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
        return service.main(Path(folder), options.changes, as_json=options.json)


def _judgement(options: argparse.Namespace) -> None:
    rows, wide = [], (10, 10, 6, 6, 7, 6, 10, 7, 12, 6, 10, 14, 6, 10)
    if not options.json:
        print(f"{options.rollouts} rollouts each, looked at every 10 seconds; shares in per cent")
        print(" ".join(head.rjust(width) for head, width in zip(_HEAD + _PEERS, wide, strict=True)))
    for row in found(options.rollouts, (20, 1000) if options.quick else tuple(TRAFFIC)):
        rows.append(row)
        if not options.json:
            print(" ".join(_shown(*cell).rjust(width) for cell, width in zip(row.items(), wide, strict=True)))
            sys.stdout.flush()
    if options.json:
        print(json.dumps(rows, indent=2))


def found(rollouts: int, traffic: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """One row for each metric, traffic and share."""
    for metric, (rate, harmful, margin) in METRICS.items():
        for calls in traffic:
            for share in SHARES:
                case = Case(calls, share, rate, rate, margin, rate + margin, TRAFFIC[calls])
                same = simulate(case, rollouts, seed=1)
                worse = simulate(replace(case, candidate=harmful), rollouts, seed=2)
                hardest = simulate(replace(case, candidate=rate + margin * 1.01), rollouts, seed=3)
                ours = same["ours"]
                row: dict[str, Any] = {
                    "metric": metric,
                    "calls_a_minute": calls,
                    "share": share,
                    "false": ours.rolled_back,
                    "unsure": 1 - ours.rolled_back - ours.let_through,
                    "found": worse["ours"].rolled_back,
                    "minutes": worse["ours"].minutes,
                    "missed": hardest["ours"].let_through,
                }
                for name in ("limit", "watched"):
                    row[f"{name}_false"] = same[name].rolled_back
                    row[f"{name}_found"], row[f"{name}_minutes"] = worse[name].rolled_back, worse[name].minutes
                yield row


def _shown(name: str, value: Any) -> str:
    """Times in minutes, which may be less than one; all other fractions in per cent."""
    if name.endswith("minutes"):
        return "-" if math.isnan(value) else f"{value:.1f} min"
    return f"{value * 100:.1f}" if isinstance(value, float) else str(value)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollouts", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", choices=("judgement", "service"), help="only this table")
    parser.add_argument("--quick", action="store_true", help="two kinds of traffic, 200 rollouts each; 24 updates")
    parser.add_argument("--rollouts", type=int, help="how many are simulated for each line")
    parser.add_argument("--changes", type=int, help="how many updates and rollbacks are made under load")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.rollouts = options.rollouts or (200 if options.quick else 2000)
    options.changes = options.changes or (24 if options.quick else 200)
    return options


if __name__ == "__main__":
    main()

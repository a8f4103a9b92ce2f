"""One retraining that began by itself, in its own process: ``python -m modelyard.retraining --home DIR … NAME``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from modelyard.errors import ModelyardError
from modelyard.retraining import retrain
from modelyard.runs.limits import die_with_parent

NICENESS = 10
"""Training can wait, answers cannot."""


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.retraining", description="Trains one model again.")
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--project", type=Path, default=None)
    parser.add_argument("--trigger", choices=("alert", "schedule", "labels"), required=True)
    parser.add_argument("--why", default="")
    parser.add_argument("--alerts", default="", help="their numbers, with commas between")
    parser.add_argument("deployment")
    return parser.parse_args()


def _stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> int:
    """Train again; the report says what came of it."""
    options = parse()
    die_with_parent(os.getppid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, _stop)
    with suppress(OSError):
        os.nice(NICENESS)
    try:
        report = retrain(
            options.home,
            options.deployment,
            options.why,
            project=options.project,
            trigger=options.trigger,
            alerts=[int(number) for number in options.alerts.split(",") if number],
            by="",
        )
    except ModelyardError as error:
        sys.stderr.write(f"retraining: {options.deployment}: {error}\n")
        return 2
    sys.stderr.write(f"retraining: {report.deployment}: {report.id} {report.state}: {report.reason}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

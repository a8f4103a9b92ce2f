"""One retraining, begun by itself or over HTTP, in its own process: ``python -m modelyard.retraining … NAME``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import get_args

from modelyard.errors import ModelyardError
from modelyard.retraining import retrain
from modelyard.retraining.report import Trigger
from modelyard.retraining.stopping import stopped_in_order
from modelyard.runs.limits import die_with_parent

NICENESS = 10
"""Training can wait, answers cannot."""


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.retraining", description="Trains one model again.")
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--project", type=Path, default=None)
    parser.add_argument("--trigger", choices=get_args(Trigger), required=True)
    parser.add_argument("--why", default="")
    parser.add_argument("--by", default="", help="who asked for it")
    parser.add_argument("--alerts", default="", help="their numbers, with commas between")
    parser.add_argument("deployment")
    return parser.parse_args()


def main() -> int:
    """Train again; the report says what came of it."""
    options = parse()
    die_with_parent(os.getppid(), signal.SIGTERM)
    with suppress(OSError):
        os.nice(NICENESS)
    try:
        with stopped_in_order():
            report = retrain(
                options.home,
                options.deployment,
                options.why,
                project=options.project,
                trigger=options.trigger,
                alerts=[int(number) for number in options.alerts.split(",") if number],
                by=options.by,
            )
    except ModelyardError as error:
        sys.stderr.write(f"retraining: {options.deployment}: {error}\n")
        return 2
    sys.stderr.write(f"retraining: {report.deployment}: {report.id} {report.state}: {report.reason}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

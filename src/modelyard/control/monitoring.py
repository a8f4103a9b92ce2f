"""Run the monitor: ``python -m modelyard.control.monitoring --home DIR --announce FILE``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from threadpoolctl import threadpool_limits

from modelyard.control import announce
from modelyard.errors import ModelyardError
from modelyard.home import Home
from modelyard.monitoring.following import EVERY, follow

NICENESS = 19
"""Windows can wait, answers cannot."""


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.control.monitoring", description="The monitor.")
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--every", type=float, default=EVERY, help="seconds between two looks")
    parser.add_argument("--announce", type=Path, default=None, help="where to write that it runs")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stderr.write(f"monitor: {line}\n")


def main() -> int:
    """Monitor until told to stop; 2 when it cannot be started as asked."""
    options, stop = parse(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    os.nice(NICENESS)
    if options.announce is not None:
        announce.write(options.announce, announce.Announcement("", os.getpid()))
    try:
        # Its matrices are small: threads would wait for one another, and take what the data plane needs.
        with threadpool_limits(1):
            follow(Home.locate(options.home), stop, _say, options.every)
    except ModelyardError as error:
        sys.stderr.write(f"the monitor cannot start: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

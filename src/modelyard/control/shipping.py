"""Run the shipper of records: ``python -m modelyard.control.shipping --home DIR --announce FILE``."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import threading
from pathlib import Path

from modelyard.control import announce
from modelyard.errors import ModelyardError
from modelyard.home import Home
from modelyard.monitoring.shipments import EVERY, follow

NICENESS = 19
"""Shipping can wait, answers cannot: where both want the processor, the shipper hardly gets any of it."""

COLLECTED_AFTER = 200_000
"""Rows of a stretch are many small objects that live for a moment and form no cycles: looking for such ones among them
every 700 objects, as Python does, takes a third of the time."""


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.control.shipping", description="The shipper of records.")
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--every", type=float, default=EVERY, help="seconds between two looks")
    parser.add_argument("--announce", type=Path, default=None, help="where to write that it runs")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stderr.write(f"shipper: {line}\n")


def main() -> int:
    """Ship until told to stop; 2 when it cannot be started as asked."""
    options, stop = parse(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    os.nice(NICENESS)
    gc.set_threshold(COLLECTED_AFTER)
    if options.announce is not None:
        announce.write(options.announce, announce.Announcement("", os.getpid()))
    try:
        follow(Home.locate(options.home), stop, _say, options.every)
    except ModelyardError as error:
        sys.stderr.write(f"the shipper cannot start: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What all peers' programs share that follow streams: read each, check window after window, print the alarms as JSON.

A stream lies in a folder: ``reference.parquet``, ``live.parquet``, and ``order.json`` with the rows of a window and
the number of windows before the change. Columns are the inputs, ``score``, ``predicted``, ``label`` and ``wrong``. A
check gives a name and a verdict for each way that the tool could be asked. After the change windows are checked until
all ways have alarmed.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import pandas as pd


def follow(fit, check):
    warnings.simplefilter("ignore")
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        order = json.loads((folder / "order.json").read_text())
        reference, live = (pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "live"))
        fitted, alarms, open_ways = fit(reference), {}, None
        for at in range(len(live) // order["rows"]):
            window = live.iloc[at * order["rows"] : (at + 1) * order["rows"]].reset_index(drop=True)
            for way, flagged in check(fitted, window).items():
                alarms.setdefault(way, [])
                if flagged:
                    alarms[way].append(at)
            open_ways = [way for way, found in alarms.items() if not any(each >= order["steady"] for each in found)]
            if at >= order["steady"] and not open_ways:
                break
        print(json.dumps({"stream": folder.name, "alarms": alarms}), flush=True)

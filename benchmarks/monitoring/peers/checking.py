"""What all programs of the table of speed share: read two tables, fit on one, check the other once, say what it took.

`megabytes` is how far the process grew beyond what it held before the check, at its peak.
"""

from __future__ import annotations

import gc
import json
import time
import warnings
from pathlib import Path

import pandas as pd


def check(arguments, fit, run):
    warnings.simplefilter("ignore")
    reference, current = (pd.read_parquet(file) for file in arguments[1:3])
    left_out = [
        name
        for name in reference
        if reference[name].dtype.kind not in "if" and reference[name].nunique() > int(arguments[3])
    ]
    reference, current = reference.drop(columns=left_out), current.drop(columns=left_out)
    fitted = fit(reference)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    memory, start = kilobytes("VmRSS"), time.process_time()
    flagged = run(fitted, current)
    spent = time.process_time() - start
    grown = (kilobytes("VmHWM") - memory) / 1000
    print(json.dumps({"seconds": spent, "megabytes": grown, "flagged": flagged, "columns": len(reference.columns)}))


def kilobytes(what):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1])
    return 0

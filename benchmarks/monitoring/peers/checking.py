"""What all peers' programs share: read two tables, fit on one, check the other once, print what it took as JSON."""

from __future__ import annotations

import json
import resource
import time
import warnings

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
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    flagged = run(fitted, current)
    spent = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1000
    print(json.dumps({"seconds": spent, "megabytes": grown, "flagged": flagged, "columns": len(reference.columns)}))

"""Columns of mixed kinds, as monitoring meets them: numbers with spikes, ties, heavy tails and gaps; texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

DIFFERENT = (2, 5, 10, 50, 200, 1000, 10_000, 100_000)


def table(draw: np.random.Generator, rows: int, repeat: int = 1) -> pd.DataFrame:
    """Twenty columns, `repeat` times: 12 of numbers and 8 of texts."""
    made: dict[str, Any] = {}
    for at in range(repeat):
        made |= {f"{name}{at}": values for name, values in _twenty(draw, rows).items()}
    return pd.DataFrame(made)


def _twenty(draw: np.random.Generator, rows: int) -> dict[str, Any]:
    numbers = {
        "normal": draw.normal(size=rows),
        "uniform": draw.random(rows),
        "lognormal": draw.lognormal(0, 2, rows),
        "pareto": draw.pareto(1, rows),
        "hour": draw.integers(0, 24, rows),
        "count": draw.poisson(3, rows),
        "spiked": np.where(draw.random(rows) < 0.4, 0.0, draw.normal(size=rows)),
        "rounded": np.round(draw.normal(size=rows), 1),
        "gaps": np.where(draw.random(rows) < 0.1, np.nan, draw.normal(size=rows)),
        "rare": np.where(draw.random(rows) < 0.95, np.nan, draw.gamma(2, 1, rows)),
        "two": np.where(draw.random(rows) < 0.5, draw.normal(-3, 1, rows), draw.normal(3, 1, rows)),
        "large": draw.normal(1e9, 1.0, rows),
    }
    texts = {f"text{different}x": _text(draw, rows, different) for different in DIFFERENT}
    return numbers | texts


def _text(draw: np.random.Generator, rows: int, different: int) -> Any:
    """Few values as often as each other, many with a long tail."""
    names = np.array([f"v{at}" for at in range(different)], dtype=object)
    if different <= 10:
        return pd.Series(names[draw.integers(0, different, rows)], dtype="str")
    return pd.Series(names[np.minimum(draw.pareto(0.7, rows) * 2, different - 1).astype(int)], dtype="str")

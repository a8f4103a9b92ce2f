"""Streams of River's generators before and after a change of concept, as Parquet files in a folder.

``SEA``, ``Agrawal`` and ``Hyperplane`` are as River makes them by default (Hyperplane: five of ten weights move by 1,
one in twenty labels is wrong); ``LED`` has 17 irrelevant inputs and swaps three of the relevant ones, by default
without noise and once more with a tenth of the segments wrong, as it is often used.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pandas as pd
from river.datasets import synth

BEFORE, AFTER = 80_000, 30_000


def table(stream, rows):
    found = list(itertools.islice(stream, rows))
    made = pd.DataFrame([inputs for inputs, _ in found])
    made.columns = [str(name) for name in made.columns]
    return made.assign(label=[int(label) for _, label in found])


def hyperplane(moved):
    source = synth.Hyperplane(seed=42, n_drift_features=5, mag_change=0.05 if moved else 0.0, sigma=0.0)
    stream = iter(source)
    table(stream, 20)
    source.mag_change = 0.0
    return stream


def led(noise, swapped, seed):
    return iter(synth.LEDDrift(seed=seed, noise_percentage=noise, irrelevant_features=True, n_drift_features=swapped))


def agrawal(function, seed):
    return iter(synth.Agrawal(classification_function=function, seed=seed))


SOURCES = {
    "SEA": (lambda: iter(synth.SEA(variant=0, seed=1)), lambda: iter(synth.SEA(variant=3, seed=2))),
    "Agrawal": (lambda: agrawal(0, 1), lambda: agrawal(1, 2)),
    "LED": (lambda: led(0.0, 0, 1), lambda: led(0.0, 3, 2)),
    "LED, noisy": (lambda: led(0.1, 0, 1), lambda: led(0.1, 3, 2)),
    "Hyperplane": (lambda: hyperplane(False), lambda: hyperplane(True)),
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, (before, after) in SOURCES.items():
        table(before(), BEFORE).to_parquet(folder / f"{name}.before.parquet")
        table(after(), AFTER).to_parquet(folder / f"{name}.after.parquet")

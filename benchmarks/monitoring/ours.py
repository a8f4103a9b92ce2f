"""A stream followed by the watches of the product, with the settings that a deployment has if nothing is set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.monitoring.streams import CHANCE, Order, Source
from modelyard.monitoring.calls import Calls
from modelyard.monitoring.looking import History
from modelyard.monitoring.performance.watch import Performance
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.store import Window, packed
from modelyard.monitoring.watches import WATCHES
from modelyard.monitoring.watching import Facts, Snapshot

HOUR = 3600.0
OURS = "modelyard"
START = datetime(2025, 1, 6, tzinfo=UTC)
_DAY = 24
_NOT_COUNTED = ["label", "wrong"]


class Ours:
    """Inputs and answers are watched from the first hour; labels after the version's first days, which they need."""

    def __init__(self, source: Source, order: Order) -> None:
        self._order = order
        self._classes = [name.removeprefix(CHANCE) for name in map(str, source.reference) if name.startswith(CHANCE)]
        self._reference = Reference.of_table(self._counted(source.reference))
        self._outputs = ("predict", *(f"predict_proba[{name}]" for name in self._classes))
        self._settings = Settings()
        self._states: dict[str, Any] = {}
        self._history = History()

    def follow(self, live: pd.DataFrame) -> Mapping[str, list[int]]:
        """The windows in which there was an alarm, until the first after the change; with labels and without."""
        alarms: dict[str, list[int]] = {OURS: [], f"{OURS} (no labels)": []}
        flat = self._flat(live)
        for at in range(self._order.steady + self._order.changed):
            window = live.iloc[at * self._order.rows : (at + 1) * self._order.rows]
            moved = any(found.alarm for found in self._windows(at, window))
            worse = any(found.alarm for found in self._labels(at, flat))
            if moved:
                alarms[f"{OURS} (no labels)"].append(at)
            if moved or worse:
                alarms[OURS].append(at)
            if all(each and each[-1] >= self._order.steady for each in alarms.values()):
                break
        return alarms

    def _counted(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.drop(columns=_NOT_COUNTED).rename(columns=lambda name: _as_in_profiles(str(name)))

    def _flat(self, live: pd.DataFrame) -> pa.Table:
        spread = np.arange(len(live)) * round(HOUR / self._order.rows * 1e6)
        moments = pd.Series(np.datetime64(START.replace(tzinfo=None), "us") + spread.astype("timedelta64[us]"))
        ids = [str(at) for at in range(len(live))]
        facts: dict[str, Any] = {"prediction_id": ids, "event_time": moments, "labelled_at": moments, "version": 1}
        return pa.Table.from_pandas(live.drop(columns="wrong").assign(**facts), preserve_index=False)

    def _windows(self, at: int, window: pd.DataFrame) -> Iterator[Any]:
        profile, began = self._reference.profile(self._counted(window)), START + timedelta(hours=at)
        seconds = int(began.timestamp())
        calls = Calls(outcomes={"ok": len(window)}, rows=len(window))
        for watch in WATCHES:
            settings = self._settings.with_share(watch.share or 1.0)
            state = self._states.get(watch.name) or watch.start(self._reference, settings)
            snapshot = Snapshot(
                "live", "model@1", began, HOUR, self._reference, profile,
                lambda since, length: self._history.between(
                    int(since.timestamp()), min(seconds, int(since.timestamp() + length))
                ),
                calls, settings, None, self._outputs,
            )  # fmt: skip
            self._states[watch.name], findings = watch.look(state, snapshot)
            yield from findings
        self._history.add(Window("live", "digest", seconds, HOUR, "model", 1, calls, packed(profile)))

    def _labels(self, at: int, flat: pa.Table) -> Iterator[Any]:
        """What was taken in before need not be handed in again."""
        watch = Performance()
        settings = self._settings.with_share(watch.share)
        state = self._states.get(watch.name) or watch.start(self._reference, settings)
        if state.baseline is None and (at + 1) % _DAY:
            return
        now = START + timedelta(hours=at + 1)
        taken = round(state.taken / 1e6 - START.timestamp()) if state.taken else 0
        first = taken * self._order.rows // int(HOUR)
        rows = flat.slice(first, (at + 1) * self._order.rows - first)
        facts = Facts(
            "live", "model@1", START, now, now, self._reference, settings, None, self._outputs, "classification",
            tuple(_plain(name) for name in self._classes),
        )  # fmt: skip
        self._states[watch.name], findings = watch.look(state, rows, facts)
        yield from findings


def _as_in_profiles(name: str) -> str:
    return f"predict_proba[{name.removeprefix(CHANCE)}]" if name.startswith(CHANCE) else name


def _plain(name: str) -> int | str:
    return int(name) if name.lstrip("-").isdigit() else name

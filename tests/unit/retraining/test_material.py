"""Which records a snapshot holds: by time, and by key."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.errors import Failed
from modelyard.retraining.material import keys_in, latest, tables_with


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    moments = [datetime(2026, 1, day, 12, tzinfo=UTC) for day in (1, 5)]
    pq.write_table(pa.table({"flight": [1, 2], "carrier": ["UA", "EV"], "at": moments}), tmp_path / "one.parquet")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "two.csv").write_text("flight,carrier,at\n3,UA,2026-01-07T00:00:00\n")
    (tmp_path / "read.me").write_text("no table")
    return tmp_path


def test_the_latest_moment_is_that_of_all_tables(folder: Path) -> None:
    assert latest(folder, "at") == np.datetime64("2026-01-07T00:00:00")


def test_keys_are_compared_whatever_their_type(folder: Path) -> None:
    assert keys_in(folder, ["carrier", "flight"]) == {("UA", "1"), ("EV", "2"), ("UA", "3")}


def test_a_column_that_is_nowhere_is_told(folder: Path) -> None:
    with pytest.raises(Failed, match="no table of the new version of the data has the columns landed"):
        tables_with(folder, ["landed"])
    with pytest.raises(Failed, match="'carrier' of the new version of the data holds no times"):
        latest(folder, "carrier")

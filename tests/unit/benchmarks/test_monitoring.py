"""The pure parts of the monitoring benchmark: which peers are taken, what is printed and what it is held against."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from benchmarks.monitoring.cost import OFF, ON, Cost, Kept
from benchmarks.monitoring.goals import cost
from benchmarks.monitoring.installed import LISTS, PEERS, chosen, interpreters
from benchmarks.monitoring.pairs import Meetings, dependent_pool, paired_silence
from benchmarks.monitoring.report import Report, Section

from modelyard.monitoring.columns import table_of
from modelyard.monitoring.reference import Reference


def test_peers_are_all_or_those_that_are_named(tmp_path: Path) -> None:
    assert set(chosen([])) == set(PEERS)
    assert chosen(["none"]) == {}
    assert chosen([f"river={tmp_path}/python", "alibi"]) == {"river": tmp_path / "python", "alibi": None}
    with pytest.raises(ValueError, match="no peer 'rivers'; there are: evidently"):
        chosen(["rivers"])


def test_every_peer_has_a_pinned_list() -> None:
    for name in PEERS:
        lines = (LISTS / f"{name}.txt").read_text().splitlines()
        assert lines
        assert all("==" in line for line in lines)


def test_a_given_interpreter_is_not_installed(tmp_path: Path) -> None:
    assert interpreters({"river": tmp_path, "alibi": None}, ["river"]) == ({"river": tmp_path}, {})


def test_the_goal_of_cost_is_a_share_of_the_throughput_with_nothing_lost() -> None:
    rates = {OFF: 1000.0, ON: 850.0}
    off, on = (Cost(1, name, rate, rate / 1000, 1.0, 80.0, 0.0, 0.0, 0, 0) for name, rate in rates.items())
    goals = list(cost([Section("Cost", [off, on]), Section("Kept", [Kept(1, 500, 0, 1.0, 20.0, 0, 1, 0)])]))
    assert [(goal.reached, goal.met) for goal in goals] == [(0.85, False), (1, False)]


def test_a_report_is_a_document_without_numbers_that_json_lacks() -> None:
    kept = Kept(1, 500, 0, math.inf, math.nan, 0, 0, 0)
    said = json.loads(Report({"cost": [Section("Kept", [kept])]}, missing={"power": "it needs river"}).as_json())
    [row] = said["tables"]["cost"][0]["rows"]
    assert (row["rows"], row["seconds"], row["us_a_row"]) == (500, None, None)
    assert said["missing"] == {"power": "it needs river"}


def test_meetings_of_rows_drawn_by_number_are_those_of_the_rows() -> None:
    pool = dependent_pool()
    reference = Reference.of_table(pool.iloc[:2000])
    assert reference.pairs is not None
    meetings = Meetings.of(reference.pairs, pool)
    drawn = meetings.drawn(np.random.default_rng(4), 500)
    rows = pool.iloc[np.random.default_rng(4).integers(0, len(pool), 500)]
    counted = reference.pairs.met(table_of(rows.reset_index(drop=True)))
    assert {at: counts.tolist() for at, counts in enumerate(drawn)} == {at: c.tolist() for at, c in counted.items()}
    [each] = paired_silence(1, 26)
    assert (each.rows, each.hours, each.alarms) == (30, 26, 0)

"""Evidence that two columns go together otherwise: exact under its null, quick where pairs break, silent elsewhere."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from scipy.stats import nchypergeom_fisher

from modelyard.domain.pairs import WIDTH
from modelyard.monitoring.calls import Calls
from modelyard.monitoring.comparison import compare, compare_counts
from modelyard.monitoring.dependence import Cuts, cells, fitted, paired_otherwise
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.odds import Tables, both, likely, log_factorial, log_partition, moved
from modelyard.monitoring.pairing import Pairing
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.report import page
from modelyard.monitoring.verdicts import Verdict
from modelyard.monitoring.watching import Settings, Snapshot
from modelyard.monitoring.windows import Profile
from unit.monitoring.rhythms import START, played
from unit.monitoring.test_pairs import REFERENCE, table

Rows = Callable[[np.random.Generator, int, int], dict[str, Any]]


def of(*tables: tuple[int, int, int, int]) -> Tables:
    return Tables(*(np.array(part) for part in zip(*tables, strict=True)))


@pytest.mark.parametrize("n", [7, 60, 900, 200_000])
def test_the_law_of_tables_is_that_of_an_independent_implementation(n: int) -> None:
    draw = np.random.default_rng(n)
    for _ in range(12):
        first, second = (int(draw.integers(n // 5, n // 2)) for _ in range(2))
        theta = float(draw.uniform(-3, 3))
        x = round(float(both(np.array(first), np.array(second), np.array(n), np.array(theta))))
        made = of((x, first, second, n))
        whole, mean = log_partition(made, np.array([[theta]]))
        term = theta * x - float(
            sum(log_factorial(np.array([each]))[0] for each in (x, first - x, second - x, n - first - second + x))
        )
        law = nchypergeom_fisher(n, first, second, np.exp(theta))
        assert term - whole[0, 0] == pytest.approx(law.logpmf(x), abs=1e-6)
        assert mean[0, 0] == pytest.approx(law.mean(), rel=1e-6)


def test_the_likely_range_fails_as_seldom_as_it_says() -> None:
    n, first, second, theta, error = 60, 25, 30, 0.8, 2.5
    possible = np.arange(first + 1)
    low, high = likely(of(*((int(x), first, second, n) for x in possible)), error)
    chance = nchypergeom_fisher(n, first, second, np.exp(theta)).pmf(possible)
    assert chance[low > theta].sum() <= np.exp(-error)
    assert chance[high < theta].sum() <= np.exp(-error)
    assert chance[(low <= theta) & (theta <= high)].sum() > 0.85


def test_evidence_has_an_expectation_of_at_most_one_whatever_the_columns_alone_are() -> None:
    harmless, other = 0.6, 1.6
    for first, second in ((20, 15), (3, 30), (39, 20), (10, 10)):
        n, x = 40, np.arange(min(first, second) + 1)
        x = x[x >= first + second - n]
        made = of(*((int(each), first, second, n) for each in x))
        ends = [log_partition(made, np.full((len(x), 1), theta))[0][:, 0] for theta in (harmless, other)]
        ratios = np.exp((other - harmless) * x - ends[1] + ends[0])
        for theta in (-3.0, 0.0, 0.6):
            expected = float(nchypergeom_fisher(n, first, second, np.exp(theta)).pmf(x) @ ratios)
            assert expected <= 1.0 + 1e-9
        assert float(nchypergeom_fisher(n, first, second, np.exp(harmless)).pmf(x) @ ratios) == pytest.approx(1.0)


def test_theta_is_moved_by_shares_of_rows() -> None:
    share = np.array([0.5])
    theta = moved(share, share, np.array([0.0]), np.array([0.025]))
    assert both(share, share, np.ones(1), theta)[0] == pytest.approx(0.275)
    assert np.isposinf(moved(np.array([0.02]), share, np.array([0.0]), np.array([0.025])))[0]


def test_what_columns_do_alone_is_no_difference_of_pairs() -> None:
    draw = np.random.default_rng(2)
    before = draw.integers(20, 200, (WIDTH, WIDTH)) * 50
    rows, columns = (draw.uniform(0.2, 3, WIDTH) for _ in range(2))
    now = (before * np.outer(rows, columns)).astype(np.int64)
    assert paired_otherwise(before.reshape(-1), now.reshape(-1)) < 0.002
    assert fitted(before.reshape(-1), now.reshape(-1)).sum() == pytest.approx(now[1:, 1:].sum())


def test_cuts_show_what_depends_and_leave_missing_out() -> None:
    assert REFERENCE.pairs is not None
    cuts = Cuts(REFERENCE.pairs)
    assert all(not cut.first[0] and not cut.second[0] for cut in cuts.cuts)
    low, high = cuts.harmless(0.99, 0.05)
    own = cuts.reference
    odds = np.log(own.x * (own.n - own.first - own.second + own.x) / ((own.first - own.x) * (own.second - own.x)))
    assert ((low < odds) & (odds < high)).all()


def found(rows: Rows, hours: int, each: int, reference: Reference = REFERENCE) -> list[tuple[int, Finding]]:
    return [(hour, one) for hour, one in played((Pairing(),), reference, rows, hours, each) if one.alarm]


def from_hour(start: int, changed: Callable[[np.random.Generator, dict[str, Any]], dict[str, Any]]) -> Rows:
    def rows(draw: np.random.Generator, hour: int, number: int) -> dict[str, Any]:
        made = table(draw, number)
        return made | changed(draw, made) if hour >= start else made

    return rows


@pytest.mark.parametrize("each", [40, 400])
def test_a_broken_join_is_noticed_though_no_column_changed(each: int) -> None:
    alarms = found(from_hour(30, lambda draw, made: {"dest": draw.permutation(made["dest"])}), 40, each)
    assert 30 <= alarms[0][0] <= 30 + 200 // each
    first = alarms[0][1]
    assert (first.watch, first.subject) == ("drift.pairs", "carrier, dest")
    assert first.effect > 0.3
    assert "carrier and dest go together otherwise" in first.said
    assert first.since is not None
    assert first.since - START >= timedelta(hours=29)
    assert first.details["dependence"][0] > 0.4 > 0.15 > first.details["dependence"][1]
    assert {one.subject for _, one in alarms} == {"carrier, dest"}


def test_steady_pairs_and_columns_that_move_alone_are_silent() -> None:
    assert found(lambda draw, hour, rows: table(draw, rows), 120, 60) == []
    shifted = from_hour(30, lambda draw, made: {"temp": made["temp"] + 12, "dewp": made["dewp"] + 12})
    assert found(shifted, 60, 200) == []


def test_weather_that_all_rows_of_an_hour_share_is_silent() -> None:
    rows = weather()
    draw = np.random.default_rng(99)
    parts = [rows(draw, hour, 40) for hour in range(24 * 28)]
    made = Reference.of_table({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    assert found(lambda draw, hour, number: rows(draw, hour + 24 * 28, number), 24 * 10, 60, made) == []


def weather() -> Rows:
    """Temperature and dew point of an hour at three places; a carrier has its place."""
    draw, hours = np.random.default_rng(3), 24 * 40
    day, damp = (np.repeat(draw.normal(0, 1, 40), 24) for _ in range(2))
    temp = 8 * day + 5 * np.sin(2 * np.pi * np.arange(hours) / 24) + draw.normal(0, 1, hours)
    dewp = 5.6 * day + 4 * damp + draw.normal(0, 1, hours)

    def rows(draw: np.random.Generator, hour: int, number: int) -> dict[str, Any]:
        place = draw.integers(0, 3, number)
        carrier = np.where(draw.random(number) < 0.6, place, draw.integers(0, 3, number))
        off = np.array([0.0, 1.5, -1.0])[place]
        return {
            "temp": temp[hour] + off,
            "dewp": dewp[hour] + 2 * off,
            "place": np.array(["EWR", "JFK", "LGA"], dtype=object)[place],
            "carrier": np.array(["AA", "B6", "EV"], dtype=object)[carrier],
            "hour": np.full(number, float(hour % 24)),
        }

    return rows


def test_what_is_one_and_the_same_in_the_reference_is_noticed_when_it_no_longer_is() -> None:
    draw = np.random.default_rng(6)
    place = draw.choice(["EWR", "JFK", "LGA"], 20_000).astype(object)
    made = Reference.of_table({"place": place, "again": place, "rare": draw.random(20_000) < 0.03})

    def rows(draw: np.random.Generator, hour: int, number: int) -> dict[str, Any]:
        some = draw.choice(["EWR", "JFK", "LGA"], number).astype(object)
        other = draw.permutation(some) if hour >= 30 else some
        return {"place": some, "again": other, "rare": draw.random(number) < 0.03}

    alarms = found(rows, 33, 100, made)
    assert alarms[0][0] == 30
    assert {one.subject for _, one in alarms} == {"place, again"}


def test_references_of_earlier_releases_have_nothing_to_watch() -> None:
    old = Reference(REFERENCE.described, REFERENCE.rows)
    assert found(from_hour(30, lambda draw, made: {"dest": draw.permutation(made["dest"])}), 40, 60, old) == []


def test_the_cells_that_changed_most_come_first() -> None:
    assert REFERENCE.pairs is not None
    draw = np.random.default_rng(8)
    made = table(draw, 3000)
    counts = REFERENCE.profile(made | {"dest": draw.permutation(made["dest"])}).met
    at = REFERENCE.pairs.names.index(("carrier", "dest"))
    shown = cells(REFERENCE.pairs, at, counts[at], 3)
    assert {name for name, _, _ in shown} == {"AA with MIA", "B6 with BOS", "EV with ORD"}
    assert all(before > now for _, before, now in shown)


def test_alarms_keep_to_the_budget_even_at_the_end_of_what_is_harmless() -> None:
    draw, rows = np.random.default_rng(1), 200
    shares = np.array([0.275, 0.225, 0.225, 0.275])  # independent in the reference: a twentieth of rows is otherwise
    made = Reference.of_table({"a": np.tile([0.0, 0.0, 1.0, 1.0], 50_000), "b": np.tile([0.0, 1.0], 100_000)})
    watch, told = Pairing(), Settings(false_alarms="1 per day", certainty=0.9999)
    state, alarms, hours = watch.start(made, told), 0, 24 * 25
    empty = made.profile({"a": [0.0], "b": [1.0]})
    for hour in range(hours):
        counts = np.zeros((WIDTH, WIDTH), dtype=np.int64)
        counts[1:3, 1:3] = draw.multinomial(rows, shares).reshape(2, 2)
        window = Profile(made.digest, rows, empty.columns, {0: counts.reshape(-1)})
        snapshot = Snapshot(
            deployment="d",
            version="m@1",
            began=START + timedelta(hours=hour),
            seconds=3600.0,
            reference=made,
            window=window,
            earlier=lambda began, seconds: None,
            calls=Calls(rows=rows),
            settings=told,
        )
        state, findings = watch.look(state, snapshot)
        alarms += any(each.alarm for each in findings)
    assert alarms <= hours / 24


def test_two_tables_whose_pairs_differ_are_told_apart_though_their_columns_are_the_same() -> None:
    draw = np.random.default_rng(4)
    made = table(draw, 3000)
    assert compare(REFERENCE, made).drift is False
    found = compare(REFERENCE, made | {"dest": draw.permutation(made["dest"])})
    assert found.moved == ()
    assert found.pairs_moved == (("carrier", "dest"),)
    assert found.drift
    assert found.pairs[0].distance > 0.4
    assert found.pairs[0].dependence[1] < 0.1
    assert found.to_dict()["pairs_moved"] == [["carrier", "dest"]]
    assert "pair moved: carrier and dest go together otherwise" in repr(found)
    assert "combinations that changed most" in page(found)
    counted = compare_counts(REFERENCE, REFERENCE.profile(made))
    assert counted.pairs == compare(REFERENCE, made).pairs


def test_columns_that_move_alone_move_no_pair() -> None:
    made = table(np.random.default_rng(4), 3000)
    found = compare(REFERENCE, made | {"temp": made["temp"] + 12, "dewp": made["dewp"] + 12})
    assert set(found.moved) == {"temp", "dewp"}
    assert found.pairs_moved == ()


def test_tables_of_one_source_have_no_pair_that_moved() -> None:
    called = 0
    for seed in range(25):
        draw = np.random.default_rng([5, seed])
        made = Reference.of_table(table(draw, 600))
        called += any(pair.chance <= 0.01 for pair in compare(made, table(draw, 400)).pairs)
    assert called <= 2  # of 25, where a quarter of one is to be expected at most


def test_a_column_that_cannot_be_read_takes_its_pairs_along() -> None:
    made = table(np.random.default_rng(4), 300)
    found = compare(REFERENCE, made | {"temp": ["warm"] * 300})
    assert found["temp"].verdict is Verdict.UNREADABLE
    assert all("temp" not in pair.columns for pair in found.pairs)
    assert found.pairs

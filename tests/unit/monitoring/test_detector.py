"""Alarms: as many false ones as the budget allows, at the worst that the null holds, and soon where something moved."""

from typing import Any

import msgspec
import numpy as np
import pytest

from modelyard.errors import InvalidRequest
from modelyard.monitoring import comparison
from modelyard.monitoring.budget import Budget
from modelyard.monitoring.detector import Detector, Settings, State, Verdict
from modelyard.monitoring.facets import Facet, Margins, likely_range
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.slots import Tally
from modelyard.monitoring.windows import Profile

HOUR = 3600.0
QUARTERLY = Settings(Budget.parse("1 per quarter"))


def table(rng: np.random.Generator, rows: int, shift: float = 0.0) -> dict[str, Any]:
    return {
        "moving": rng.normal(shift, 1, rows),
        "steady": np.where(rng.random(rows) < 0.4, 0.0, rng.normal(size=rows)),
        "hour": rng.integers(0, 24, rows),
        "carrier": rng.choice(list("abcdefghij"), rows),
        "gone": np.where(rng.random(rows) < 0.1 + shift / 10, np.nan, rng.normal(size=rows)),
    }


REFERENCE = Reference.of_table(table(np.random.default_rng(1), 5000))


def coin(reference_rows: int, *, grouped: float = 1.0, alarms: str = "1 per day") -> tuple[Reference, Detector]:
    """A column of two values, as often as each other in a large reference; the margin is 0.05."""
    half = reference_rows // 2
    made = Reference(
        {"c": {"type": "values", "values": [["a", half], ["b", half]], "missing": 0, "other": 0}}, 2 * half
    )
    return made, Detector(made, Settings(Budget.parse(alarms), Margins(), grouped=grouped))


def window(made: Reference, of_a: int, rows: int) -> Profile:
    return Profile(made.digest, rows, {"c": Tally(np.array([0, 0, 0, of_a, rows - of_a], dtype=np.int64))})


def alarms(detector: Detector, windows: list[Profile]) -> int:
    state, found = detector.start(), 0
    for each in windows:
        state, verdict = detector.step(state, each, HOUR)
        found += verdict.alarm
    return found


@pytest.mark.parametrize("rows", [30, 1000])
def test_at_the_edge_of_what_is_harmless_the_budget_holds(rows: int) -> None:
    """One a day is allowed; 4,000 hours at the share that the null just holds."""
    made, detector = coin(10_000_000)
    low, high = likely_range(np.array([5_000_000]), np.array([10_000_000]), np.array([np.log(2 * 4 / 0.01)]))
    assert high[0] - low[0] < 0.002
    rng = np.random.default_rng(rows)
    found = alarms(detector, [window(made, each, rows) for each in rng.binomial(rows, 0.55, 4000)])
    assert found <= 4000 / 24


def test_the_budget_holds_for_rows_that_come_in_groups() -> None:
    made, detector = coin(10_000_000, grouped=10)
    rng = np.random.default_rng(5)
    groups = [window(made, 10 * each, 300) for each in rng.binomial(30, 0.55, 3000)]
    assert alarms(detector, groups) <= 3000 / 24
    _, unaware = coin(10_000_000)
    assert alarms(unaware, groups) > 3000 / 24, "without being told of the groups it would be too sure"


def test_a_steady_stream_is_silent_and_a_shift_is_noticed_soon() -> None:
    rng = np.random.default_rng(2)
    detector = Detector(REFERENCE, QUARTERLY)
    state = detector.start()
    for _ in range(150):
        state, verdict = detector.step(state, REFERENCE.profile(table(rng, 100)), HOUR)
        assert not verdict.alarm
    for windows in range(1, 20):  # noqa: B007
        state, verdict = detector.step(state, REFERENCE.profile(table(rng, 100, 0.5)), HOUR)
        if verdict.alarm:
            break
    assert verdict.alarm
    assert windows <= 15
    assert verdict.suspects[0].column == "moving"
    assert verdict.suspects[0].facet is Facet.DISTRIBUTION
    assert not state.gathered, "after an alarm it begins anew"


@pytest.mark.parametrize(
    ("column", "values", "facet"),
    [
        ("moving", np.full(200, np.nan), Facet.MISSING),
        ("moving", np.full(200, 90.0), Facet.OUTSIDE),
        ("moving", np.full(200, -np.inf), Facet.OUTSIDE),
        ("carrier", np.full(200, "z", dtype=object), Facet.NEW),
        ("carrier", np.full(200, "a", dtype=object), Facet.DISTRIBUTION),
        ("hour", np.full(200, 3), Facet.DISTRIBUTION),
    ],
)
def test_what_changed_is_named(column: str, values: Any, facet: Facet) -> None:
    detector = Detector(REFERENCE, QUARTERLY)
    changed = table(np.random.default_rng(3), 200) | {column: values}
    _, verdict = detector.step(detector.start(), REFERENCE.profile(changed), HOUR)
    assert verdict.alarm
    assert verdict.suspects[0].column == column
    assert verdict.suspects[0].facet is facet


def test_a_small_difference_in_very_many_rows_is_no_alarm() -> None:
    made, detector = coin(10_000_000)
    assert alarms(detector, [window(made, 530_000, 1_000_000)] * 5) == 0


def test_a_column_that_matters_more_is_noticed_sooner() -> None:
    def evidence(weights: dict[str, float]) -> float:
        detector = Detector(REFERENCE, Settings(Budget.parse("1 per quarter"), weights=weights))
        shifted = REFERENCE.profile(table(np.random.default_rng(4), 100, 0.5))
        return detector.step(detector.start(), shifted, HOUR)[1].evidence

    assert evidence({"moving": 10.0}) > evidence({}) > evidence({"moving": 0.1})
    with pytest.raises(InvalidRequest, match="weight 0"):
        Detector(REFERENCE, Settings(Budget.parse("1 per quarter"), weights=dict.fromkeys(REFERENCE.slots, 0.0)))


def test_decisions_depend_on_state_and_window_alone() -> None:
    detector = Detector(REFERENCE, QUARTERLY)
    profile = REFERENCE.profile(table(np.random.default_rng(6), 100, 0.4))
    state, first = detector.step(detector.start(), profile, HOUR)
    written = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
    again = Detector(REFERENCE, QUARTERLY)
    assert detector.step(state, profile, HOUR) == again.step(written, profile, HOUR)
    assert isinstance(first, Verdict)


def test_an_empty_window_brings_no_evidence() -> None:
    detector = Detector(REFERENCE, QUARTERLY)
    _, verdict = detector.step(detector.start(), Profile(REFERENCE.digest, 0, {}), HOUR)
    assert verdict.evidence == 0.0


def test_windows_of_another_reference_are_refused() -> None:
    detector = Detector(REFERENCE, QUARTERLY)
    with pytest.raises(InvalidRequest, match="another reference"):
        detector.step(detector.start(), Profile("other", 0, {}), HOUR)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1 per quarter", 7_889_238),
        ("2 per year", 15_778_476),
        ("one a month", 2_629_746),
        ("1 every 2 weeks", 1_209_600),
    ],
)
def test_budgets_are_plain_words(said: str, seconds: float) -> None:
    assert Budget.parse(said).seconds_each == seconds


@pytest.mark.parametrize("said", ["", "few", "0 per day", "1 per 0 days", "1 per lifetime", "-1 per day"])
def test_other_words_are_refused(said: str) -> None:
    with pytest.raises(InvalidRequest, match="1 per quarter"):
        Budget.parse(said)


@pytest.mark.parametrize("different", [300, 3000, 100_000])
def test_texts_of_many_values_are_silent_as_well(different: int) -> None:
    """What was frequent in the reference was so by luck, in part; and much of such a source was never seen."""
    rng = np.random.default_rng(different)
    names = np.array([f"v{at}" for at in range(different)], dtype=object)

    def draw(rows: int, of: np.ndarray) -> dict[str, Any]:
        zipf = np.minimum(rng.zipf(1.3, rows), len(of)) - 1
        return {"even": of[rng.integers(0, len(of), rows)], "uneven": of[zipf]}

    made = Reference.of_table(draw(5000, names))
    detector = Detector(made, Settings(Budget.parse("1 per year")))
    state = detector.start()
    for _ in range(20):
        state, verdict = detector.step(state, made.profile(draw(1000, names)), HOUR)
        assert not verdict.alarm
    assert comparison.compare(made, draw(5000, names)).moved == ()
    others = np.array([f"w{at}" for at in range(5)], dtype=object)
    changed = draw(1000, others)
    assert detector.step(state, made.profile(changed), HOUR)[1].alarm
    assert set(comparison.compare(made, changed).moved) >= {"uneven"}

"""Evidence that answers became worse: silent at the worst that the null holds, soon where a sure model errs."""

import msgspec
import numpy as np
import pytest
from scipy.special import expit, logit

from modelyard.errors import InvalidRequest
from modelyard.monitoring.worsening import Ladder, State, Worsening

HOUR, DAY = 3600.0, 86_400.0
ANY = Ladder((0.5,))


def counts(wrong: int, rows: int) -> np.ndarray:
    return np.array([rows - wrong, wrong], dtype=np.int64)


@pytest.mark.parametrize("rows", [5, 300])
def test_no_more_false_alarms_than_are_allowed_where_nothing_changed(rows: int) -> None:
    """One a day is allowed; 6,000 hours at exactly the baseline's share, which is known from very many rows."""
    draw = np.random.default_rng(rows)
    watch = Worsening(ANY, counts(1_000_000, 10_000_000), DAY)
    state, alarms = watch.start(), 0
    for wrong in draw.binomial(rows, 0.1, 6000).tolist():
        state, verdict = watch.step(state, counts(wrong, rows), HOUR)
        if verdict.evidence >= 1:
            state, alarms = watch.start(), alarms + 1
    assert alarms <= 6000 / 24


def test_evidence_is_the_average_of_likelihood_ratios_over_beginnings() -> None:
    """Against the formula by hand: two windows, one rung, the six alternatives."""
    watch = Worsening(ANY, counts(0, 10), 1.0, certainty=0.99)
    upper = 1 - 0.01 ** (1 / 10)  # no error in ten rows: n * -log(1 - p) = log(1 / 0.01)
    state, _ = watch.step(watch.start(), counts(2, 5), HOUR)
    _, verdict = watch.step(state, counts(4, 5), HOUR)
    steps = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
    other = expit(logit(upper) + steps)
    one, two = ((other / upper) ** x * ((1 - other) / (1 - upper)) ** (5 - x) for x in (2, 4))
    assert verdict.evidence == pytest.approx(float((HOUR * (one * two + two)).mean()))


def test_errors_of_a_sure_model_tell_before_all_errors_do() -> None:
    """Wrong in 20 of 100 rows, hardly ever where it is sure; then in 2 of 100 it is wrong and very sure."""
    draw = np.random.default_rng(0)

    def severities(rows: int, surely: float) -> np.ndarray:
        sure = draw.uniform(0.5, 1.0, rows)
        wrong = (draw.random(rows) < 0.4) & (sure < 0.75)
        wrong |= (draw.random(rows) < surely) & (sure > 0.9)
        return np.where(wrong, sure, 0.0)

    ladder = Ladder.of_classes(draw.uniform(0.5, 1.0, 20_000))
    before = severities(20_000, 0.0)
    needed = 90 * DAY

    def rows_until(ladder: Ladder) -> int:
        watch = Worsening(ladder, ladder.count(before), needed)
        state = watch.start()
        for hour in range(500):
            state, verdict = watch.step(state, ladder.count(severities(100, 0.1)), HOUR)
            if verdict.evidence >= 1:
                return (hour + 1) * 100
        return 100_000

    assert rows_until(ladder) <= 500 < 2000 < rows_until(Ladder(ladder.rungs[:1]))


def test_what_changed_is_told_with_its_size_and_since_when() -> None:
    draw = np.random.default_rng(3)
    watch = Worsening(ANY, counts(200, 20_000), 90 * DAY)
    state = watch.start()
    for _ in range(200):
        state, verdict = watch.step(state, counts(int(draw.binomial(100, 0.01)), 100), HOUR)
    assert verdict.evidence < 0.01
    for _ in range(40):
        state, verdict = watch.step(state, counts(int(draw.binomial(100, 0.06)), 100), HOUR)
    assert verdict.evidence > 1
    assert verdict.baseline == 0.01
    assert verdict.effect == pytest.approx(0.05, abs=0.01)
    assert verdict.seconds / HOUR == pytest.approx(40, abs=8)
    assert verdict.rows == 100 * verdict.seconds / HOUR


def test_what_becomes_better_is_no_evidence() -> None:
    watch = Worsening(ANY, counts(2000, 10_000), DAY)
    state = watch.start()
    for _ in range(300):
        state, verdict = watch.step(state, counts(5, 100), HOUR)
    assert verdict.evidence < 1


def test_numbers_that_are_further_off() -> None:
    draw = np.random.default_rng(4)
    before = np.abs(draw.normal(size=20_000))
    ladder = Ladder.of_errors(before)
    watch = Worsening(ladder, ladder.count(before), 90 * DAY)
    state = watch.start()
    for _ in range(30):
        state, verdict = watch.step(state, ladder.count(np.abs(draw.normal(scale=1.2, size=100))), HOUR)
        if verdict.evidence >= 1:
            break
    assert verdict.evidence >= 1


def test_a_state_is_stored_and_read() -> None:
    watch = Worsening(ANY, counts(10, 100), DAY)
    state, _ = watch.step(watch.start(), counts(30, 100), HOUR)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
    assert watch.step(again, counts(9, 50), HOUR) == watch.step(state, counts(9, 50), HOUR)


def test_rows_that_hang_together_count_less() -> None:
    alone, grouped = (Worsening(ANY, counts(100, 1000), DAY, grouped=size) for size in (1.0, 10.0))
    evidence = [watch.step(watch.start(), counts(40, 100), HOUR)[1].evidence for watch in (alone, grouped)]
    assert evidence[0] > 100 * evidence[1]


def test_a_baseline_of_another_ladder_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="baseline"):
        Worsening(Ladder((0.1, 0.2)), counts(1, 10), DAY)
    with pytest.raises(InvalidRequest, match="start anew"):
        Worsening(ANY, counts(1, 10), DAY).step(State(), counts(1, 10), HOUR)


def test_rungs_of_few_rows() -> None:
    for ladder in (Ladder.of_classes(np.empty(0)), Ladder.of_errors(np.empty(0)), Ladder.of_errors(np.zeros(5))):
        assert ladder.count(np.array([0.0, 1.0])).sum() == 2

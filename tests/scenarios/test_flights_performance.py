"""A model of January and February, judged from March to December: as scikit-learn measures it, and as labels came."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from modelyard.demo import flights as source
from modelyard.demo.training import train
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.performance.groups import By
from modelyard.monitoring.performance.history import history
from modelyard.monitoring.performance.task import Aim, Task
from modelyard.monitoring.performance.watch import Performance
from modelyard.monitoring.performance.worst import worst
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Facts

PROBABILITIES = ("predict_proba_0", "predict_proba_1")
TASK = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1), probabilities=PROBABILITIES)

FIGURES = {
    3: (0.704, 0.1585), 4: (0.633, 0.1984), 5: (0.708, 0.1532), 6: (0.684, 0.1956), 7: (0.672, 0.2030),
    8: (0.663, 0.1711), 9: (0.639, 0.1236), 10: (0.625, 0.1462), 11: (0.651, 0.1405), 12: (0.685, 0.2072),
}  # fmt: skip
"""Area under the curve and Brier score by month, of a model whose texts were encoded otherwise."""


@pytest.fixture(scope="module")
def answered() -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the model answered from March on, and of what it was trained on."""
    flights = source.load()
    first = source.between(flights, "2013-01-01", "2013-03-01")
    with threadpool_limits(1):  # beside other tests more threads only wait for each other
        pipeline = train(first, 50)
    parts = []
    for part in (source.between(flights, "2013-03-01", "2014-01-01"), first):
        with threadpool_limits(1):
            said = pipeline.predict_proba(part[source.FEATURES])[:, 1]
        names = {"sched": "event_time", "late": "label", "label_known_at": "labelled_at"}
        answers = {"predict": (said > 0.5).astype(int), "predict_proba_0": 1 - said, "predict_proba_1": said}
        parts.append(part.rename(columns=names).assign(**answers))
    return parts[0], parts[1]


def test_by_month_the_figures_are_those_of_scikit_learn(answered: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    live, _ = answered
    found = history(pa.Table.from_pandas(live), TASK, by=By.MONTH)
    assert [point.began.month for point in found.points] == list(FIGURES)
    known = live[live["label"].notna()]
    for point in found.points:
        month = known[known["event_time"].dt.month == point.began.month]
        truth, said = month["label"].astype(int), month["predict_proba_1"]
        assert point.labelled == len(month)
        assert point.measures["auc"].value == pytest.approx(roc_auc_score(truth, said))
        assert point.measures["brier"].value == pytest.approx(brier_score_loss(truth, said))
        area, brier = FIGURES[point.began.month]
        assert point.measures["auc"].value == pytest.approx(area, abs=0.02)
        assert point.measures["brier"].value == pytest.approx(brier, abs=0.004)
    assert found.age == 6 * 3600
    assert found.whole[0].coverage == pytest.approx(0.974, abs=0.002)


def test_the_worst_slices_are_those_of_bad_weather_and_late_hours(answered: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found = worst(pa.Table.from_pandas(answered[0]), TASK, source.FEATURES)
    assert found.slices
    named = {condition.split()[0] for each in found.slices for condition in each.conditions}
    assert named & {"humid", "precip", "dewp", "visib", "pressure"}


def test_the_watch_tells_of_april_and_is_silent_on_a_twin(answered: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    live, trained = answered
    alarms = [each for each in followed(live[live["event_time"] < "2013-05-15"]) if each.alarm]
    assert alarms
    began = [each.since for each in alarms if each.since is not None]
    # A storm closed the airports on the evening of 18 March; April was worse for weeks.
    assert min(began) >= datetime(2013, 3, 15, tzinfo=UTC)
    assert any(datetime(2013, 4, 1, tzinfo=UTC) < each < datetime(2013, 5, 1, tzinfo=UTC) for each in began)
    of_errors = [each for each in alarms if each.watch in ("performance.errors", "performance.accuracy")]
    assert all(each.details["now"] < each.details["was"] for each in of_errors)
    rng = np.random.default_rng(1)
    twin = trained.iloc[np.sort(rng.integers(0, len(trained), 70_000))]
    twin = twin.iloc[rng.permutation(len(twin))].reset_index(drop=True)
    moments = pd.Timestamp("2013-03-01") + pd.to_timedelta(np.arange(len(twin)) * 90, unit="s")
    delay = twin["labelled_at"] - twin["event_time"]
    assert not [each for each in followed(twin.assign(event_time=moments, labelled_at=moments + delay)) if each.alarm]


def followed(rows: pd.DataFrame) -> Iterator[Finding]:
    """What the watch finds, asked every four days with the labels that have come."""
    watch = Performance()
    settings = Settings().with_share(watch.share)
    reference = Reference.of_table(rows[source.FEATURES].head(3000))
    outputs = ("predict", "predict_proba[0]", "predict_proba[1]")
    start = datetime(2013, 3, 1, tzinfo=UTC)
    about = Facts(
        "flights", "flights@1", start, start, start, reference, settings, None, outputs, "classification", (0, 1)
    )
    state = watch.start(reference, settings)
    days = (rows["event_time"].max() - pd.Timestamp("2013-03-01")).days
    for day in range(4, days + 4, 4):
        now = start + timedelta(days=day)
        there = rows[rows["event_time"] < now.replace(tzinfo=None)]
        table = pa.Table.from_pandas(
            there.assign(label=there["label"].where(there["labelled_at"] <= now.replace(tzinfo=None)))
        )
        state, found = watch.look(state, table, replace(about, now=now, ended=now))
        yield from found

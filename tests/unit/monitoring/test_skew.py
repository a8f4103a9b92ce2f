"""Live calls computed again by the native pipeline in a process of its own, and what is said of a difference."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from modelyard.bundle import golden, native
from modelyard.bundle.frameworks import catalogue
from modelyard.bundle.layout import Bundle, write
from modelyard.domain.frame import Frame, Vector
from modelyard.domain.golden import GoldenSet
from modelyard.domain.profile import build
from modelyard.domain.records import PredictionRecord
from modelyard.errors import EnvironmentFailed
from modelyard.home import Home
from modelyard.monitoring.alerts import Alerts
from modelyard.monitoring.monitor import Monitor
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.skew import Replayed, Skew, Stretch, findings_of, sampled
from modelyard.monitoring.store import MonitorStore
from modelyard.protocol import rows
from modelyard.protocol.table import Source
from modelyard.records.log import PredictionLog
from modelyard.records.query import RecordDatabase
from modelyard.registry import Registry
from native_bundles import PYTHON, manifest_of, schema_of
from serving_process import until
from small_bundles import BESIDE

START = datetime(2026, 3, 2, tzinfo=UTC)
X = np.linspace(-2, 2, 200)
MODEL = LinearRegression().fit(pd.DataFrame({"x": X}), 2 * X + 1)
SCHEMA = schema_of(MODEL, pd.DataFrame({"x": X}))
OUTPUT = SCHEMA.outputs[0].name


def bundle_in(folder: Path) -> Bundle:
    saved = native.save(MODEL, catalogue.find(MODEL))
    inputs, answers = Frame({"x": Vector(X)}, len(X)), {OUTPUT: MODEL.predict(pd.DataFrame({"x": X}))}
    few = inputs.take(range(8)), {OUTPUT: answers[OUTPUT][:8]}
    asked = GoldenSet(few[0], ("sample",) * 8, (None,) * 8, few[1], few[1])
    files = {f"golden/{file}": content for file, content in golden.encoded(asked, SCHEMA).items()}
    profile = msgspec.json.encode(build(inputs, answers, SCHEMA))
    manifest = replace(manifest_of(SCHEMA, saved.form), name="line", golden_rows=8)
    return write(folder, {**saved.files, **BESIDE, **files, "profile.json": profile}, manifest)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Home(tmp_path / "home")) as registry:
        registry.register(bundle_in(tmp_path / "line"))
        yield registry


def calls(
    registry: Registry,
    hour: int,
    off: dict[int, float] | None = None,
    number: int = 6,
    deployment: str = "live",
    digest: str = "",
) -> None:
    """Calls of two rows, a minute apart; `off` says by how much the second answer of some is not the model's."""
    draw = np.random.default_rng(hour)
    digest = digest or registry.version("line@1").digest
    log = PredictionLog(registry.home.records)
    for at in range(number):
        frame = Frame({"x": Vector(draw.normal(size=2))}, 2)
        answer = MODEL.predict(pd.DataFrame({"x": frame["x"].values}))
        answer[1] += (off or {}).get(at, 0.0)
        moment, name = START + timedelta(hours=hour, minutes=at), f"{hour}-{at}"
        log.append(
            PredictionRecord(
                name, deployment, "line", 1, digest, int(moment.timestamp() * 1e9), 10**6, 200, "ok", "rows", 2,
                rows.write_request(frame, SCHEMA),
                rows.write_response({OUTPUT: answer}, SCHEMA, Source("line", 1, name, 2)),
            )
        )  # fmt: skip
    log.close()


def skew(registry: Registry, said: list[str] | None = None) -> Skew:
    tell = (said if said is not None else []).append
    return Skew(registry.home, registry, MonitorStore(registry.database), tell, lambda bundle: PYTHON, nice=0)


def hour(at: int) -> int:
    return int((START + timedelta(hours=at)).timestamp())


def test_live_calls_that_the_native_pipeline_answers_alike_are_told_and_no_alarm(registry: Registry) -> None:
    calls(registry, 0)
    watch = skew(registry)
    digest = registry.version("line@1").digest
    [(look, states)] = watch.look("live", {digest: "line@1"}, Settings(), hour(1))
    [found] = look.findings
    assert not found.alarm
    assert found.said.startswith("6 live calls give the same answers")
    assert states[digest, "skew"].reached == hour(1)
    assert watch.look("live", {digest: "line@1"}, Settings(), hour(2)) == []  # too soon


def test_a_difference_beyond_the_tolerance_is_alarmed_with_the_call_and_one_within_is_not(registry: Registry) -> None:
    calls(registry, 0, {1: 1e-13, 4: 0.01})
    [(look, _)] = skew(registry).look("live", {registry.version("line@1").digest: "line@1"}, Settings(), hour(1))
    [found] = look.findings
    assert found.alarm
    assert (found.details["calls"], found.details["different"], found.details["within"]) == (6, 1, 1)
    assert "modelyard replay 0-4" in found.said
    assert found.effect == pytest.approx(1 / 6)


def test_what_a_shadow_computed_for_the_same_calls_is_none_of_its_answers(registry: Registry) -> None:
    calls(registry, 0)
    calls(registry, 0, dict.fromkeys(range(6), 0.5), deployment="live.candidate", digest="blake3:ff")
    [(look, _)] = skew(registry).look("live", {registry.version("line@1").digest: "line@1"}, Settings(), hour(1))
    [found] = look.findings
    assert not found.alarm
    assert (found.details["calls"], found.details["different"]) == (6, 0)


def test_the_monitor_replays_what_is_new_and_tells_alerts(registry: Registry) -> None:
    calls(registry, 0)

    def monitor() -> Monitor:
        made = Monitor(registry.home, registry)
        made.skew.interpreter, made.skew.nice = lambda bundle: PYTHON, 0
        return made

    assert monitor().look(START + timedelta(hours=1)).alarms == 0
    calls(registry, 1, {0: 0.5})
    assert monitor().look(START + timedelta(hours=2)).alarms == 1
    [found] = [one for one in MonitorStore(registry.database).findings("live", alarms=True) if one.kind == "skew"]
    assert found.details["calls"] == 6  # those of the second hour only
    assert [alert.kind for alert in Alerts(registry.database).listed("live")] == ["skew"]


def test_a_pipeline_that_cannot_be_opened_is_told_and_tried_later(registry: Registry) -> None:
    calls(registry, 0)
    said: list[str] = []
    watch = skew(registry, said)

    def broken(bundle: Bundle) -> Path:
        raise EnvironmentFailed("no such wheel")

    watch.interpreter = broken
    digest = registry.version("line@1").digest
    assert watch.look("live", {digest: "line@1"}, Settings(), hour(1)) == []
    assert said == ["live: live calls of line@1 are not replayed: no such wheel"]
    assert (digest, "skew") not in MonitorStore(registry.database).states("live")


def test_it_makes_way_for_others(registry: Registry) -> None:
    calls(registry, 0)
    watch, found = skew(registry), list[int]()
    watch.nice = os.getpriority(os.PRIO_PROCESS, 0) + 5

    def interpreter(bundle: Bundle) -> Path:
        found.append(os.getpriority(os.PRIO_PROCESS, 0))
        raise EnvironmentFailed("seen")

    watch.interpreter = interpreter
    watch.look("live", {registry.version("line@1").digest: "line@1"}, Settings(), hour(1))
    assert found == [watch.nice]
    assert os.getpriority(os.PRIO_PROCESS, 0) == watch.nice - 5


def test_one_that_goes_on_looking_does_not_wait_for_it(registry: Registry) -> None:
    calls(registry, 0, {1: 0.5})
    watch, open_now = skew(registry), threading.Event()
    watch.aside = True

    def slow(bundle: Bundle) -> Path:
        assert open_now.wait(60)
        return PYTHON

    watch.interpreter = slow
    digest = registry.version("line@1").digest
    asked = "live", {digest: "line@1"}, Settings(), hour(1)
    assert watch.look(*asked) == []  # begun, not waited for
    assert watch.look("other", {digest: "line@1"}, Settings(), hour(1)) == []  # one at a time
    open_now.set()
    [(look, states)] = until(lambda: watch.look(*asked), "live calls were not replayed")
    assert [found.alarm for found in look.findings] == [True]
    assert states[digest, "skew"].reached == hour(1)


def test_it_can_be_turned_off_and_is_bounded(registry: Registry) -> None:
    calls(registry, 0, number=8)
    digest = registry.version("line@1").digest
    for settings in (Settings(off=("skew",)), Settings(replayed=0)):
        assert skew(registry).look("live", {digest: "line@1"}, settings, hour(1)) == []
    stretch = Stretch("live", "line@1", digest, hour(0), hour(1))
    with RecordDatabase(registry.home.records) as database:
        some = sampled(database, stretch, stretch.wanted(3))
        assert len(set(some)) == 3
        assert set(some) < set(sampled(database, stretch, 100))
        assert sampled(database, replace(stretch, since=hour(1), until=hour(2)), 100) == []


def test_calls_that_could_not_be_read_are_no_evidence() -> None:
    assert findings_of(Stretch("d", "m@1", "", 0, 3600), Replayed(unread=3)) == []

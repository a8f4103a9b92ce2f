"""Copies for a candidate in the shadow: only in time that nobody misses, and whatever is in a call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.desired import DesiredState, Split
from modelyard.serving.exchange import Incoming
from modelyard.serving.shadows import AT_ONCE, BESIDES_NS, LONGEST_NS, SAVED_NS, SHARE, Shadows
from unit.serving.parts import PATIENCE, deployment, run
from unit.serving.test_answering import Stage

CALL = Incoming("a1", "rows", "live", None, b"", 0, 0)

Step = tuple[int, bool, int]
"""Nanoseconds that pass, whether a copy ends then, and what it took."""


@given(st.lists(st.tuples(st.integers(0, 30_000_000), st.booleans(), st.integers(0, 200_000_000)), max_size=300))
def test_copies_never_take_more_than_their_part_of_the_time(steps: list[Step]) -> None:
    now = begun = ended = taken = 0
    shadows = Shadows(lambda: now)
    for passed, ends, ns in steps:
        now += passed
        begun += shadows.take(CALL, "live.candidate")
        if ends and ended < begun:
            shadows.ended(ns)
            ended, taken = ended + 1, taken + min(ns, LONGEST_NS) + BESIDES_NS
        assert begun - ended <= AT_ONCE
        assert taken <= SAVED_NS + SHARE * now + AT_ONCE * (LONGEST_NS + BESIDES_NS)
    assert [shadows.next() is not None for _ in range(begun + 1)] == [True] * begun + [False]


def test_where_there_is_time_every_call_is_copied() -> None:
    now = 0
    shadows = Shadows(lambda: now)
    for _ in range(1000):
        now += 1_000_000
        assert shadows.take(CALL, "live.candidate")
        copy = shadows.next()
        assert copy is not None
        assert copy.started_ns == now
        shadows.ended(int(1_000_000 * SHARE) - BESIDES_NS)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    both = deployment("quick"), deployment("quick.candidate", version=2)
    stage.plane.apply(DesiredState(2, both, (Split("quick", 0.0, "quick/1", shadow=True),)))
    assert stage.plane.settle(PATIENCE)
    yield stage
    stage.plane.close()


def test_copies_are_begun_when_no_call_waits_and_what_is_too_much_is_counted(stage: Stage) -> None:
    async def story() -> None:
        for _ in range(100):
            stage.submit("quick")
        await stage.answering.drained()

    run(story())
    assert stage.statuses() == [200] * 100
    assert stage.log == ["quick"] * 100 + ["quick.candidate"] * AT_ONCE
    version = stage.plane.lease("quick")
    version.leases.give_back()
    assert version.meter.snapshot().not_copied == 100 - AT_ONCE
    copied = [record.prediction_id for record in stage.kept.records if record.deployment == "quick.candidate"]
    assert len(copied) == AT_ONCE
    assert set(copied) <= set(stage.replies)

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelyard.monitoring import detector as detecting
from modelyard.monitoring.alerts import Alert, Look, Policy, State, rules
from modelyard.monitoring.alerts.alert import Silence, What
from modelyard.monitoring.alerts.content import alertmanager, document, text
from modelyard.monitoring.alerts.outbox import Message
from modelyard.monitoring.budget import Budget
from modelyard.monitoring.calls import Calls
from modelyard.monitoring.detector import Detector
from modelyard.monitoring.findings import Finding
from modelyard.monitoring.quality import Exchanged
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.settings import Settings
from modelyard.monitoring.watching import Snapshot
from unit.monitoring.alert_looks import NOW, found, hour, look

POLICY = Policy(quiet=3)
Known = dict[int, Alert]


def taken(known: Known, looked: Look, policy: Policy = POLICY) -> list[tuple[str, ...]]:
    """Take in a look as the store does; what happened, for each alert that changed."""
    changes = rules.after(list(known.values()), looked, policy, NOW)
    for change in changes:
        number = change.alert.id or len(known) + 1
        known[number] = replace(change.alert, id=number)
    return [change.events for change in changes]


def story(*looks: Look) -> tuple[Known, list[list[tuple[str, ...]]]]:
    known: Known = {}
    return known, [taken(known, each) for each in looks]


def test_findings_of_one_window_with_the_same_cause_are_one_alert_with_ranked_parts() -> None:
    known, events = story(
        look(0, found("a", beyond=2), found("b", beyond=9), found("c", "quality.missing", beyond=4), looked=("drift",))
    )
    assert events == [[("opened",)]]
    assert [part.subject for part in known[1].parts] == ["b", "c", "a"]
    assert known[1].title == "flights: b: moved 9 times as far as is harmless, and 2 more"
    assert (known[1].state, known[1].since, known[1].opened) == (State.FIRING, hour(0), NOW)


def test_a_rank_that_the_watch_gives_goes_before_the_effect() -> None:
    known, _ = story(look(0, found("a", beyond=9), found("b", beyond=2, details={"rank": 50.0})))
    assert [part.subject for part in known[1].parts] == ["b", "a"]


def test_other_causes_are_other_alerts() -> None:
    traffic, skew = found("", "traffic.absent"), found("", "skew.replayed")
    known, _ = story(look(0, found(), traffic, skew, found("", "performance.auc", said="AUC 0.61, 0.72 before")))
    assert {alert.cause for alert in known.values()} == {"data", "traffic.absent", "skew", "performance"}
    assert {alert.loss for alert in known.values()} == {"AUC 0.61, 0.72 before"}


def test_neither_evidence_nor_effect_alone_opens_one() -> None:
    assert story(look(0, found(sure=False), found("b", beyond=0.5)))[0] == {}


def test_it_is_over_after_quiet_windows_in_a_row() -> None:
    known, events = story(look(0, found()), look(1), look(2), look(3, found()), *(look(at) for at in range(4, 11)))
    assert [step for steps in events for step in steps if step] == [("opened",), ("resolved",)]
    assert known[1].state is State.RESOLVED
    assert known[1].resolved is not None
    assert known[1].resolved.why == "not found in 6 windows in a row"  # twice as long as it was away before
    assert known[1].last == hour(3)


def test_what_took_long_to_notice_has_to_be_gone_for_long() -> None:
    known, _ = story(look(0, found(since=hour(-10))), *(look(at) for at in range(1, 40)))
    assert known[1].state is State.FIRING
    taken(known, look(40))
    assert known[1].state is State.RESOLVED


def test_a_small_change_that_goes_on_is_one_alert_though_evidence_begins_anew_after_each_alarm() -> None:
    draw = np.random.default_rng(1)
    reference = Reference.of_table({"n": draw.normal(size=5000)})
    detector = Detector(reference, detecting.Settings(Budget.parse("1 per quarter")))
    state, alarms, began = detector.start(), 0, 0
    known: Known = {}
    events: list[tuple[str, ...]] = []
    for at in range(200 + 24 * 7 + 10):
        values = draw.normal(0.4 if at < 200 else 0.0, size=50)
        state, verdict = detector.step(state, reference.profile({"n": values}), 3600.0)
        began = began if verdict.evidence >= 0.01 else at + 1
        findings = [found("n", since=hour(min(began, at)))] if verdict.alarm else []
        alarms, began = (alarms + 1, at + 1) if verdict.alarm else (alarms, began)
        events += taken(known, look(at, *findings, looked=("drift",)))
    assert alarms >= 3
    assert [name for step in events for name in step] == ["opened", "resolved"]


def test_what_labels_say_later_is_added_to_alerts_of_the_data() -> None:
    known, _ = story(look(0, found()))
    estimate = found("accuracy", "estimate.accuracy", sure=False, said="accuracy: 0.71 expected, 0.78 before")
    assert taken(known, look(1, estimate, looked=("estimate",))) == [()]
    assert known[1].loss == "accuracy: 0.71 expected, 0.78 before"


def test_that_no_label_ever_came_is_no_cost_of_an_alert() -> None:
    nothing = {"watch": "estimate.refused", "sure": False, "said": "no estimate for 2026-01-19: no labels so far"}
    known, _ = story(
        look(0, found()), look(1, found("", details={"unlabelled": True}, **nothing), looked=("estimate",))
    )
    assert known[1].loss == ""
    known, _ = story(look(0, found()), look(1, found("", **nothing), looked=("estimate",)))
    assert known[1].loss.startswith("no estimate")


def test_exchanged_columns_are_what_an_alert_is_called_by() -> None:
    def gone(name: str) -> Finding:
        return Finding(
            deployment="flights", watch="quality.range", said=f"{name} out of range", subject=name, evidence=400.0,
            effect=1.0, margin=0.02,
        )  # fmt: skip

    known, _ = story(look(0, gone("a"), gone("b"), exchanged("a", "b")))
    assert known[1].parts[0].watch == "quality.exchanged"


def exchanged(one: str, other: str) -> Finding:
    """What the watch of exchanged columns says of two tables of which one has them the other way round."""
    draw = np.random.default_rng(3)
    rows = {one: draw.normal(size=2000), other: draw.normal(50.0, size=2000)}
    reference, watch = Reference.of_table(rows), Exchanged()
    told = Settings().with_share(watch.share)
    snapshot = Snapshot(
        deployment="flights",
        version="m@1",
        began=hour(0),
        seconds=3600.0,
        reference=reference,
        window=reference.profile({one: rows[other][:100], other: rows[one][:100]}),
        earlier=lambda began, seconds: None,
        calls=Calls(),
        settings=told,
    )
    [each] = watch.look(watch.start(reference, told), snapshot)[1]
    return each


def test_what_hovers_at_its_margin_is_not_over() -> None:
    unsure, hovering = found(sure=False), found(beyond=0.9)
    known, _ = story(look(0, found()), *(look(at, hovering if at % 2 else unsure) for at in range(1, 9)))
    assert known[1].state is State.FIRING


def test_windows_that_nobody_could_judge_are_not_quiet() -> None:
    known, _ = story(look(0, found()), *(look(at, looked=("performance",)) for at in range(1, 9)))
    assert known[1].state is State.FIRING


def test_the_same_look_counts_once_and_a_late_one_not_at_all() -> None:
    known, events = story(look(2, found()), look(2, found()), look(3), look(3), look(3), look(1, found()), look(1))
    assert events == [[("opened",)], [], [()], [], [], [], []]
    assert known[1].parts[0].quiet == 1


def test_looks_of_the_past_do_not_bring_back_what_is_over() -> None:
    steps = [look(0, found()), look(1), look(2), look(3)]
    known, _ = story(*steps)
    after = dict(known)
    assert [taken(known, each) for each in steps] == [[], [], [], []]
    assert known == after


def test_what_comes_again_soon_is_the_same_alert_and_ends_later() -> None:
    known, events = story(
        look(0, found()), look(1), look(2), look(3), look(4, found()), *(look(5 + at) for at in range(8))
    )
    assert [name for steps in events for step in steps for name in step] == ["opened", "resolved", "again", "resolved"]
    assert (len(known), known[1].times) == (1, 2)
    assert known[1].resolved is not None
    assert known[1].resolved.why == "not found in 8 windows in a row"


def test_what_comes_again_later_is_another_alert() -> None:
    known, _ = story(look(0, found()), look(1), look(2), look(3), look(26, found()))
    assert [alert.state for alert in known.values()] == [State.RESOLVED, State.FIRING]


def test_what_is_new_joins_one_that_fires_and_not_one_that_is_acknowledged() -> None:
    known, _ = story(look(0, found("a")))
    assert taken(known, look(1, found("b"))) == [("grew",)]
    known[1] = rules.acknowledge(known[1], "ann", "a sensor is broken", NOW)
    taken(known, look(2, found("a"), found("c")))
    assert [[part.subject for part in alert.parts] for alert in known.values()] == [["a", "b"], ["c"]]
    assert [alert.state for alert in known.values()] == [State.ACKNOWLEDGED, State.FIRING]


def test_what_joins_one_that_comes_again_is_not_in_two() -> None:
    known, _ = story(look(0, found("a")), look(1), look(2), look(3), look(4, found("a"), found("b")))
    assert [[part.subject for part in alert.parts] for alert in known.values()] == [["a", "b"]]
    taken(known, look(5, found("a"), found("b")))
    assert len(known) == 1


def test_what_was_acknowledged_is_so_when_it_comes_again_unless_somebody_resolved_it() -> None:
    for by_hand, state in ((False, State.ACKNOWLEDGED), (True, State.FIRING)):
        known, _ = story(look(0, found()))
        known[1] = rules.acknowledge(known[1], "ann", "known", NOW)
        for at in (1, 2, 3):
            taken(known, look(at))
        if by_hand:
            known[1] = rules.resolve(known[1], "ann", "repaired", NOW)
        taken(known, look(4, found()))
        assert known[1].state is state


def test_an_alert_of_a_version_that_is_no_longer_asked_is_closed() -> None:
    known, _ = story(look(0, found()), look(100, version="m@2"))
    assert known[1].state is State.FIRING
    taken(known, look(24 * 7 + 1, version="m@2"))
    assert known[1].resolved is not None
    assert known[1].resolved.why == "nothing could be looked at since the window of 2026-03-01 00:00 UTC"


def test_versions_do_not_share_alerts() -> None:
    known, _ = story(look(0, found()), look(0, found(), version="m@2"))
    assert [alert.version for alert in known.values()] == ["m@1", "m@2"]


def fired(**more: object) -> Alert:
    return replace(story(look(0, found()))[0][1], **more)


def owed(alert: Alert, silences: Sequence[Silence] = (), hours: float = 0.0) -> What | None:
    return rules.owed(alert, silences, POLICY, NOW + timedelta(hours=hours))


def test_it_is_told_when_it_begins_and_ends_and_once_a_day() -> None:
    alert = fired()
    assert owed(alert) is What.FIRING
    told = rules.telling(alert, What.FIRING, NOW)
    assert [owed(told, hours=hours) for hours in (0, 23, 24)] == [None, None, What.REMINDER]
    over = rules.resolve(told, "ann", "", NOW)
    assert owed(over) is What.RESOLVED
    assert owed(rules.telling(over, What.RESOLVED, NOW), hours=100) is None
    again = replace(rules.telling(over, What.RESOLVED, NOW), state=State.FIRING)
    assert owed(again) is What.AGAIN


def test_what_came_and_went_unseen_is_told_once_unless_it_is_silenced() -> None:
    over = rules.resolve(fired(), "ann", "", NOW)
    assert owed(over) is What.RESOLVED
    assert owed(over, [silence()]) is None
    assert owed(rules.telling(over, What.RESOLVED, NOW)) is None


def test_what_is_acknowledged_is_not_told_again_but_its_end_is() -> None:
    alert = rules.acknowledge(rules.telling(fired(), What.FIRING, NOW), "ann", "known", NOW)
    assert owed(alert, hours=1000) is None
    assert owed(rules.resolve(alert, "ann", "", NOW)) is What.RESOLVED


def test_news_are_told_but_not_at_once() -> None:
    known, _ = story(look(0, found("a")))
    known[1] = rules.telling(known[1], What.FIRING, NOW)
    taken(known, look(1, found("b")))
    assert [owed(known[1], hours=hours) for hours in (0.5, 1)] == [None, What.GREW]


def test_clocks_that_jump_neither_mute_nor_flood() -> None:
    told = rules.telling(fired(), What.FIRING, NOW)
    assert owed(told, hours=-0.05) is None
    assert owed(told, hours=-24 * 365) is What.REMINDER
    back = rules.telling(told, What.REMINDER, NOW - timedelta(days=365))
    assert owed(back, hours=-24 * 365 + 1) is None


def silence(**more: object) -> Silence:
    return Silence(**{"starts": NOW, "ends": NOW + timedelta(hours=2), **more})  # type: ignore[arg-type]


def test_silences_cover_what_they_name_while_they_hold() -> None:
    alert = fired()
    covering = [
        silence(),
        silence(deployment="fl*"),
        silence(watch="drift"),
        silence(watch="drift.input", subject="t*"),
    ]
    others = [silence(deployment="other"), silence(watch="drift.in"), silence(subject="hum"), silence(version="m@2")]
    assert [owed(alert, [each]) for each in covering] == [None] * 4
    assert [owed(alert, [each]) for each in others] == [What.FIRING] * 4
    assert [owed(alert, [silence()], hours) for hours in (1.9, 2)] == [None, What.FIRING]
    assert owed(alert, [silence()], hours=-1000) is What.FIRING  # a clock that jumped does not make it longer


def test_an_alert_is_silenced_when_all_of_it_is() -> None:
    known, _ = story(look(0, found("a"), found("b")))
    assert owed(known[1], [silence(subject="a")]) is What.FIRING
    assert owed(known[1], [silence(subject="a"), silence(subject="b")]) is None


SUBJECTS = st.sets(st.sampled_from("abc"), max_size=3)


@given(st.lists(SUBJECTS, max_size=16), st.lists(st.tuples(st.integers(0, 15), st.integers(1, 4)), max_size=4))
def test_replays_and_repetitions_change_nothing(windows: list[set[str]], kills: list[tuple[int, int]]) -> None:
    """What a monitor does that is killed and begins again at an earlier window comes to the same."""
    looks = [look(at, *(found(subject) for subject in sorted(subjects))) for at, subjects in enumerate(windows)]
    plain, _ = story(*looks)
    repeated: Known = {}
    for at, each in enumerate(looks):
        taken(repeated, each)
        for back in [back for killed, back in kills if killed == at]:
            for again in looks[max(at - back, 0) : at + 1]:
                taken(repeated, again)
    assert repeated == plain


@given(st.lists(SUBJECTS, max_size=40))
def test_at_any_time_a_thing_is_in_one_open_alert_at_most(windows: list[set[str]]) -> None:
    known: Known = {}
    for at, subjects in enumerate(windows):
        taken(known, look(at, *(found(subject) for subject in sorted(subjects))))
        going_on = [key for alert in known.values() if alert.open for key in (part.key for part in alert.parts)]
        assert len(going_on) == len(set(going_on))
        assert {subject for _, subject, _ in going_on} >= subjects


def test_messages_tell_where_it_is_worst_and_every_time_that_it_was_bad() -> None:
    spells = [
        {"since": hour(at).isoformat(), "last": hour(at + 2).isoformat(), "said": f"accuracy: 0.{at}"} for at in (1, 40)
    ]
    details = {"spells": spells, "worst": [{"said": "shop = 'c': accuracy 0.61"}]}
    bad = found("accuracy", "performance.accuracy", since=hour(40), details=details)
    known, _ = story(look(43, bad, looked=("performance",)))
    [alert] = known.values()
    assert alert.since == hour(1)
    said = text(Message(key="", what=What.FIRING, alert=alert, made=NOW))
    assert "  from 2026-03-01 01:00 UTC to 2026-03-01 03:00 UTC: accuracy: 0.1" in said
    assert "  worst in: shop = 'c': accuracy 0.61" in said
    assert document(alert)["worst"] == ["shop = 'c': accuracy 0.61"]
    assert alertmanager(alert, NOW)["annotations"]["worst"] == "shop = 'c': accuracy 0.61"

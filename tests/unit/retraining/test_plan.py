"""What a project's file may say of retraining."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.errors import InvalidRequest
from modelyard.project import Project, read
from modelyard.retraining.plan import Plan, plan_of, policy_for


def project(folder: Path, text: str) -> Project:
    (folder / "modelyard.toml").write_text(text, "utf-8")
    found = read(folder)
    assert found is not None
    return found


def test_what_is_said_is_taken_and_the_rest_is_as_usual(tmp_path: Path) -> None:
    found = plan_of(
        project(
            tmp_path,
            """
            [retrain]
            on = ["alert", "labels"]
            command = "python train.py --data {data}"
            window = "60d"
            evaluate = "14d"
            gates = [{ metric = "auc", margin = 0.01 }]
            [retrain.limits]
            memory = "2GiB"
            """,
        )
    )

    assert found.words == ("python", "train.py", "--data", "{data}")
    assert (found.window_seconds, found.held_back) == (60 * 86_400, 14 * 86_400)
    assert (found.limits.bytes, found.limits.seconds, found.limits.nice) == (2**31, 7200, 10)
    assert plan_of(None) == Plan()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("windows = '60d'", "unknown field `windows`; it may hold on, command"),
        ("on = ['alarm']", "Invalid enum value 'alarm'"),
        ("window = '60 moons'", "no length of time"),
        ("window = '60d'\nsnapshot = 'data/'", "three ways of which one is taken"),
        ("snapshot = 'data/'", "set `time` or `key`"),
        ("query = 'SELECT 1'\nkey = ['id']", "needs url_from"),
        ("query = 'SELECT 1'\nurl_from = 'DB'", "or use {until} in the query"),
        ("evaluate = 1.5", "write a share below 1"),
        ("gates = [{ slices = true }]", "about all rows together"),
        ("limits = { memory = '4 potatoes' }", "is no size"),
        ("limits = { nice = 30 }", "between 0 and 19"),
        ("certainty = 2.0", "certainty lies between"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(tmp_path: Path, said: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        plan_of(project(tmp_path, f"[retrain]\n{said}\n"))
    assert says in str(refused.value)


def test_a_challenger_goes_on_as_the_project_rolls_out_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    found = project(
        tmp_path, "[rollout]\nleast = '1h'\nsteps = ['5%', '100%']\n[retrain.rollout]\nsteps = ['50%', '100%']\n"
    )
    policy = policy_for(plan_of(found), found)

    assert policy is not None
    assert [(step.share, step.least) for step in policy.steps] == [(0.5, 3600.0), (1.0, 3600.0)]
    assert policy_for(Plan(strategy="none"), found) is None
    with pytest.raises(InvalidRequest, match="is about a canary"):
        policy_for(Plan(strategy="ab", rollout={"least": "1h"}), found)

"""What a run is made from, how two recipes and two records differ, and what a verdict means."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelyard.domain.environment import Distribution, Environment
from modelyard.domain.reproduction import Answered, Learned, at_least, judged
from modelyard.domain.run import CodeState, DataUse, Machine, Metric, Process, Run
from modelyard.errors import InvalidRequest
from modelyard.reproduction import causes
from modelyard.reproduction.recipe import WhatIf, differences, recipe_of, swapped, with_changes

HERE = Machine("here", "linux", "a processor", 4, ("avx", "avx2", "fma"))
LOCK = Environment(
    "3.11.7",
    "linux_x86_64",
    (Distribution("numpy", "2.0.0", content="aa"), Distribution("scikit-learn", "1.5.2", content="bb")),
    {"openblas": 4, "openmp": 4},
    "openblas 0.3.31 Haswell",
)
RUN = Run(
    id="20260101-000000-aaaaaa",
    name="churn",
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    by="",
    command=("python", "train.py"),
    code=CodeState(),
    machine=HERE,
    process=Process(1, 1, "", "here"),
    settings={"OMP_NUM_THREADS": "4"},
    data=DataUse(versions=("churn@1",)),
    environment=LOCK,
    metrics={"auc": Metric(0.8, 0.8, 0.8, 1)},
)


def test_what_the_machine_chose_is_chosen_again_where_this_one_would_choose_otherwise() -> None:
    assert dict(recipe_of(RUN, LOCK, HERE).settings) == {"OMP_NUM_THREADS": "4"}
    smaller = replace(HERE, cores=2)
    assert dict(recipe_of(RUN, LOCK, smaller).settings) == {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    newer = replace(HERE, features=(*HERE.features, "avx512f"))
    assert recipe_of(RUN, LOCK, newer).settings["OPENBLAS_CORETYPE"] == "Haswell"
    older = replace(HERE, features=("avx",))
    assert "OPENBLAS_CORETYPE" not in recipe_of(RUN, LOCK, older).settings, "kernels that it cannot compute with"


def test_recipes_differ_in_what_was_exchanged_and_give_it_back_one_at_a_time() -> None:
    then = recipe_of(RUN, LOCK, HERE)
    now = with_changes(then, WhatIf(2, ("scikit-learn==1.6.0",), (("PYTHONHASHSEED", "0"),)))
    found = {one.kind: one for one in differences(then, now)}
    assert {kind: (one.name, one.before, one.after) for kind, one in found.items()} == {
        "threads": ("threads", "4", "2"),
        "setting": ("PYTHONHASHSEED", "", "0"),
        "package": ("scikit-learn", "1.5.2", "1.6.0"),
    }
    for kind, one in found.items():
        left = {each.kind for each in differences(then, swapped(now, [one], then))}
        assert left == found.keys() - {kind}
    assert swapped(now, tuple(found.values()), then) == then
    with pytest.raises(InvalidRequest, match="not in this version's environment"):
        with_changes(then, WhatIf(packages=("six==1.0",)))


def test_another_run_is_another_recipe_of_code_data_and_command() -> None:
    other = replace(RUN, id="20260102-000000-bbbbbb", command=("python", "train.py", "--depth", "6"))
    found = differences(recipe_of(RUN, LOCK, HERE), recipe_of(other, LOCK, HERE))
    assert [one.kind for one in found] == ["command", "code", "data"]


def test_records_say_in_what_they_differ() -> None:
    there = replace(HERE, processor="another", features=("avx", "avx2", "avx512f"))
    lock = replace(
        LOCK,
        python="3.11.9",
        distributions=(Distribution("numpy", "2.1.0"), Distribution("scikit-learn", "1.5.2", content="cc")),
        threads={"openblas": 2, "openmp": 4},
        blas="openblas 0.3.31 SkylakeX",
    )
    data = DataUse(versions=("churn@1",), others=("notes.csv",), other_files=1)
    seeds = {"hashes": "random", "numpy": "used, not seeded"}
    again = replace(RUN, machine=there, environment=lock, data=data, seeds=seeds, settings={"OMP_NUM_THREADS": "2"})
    assert [str(one) for one in causes.differences(RUN, again)] == [
        "python: 3.11.7, now 3.11.9",
        "package numpy: 2.0.0, now 2.1.0",
        "package scikit-learn (the installed files are others)",
        "threads openblas: 4, now 2",
        "kernel: openblas 0.3.31 Haswell, now openblas 0.3.31 SkylakeX",
        "processor: a processor, now another",
        "processor features (without fma, with avx512f)",
        "data notes.csv (these files are of no version, so that they may be others than they were)",
        "randomness order of sets of texts (PYTHONHASHSEED is not set)",
        "randomness numpy (the shared source numpy was used, not seeded)",
    ]
    assert causes.differences(RUN, RUN) == ()


def test_metrics_of_both_runs_are_put_side_by_side() -> None:
    again = replace(RUN, metrics={"auc": Metric(0.8, 0.8, 0.8, 1), "loss": Metric(float("nan"), 0, 0, 1)})
    assert [(one.name, one.equal) for one in causes.metric_pairs(RUN, again)] == [("auc", True), ("loss", False)]
    assert all(one.equal for one in causes.metric_pairs(again, again))


SAME, OTHER = Learned("a", "a", 3), Learned("a", "b", 3, 1, largest_abs=1e-9)


@pytest.mark.parametrize(
    ("learned", "answers", "verdict"),
    [
        (SAME, Answered(9), "bit-equal"),
        (SAME, Answered(9, largest_abs=1e-12, largest_ulp=1), "equal within tolerance"),
        (OTHER, Answered(9), "equal within tolerance"),
        (OTHER, Answered(9, decisions=9, flips=1, excused=1), "equal within tolerance"),
        (OTHER, Answered(9, decisions=9, largest_abs=0.1, largest_ulp=5, mismatched=2), "same decisions"),
        (OTHER, Answered(9, largest_abs=0.1, largest_ulp=5, mismatched=2), "different"),
        (OTHER, Answered(9, decisions=9, flips=1, mismatched=1), "different"),
        (SAME, Answered(problem="output 'predict': there is no answer"), "different"),
    ],
)
def test_verdicts(learned: Learned, answers: Answered, verdict: str) -> None:
    found, reason = judged(learned, answers)
    assert found == verdict
    assert bool(reason) == (verdict != "bit-equal")
    assert at_least(found, "different")

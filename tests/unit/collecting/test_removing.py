from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from data_stores import content, write
from modelyard import data
from modelyard.collecting import removing
from modelyard.control.deployments import deploy, undeploy
from modelyard.domain.names import Named
from modelyard.domain.run import CodeState, DataUse, Machine, Outcome, Process, Run
from modelyard.errors import (
    InvalidRequest,
    ModelNotFound,
    RunNotFound,
    RunRemoved,
    StillReferenced,
    VersionNotFound,
    VersionRemoved,
)
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.runs import Runs
from modelyard.runs.yard import opened
from small_bundles import report, write_bundle


@pytest.fixture
def registry(home: Home, tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(home) as opened_registry:
        for each in (b"1", b"2"):
            bundle = write_bundle(tmp_path / each.decode(), content=each)
            version = opened_registry.register(bundle)
            opened_registry.add_report(version, report(bundle, version.number))
        yield opened_registry


def remove(registry: Registry, ref: str, *, give_up_replay: bool = False) -> None:
    named = Named.parse(ref)
    removing.remove(registry.database, named, why="wrong labels", by="ada", give_up_replay=give_up_replay)


def a_run(registry: Registry, *, read: tuple[str, ...] = (), made: tuple[str, ...] = (), ended: bool = True) -> str:
    run = Run(
        id="20260412-081503-9f2c11",
        name="toy",
        started_at=datetime.now(UTC),
        by="ada",
        command=("python", "train.py"),
        code=CodeState(),
        machine=Machine("here", "linux", "any", 2),
        process=Process(1, 1, "", "elsewhere"),
        settings={},
    )
    kept = Runs(registry.database)
    kept.begin(run)
    if ended:
        finished = replace(run, data=DataUse(declared=read), versions=made, outcome=Outcome("finished", 0))
        assert kept.finish(finished, "blake3:0", ())
    return run.id


def test_what_is_removed_says_who_removed_it_and_why_and_its_number_is_not_given_again(
    registry: Registry, tmp_path: Path
) -> None:
    remove(registry, "toy@2")
    with pytest.raises(VersionRemoved, match=r"toy@2 was removed on .* by ada: wrong labels; newest: 1"):
        registry.version("toy@2")
    assert [one.ref for one in registry.removed("toy")] == ["toy@2"]
    assert registry.version("toy").number == 1
    again = registry.register(write_bundle(tmp_path / "again", content=b"2"))
    assert again.number == 3, "the same bundle, registered again, is another version"


def test_a_number_is_not_given_again_where_nothing_is_left(registry: Registry, tmp_path: Path) -> None:
    remove(registry, "toy@1")
    remove(registry, "toy@2")
    with pytest.raises(VersionNotFound, match="it has no version"):
        registry.version("toy")
    assert registry.register(write_bundle(tmp_path / "new", content=b"3")).number == 3


def test_what_points_at_a_version_keeps_it(registry: Registry) -> None:
    registry.set_alias("toy", "champion", 1)
    deploy(registry, "toy@1", "live")
    with pytest.raises(StillReferenced) as refused:
        remove(registry, "toy@1", give_up_replay=True)
    assert [line.split(":")[0] for line in refused.value.references] == [
        "the alias toy@champion points at it",
        "the deployment live asks for it",
    ]
    assert "modelyard alias toy champion --remove" in str(refused.value)
    assert registry.version("toy@champion").number == 1


def test_a_version_that_answered_once_is_given_up_only_when_that_is_said(registry: Registry) -> None:
    deploy(registry, "toy@1", "live")
    undeploy(registry, "live")
    with pytest.raises(StillReferenced, match="--give-up-replay"):
        remove(registry, "toy@1")
    remove(registry, "toy@1", give_up_replay=True)
    assert registry.removed("toy")[0].given_up == ("live",)


def test_things_go_from_the_end_of_their_story_to_its_beginning(registry: Registry, home: Home, tmp_path: Path) -> None:
    write(tmp_path / "data", {"a": content(10)})
    data.snapshot(tmp_path / "data", "numbers", home=home)
    run = a_run(registry, read=("numbers@1",), made=("toy@2",))
    with pytest.raises(StillReferenced, match=f"the run {run} read it"):
        remove(registry, "data:numbers@1")
    with pytest.raises(StillReferenced, match="toy@2 was made by it"):
        remove(registry, f"run:{run}")
    for ref in ("toy@2", f"run:{run}", "data:numbers@1"):
        remove(registry, ref)
    assert [one.ref for one in removing.history(registry.database)] == ["toy@2", f"run:{run}", "data:numbers@1"]
    with opened(home) as yard, pytest.raises(RunRemoved, match="wrong labels"):
        yard.runs.run(run)
    with pytest.raises(VersionRemoved, match=r"data:numbers@1 was removed .* it has no other version"):
        data.show("numbers@1", home=home)
    assert data.snapshot(tmp_path / "data", "numbers", home=home).ref == "numbers@2"


def test_a_run_under_way_stays(registry: Registry) -> None:
    run = a_run(registry, ended=False)
    with pytest.raises(StillReferenced, match="under way"):
        remove(registry, f"run:{run}")


def test_what_is_not_there_is_not_removed(registry: Registry) -> None:
    for ref, error in (
        ("toy@7", VersionNotFound),
        ("tow@1", ModelNotFound),
        ("run:x", RunNotFound),
        ("toy", InvalidRequest),
        ("toy@champion", InvalidRequest),
    ):
        with pytest.raises(error):
            remove(registry, ref)
    with pytest.raises(InvalidRequest, match="say why"):
        removing.remove(registry.database, Named.parse("toy@1"), why=" ")
    with pytest.raises(InvalidRequest, match="names nothing"):
        Named.parse("dat:flights@1")
    assert removing.history(registry.database) == ()

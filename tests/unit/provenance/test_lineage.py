"""Lineage asked of a registry that is filled by hand: both ways, folded, with what was live when."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import modelyard as my
from modelyard.control.deployments import deploy, undeploy
from modelyard.domain.lineage import Edge, Graph, Node, ordered
from modelyard.domain.records import PredictionRecord
from modelyard.domain.run import CodeState, DataUse, Machine, Outcome, Process, Run
from modelyard.errors import InvalidRequest, NotFound
from modelyard.provenance import picture
from modelyard.provenance.text import lines
from modelyard.records.log import PredictionLog
from modelyard.registry import Registry
from modelyard.registry.runs import Runs
from small_bundles import write_bundle

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def made_run(number: int, data: DataUse | None = None, **facts: object) -> Run:
    run = Run(
        id=f"20260101-{number:06d}-aaaaaa",
        name="train",
        started_at=BEGIN + timedelta(minutes=number),
        by="ada",
        command=("train.py",),
        code=CodeState(commit="c0ffee" * 6, changed=("train.py",)),
        machine=Machine("here", "linux", "cpu", 1),
        process=Process(1, 1, "", "here"),
        settings={},
        data=data or DataUse(),
        outcome=Outcome("finished", 0),
    )
    return replace(run, **facts)  # type: ignore[arg-type]


class Yard:
    """A home and what is in it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "yard"
        self.folder = folder
        self.registry = Registry.open(self.home)
        self.runs = Runs(self.registry.database)

    def data(self, name: str, text: str, **options: object) -> str:
        file = self.folder / f"{name}.txt"
        file.write_text(text)
        return my.data.snapshot(file, name, home=self.home, **options).ref  # type: ignore[arg-type]

    def version(self, content: str, name: str = "toy") -> str:
        return self.registry.register(write_bundle(self.folder / f"{name}-{content}", name, content.encode())).ref

    def ran(self, run: Run) -> Run:
        self.runs.begin(replace(run, outcome=Outcome("running")))
        assert self.runs.finish(run, "blake3:00", [])
        return run

    def lineage(self, ref: str, **options: object) -> Graph:
        return my.lineage(ref, home=self.home, **options)  # type: ignore[arg-type]


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    made.registry.close()


@pytest.fixture
def story(yard: Yard) -> Yard:
    """raw@1 → clean@1 → two runs → toy@1, toy@2 → production; a third run reads toy@1 and takes scores@1."""
    yard.data("raw", "1")
    yard.data("clean", "2", made_from=["raw@1"])
    use = DataUse(declared=("clean@1",), versions=("clean@1",))
    for number, content in ((1, "first"), (2, "second")):
        yard.ran(made_run(number, use, versions=(yard.version(content),)))
    yard.ran(made_run(3, loaded=("toy@1",), snapshots=(yard.data("scores", "3"),)))
    yard.registry.set_alias("toy", "champion", 1)
    yard.registry.set_alias("toy", "champion", 2)
    deploy(yard.registry, "toy@1", "production", "a test", "ada")
    deploy(yard.registry, "toy@2", "production", "a test", "bob")
    return yard


def ids(graph: Graph, kind: str) -> set[str]:
    return {node.key for node in graph.nodes if node.kind == kind}


def test_a_version_is_followed_to_its_data_and_to_its_deployment(story: Yard) -> None:
    graph = story.lineage("toy@2")
    assert ids(graph, "data") == {"clean@1", "raw@1"}
    assert ids(graph, "run") == {made_run(2).id}
    assert ids(graph, "code") == {"c0ffee" * 6}
    assert ids(graph, "deployment") == {"production"}
    assert graph.node("model:toy@2").facts["aliases"] == "champion"
    (code,) = [edge for edge in graph.edges if edge.relation == "ran"]
    assert code.note == "with 1 file changed"
    (live,) = [edge for edge in graph.edges if edge.relation == "deployed"]
    assert live.note.startswith("live since")


def test_data_is_followed_through_runs_versions_and_what_they_made(story: Yard) -> None:
    graph = story.lineage("raw@1", direction="down")
    assert ids(graph, "model") == {"toy@1", "toy@2"}
    assert ids(graph, "data") == {"raw@1", "clean@1", "scores@1"}
    assert ids(graph, "run") == {made_run(number).id for number in (1, 2, 3)}
    assert graph.node("model:toy@1").facts["earlier aliases"] == "champion"
    assert ids(story.lineage("scores@1", direction="up"), "data") == {"scores@1", "clean@1", "raw@1"}


def test_depth_and_directions_are_limits(story: Yard) -> None:
    assert ids(story.lineage("toy@2", depth=1), "data") == set()
    assert story.lineage("toy@2", direction="up").of_kind("deployment") == ()
    assert story.lineage("toy@2", direction="down").of_kind("run") == ()


def test_runs_commits_and_deployments_can_be_asked_about(story: Yard) -> None:
    assert ids(story.lineage(f"run:{made_run(1).id}"), "model") == {"toy@1"}
    assert ids(story.lineage("code:c0ffee"), "model") == {"toy@1", "toy@2"}
    graph = story.lineage("production")
    assert ids(graph, "model") == {"toy@1", "toy@2"}
    undeploy(story.registry, "production")
    notes = [edge.note for edge in story.lineage("toy@2").edges if edge.relation == "deployed"]
    assert " to " in notes[0]


def test_of_many_runs_those_behind_a_deployment_come_first_and_the_rest_is_counted(story: Yard) -> None:
    use = DataUse(versions=("clean@1",))
    for number in range(10, 30):
        story.ran(made_run(number, use))
    graph = story.lineage("clean@1", direction="down", most=3)
    runs = ids(graph, "run")
    assert made_run(2).id in runs
    assert made_run(29).id in runs
    (more,) = graph.of_kind("more")
    assert more.label == "19 more runs"
    assert more.facts["see"] == "modelyard runs list --data clean@1"


def test_a_name_of_two_kinds_must_be_told_apart(story: Yard) -> None:
    story.data("toy", "4")
    with pytest.raises(InvalidRequest, match="write model:toy@1 or data:toy@1"):
        story.lineage("toy@1")
    assert story.lineage("data:toy@1").start == "data:toy@1"
    assert story.lineage("model:toy@1").start == "model:toy@1"


def test_what_is_not_there_is_said(story: Yard) -> None:
    with pytest.raises(NotFound, match="nothing is known as 'nowhere'"):
        story.lineage("nowhere")
    with pytest.raises(NotFound, match="no run ran commit"):
        story.lineage("code:beef")


def test_other_files_that_a_run_read_are_said(yard: Yard) -> None:
    yard.ran(made_run(1, DataUse(others=("a.csv",), other_files=3), versions=(yard.version("first"),)))
    (files,) = yard.lineage("toy@1").of_kind("files")
    assert files.label == "3 files of no version"


def test_predictions_are_counted_and_one_is_followed_back(story: Yard) -> None:
    version = story.registry.version("toy@2")
    log = PredictionLog(story.home / "records")
    log.append_all([_prediction(name, version.digest) for name in ("p1", "p2")])
    log.close()
    (many,) = story.lineage("clean@1", direction="down").of_kind("predictions")
    assert many.label == "2 predictions"
    assert story.lineage("production", direction="down").of_kind("predictions")[0].label == "2 predictions"
    graph = story.lineage("p1")
    assert ids(graph, "deployment") == {"production"}
    assert ids(graph, "model") == {"toy@2"}
    assert ids(graph, "data") == {"clean@1", "raw@1"}
    assert graph.node("deployment:production").facts["decided by"] == "bob"


def _prediction(name: str, digest: str) -> PredictionRecord:
    now = time.time_ns()
    return PredictionRecord(
        name, "production", "toy", 2, digest, now, 1000, 200, "ok", "rows", 1, b'[{"x":1.0}]', b'{"predictions":[1.0]}'
    )


def test_text_and_picture_show_every_node_once_and_link_it(story: Yard) -> None:
    graph = story.lineage("clean@1")
    said = "\n".join(lines(graph))
    assert "└─ deployment production" in said
    drawn = ET.fromstring(picture.svg(graph))
    boxes = [part for part in drawn.iter("{http://www.w3.org/2000/svg}g") if "node" in part.get("class", "").split()]
    assert len(boxes) == len(graph.nodes)
    page = picture.page(graph)
    assert "<script" not in page
    for node in graph.nodes:
        anchor = node.id.replace(" ", "-")
        assert f'id="{anchor}"' in page
        assert f'href="#{anchor}"' in page


def test_foreign_text_cannot_enter_the_page() -> None:
    node = Node("data", '"><script>', "<b>", {"note": "<i>"})
    page = picture.page(Graph(node.id, (node,)))
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page


def test_columns_follow_the_edges_also_of_a_circle() -> None:
    nodes = tuple(Node("data", name, name) for name in "abcd")
    edges = tuple(Edge(f"data:{a}", f"data:{b}", "made from") for a, b in ("ab", "bc", "dc"))
    columns = [[node.key for node in column] for column in ordered(Graph("data:a", nodes, edges))]
    assert [sorted(column) for column in columns] == [["a"], ["b", "d"], ["c"]]
    circle = (*edges, Edge("data:c", "data:a", "made from"))
    assert sum(map(len, ordered(Graph("data:a", nodes, circle)))) == 4

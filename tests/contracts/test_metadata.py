"""What every metadata database keeps to: SQLite in a home's folder, and PostgreSQL that a team shares."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import func, insert, select, text

from data_stores import content
from modelyard.control import deployments
from modelyard.datasets.facts import Facts
from modelyard.datasets.packs import Place
from modelyard.datasets.tree import Content, Entry, Tree
from modelyard.domain.run import CodeState, Machine, Metric, Outcome, Process, Run
from modelyard.errors import AliasNotFound, DatasetNotFound, Failed, ModelNotFound, RunNotFound, VersionNotFound
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.database import Database
from modelyard.registry.datasets import DatabaseIndex, Datasets, Draft
from modelyard.registry.runs import Condition, Runs, Wanted
from modelyard.registry.tables import models
from small_bundles import report, write_bundle
from team_servers import PASSWORD, Team

AT_ONCE = 8
BEGAN = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)

Answer = TypeVar("Answer")


@pytest.fixture
def registry(any_home: Home) -> Iterator[Registry]:
    with Registry.open(any_home) as opened:
        yield opened


@pytest.fixture
def database(registry: Registry) -> Database:
    return registry.database


def draft(seed: int, **more: Any) -> Draft:
    tree = Tree.of([Entry(b"data.csv", Content(seed, bytes([seed % 256]) * 32, ()))])
    return Draft(tree, (), {"kind": "files", "sources": ["data.csv"]}, Facts(), {}, **more)


def run(identity: str = "20260102-1", **more: Any) -> Run:
    machine, process = Machine("here", "linux", "some", 2), Process(1, 1, "", "elsewhere")
    return Run(identity, "toy", BEGAN, "ann", ("python",), CodeState(), machine, process, {}, **more)


def ended(begun: Run) -> Run:
    return replace(begun, outcome=Outcome("finished", 0))


def all_at_once(do: Callable[[int], Answer]) -> list[Answer]:
    ready = threading.Barrier(AT_ONCE)

    def begin(number: int) -> Answer:
        ready.wait()
        return do(number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(begin, range(AT_ONCE)))


def test_versions_are_numbered_and_found_by_number_alias_and_as_the_newest(registry: Registry, tmp_path: Path) -> None:
    bundles = [write_bundle(tmp_path / str(at), content=bytes([at])) for at in range(3)]
    made = [registry.register(bundle) for bundle in bundles]
    assert [version.number for version in made] == [1, 2, 3]
    assert registry.register(bundles[1]) == made[1]
    registry.set_alias("toy", "champion", 2, by="ann", why="better")
    found = [registry.version(ref) for ref in ("toy@1", "toy@champion", "toy")]
    assert found == [made[0], made[1], made[2]]
    assert registry.versions("toy") == tuple(made)
    assert found[0].created_at.tzinfo is UTC
    assert registry.holds(bundles[0].digest)
    assert not registry.holds("blake3:0")


def test_what_is_not_there_is_answered_with_what_is(registry: Registry, tmp_path: Path) -> None:
    registry.register(write_bundle(tmp_path / "b"))
    with pytest.raises(ModelNotFound, match="there are: toy"):
        registry.version("tax@1")
    with pytest.raises(VersionNotFound, match="newest: 1"):
        registry.version("toy@7")
    with pytest.raises(AliasNotFound):
        registry.version("toy@champion")
    with pytest.raises(RunNotFound):
        Runs(registry.database).run("20260102")
    with pytest.raises(DatasetNotFound):
        Datasets(registry.home, registry.database).version("flights")


def test_those_who_register_at_once_get_numbers_of_their_own(registry: Registry, tmp_path: Path) -> None:
    bundles = [write_bundle(tmp_path / str(at), content=bytes([at])) for at in range(AT_ONCE)]
    made = all_at_once(lambda at: registry.register(bundles[at]))
    assert sorted(version.number for version in made) == list(range(1, AT_ONCE + 1))
    same = all_at_once(lambda _: registry.register(bundles[0]).number)
    assert set(same) == {made[0].number}


def test_snapshots_registered_at_once_get_numbers_of_their_own(registry: Registry) -> None:
    kept = Datasets(registry.home, registry.database)
    made = all_at_once(lambda at: kept.register("flights", draft(at)))
    assert sorted(version.number for version, _ in made) == list(range(1, AT_ONCE + 1))
    again = all_at_once(lambda _: kept.register("flights", draft(0)))
    assert {(version.number, is_new) for version, is_new in again} == {(made[0][0].number, False)}
    assert [version.number for version in kept.versions("flights")] == list(range(1, AT_ONCE + 1))


def test_what_is_read_in_a_transaction_that_writes_stays_so_until_it_ends(database: Database) -> None:
    counted = select(func.count()).select_from(models)

    def add(_: int) -> int:
        with database.write() as connection:
            there: int = connection.execute(counted).scalar_one()
            connection.execute(insert(models).values(name=f"model-{there}", created_at=BEGAN))
            return there

    assert sorted(all_at_once(add)) == list(range(AT_ONCE))


def test_a_transaction_is_kept_whole_or_not_at_all_and_readers_see_one_state(database: Database) -> None:
    def interrupted() -> None:
        with database.write() as connection:
            connection.execute(insert(models).values(name="lost", created_at=BEGAN))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    names = select(models.c.name)
    with database.read() as reading:
        assert reading.execute(names).all() == []
        with database.write() as writing:
            writing.execute(insert(models).values(name="toy", created_at=BEGAN))
        assert reading.execute(names).all() == []
    with database.read() as reading:
        assert reading.execute(names).scalars().all() == ["toy"]


def test_aliases_keep_their_history_and_reports_come_back_as_they_were(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    version = registry.register(bundle)
    registry.set_alias("toy", "champion", 1, by="ann", why="the first")
    registry.remove_alias("toy", "champion", by="bob")
    changes = [(one.version, one.previous, one.by, one.why) for one in registry.alias_history("toy")]
    assert changes == [(1, None, "ann", "the first"), (None, 1, "bob", "")]
    passed = report(bundle)
    stage = replace(passed.stages[0], largest_abs=float("inf"), reason="x" * 5_000_000)
    registry.add_report(version, replace(passed, stages=(stage,)))
    registry.add_report(version, passed)
    assert registry.reports(version) == (replace(passed, stages=(stage,)), passed)
    assert registry.proof(version) == passed


def test_deployments_are_numbered_decisions(registry: Registry, tmp_path: Path) -> None:
    registry.register(write_bundle(tmp_path / "b"))
    made = all_at_once(lambda at: deployments.deploy(registry, "toy", f"live-{at}", "a try").generation)
    assert sorted(made) == list(range(1, AT_ONCE + 1))
    state = deployments.desired_state(registry)
    assert state.generation == AT_ONCE
    assert [one.name for one in state.deployments] == [f"live-{at}" for at in range(AT_ONCE)]
    assert all((Path(one.bundle) / "manifest.json").is_file() for one in state.deployments)


def test_a_run_ends_once_and_is_found_by_what_it_was(registry: Registry) -> None:
    kept = Runs(registry.database)
    metrics = {"auc": Metric(0.75, 0.5, 0.8, 2)}
    begun = run(params={"depth": 6, "name": "deep"}, metrics=metrics, tags={"by": "hand"})
    kept.begin(begun)
    kept.begin(run("20260102-2"))
    assert kept.under_way() == (begun, run("20260102-2")) or kept.under_way() == (run("20260102-2"), begun)
    DatabaseIndex(registry.database).add({b"1" * 32: Place("pack", 0, 1)})
    assert all_at_once(lambda _: kept.finish(ended(begun), "blake3:0", (b"1" * 32,))).count(True) == 1
    assert kept.run("20260102-1") == ended(begun)
    assert kept.files("20260102-1") == ("blake3:0", (b"1" * 32,))
    found = [
        kept.list(Wanted(where=(Condition.parse(text),)))
        for text in ("auc>0.7", "depth=6", "name=deep", "auc>0.8", "depth<1")
    ]
    assert [len(runs) for runs in found] == [1, 1, 1, 0, 0]
    assert kept.list(Wanted(tags={"by": "hand"})) == (ended(begun),)
    with pytest.raises(RunNotFound, match="several"):
        kept.run("20260102")


@pytest.mark.parametrize("text", ["O'Brien \\ \" % :x é 日本 🦔", "line\nline\ttab", "zero \0 in it", "x" * 100_000])
def test_any_text_is_kept(registry: Registry, tmp_path: Path, text: str) -> None:
    registry.register(write_bundle(tmp_path / "b"))
    registry.set_alias("toy", "champion", 1, by=text, why=text)
    change = registry.alias_history("toy")[0]
    assert change.why == change.by
    assert change.why.replace("\N{SYMBOL FOR NULL}", "\0") == text
    kept, begun = Runs(registry.database), run(params={text[:500]: text}, tags={"note": text})
    kept.begin(begun)
    assert kept.finish(ended(begun), "blake3:0", ())
    assert kept.list(Wanted(tags={"note": text})) == (ended(begun),)


def test_names_are_in_the_order_of_their_bytes(registry: Registry, tmp_path: Path) -> None:
    names = ["b", "B2", "a-1", "a1", "a.1", "Z"]
    for name in names:
        registry.register(write_bundle(tmp_path / name, name=name))
    assert [model.name for model in registry.models()] == sorted(names)


def test_chunks_are_found_by_the_thousand_and_stay_where_they_were_first(database: Database) -> None:
    index = DatabaseIndex(database)
    digests = [content(32, at) for at in range(6000)]
    index.add({digest: Place("first", at, 10) for at, digest in enumerate(digests)})
    index.add({digest: Place("second", at, 10) for at, digest in enumerate([*digests[:100], bytes(32)])})
    found = index.find([*digests, bytes(32), b"1" * 32])
    assert len(found) == len(digests) + 1
    assert {place.pack for digest, place in found.items() if digest != bytes(32)} == {"first"}
    assert found[bytes(32)] == Place("second", 100, 10)
    assert index.find([]) == {}


def test_chunks_that_are_stored_again_are_found_in_their_new_place(database: Database) -> None:
    index = DatabaseIndex(database)
    digests = [content(32, at) for at in range(700)]
    index.add({digest: Place("old", at, 1) for at, digest in enumerate(digests[:600])})
    index.replace({digest: Place("new", at + 1, 2) for at, digest in enumerate(digests[100:])})
    found = index.find(digests)
    assert len(found) == 700
    assert {found[digest].pack for digest in digests[:100]} == {"old"}
    assert found[digests[100]] == Place("new", 1, 2)
    assert found[digests[699]] == Place("new", 600, 2)


def test_snapshots_come_back_with_what_was_said_of_them(registry: Registry) -> None:
    kept = Datasets(registry.home, registry.database)
    origin = {"kind": "files", "sources": ["caf\udce9.csv", "日本"], "more": {"n": [1, 2.5, None, True]}}
    made, is_new = kept.register("flights", replace(draft(2**40), origin=origin, note="as delivered", by="ann"))
    assert is_new
    assert kept.version("flights@1") == made
    assert (made.origin, made.note, made.by, made.bytes) == (origin, "as delivered", "ann", 2**40)


def test_who_only_works_with_a_shared_database_needs_no_right_to_change_its_form(servers: Team, tmp_path: Path) -> None:
    url = servers.database()
    name = url.rpartition("/")[2]
    for statement in (
        f"CREATE ROLE bob_{name} LOGIN PASSWORD 'tea-at-five'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO bob_{name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO bob_{name}",
    ):
        servers.postgresql.sql(statement, name)
    with Registry.open(Home(tmp_path / "yard", url.replace(f"ann:{PASSWORD}", f"bob_{name}:tea-at-five"))) as registry:
        registry.register(write_bundle(tmp_path / "b"))
        registry.set_alias("toy", "champion", 1)
        assert registry.version("toy@champion").number == 1
        with registry.database.write() as connection:
            silent = text("SELECT current_setting('idle_in_transaction_session_timeout')")
            assert connection.execute(silent).scalar_one() == "1min"
        with (
            pytest.raises(Failed, match="refuses: must be owner of table models"),
            registry.database.write() as connection,
        ):
            connection.execute(text("DROP TABLE models"))

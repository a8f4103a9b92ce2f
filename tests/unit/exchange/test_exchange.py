from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import insert, select

import modelyard as my
from data_stores import content, files_in, write
from modelyard import data
from modelyard.collecting import removing
from modelyard.collecting.gc import collect_all
from modelyard.domain.names import Named
from modelyard.errors import Conflict, NotFound, PolicyDenied, Rejected
from modelyard.exchange import file as files
from modelyard.exchange.arriving import Terms
from modelyard.exchange.moving import Moved, move
from modelyard.exchange.remotes import Remote, RemoteNotFound, Remotes
from modelyard.exchange.side import opened
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.tables import arrivals, notes, tags
from modelyard.runs import current
from modelyard.runs.folder import VARIABLE
from small_bundles import report, write_bundle

TOY = Named("model", "toy@1")


@dataclass
class Place:
    """A home with a model that a run made from data."""

    home: Home
    run: str
    folder: Path


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    home = Home(tmp_path / "source")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folder = tmp_path / "numbers"
    write(folder, {"a": content(700_000, 1), "b": content(10, 2)})
    data.snapshot(folder, "numbers", home=home, profile=False, note="first")
    with my.run("toy", data=["numbers@1"], home=home, params={"depth": 3}) as run:
        Path(run.data("numbers@1"), "a").read_bytes()
        bundle = write_bundle(tmp_path / "bundle", runs_code=True)
        with Registry.open(home) as registry:
            version = registry.register(bundle)
            registry.add_report(version, report(bundle))
            registry.set_alias("toy", "champion", 1)
            with registry.database.write() as connection:
                of = {"kind": "model", "name": "toy", "number": 1, "by": "ada", "at": version.created_at}
                connection.execute(insert(tags).values(**of, key="stage", packed=False, value="good", short="good"))
                connection.execute(insert(notes).values(**of, text="the first"))
        current.tell(version="toy@1")
        run_id = run.id
    return Place(home, run_id, folder)


def moved(source: Home, target: Home, *refs: Named, terms: Terms | None = None, trusted: bool = True) -> Moved:
    with opened(source, "there") as one, opened(target, "here") as other:
        return move(one, other, refs or (TOY,), terms or Terms(), trusted=trusted)


def states(done: Moved) -> list[tuple[str, str, str]]:
    return [(each.there, each.here, each.state) for each in done.arrivals]


def test_a_version_comes_with_all_that_it_needs_and_only_once(source: Place, any_home: Home, tmp_path: Path) -> None:
    done = moved(source.home, any_home, terms=Terms(by="ada", with_aliases=True))
    assert states(done) == [
        ("numbers@1", "numbers@1", "new"),
        ("toy@1", "toy@1", "new"),
        (source.run, source.run, "new"),
    ]
    assert done.bytes > 700_000
    data.checkout("numbers@1", tmp_path / "out", home=any_home)
    assert files_in(tmp_path / "out") == files_in(source.folder)
    assert data.show("numbers@1", home=any_home).note == "first"
    with opened(any_home) as here, opened(source.home) as there:
        version = here.registry.version("toy@champion")
        assert version.created_at == there.registry.version("toy@1").created_at
        assert here.registry.bundle(version).digest == version.digest
        assert here.registry.proof(version) is not None
        (run,) = here.runs.that_made("toy", 1)
        assert run == there.runs.run(source.run)
        with here.database.read() as connection:
            assert connection.execute(select(notes.c.text).where(notes.c.kind == "model")).scalars().all() == [
                "the first"
            ]
            assert connection.execute(select(tags.c.value).where(tags.c.key == "stage")).scalars().all() == ["good"]
            rows = connection.execute(select(arrivals)).all()
            assert {(row.origin, row.origin_ref, row.by) for row in rows if row.kind == "model"} == {
                ("there", "toy@1", "ada")
            }
    again = moved(source.home, any_home, terms=Terms(with_aliases=True))
    assert {each.state for each in again.arrivals} == {"there"}
    assert again.bytes == 0
    with opened(any_home) as here:
        assert len(here.registry.reports("toy@1")) == 1
        assert len(here.registry.alias_history("toy")) == 1


def test_numbers_that_are_taken_are_exchanged_everywhere(source: Place, tmp_path: Path) -> None:
    target = Home(tmp_path / "target")
    write(tmp_path / "other", {"c": content(20, 3)})
    data.snapshot(tmp_path / "other", "numbers", home=target, profile=False)
    with Registry.open(target) as registry:
        registry.register(write_bundle(tmp_path / "b2", content=b"other"))
    done = moved(source.home, target)
    assert states(done)[:2] == [("numbers@1", "numbers@2", "new"), ("toy@1", "toy@2", "new")]
    with opened(target) as here:
        run = here.runs.run(source.run)
        assert (run.data.versions, run.data.declared, run.versions) == (("numbers@2",), ("numbers@2",), ("toy@2",))
        assert [each.id for each in here.runs.that_made("toy", 2)] == [source.run]
    assert states(moved(source.home, target))[1] == ("toy@1", "toy@2", "there")


def test_a_number_that_is_free_is_kept_and_the_next_comes_after_it(source: Place, tmp_path: Path) -> None:
    target = Home(tmp_path / "target")
    write(source.folder, {"c": content(20, 3)})
    data.snapshot(source.folder, "numbers", home=source.home, profile=False)
    assert states(moved(source.home, target, Named("data", "numbers@2"))) == [("numbers@2", "numbers@2", "new")]
    write(tmp_path / "other", {"c": content(20, 4)})
    assert data.snapshot(tmp_path / "other", "numbers", home=target, profile=False).ref == "numbers@3"
    assert states(moved(source.home, target))[0] == ("numbers@1", "numbers@1", "new")


def test_what_was_removed_is_brought_back_only_when_that_is_said(source: Place, tmp_path: Path) -> None:
    target = Home(tmp_path / "target")
    moved(source.home, target)
    with Registry.open(target) as registry:
        removing.remove(registry.database, TOY, why="wrong labels")
    with pytest.raises(Conflict, match="wrong labels"):
        moved(source.home, target)
    back = moved(source.home, target, terms=Terms(although_removed=True))
    assert states(back)[1] == ("toy@1", "toy@2", "new")
    assert {each.state for each in moved(source.home, target).arrivals} == {"there"}


def test_code_comes_from_those_who_are_trusted_only(source: Place, tmp_path: Path) -> None:
    target = Home(tmp_path / "target")
    with pytest.raises(PolicyDenied, match="holds code"):
        moved(source.home, target, trusted=False)
    assert data.newest(home=target) == (), "nothing is registered of what is refused"
    moved(source.home, target)
    moved(source.home, target, trusted=False)


def test_content_that_is_collected_while_it_moves_is_moved_again(
    source: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from modelyard.exchange import moving

    target = Home(tmp_path / "target")
    arrive, calls = moving.arrive, []

    def collected_first(*words: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            collect_all(target, timedelta(seconds=-60))
        return arrive(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(moving, "arrive", collected_first)
    moved(source.home, target)
    assert len(calls) == 2
    assert data.verify("numbers@1", home=target) == ()


# files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(source: Place, tmp_path: Path) -> Path:
    with opened(source.home, "a file") as side:
        parcel, size = files.export(side, [TOY], tmp_path / "toy.yard")
    assert size == (tmp_path / "toy.yard").stat().st_size
    assert [each.ref for each in parcel.data] == ["numbers@1"]
    return tmp_path / "toy.yard"


def take(home: Home, file: Path, *, trusted: bool = True) -> list[tuple[str, str, str]]:
    with opened(home) as side:
        terms = Terms(with_findings=trusted)
        return [(each.there, each.here, each.state) for each in files.import_(side, file, terms, trusted=trusted)[1]]


def test_a_file_brings_the_same_and_the_same_again_gives_the_same_bytes(
    source: Place, exported: Path, any_home: Home, tmp_path: Path
) -> None:
    assert files.is_parcel(exported)
    assert [state for *_, state in take(any_home, exported)] == ["new"] * 3
    assert [state for *_, state in take(any_home, exported)] == ["there"] * 3
    assert data.verify("numbers@1", home=any_home) == ()
    with opened(any_home, "a file") as side:
        assert side.registry.proof("toy@1") is not None
        files.export(side, [TOY], tmp_path / "again.yard")
    with opened(source.home, "a file") as side, pytest.raises(Exception, match="exists already"):
        files.export(side, [TOY], exported)
    pulled = (tmp_path / "again.yard").read_bytes()
    moved(source.home, any_home, terms=Terms(with_aliases=True))
    (tmp_path / "again.yard").unlink()
    with opened(any_home, "a file") as side:
        files.export(side, [TOY], tmp_path / "again.yard")
    assert pulled != exported.read_bytes(), "aliases stay behind unless that is said"
    assert (tmp_path / "again.yard").read_bytes() == exported.read_bytes()


def test_without_trust_neither_code_nor_claims_are_taken(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyDenied, match="trust-code"):
        take(Home(tmp_path / "target"), exported, trusted=False)
    with Registry.open(tmp_path / "target") as registry:
        assert registry.models() == ()


def spoiled(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Files in which something is wrong."""
    yield "half", raw[: len(raw) // 2]
    yield "without its end", raw[:-10240]
    for at in (600, len(raw) // 3, len(raw) // 2, 2 * len(raw) // 3):
        yield f"a bit at {at}", raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def rewritten(raw: bytes, change: Callable[[tarfile.TarInfo, bytes], list[tuple[tarfile.TarInfo, bytes]]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(raw)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            source = old.extractfile(member)
            for changed, content_ in change(member, b"" if source is None else source.read()):
                changed.size = len(content_)
                new.addfile(changed, io.BytesIO(content_))
    return out.getvalue()


def test_what_is_not_whole_or_was_changed_is_refused_and_nothing_is_registered(exported: Path, tmp_path: Path) -> None:
    raw = exported.read_bytes()
    cases = dict(spoiled(raw))
    cases["a chunk left out"] = rewritten(raw, lambda m, c: [] if m.name.startswith("chunks/") else [(m, c)])
    cases["a link"] = rewritten(raw, lambda m, c: [(m, c), *([_link()] if m.name.startswith("parcel-") else [])])
    cases["a way out"] = rewritten(raw, lambda m, c: [(_renamed(m, "../../../out"), c)])
    cases["of another kind"] = rewritten(raw, lambda m, c: [(_renamed(m, "parcel"), c)] if "parcel" in m.name else [])
    for what, changed in cases.items():
        file = tmp_path / "changed.yard"
        file.write_bytes(changed)
        target = Home(tmp_path / "target")
        with pytest.raises(Rejected):
            take(target, file)
        assert data.newest(home=target) == (), what
        with Registry.open(target) as registry:
            assert registry.models() == (), what
        assert not list(target.cache.glob("import-*")), what


def _renamed(member: tarfile.TarInfo, end: str) -> tarfile.TarInfo:
    kind, _, rest = member.name.partition("/")
    if kind == "bundles":
        member.name = f"{kind}/{rest.split('/')[0]}/{end}"
    elif end == "parcel":
        member.name = "parcel-" + "0" * 64
    return member


def _link() -> tuple[tarfile.TarInfo, bytes]:
    link = tarfile.TarInfo("chunks/" + "0" * 64)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return link, b""


# remotes --------------------------------------------------------------------------------------------------------------


def test_remotes_are_known_by_name_and_folders_by_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "yard")
    remotes = Remotes(home)
    (tmp_path / "shared").mkdir()
    remotes.add("shared", Remote(home=str(tmp_path / "shared")))
    remotes.add("team", Remote(database="env:TEAM_DATABASE", objects="s3://yard/objects"))
    assert (home.path / "remotes.json").stat().st_mode & 0o077 == 0
    assert remotes.find("shared") == ("shared", Home(tmp_path / "shared"))
    assert remotes.find(str(tmp_path / "shared"))[1] == Home(tmp_path / "shared")
    with pytest.raises(Rejected, match="TEAM_DATABASE"):
        remotes.find("team")
    monkeypatch.setenv("TEAM_DATABASE", "postgresql://ann:secret@db/yard")
    team = remotes.find("team")[1]
    assert (team.database_url, team.objects_url) == ("postgresql://ann:secret@db/yard", "s3://yard/objects")
    with pytest.raises(RemoteNotFound, match="there are: shared, team"):
        remotes.find("tem")
    with pytest.raises(NotFound):
        remotes.remove("tem")
    remotes.remove("team")
    assert sorted(remotes.all()) == ["shared"]
    for wrong in ({"home": "/x", "database": "y", "objects": "z"}, {"database": "y"}, {}):
        with pytest.raises(Rejected):
            Remote(**wrong)

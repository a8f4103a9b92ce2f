"""Servers of a team that refuse or go away in the middle, and full disks: it is told, and there is no damage."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from data_stores import content, files_in, write
from modelyard import data
from modelyard.errors import Failed, Unavailable
from modelyard.home import Home
from modelyard.objects import Objects
from modelyard.registry import Registry
from modelyard.registry.database import Database, upgrade
from modelyard.registry.remote import ObjectBundles
from modelyard.registry.store import store_of
from modelyard.registry.tables import models
from small_bundles import write_bundle
from team_servers import PASSWORD, Cable, PostgreSQL, Team, folder, free_ports

LITTLE_ROOM = """
import resource, signal, sys
from pathlib import Path
from modelyard import errors
from modelyard.bundle.layout import open_bundle
from modelyard.home import Home
from modelyard.registry import Registry
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, 2**21))  # as on a full disk, writing fails
try:
    with Registry.open(sys.argv[1]) as registry:
        if len(sys.argv) > 2:
            registry.register(open_bundle(Path(sys.argv[2])))
        else:
            registry.bundle("toy@1")
except errors.Failed as error:
    print(error)
"""


@pytest.fixture
def mortal_database() -> Iterator[PostgreSQL]:
    """A server of one test's own, which it may kill."""
    with folder("mortal") as place:
        made = PostgreSQL.make(place)
        yield made
        made.stop()


@pytest.fixture
def cable_to_s3(servers: Team, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    """The object server, at the end of a cable."""
    made = Cable(int(servers.s3.environment["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    for name, value in servers.s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.port}")
    yield made
    made.close()


def test_servers_that_do_not_answer_are_named_without_their_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.objects._RETRIES", 2)
    port = free_ports(1)[0]
    with pytest.raises(Unavailable, match=rf"postgresql://ann@127.0.0.1:{port}/yard cannot be reached") as told:
        Database(f"postgresql://ann:{PASSWORD}@127.0.0.1:{port}/yard")
    assert PASSWORD not in str(told.value)
    for name, value in {
        "ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "ALLOW_HTTP": "true",
        "SECRET_ACCESS_KEY": PASSWORD,
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ann")
    home = Home(tmp_path / "yard", None, "s3://yard/team").create()
    with Registry.open(home) as registry, pytest.raises(Unavailable, match="s3://yard/team cannot be reached") as told:
        registry.register(write_bundle(tmp_path / "b"))
    assert PASSWORD not in str(told.value)
    with Registry.open(home) as registry:
        assert registry.models() == ()
    write(tmp_path / "data", {"large": content(3 * 2**20)})
    with pytest.raises(Unavailable, match="cannot be reached"):
        data.snapshot(tmp_path / "data", "toy", home=home)
    assert data.newest(home=home) == ()
    assert list((home.cache / "packs").iterdir()) == []


def test_who_is_not_let_in_is_told_so(servers: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    url = servers.postgresql.new()
    with pytest.raises(Failed, match=r"refuses.*password authentication failed") as told:
        Database(url.replace(PASSWORD, "another-secret"))
    assert "another-secret" not in str(told.value)
    with pytest.raises(Failed, match="does not exist"):
        Database(f"{url}-not")
    for name, value in (servers.s3.environment | {"AWS_SECRET_ACCESS_KEY": "another-secret"}).items():
        monkeypatch.setenv(name, value)
    objects = Objects(servers.s3.new())
    for refused in (lambda: objects.put("a", b""), lambda: objects.read("a"), lambda: list(objects.list("a"))):
        with pytest.raises(Failed, match="refuses access to a: look at the credentials") as told:
            refused()
        assert "another-secret" not in str(told.value)


def test_a_database_that_goes_away_in_a_transaction_keeps_nothing_of_it(
    mortal_database: PostgreSQL, tmp_path: Path
) -> None:
    url = mortal_database.new()
    upgrade(url)
    home = Home(tmp_path / "yard", url).create()
    with Registry.open(home) as registry:
        first = registry.register(write_bundle(tmp_path / "1", content=b"1"))

        def lose() -> None:
            with registry.database.write() as connection:
                connection.execute(insert(models).values(name="lost", created_at=datetime.now(UTC)))
                mortal_database.kill()

        with pytest.raises(Unavailable, match="connection to it was lost"):
            lose()
        second = write_bundle(tmp_path / "2", content=b"2")
        with pytest.raises(Unavailable):
            registry.register(second)
        mortal_database.start()
        # The same registry goes on: what is left of dead connections is noticed.
        assert registry.versions("toy") == (first,)
        assert registry.register(second).number == 2
        with registry.database.read() as connection:
            assert connection.execute(select(models.c.name)).scalars().all() == ["toy"]


def test_a_version_whose_acknowledgement_was_lost_is_there_once(servers: Team, tmp_path: Path) -> None:
    url, cable = servers.database(), Cable(servers.postgresql.port)
    far = url.replace(f":{servers.postgresql.port}/", f":{cable.port}/")
    bundle = write_bundle(tmp_path / "b")
    with Registry.open(Home(tmp_path / "yard", far)) as registry:

        def commit_and_hear_nothing() -> None:
            with registry.database.write() as connection:
                connection.execute(insert(models).values(name="toy", created_at=datetime.now(UTC)))
                cable.mute()

        with pytest.raises(Unavailable, match="connection to it was lost"):
            commit_and_hear_nothing()
        cable.mend()
        with registry.database.read() as connection:
            assert connection.execute(select(models.c.name)).scalars().all() == ["toy"]
        assert [registry.register(bundle).number for _ in range(2)] == [1, 1]
    cable.close()


def test_an_object_store_that_goes_away_in_a_snapshot_leaves_what_can_be_gone_on_with(
    cable_to_s3: Cable, servers: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.datasets.packs.FULL", 2**20)
    monkeypatch.setattr("modelyard.objects._RETRIES", 2)
    home = Home(tmp_path / "yard", None, servers.s3.new()).create()
    write(tmp_path / "data", {f"{at}": content(300_000, at) for at in range(40)})
    kept = threading.Event()
    put = Objects.put

    def put_and_lose(objects: Objects, key: str, raw: bytes | Path) -> None:
        put(objects, key, raw)
        if not kept.is_set():
            kept.set()
            cable_to_s3.pull()

    monkeypatch.setattr(Objects, "put", put_and_lose)
    with pytest.raises(Unavailable, match="cannot be reached"):
        data.snapshot(tmp_path / "data", "toy", home=home, profile=False)
    assert kept.is_set()
    assert data.newest(home=home) == ()
    assert list((home.cache / "packs").iterdir()) == []
    cable_to_s3.mend()
    made = data.snapshot(tmp_path / "data", "toy", home=home, profile=False)
    assert made.stored_bytes < sum(map(len, files_in(tmp_path / "data").values())), "what was kept was stored again"
    data.checkout("toy@1", tmp_path / "out", home=home)
    assert files_in(tmp_path / "out") == files_in(tmp_path / "data")
    cable_to_s3.pull()
    with pytest.raises(Unavailable, match="cannot be reached"):
        data.checkout("toy@1", tmp_path / "again", home=home)
    assert not (tmp_path / "again").exists()


def test_an_object_store_that_goes_away_for_a_moment_is_waited_for(
    cable_to_s3: Cable, servers: Team, tmp_path: Path
) -> None:
    objects = Objects(servers.s3.new())
    cable_to_s3.pull()
    mending = threading.Timer(0.3, cable_to_s3.mend)
    mending.start()
    objects.put("a", b"in the end")
    assert objects.read("a") == b"in the end"
    mending.join()


@pytest.mark.parametrize("kind", ["alone", "team"])
def test_a_full_disk_is_told_and_leaves_nothing_half(
    kind: str, servers: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "team":
        for name, value in servers.s3.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MODELYARD_OBJECTS_URL", servers.s3.new())
    bundle = write_bundle(tmp_path / "b", content=content(5 * 2**20))
    home = Home.locate(tmp_path / "yard").create()
    said = without_room(home.path, bundle.path)
    assert "cannot be kept" in said, said
    with Registry.open(home) as registry:
        assert registry.models() == ()
        assert registry.register(bundle).number == 1
    store = store_of(home)
    if isinstance(store, ObjectBundles):
        store._copies.remove(bundle.digest)
        assert "cannot be" in without_room(home.path)
        assert not store.locate(bundle.digest).exists()
    with Registry.open(home) as registry:
        assert registry.bundle("toy@1").digest == bundle.digest


def without_room(*words: Path) -> str:
    command = [sys.executable, "-c", LITTLE_ROOM, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout

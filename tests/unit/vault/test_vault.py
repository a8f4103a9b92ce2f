from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from handmade_wheels import write_wheel
from modelyard.bundle import environment, uv
from modelyard.bundle.distributions import platform_tag
from modelyard.bundle.layout import write
from modelyard.cli.app import app
from modelyard.collecting import removing
from modelyard.collecting.gc import collect_all
from modelyard.domain.environment import Distribution, Environment
from modelyard.domain.manifest import NativeForm
from modelyard.domain.names import Named
from modelyard.errors import EnvironmentFailed
from modelyard.exchange.arriving import Terms
from modelyard.exchange.moving import move
from modelyard.exchange.side import opened
from modelyard.home import Home
from modelyard.registry import Registry
from modelyard.registry.datasets import Datasets
from modelyard.registry.vaults import Vaults
from modelyard.vault.keeping import bring, keep
from small_bundles import BESIDE, _manifest

PACKAGE = "modelyardweather"


@dataclass
class Place:
    """A home with a version whose environment is one handmade package, and the folder that has its wheel."""

    home: Home
    wheel: Path
    locked: Environment


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    import platform

    wheel = write_wheel(tmp_path / "index", PACKAGE, "1.0", {f"{PACKAGE}.py": "answer = 42\n"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "yard"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    one = Distribution(PACKAGE, "1.0", (digest,))
    other = Distribution("handbuilt", "0.1")  # of no index
    locked = Environment(platform.python_version(), platform_tag(), (one,))
    home = Home(tmp_path / "yard")
    with Registry.open(home) as registry:
        for number, distributions in ((1, (one,)), (2, (one, other))):
            manifest = replace(
                _manifest("toy"),
                native=NativeForm("skops", "model/native.skops"),
                environment=replace(locked, distributions=distributions),
            )
            files = {"model/native.skops": b"%d" % number, "golden/inputs.parquet": b"", "golden/answers.parquet": b""}
            registry.register(write(tmp_path / f"b{number}", {**files, **BESIDE}, manifest))
    return Place(home, wheel, locked)


def forget_the_index(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the index, and neither folder nor cache has the package."""
    place.wheel.unlink()
    monkeypatch.delenv("UV_FIND_LINKS")
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))


def answer_of(python: Path) -> str:
    said = f"import {PACKAGE}; print({PACKAGE}.answer)"
    return subprocess.run([python, "-c", said], capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_is_rebuilt_after_the_index_has_forgotten_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry.open(place.home) as registry:
        datasets = Datasets(place.home, registry.database)
        version = registry.version("toy@1")
        kept = keep(registry, datasets, version, by="ada")
        assert (kept.vault.wheels, kept.vault.left_out) == (1, {})
        assert keep(registry, datasets, version).stored_bytes == 0
        forget_the_index(place, tmp_path, monkeypatch)
        with pytest.raises(EnvironmentFailed, match="nor are its wheels kept here"):
            environment.cached(place.locked, place.home)
        assert bring(registry, datasets, version) == 1
        assert answer_of(environment.cached(place.locked, place.home)) == "42"
        wrong = replace(place.locked, distributions=(Distribution(PACKAGE, "1.0", ("0" * 64,)),))
        with pytest.raises(EnvironmentFailed):
            environment.cached(wrong, place.home)
        datasets.close()


def test_a_vault_goes_along_and_is_collected_with_its_version(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Home(tmp_path / "target")
    with opened(place.home) as one, opened(target) as other:
        keep(one.registry, one.datasets, one.registry.version("toy@1"), by="ada")
        collect_all(place.home, timedelta(seconds=-60))
        move(one, other, [Named("model", "toy@1")], Terms())
        collect_all(target, timedelta(seconds=-60))
        version = other.registry.version("toy@1")
        vault = Vaults(other.database).of(version)
        assert vault is not None
        assert vault.by == "ada"
        forget_the_index(place, tmp_path, monkeypatch)
        assert bring(other.registry, other.datasets, version) == 1
        assert answer_of(environment.cached(place.locked, target)) == "42"
        removing.remove(other.database, Named("model", "toy@1"), why="test")
        assert collect_all(target, timedelta(seconds=-60)).packs > 0
        assert not list(other.datasets.store.packs.stored())


def test_what_cannot_be_kept_is_named(place: Place) -> None:
    done = CliRunner().invoke(app, ["vault", "add", "toy@2", "--json"])
    assert done.exit_code == 1, done.output
    told = json.loads(done.stdout)
    assert (told["wheels"], list(told["left_out"])) == (1, ["handbuilt==0.1"])
    assert "no digest" in told["left_out"]["handbuilt==0.1"]
    shown = CliRunner().invoke(app, ["vault", "show", "toy@2"])
    assert "handbuilt==0.1" in shown.stdout
    assert CliRunner().invoke(app, ["vault", "show", "toy@1"]).exit_code == 3


def test_an_index_that_gives_another_file_is_not_believed(place: Place, tmp_path: Path) -> None:
    write_wheel(tmp_path / "index", PACKAGE, "1.0", {f"{PACKAGE}.py": "answer = 41\n"})
    with Registry.open(place.home) as registry:
        datasets = Datasets(place.home, registry.database)
        with pytest.raises(EnvironmentFailed, match="has a wheel of that digest"):
            keep(registry, datasets, registry.version("toy@1"))
        datasets.close()


def test_wheels_for_another_machine_are_not_guessed(place: Place) -> None:
    from modelyard.bundle import wheels

    with pytest.raises(EnvironmentFailed, match="keep its wheels from such a machine"):
        wheels.fetch(replace(place.locked, platform="win_amd64"), place.home.cache, place.locked.python)
    assert uv.resolution([]) == ""

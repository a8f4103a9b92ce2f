from pathlib import Path

import pytest

from modelyard.home import Home


def test_the_environment_names_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "yard"))
    assert Home.locate().path == tmp_path / "yard"


def test_a_given_path_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODELYARD_HOME", "/elsewhere")
    assert Home.locate(tmp_path).path == tmp_path
    assert Home.locate(Home(tmp_path)).path == tmp_path


def test_the_default_is_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MODELYARD_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.locate().path == tmp_path / ".modelyard"


def test_locating_creates_nothing_and_creating_twice_is_harmless(tmp_path: Path) -> None:
    home = Home.locate(tmp_path / "a" / "yard")
    assert not home.path.exists()
    home.create().create()
    assert home.bundles.is_dir()
    assert home.path.stat().st_mode & 0o077 == 0

"""Settings of all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long an example or its making takes says nothing on a busy machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# A shell that starts the tests in its background has them ignore SIGINT, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("faults.promises", "load")


@pytest.fixture(scope="session")
def servers() -> Iterator[Any]:
    """Real servers, each started by the first test that asks for it; see `team_servers.Team`."""
    from team_servers import Team

    team = Team()
    yield team
    team.close()


@pytest.fixture(params=["alone", "team"])
def any_home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A new home of each kind: SQLite and a folder, PostgreSQL and S3."""
    from modelyard.home import Home

    if request.param == "alone":
        return Home(tmp_path / "yard").create()
    servers = request.getfixturevalue("servers")
    for name, value in servers.s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MODELYARD_DATABASE_URL", servers.database())
    monkeypatch.setenv("MODELYARD_OBJECTS_URL", servers.s3.new())
    return Home.locate(tmp_path / "yard").create()

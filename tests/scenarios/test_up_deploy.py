"""Both planes on one machine: up, deploy, predict, replace, fail, undeploy; and what kills do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from modelyard.cli.app import app
from modelyard.control import up
from modelyard.control.up import Running
from modelyard.home import Home
from modelyard.registry import Registry
from small_bundles import report, write_line


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return value


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Yard:
    """One home, and the command line on it as a user has it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.planes: subprocess.Popen[str] | None = None

    def run(self, *words: str) -> tuple[int, str, str]:
        """One command in this process: status, standard output, standard error."""
        environment = {"MODELYARD_HOME": str(self.home.path)}
        result = CliRunner().invoke(app, list(words), env=environment, catch_exceptions=False)
        return result.exit_code, result.stdout, result.stderr

    def json(self, *words: str, status: int = 0) -> Any:
        code, out, err = self.run(*words, "--json")
        assert code == status, (code, out, err)
        return json.loads(out)

    def begin(self, *words: str, stderr: int | None = None) -> subprocess.Popen[str]:
        """Start both planes as a process. What they log goes to the terminal, unless somebody reads it."""
        environment = os.environ | {"MODELYARD_HOME": str(self.home.path)}
        command = [sys.executable, "-m", "modelyard.cli.app", "up", "--json", *(words or ("--port", "0"))]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
        self.planes = self.planes or process
        return process

    def refused(self, *words: str) -> tuple[int, str]:
        """Try to start both planes; the exit status and what was said."""
        process = self.begin(*words, stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def up(self) -> Running:
        """Start both planes and wait until they listen."""
        self.begin()
        running: Running = eventually(lambda: up.running(self.home))
        return running

    def down(self) -> None:
        if self.planes is None or self.planes.poll() is not None:
            return
        self.planes.terminate()
        self.planes.communicate(timeout=60)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(Home(tmp_path / "yard").create())
    yield made
    made.down()


def register(yard: Yard, folder: Path, slope: float = 2.0, promised: float | None = None, passed: bool = True) -> str:
    with Registry.open(yard.home) as registry:
        bundle = write_line(folder, slope=slope, promised=promised)
        version = registry.register(bundle)
        registry.add_report(version, report(bundle, version.number, passed=passed))
        return version.ref


def answer(url: str, x: float = 3.0) -> float:
    response = httpx.post(f"{url}/predict/live", json={"rows": [{"x": x}]}, trust_env=False)
    assert response.status_code == 200, response.text
    value: float = response.json()["rows"][0]["predict"]
    return value


def test_a_version_is_deployed_replaced_and_taken_away(yard: Yard, tmp_path: Path) -> None:
    first, second = register(yard, tmp_path / "1", 2.0), register(yard, tmp_path / "2", 5.0)
    url = yard.up().data.url

    done = yard.json("deploy", first, "--to", "live")
    assert (done["state"], done["url"]) == ("done", f"{url}/predict/live")
    assert answer(url) == 6.0
    assert yard.json("deploy", second, "--to", "live")["decision"]["generation"] == 2
    assert answer(url) == 15.0

    shown = yard.json("status")
    assert [(one["asked"], one["answers"], one["state"]) for one in shown["deployments"]] == [(second, second, "READY")]
    assert second in yard.run("status", "live")[1]

    assert yard.json("undeploy", "live")["state"] == "done"
    assert httpx.post(f"{url}/predict/live", json={"rows": [{"x": 1.0}]}, trust_env=False).status_code == 404
    assert yard.run("status", "live")[0] == 3


def test_a_version_without_proof_needs_a_recorded_reason(yard: Yard, tmp_path: Path) -> None:
    ref = register(yard, tmp_path / "1", passed=False)
    code, _, err = yard.run("deploy", ref, "--to", "live")
    assert (code, f"modelyard verify {ref}" in err) == (5, True)
    decided = yard.json("deploy", ref, "--to", "live", "--unproven", "fire drill")
    assert (decided["decision"]["unproven"], decided["state"]) == ("fire drill", "waiting")
    assert "nothing runs on this home" in decided["reason"]
    shown = yard.json("status", status=1)
    assert (shown["deployments"][0]["state"], shown["deployments"][0]["unproven"]) == ("UNAVAILABLE", "fire drill")


def test_a_version_that_cannot_prove_itself_where_it_runs_leaves_the_old_one(yard: Yard, tmp_path: Path) -> None:
    good, bad = register(yard, tmp_path / "1", 2.0), register(yard, tmp_path / "2", 5.0, promised=4.0)
    url = yard.up().data.url
    yard.json("deploy", good, "--to", "live")
    failed = yard.json("deploy", bad, "--to", "live", status=1)
    assert failed["state"] == "failed"
    assert "differ from those of training" in failed["reason"]
    assert f"{good} still answers" in failed["reason"]
    assert answer(url) == 6.0
    shown = yard.json("status", status=1)["deployments"][0]
    assert (shown["asked"], shown["answers"], shown["state"]) == (bad, good, "UNAVAILABLE")


def test_what_was_deployed_before_answers_after_a_restart(yard: Yard, tmp_path: Path) -> None:
    ref = register(yard, tmp_path / "1")
    yard.run("deploy", ref, "--to", "live")
    url = yard.up().data.url
    eventually(lambda: yard.run("status")[0] == 0)
    assert answer(url) == 6.0


def test_deploying_while_the_planes_are_starting_waits_for_them(yard: Yard, tmp_path: Path) -> None:
    ref = register(yard, tmp_path / "1")
    yard.begin()
    eventually(lambda: (yard.home.run / "up.lock").exists())
    assert yard.json("deploy", ref, "--to", "live")["state"] == "done"


def test_killed_planes_come_back_at_the_same_addresses(yard: Yard, tmp_path: Path) -> None:
    ref = register(yard, tmp_path / "1")
    before = yard.up()
    yard.json("deploy", ref, "--to", "live")

    os.kill(before.control.pid, signal.SIGKILL)
    assert answer(before.data.url) == 6.0  # the data plane does not need it
    assert (
        httpx.get(f"{before.control.url}/health", timeout=30, trust_env=False).status_code == 200
    )  # waits, not refused

    os.kill(before.data.pid, signal.SIGKILL)

    def back() -> Running | None:
        now = up.running(yard.home)
        return now if now and now.data.pid != before.data.pid and now.control.pid != before.control.pid else None

    after = eventually(back)
    assert (after.data.url, after.control.url) == (before.data.url, before.control.url)
    eventually(lambda: yard.run("status")[0] == 0)
    assert answer(after.data.url) == 6.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running(yard: Yard, number: signal.Signals) -> None:
    running = yard.up()
    assert yard.planes is not None
    yard.planes.send_signal(number)
    code = yard.planes.wait(60)
    eventually(lambda: all(is_gone(pid) for pid in (running.control.pid, running.data.pid)))
    assert up.running(yard.home) is None
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    yard.planes.communicate()
    yard.planes = None
    yard.up()  # and the home can be used again at once


def test_one_home_is_up_once(yard: Yard) -> None:
    running = yard.up()
    code, said = yard.refused("--port", "0")
    assert (code, f"already up on this home, at {running.data.url}" in said) == (4, True)


def test_a_taken_port_and_a_remote_address_are_refused(yard: Yard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = yard.refused("--port", str(taken.getsockname()[1]))
    assert (code, "choose another --port" in said) == (4, True)
    code, said = yard.refused("--host", "0.0.0.0")
    assert (code, "--allow-remote" in said) == (5, True)


def test_options_of_the_data_plane_reach_it(yard: Yard) -> None:
    yard.begin("--port", "0", "--workers", "1", "--max-body", "1000", "--drain-seconds", "5")
    running: Running = eventually(lambda: up.running(yard.home))
    assert len(httpx.get(f"{running.data.url}/status").json()["workers"]) == 1
    refused = httpx.post(f"{running.data.url}/predict/toy", content=b" " * 2000)
    assert (refused.status_code, "1000" in refused.text) == (413, True), refused.text

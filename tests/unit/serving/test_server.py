"""The server process: where it may listen, and its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.errors import InvalidRequest, PolicyDenied, ServiceUnreachable
from modelyard.serving.__main__ import main, options
from modelyard.serving.server import check_host, listen, url_of


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_this_machine_is_allowed(host: str) -> None:
    assert check_host(host, allow_remote=False) == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_others_are_refused_unless_allowed(host: str) -> None:
    with pytest.raises(PolicyDenied, match="--allow-remote"):
        check_host(host, allow_remote=False)
    assert check_host(host, allow_remote=True) == host


def test_a_taken_port_is_reported() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(ServiceUnreachable, match=r"cannot listen on 127\.0\.0\.1"):
        listen("127.0.0.1", int(url_of(first).rpartition(":")[2]))


def test_the_command_line_becomes_options(tmp_path: Path) -> None:
    read = options(["--bundle", str(tmp_path), "--name", "live", "--model", "toy", "--version", "3", "--port", "0"])
    assert read.deployment is not None
    assert (read.deployment.name, read.deployment.model, read.deployment.version) == ("live", "toy", 3)
    assert (read.desired, read.port, read.host) == (None, 0, "127.0.0.1")
    assert options(["--desired", "http://127.0.0.1:1/x"]).deployment is None


def test_a_wrong_command_line_is_refused(tmp_path: Path) -> None:
    for wrong in ([], ["--bundle", str(tmp_path)], ["--bundle", "x", "--desired", "y"]):
        with pytest.raises(SystemExit) as ended:
            options(wrong)
        assert ended.value.code == 2
    with pytest.raises(InvalidRequest, match="cannot name a deployment"):
        options(["--bundle", str(tmp_path), "--name", "a/b"])


def test_a_refused_address_ends_the_process_with_two(tmp_path: Path) -> None:
    arguments = ["--desired", "http://127.0.0.1:1/x", "--host", "0.0.0.0", "--home", str(tmp_path)]
    assert main(arguments) == 2

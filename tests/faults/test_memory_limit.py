"""A model's own process that leaks is started again before it takes the machine's memory; no call fails over it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

import compiled_bundles
from modelyard.domain.frame import Answers, Frame
from modelyard.serving.keeper import KeptRuntime, resident_bytes
from serving_process import until

LEAK = """
import sys
held = []
for line in sys.stdin:
    held.append(bytearray(b"x") * 10_000_000)
    print(len(held), flush=True)
"""
LIMIT = 80_000_000


class Leaking:
    """A runtime over a real process that keeps ten megabytes a call."""

    def __init__(self) -> None:
        self.child = self._started()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", LEAK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    @property
    def pid(self) -> int:
        return self.child.pid

    def alive(self) -> bool:
        return self.child.poll() is None

    def ended(self) -> int | None:
        return self.child.poll()

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write("more\n")
        return {"calls": np.array([int(self.child.stdout.readline())])}

    def restart(self) -> None:
        self.close()
        self.child = self._started()

    def close(self) -> None:
        self.child.kill()
        self.child.communicate()


@pytest.fixture
def kept() -> Iterator[KeptRuntime]:
    made = KeptRuntime(Leaking(), lambda runtime: None, "leaking", LIMIT)
    yield made
    made.close()


def test_a_leaking_process_is_started_again_between_two_calls(kept: KeptRuntime) -> None:
    def calls_until_restart() -> bool:
        assert int(kept.predict(compiled_bundles.frame(1))["calls"][0]) < 1_000
        return kept.restarts >= 3

    until(calls_until_restart, "three restarts")
    assert not kept.isolated
    until(lambda: not kept.trouble() and 0 < resident_bytes(kept.pid or 0) < LIMIT, "a small process")

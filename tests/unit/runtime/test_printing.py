"""What a model prints is logged within limits, and never holds up the server."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections import deque

import pytest

from modelyard.runtime.python import _listen


def test_endless_printing_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "modelyard.model")
    last: deque[str] = deque(maxlen=20)
    program = "import sys\nfor n in range(200_000): sys.stderr.write(f'line {n}\\n')"
    used = time.thread_time()
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) as child:
        _listen(child.stderr, last)
    assert time.thread_time() - used < 1.5
    logged = [record.getMessage() for record in caplog.records]
    assert logged[:2] == ["line 0", "line 1"]
    assert len(logged) < 2_000
    assert any("lines were left out" in text for text in logged)
    assert last[-1] == "line 199999"

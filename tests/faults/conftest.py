"""What several tests of faults use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import compiled_bundles
from faults.promises import workers
from serving_process import ServingProcess, start, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServingProcess]:
    """Two workers that serve the small compiled model as ``toy``."""
    bundle = compiled_bundles.write_compiled(tmp_path / "toy")
    made = start(tmp_path / "server", "--bundle", bundle.path, "--name", "toy", "--workers", "2")
    try:
        made.wait_ready()
        until(lambda: len(workers(made)) == 2, "two workers")
        yield made
    finally:
        made.stop(signal.SIGKILL)

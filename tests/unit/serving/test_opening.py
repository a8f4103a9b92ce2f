"""What is known of a version once it is open."""

from __future__ import annotations

from pathlib import Path

from modelyard.domain.desired import Deployment
from modelyard.home import Home
from modelyard.serving.opening import open_version
from small_bundles import write_line


def test_a_compiled_version_says_what_it_takes(tmp_path: Path) -> None:
    bundle = write_line(tmp_path / "heavy", ballast=30_000_000)
    wanted = Deployment("heavy", "heavy", 1, bundle.digest, str(bundle.path))
    served = open_version(wanted, Home(tmp_path / "home").create())
    assert served.memory_bytes is not None
    assert 30_000_000 <= served.memory_bytes < 150_000_000
    served.close()

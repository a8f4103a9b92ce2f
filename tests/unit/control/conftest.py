from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(tmp_path / "yard") as opened:
        yield opened

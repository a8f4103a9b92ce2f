"""The generated part of the documentation is what the program says now, and the rest names real things."""

import re
from pathlib import Path

import pytest
from docs import generate

ROOT = Path(__file__).parents[2]


def test_the_command_line_reference_is_up_to_date() -> None:
    assert generate.TARGET.read_text() == generate.reference(), "run `make docs` and commit the result"


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    broken = [target for target in targets if not (page.parent / target).exists()]
    assert not broken

"""How the demo tells its story: names, and steps with the time they took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console

MODEL = "flights-delay"
TWIN = "flights-twin"
"""A deployment of the same version whose year is drawn from the months it was trained on."""

FIRST_LIVE_DAY = "2013-03-01"


@contextmanager
def step(console: Console, text: str) -> Iterator[list[str]]:
    """Show `text` with a spinner while the block runs, then the time it took and what the block appended."""
    said: list[str] = []
    start = perf_counter()
    with console.status(text):
        yield said
    result = f": {' '.join(said)}" if said else ""
    console.print(f"[green]✓[/] [dim]{perf_counter() - start:6.1f} s[/]  {text}{result}", soft_wrap=True)

"""The run that this process is part of, for those who make or check out something within it."""

from __future__ import annotations

from modelyard.runs.folder import RunFolder

_under_way: list[RunFolder] = []


def run() -> RunFolder | None:
    """The run that was started in this process and is under way."""
    return _under_way[-1] if _under_way else None


def enter(folder: RunFolder) -> None:
    """A run begins in this process, or is joined."""
    _under_way.append(folder)


def leave(folder: RunFolder) -> None:
    """It ends."""
    if folder in _under_way:
        _under_way.remove(folder)


def is_under_way() -> bool:
    """Whether this process is part of a run."""
    return run() is not None or RunFolder.surrounding() is not None


def tell(**entry: str) -> None:
    """Add to the journal of the run that this process is part of, if it is part of one."""
    folder = run() or RunFolder.surrounding()
    if folder is not None:
        folder.tell(**entry)

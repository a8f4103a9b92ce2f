"""The training program that is run again, and where."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from modelyard.domain.run import Run
from modelyard.errors import Failed
from modelyard.project import Project
from modelyard.registry import Registry, Version
from modelyard.registry.runs import Runs
from modelyard.retraining.plan import Plan


def command_of(
    registry: Registry, plan: Plan, project: Project | None, champion: Version
) -> tuple[tuple[str, ...], Path]:
    """The program with its arguments and its folder: what the project says, else what was recorded of the champion.

    Raises:
        Failed: nothing was recorded, or it cannot be run here.
    """
    folder = None if project is None else project.folder
    if plan.words and folder is not None:
        return plan.words, folder
    runs = Runs(registry.database).that_made(champion.model, champion.number)
    if not runs:
        raise Failed(
            f"{champion.ref} was not packed within a recorded run, so it is not known how to train it: say `command` "
            "in [retrain] of the project's modelyard.toml"
        )
    return recorded(runs[-1], folder)


def recorded(run: Run, folder: Path | None) -> tuple[tuple[str, ...], Path]:
    """The command of a run and the folder that it was in, or `folder`.

    Raises:
        Failed: it is not whole, or not here.
    """
    if any("***" in word for word in run.command):
        raise Failed(
            f"the recorded command of run {run.id} has something secret left out: say `command` in [retrain] of the "
            "project's modelyard.toml"
        )
    if folder is None and not run.code.place:
        raise Failed(f"where run {run.id} was is not known any more: name the project's folder with --project")
    place = folder or Path(run.code.place) / run.code.folder
    if not place.is_dir() or shutil.which(run.command[0], path=os.environ.get("PATH")) is None:
        raise Failed(
            f"what was recorded of run {run.id} cannot be run again here ({run.command[0]} in {place}): say `command` "
            "in [retrain] of the project's modelyard.toml"
        )
    return run.command, place

"""Training programs that log with MLflow, unchanged: what they log becomes part of the run they are recorded as."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from modelyard.errors import ModelyardError
from modelyard.runs.folder import RunFolder

Progress: TypeAlias = Callable[[str], None]
"""Is told in a few words what is being done."""

VARIABLE = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True, slots=True)
class MlflowAlongside:
    """Gives a program a tracking folder of its own, unless one is set, and takes in what it logged at its end.

    Nothing is loaded for programs that do not use MLflow.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    say: Progress = lambda words: None

    def surroundings(self, folder: RunFolder) -> dict[str, str]:
        """Environment variables for the program. The folder lies among the run's files, so that nothing can be lost."""
        if self.environ.get(VARIABLE):
            return {}
        return {VARIABLE: _private(folder).as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}

    def collect(self, folder: RunFolder) -> None:
        """Add what was logged to the run. What goes wrong is noted with the run, and fails nothing."""
        try:
            address = self._address(folder)
            if address:
                from modelyard.mlflow.merging import merge

                merge(folder, address, self.say)
                shutil.rmtree(_private(folder), ignore_errors=True)
        except (ModelyardError, OSError, ValueError) as error:
            sys.stderr.write(f"modelyard: what the program logged with MLflow is not taken in: {error}\n")
            folder.tell(note=f"what it logged with MLflow is not taken in: {error}")

    def _address(self, folder: RunFolder) -> str:
        """Where the program logged to; empty where it did not. If it came to its own end, its own word counts."""
        private = _private(folder)
        if any(private.glob("*/meta.yaml")):
            return str(private)
        facts = folder.facts()
        said = str(facts.get("mlflow") or "") if facts else self.environ.get(VARIABLE, "")
        return "" if said == private.as_uri() else _absolute(said, folder)


def _absolute(address: str, folder: RunFolder) -> str:
    """An address with a path below the program's working folder, as seen from here."""
    place = Path(json.loads((folder.path / "places.json").read_bytes())["folder"])
    if address.startswith("sqlite:///") and not address.startswith("sqlite:////"):
        return f"sqlite:///{place / address.removeprefix('sqlite:///')}"
    return str(place / address) if address and ":" not in address else address


def _private(folder: RunFolder) -> Path:
    return folder.files / "mlflow"

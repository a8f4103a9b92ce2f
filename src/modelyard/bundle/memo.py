"""Remembers on disk what is slow to find out and never changes. Losing it costs time, nothing else."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3


@dataclass(frozen=True, slots=True)
class Memo:
    """Answers to one kind of question, one small JSON file each, in the user's cache folder."""

    kind: str

    def get(self, question: str) -> Any | None:
        """What was remembered; None if nothing was, or it cannot be read."""
        try:
            return json.loads(self._file(question).read_bytes())
        except (OSError, ValueError):
            return None

    def put(self, question: str, answer: Any) -> None:
        """Remember, if there is room; concurrent writers of the same answer are harmless."""
        file = self._file(question)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as handle:
                json.dump(answer, handle)
            Path(handle.name).replace(file)
        except OSError:
            return

    def _file(self, question: str) -> Path:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(root) / "modelyard" / self.kind / blake3(question.encode()).hexdigest()[:32]

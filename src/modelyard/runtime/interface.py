"""What every runtime offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from modelyard.domain.frame import Answers, Frame


class Runtime(Protocol):
    """Computes answers for rows that already fit the schema. Safe to call from several threads."""

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        """Answer every row of `frame`, for the named outputs (None: all, in schema order).

        Raises:
            RowsRefused: the model raised on these rows as it may on bad input (ValueError, TypeError ...).
            ModelFailed: the model's code broke otherwise.
            RuntimeLost: the process behind it is gone or does not answer.
        """
        ...

    def close(self) -> None:
        """Give back what it holds. Calling it twice is harmless."""
        ...

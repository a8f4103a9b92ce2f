"""The golden set: rows with the answers that training gave."""

from __future__ import annotations

from dataclasses import dataclass

from modelyard.domain.frame import Answers, Frame


@dataclass(frozen=True, slots=True, eq=False)
class GoldenSet:
    """Rows, and what the estimator as packed answered to them.

    `origins` says where each row came from (``sample``, ``edge: temp missing`` ...). `refused` holds, for each row,
    None or the error that the estimator raised on it: such a row must be refused everywhere. `single` are the
    answers one row at a time, `batch` those of all answered rows at once; both have one entry for every row
    of `inputs`, and under refused rows hold NaN, zero, False or an empty text that nobody may read.
    """

    inputs: Frame
    origins: tuple[str, ...]
    refused: tuple[str | None, ...]
    single: Answers
    batch: Answers

    def answered(self) -> list[int]:
        """Positions of the rows that have an answer."""
        return [row for row, reason in enumerate(self.refused) if reason is None]

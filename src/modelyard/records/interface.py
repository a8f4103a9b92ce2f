"""What the prediction log is to those who write it and those who read it, whatever keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from modelyard.domain.records import Label, PredictionRecord


class RecordSink(Protocol):
    """Takes prediction records. Safe to call from several threads."""

    def append(self, record: PredictionRecord) -> None:
        """Keep `record`: when this returns, the record outlives the process.

        Raises:
            RecordNotKept: it could not be written; what was written before is untouched.
        """
        ...

    def append_all(self, records: Sequence[PredictionRecord]) -> None:
        """Keep several at once, which costs little more than one.

        Raises:
            RecordNotKept: they could not be written; none of them is kept then.
        """
        ...

    def close(self) -> None:
        """Give back what it holds. Calling it twice is harmless."""
        ...


class LabelSink(Protocol):
    """Takes labels, with the same promise as `RecordSink`."""

    def append(self, label: Label) -> None:
        """Keep one label.

        Raises:
            RecordNotKept: it could not be written.
        """
        ...

    def append_many(self, labels: Iterable[Label]) -> int:
        """Keep several and say how many; when this returns, all of them outlive the process.

        Raises:
            RecordNotKept: not all could be written. Appending the same ones again is harmless: the latest counts.
        """
        ...

    def close(self) -> None:
        """Give back what it holds. Calling it twice is harmless."""
        ...


class RecordSource(Protocol):
    """Gives back every record and label that was acknowledged, each exactly once."""

    def predictions(self) -> Iterator[PredictionRecord]:
        """All records, in the order in which each writer wrote them."""
        ...

    def labels(self) -> Iterator[Label]:
        """All labels ever added, corrections included, in the order in which each writer wrote them."""
        ...

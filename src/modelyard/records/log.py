"""The prediction log and the label log: local files that keep what was acknowledged.

Both live in one folder, usually ``records/`` of the Modelyard home::

    records/predictions/<time>-<process>-<random>.log    one writer each, 64 MiB at most
    records/labels/<time>-<process>-<random>.log
    records/tables/                                       Delta tables, to which they are shipped

An append is one ``write`` to a file, so an acknowledged record survives ``kill -9`` of the writer at any moment. It
survives the loss of power only with ``fsync="always"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from modelyard.domain.records import Label, PredictionRecord
from modelyard.errors import InvalidInput
from modelyard.records.segments import Damage, Fsync, SegmentWriter

if TYPE_CHECKING:
    from modelyard.records.shipping import Shipment

PREDICTIONS = "predictions"
LABELS = "labels"

SEGMENT_BYTES = 64 * 1024 * 1024
LABEL_SEGMENT_BYTES = 4 * 1024 * 1024
"""Smaller, because a new writer reads the last one before it goes on in it."""

_LABELS_AT_ONCE = 4096

_encode = msgspec.msgpack.Encoder().encode
decode_record = msgspec.msgpack.Decoder(PredictionRecord).decode
"""Bytes of one frame of the prediction log to the record."""
decode_label = msgspec.msgpack.Decoder(Label).decode
"""Bytes of a frame of the label log that holds one label to that label; others hold a batch."""


class PredictionLog:
    """Writes prediction records into `directory`. Safe to call from several threads, and from any number of processes.

    Raises:
        RecordNotKept: the folder cannot be made.

    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> log = PredictionLog(folder)
    >>> log.append(PredictionRecord("a1", "churn", "churn", 1, "", 0, 0, 200, "ok", "rows", 1, b"{}", b"{}"))
    >>> [record.prediction_id for record in read(folder)]
    ['a1']
    """

    def __init__(self, directory: str | Path, *, fsync: Fsync = "never", segment_bytes: int = SEGMENT_BYTES) -> None:
        self._segments = SegmentWriter(Path(directory) / PREDICTIONS, segment_bytes=segment_bytes, fsync=fsync)

    def append(self, record: PredictionRecord) -> None:
        """Keep `record`: when this returns it outlives the process.

        Raises:
            RecordNotKept: it could not be written; what was written before is untouched, and later appends may work.
        """
        self._segments.append(_payload(record))

    def append_all(self, records: Sequence[PredictionRecord]) -> None:
        """Keep several with one write: when this returns all of them outlive the process.

        Raises:
            RecordNotKept: they could not be written; none of them is kept then.
        """
        self._segments.append_all([_payload(record) for record in records])

    def close(self) -> None:
        """Let go of the file. Calling it twice is harmless."""
        self._segments.close()


class LabelLog:
    """Writes labels into `directory`. Safe to call from several threads, and from any number of processes.

    Raises:
        RecordNotKept: the folder cannot be made.
    """

    def __init__(
        self, directory: str | Path, *, fsync: Fsync = "never", segment_bytes: int = LABEL_SEGMENT_BYTES
    ) -> None:
        self._segments = SegmentWriter(
            Path(directory) / LABELS, segment_bytes=segment_bytes, fsync=fsync, continue_last=True
        )

    def append(self, label: Label) -> None:
        """Keep one label: when this returns it outlives the process.

        Raises:
            RecordNotKept: it could not be written.
            InvalidInput: the value is a whole number of more than 64 bits.
        """
        self._segments.append(_label_payload(label))

    def append_many(self, labels: Iterable[Label]) -> int:
        """Keep several and say how many; when this returns, all of them outlive the process.

        Raises:
            RecordNotKept: not all could be written. Adding the same ones again is harmless: the latest counts.
        """
        added, waiting = 0, []
        for label in labels:
            waiting.append(_label_payload(label))
            if len(waiting) == _LABELS_AT_ONCE:
                self._segments.append_all(waiting)
                added, waiting = added + len(waiting), []
        if waiting:
            self._segments.append_all(waiting)
        return added + len(waiting)

    def append_table(self, table: Any, received_ns: int, source: str) -> int:
        """Keep the labels of a table (`batches.BATCH_SCHEMA`), all received now from one source, and say how many.

        Raises:
            RecordNotKept: not all could be written. Adding the same ones again is harmless: the latest counts.
        """
        # Servers write labels one by one, and need neither Arrow nor its threads for it.
        from modelyard.records import batches

        for payload in batches.written(table, received_ns, source):
            self._segments.append(payload)
        return int(table.num_rows)

    def close(self) -> None:
        """Let go of the file. Calling it twice is harmless."""
        self._segments.close()


def _payload(record: PredictionRecord) -> bytes:
    try:
        return _encode(record)
    except UnicodeEncodeError:
        return _encode(_writable(record))


def _writable(record: PredictionRecord) -> PredictionRecord:
    """`record` with unpaired surrogates escaped: JSON can spell them, UTF-8 cannot, and no call may go unrecorded."""
    texts: dict[str, Any] = {
        name: value.encode(errors="backslashreplace").decode()
        for name in record.__struct_fields__
        if isinstance(value := getattr(record, name), str)
    }
    ids = tuple(one.encode(errors="backslashreplace").decode() for one in record.row_ids)
    return msgspec.structs.replace(record, **texts, row_ids=ids)


def _label_payload(label: Label) -> bytes:
    try:
        return _encode(label)
    except (OverflowError, UnicodeEncodeError):
        raise InvalidInput(
            f"the label for {label.prediction_id!r} cannot be kept: expected a number of at most 64 bits, true, false, "
            f"or a text of valid Unicode; got {label.value!r:.60}",
            column="value",
        ) from None


class RecordFiles:
    """Reads what `PredictionLog` and `LabelLog` wrote into `directory`, shipped or not, also while they are writing.

    `on_damage` is told of every stretch that can no longer be read; all else is still given.
    """

    def __init__(self, directory: str | Path, on_damage: Callable[[Damage], None] | None = None) -> None:
        self._directory, self._on_damage = Path(directory), on_damage

    def predictions(self) -> Iterator[PredictionRecord]:
        """All records, segment by segment, each in the order of writing."""
        from modelyard.records.shipping import record_shipments

        table = self._table(record_shipments(self._directory)[0], ["segment", "position", "record"])
        return map(decode_record, table.filter(table["record"].is_valid())["record"].to_pylist())

    def labels(self) -> Iterator[Label]:
        """All labels, corrections included, segment by segment, each in the order of writing."""
        from modelyard.records.shipping import record_shipments
        from modelyard.records.tables import label_of

        return map(label_of, self._table(record_shipments(self._directory)[1], None).to_pylist())

    def _table(self, shipment: Shipment, columns: list[str] | None) -> Any:
        from modelyard.records.reading import recorded

        found = recorded(self._directory, shipment)
        if self._on_damage is not None:
            for damage in found.damage:
                self._on_damage(damage)
        return found.table(columns).sort_by([("segment", "ascending"), ("position", "ascending")])


def read(directory: str | Path) -> Iterator[PredictionRecord]:
    """All prediction records in `directory`, each exactly once."""
    return RecordFiles(directory).predictions()


def read_labels(directory: str | Path) -> Iterator[Label]:
    """All labels in `directory`, corrections included, each exactly once."""
    return RecordFiles(directory).labels()

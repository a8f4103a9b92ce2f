"""Logs on standard error: plain lines for people, or one JSON object a line for machines.

What may be said about a call: its prediction id, deployment, version, trace and error kind; never its values.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from modelyard.errors import InvalidRequest

FIELDS = ("prediction_id", "deployment", "version", "trace_id", "reason", "suppressed")
"""What a log line may carry beside its text (``extra`` of the logging calls)."""

_ENCODER = msgspec.json.Encoder()


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, process, and the fields that are there."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        document |= _fields(record)
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return _ENCODER.encode(document).decode()


class TextLines(logging.Formatter):
    """One line a message, its fields after it as ``name=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is the base's
        """The line, without a stack trace."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return super().formatMessage(record) + fields


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = record.__dict__
    return {name: found[name] for name in FIELDS if found.get(name) not in (None, "")}


def configure(environment: Mapping[str, str] = os.environ, stream: TextIO | None = None) -> None:
    """Log to `stream` (standard error) as ``MODELYARD_LOG`` says: ``json`` or ``text``; unsaid, text on a terminal.

    Raises:
        InvalidRequest: ``MODELYARD_LOG`` is something else.
    """
    stream = stream or sys.stderr
    form = environment.get("MODELYARD_LOG") or ("text" if stream.isatty() else "json")
    if form not in ("json", "text"):
        raise InvalidRequest(f"MODELYARD_LOG is {form!r}; it may be json or text")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)

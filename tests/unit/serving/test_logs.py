"""Log lines: what they carry, and that a flood of refusals does not become a flood of lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from modelyard import logs
from modelyard.errors import InvalidRequest
from modelyard.logs import configure
from modelyard.serving import call_log
from modelyard.serving.call_log import CallLog


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


def test_json_lines_carry_the_fields_that_are_there() -> None:
    stream = io.StringIO()
    configure({}, stream)
    logging.getLogger("modelyard.serving").info("listening on %s", "here")
    CallLog().not_answered("overload", "p1", "flights", 3, "Overloaded")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "modelyard.serving", "listening on here")
    assert first["time"].endswith("+00:00")
    assert second["level"] == "warning"
    assert {name: second[name] for name in logs.FIELDS if name in second} == {
        "prediction_id": "p1",
        "deployment": "flights",
        "version": 3,
        "reason": "overload",
    }


def test_text_lines_and_stack_traces() -> None:
    stream = io.StringIO()
    configure({"MODELYARD_LOG": "text"}, stream)
    CallLog().not_answered("failed", "p1", kind="ModelFailed")
    assert "ERROR modelyard.calls: not answered: ModelFailed prediction_id=p1 reason=failed" in stream.getvalue()
    configure({"MODELYARD_LOG": "json"}, stream)
    try:
        raise KeyError("bug")
    except KeyError:
        logging.getLogger("modelyard").exception("broke")
    assert "KeyError: 'bug'" in json.loads(stream.getvalue().splitlines()[-1])["trace"]


def test_another_form_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="json or text"):
        configure({"MODELYARD_LOG": "xml"})


def test_a_flood_is_told_in_a_few_lines_and_how_many_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    monkeypatch.setattr(call_log.time, "monotonic_ns", lambda: now)
    stream = io.StringIO()
    configure({"MODELYARD_LOG": "json"}, stream)
    calls = CallLog(2)
    for number in range(100):
        calls.not_answered("overload", str(number))
    calls.not_answered("invalid", "another")
    now = 1_000_000_000
    calls.not_answered("overload", "later")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["prediction_id"] for line in lines] == ["0", "1", "another", "later"]
    assert lines[-1]["suppressed"] == 98

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from modelyard.domain.environment import Environment
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.manifest import Code, Manifest, Tolerance
from modelyard.domain.schema import Column, Kind, Output, Schema
from modelyard.errors import InvalidRequest, PredictionNotFound, RowsRefused
from modelyard.records.log import PredictionLog
from modelyard.records.query import RecordDatabase
from modelyard.records.replay import Found, Replay, find, find_in, replay, require_version
from unit.records.samples import call, record

SCHEMA = Schema(
    "dataframe",
    (Column("x", Kind.FLOAT64, nullable=True, dtype="float64"),),
    (
        Output("predict", Kind.STRING, "label", "predict", classes=("no", "yes"), dtype="str"),
        Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("no", "yes")),
        Output("half", Kind.FLOAT64, "value", "transform"),
    ),
)
MANIFEST = Manifest(
    1,
    "delay",
    "none",
    "Half",
    SCHEMA,
    "python",
    None,
    None,
    (),
    Tolerance(),
    Environment("3.11", "any", ()),
    Code(),
    0,
    {},
)


class Half:
    """A model whose numbers are known: half of x, as itself and as the probability of yes."""

    def __init__(self, change: Callable[[Answers], Answers] = lambda answers: answers) -> None:
        self.change = change

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        half = frame["x"].values / 2
        if (half == 100).any():
            raise RowsRefused("x is 200")
        answers = {
            "predict": np.array(["yes" if value > 0.5 else "no" for value in half], dtype=object),
            "predict_proba": np.stack([1 - half, half], axis=1),
            "half": np.where(np.isnan(half), np.inf, half),
        }
        return self.change({name: answers[name] for name in outputs or answers})

    def close(self) -> None: ...


def recorded(values: list[float | None], **changes: Any) -> Any:
    rows = [{"x": value} for value in values]
    answers = [
        {
            "predict": "yes" if value is not None and value > 1 else "no",
            "predict_proba": {
                "no": None if value is None else 1 - value / 2,
                "yes": None if value is None else value / 2,
            },
            "half": None if value is None else value / 2,
        }
        for value in values
    ]
    return call("a1", rows, answers, **changes)


def replayed(one: Any, row: int | None = None, model: Half | None = None) -> Replay:
    return replay(Found(one, row), MANIFEST, model or Half())


def shifted(by: float) -> Half:
    return Half(lambda answers: {**answers, "half": answers["half"] + by})


def test_the_same_numbers_are_the_same() -> None:
    result = replayed(recorded([0.6]))
    assert result.verdict == "same"
    (row,) = result.rows
    assert row.prediction_id == "a1"
    assert row.recorded == row.recomputed == {
        "predict": "no", "predict_proba[no]": 0.7, "predict_proba[yes]": 0.3, "half": 0.3,
    }  # fmt: skip


def test_all_rows_of_a_call_or_one_are_shown() -> None:
    one = recorded([0.25, 1.5, 0.5], row_ids=("p", "q", "r"))
    assert [row.prediction_id for row in replayed(one).rows] == ["p", "q", "r"]
    assert [(row.prediction_id, row.recorded["half"]) for row in replayed(one, row=1).rows] == [("q", 0.75)]


def test_what_json_could_not_carry_counts_as_sent() -> None:
    # Recorded as null: NaN probabilities, and an infinity in `half`.
    result = replayed(recorded([None]))
    assert result.verdict == "same"
    assert np.isnan(result.rows[0].recomputed["half"])


def test_a_small_difference_is_within_the_tolerance() -> None:
    result = replayed(recorded([0.5]), model=shifted(1e-9))
    assert result.verdict == "within tolerance"
    assert 0 < result.largest_abs < 2e-9
    assert result.largest_ulp > 0


def test_a_large_difference_is_named() -> None:
    result = replayed(recorded([0.25, 0.5]), row=1, model=shifted(0.5))
    assert result.verdict == "different"
    assert result.reason == "row 1, output 'half': expected 0.25, got 0.75"


def test_a_row_beside_may_differ_without_blame() -> None:
    def change(answers: Answers) -> Answers:
        half = answers["half"].copy()
        half[0] += 1
        return {**answers, "half": half}

    assert replayed(recorded([0.25, 0.5]), row=1, model=Half(change)).verdict == "same"
    assert replayed(recorded([0.25, 0.5]), model=Half(change)).verdict == "different"


def test_an_output_that_is_gone_is_a_difference() -> None:
    result = replayed(recorded([0.5]), model=Half(lambda answers: {"predict": answers["predict"]}))
    assert result.verdict == "different"
    assert "there is no answer" in result.reason


@pytest.mark.parametrize(
    ("rows", "message"),
    [([{"x": 200.0}], "x is 200"), ([{"y": 1}], "unknown column 'y'"), ([{"x": "hot"}], "column 'x'")],
)
def test_what_was_refused_is_refused_again(rows: list[Any], message: str) -> None:
    one = call("a1", rows, [], outcome="refused", status=422, error="as then", response=b'{"error": "as then"}')
    result = replayed(one)
    assert (result.verdict, result.recorded_error) == ("same", "as then")
    assert message in str(result.recomputed_error)


def test_an_answer_where_there_was_none_is_a_difference() -> None:
    one = recorded([0.5], outcome="failed", status=500, error="it broke", response=b"{}")
    result = replayed(one)
    assert (result.verdict, result.recorded_error, result.recomputed_error) == ("different", "it broke", None)
    result = replayed(call("a1", [{"x": 200.0}], [{"predict": "no"}]))
    assert (result.verdict, result.recorded_error, result.recomputed_error) == ("different", None, "x is 200")


def test_the_open_inference_protocol_is_replayed_with_the_outputs_that_were_asked_for() -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [2], "data": [0.5, None]}
    request = {"inputs": [tensor], "outputs": [{"name": "half"}]}
    answer = {"name": "half", "datatype": "FP64", "shape": [2], "data": [0.25, None]}
    response = {"model_name": "delay", "outputs": [answer]}
    bodies = {"request": json.dumps(request).encode(), "response": json.dumps(response).encode()}
    result = replayed(record("a1", form="oip", rows=2, **bodies))
    assert result.verdict == "same"
    assert [list(row.recorded) for row in result.rows] == [["half"], ["half"]]


def test_an_unreadable_answer_is_reported() -> None:
    with pytest.raises(InvalidRequest):
        replayed(recorded([0.5], response=b"[]"))


def test_records_are_found_by_row_and_by_call(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    older, newer = recorded([0.25, 0.5]), recorded([0.75, 1.0], received_ns=1_800_000_000_000_000_000)
    log.append(older)
    log.append(newer)
    assert find(tmp_path, "a1") == Found(newer, None, others=1)
    assert find(tmp_path, "a1-1") == Found(newer, 1, others=1)
    with pytest.raises(PredictionNotFound, match="no prediction 'zz' is recorded"):
        find(tmp_path, "zz")


def test_what_callers_got_is_found_rather_than_what_a_shadow_computed(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path)
    told = recorded([0.25])
    shadow = replace(told, deployment=f"{told.deployment}.candidate", digest="blake3:ff", response=b"[]")
    log.append(told)
    log.append(shadow)
    assert find(tmp_path, "a1") == Found(told, 0, others=1)
    with RecordDatabase(tmp_path) as database:
        assert find_in(database, tmp_path, "a1", "blake3:ff") == Found(shadow, 0, others=1)
        with pytest.raises(PredictionNotFound):
            find_in(database, tmp_path, "a1", "blake3:00")


def test_a_call_that_reached_no_version_cannot_be_replayed() -> None:
    lost = recorded([0.5], digest="", version=0, status=404, outcome="refused", error="no deployment 'x'")
    with pytest.raises(InvalidRequest, match=r"reached no version.*404: no deployment 'x'"):
        require_version(lost)
    require_version(replace(lost, digest="blake3:00"))

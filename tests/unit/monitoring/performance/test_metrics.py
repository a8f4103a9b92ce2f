"""Every metric against scikit-learn, on rows with ties, missing answers and labels of any type."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from modelyard.domain.schema import Kind, Output, Schema
from modelyard.errors import InvalidRequest
from modelyard.monitoring.performance.judged import Judged, judge, strangers
from modelyard.monitoring.performance.metrics import METRICS, measured, roc_parts, row_losses
from modelyard.monitoring.performance.task import Aim, Task

PLAIN = Task(aim=Aim.BINARY, answer="predict", classes=("no", "yes"), probabilities=("p_no", "p_yes"))
MANY = Task(aim=Aim.MULTICLASS, answer="predict", classes=("a", "b", "c"), probabilities=("p_a", "p_b", "p_c"))
NUMBER = Task(aim=Aim.REGRESSION, answer="predict")


def binary(rows: int, seed: int = 0) -> tuple[pa.Table, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    said = rng.beta(1, 3, rows).round(2)  # with ties
    truth = rng.random(rows) < said**1.3
    words = np.array(["no", "yes"])
    columns = {"p_no": 1 - said, "p_yes": said, "predict": words[(said > 0.4) * 1], "label": words[truth * 1]}
    return pa.table(columns), said, truth * 1


def test_two_classes_are_measured_as_scikit_learn_does() -> None:
    table, said, truth = binary(3000)
    found = {name: each.value for name, each in measured(judge(table, PLAIN)).items()}
    answer = (said > 0.4) * 1
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, answer),
            "auc": sk.roc_auc_score(truth, said),
            "log_loss": sk.log_loss(truth, said),
            "brier": sk.brier_score_loss(truth, said),
            "f1": sk.f1_score(truth, answer),
            "precision": sk.precision_score(truth, answer),
            "recall": sk.recall_score(truth, answer),
            "calibration_bias": said.mean() - truth.mean(),
            "calibration_error": by_hand_calibration(said, truth),
        }
    )


def by_hand_calibration(said: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """Groups of equal size, with a value that occurs more than once in one group only."""
    ends = sorted({sorted(said)[math.ceil(len(said) * at / 10) - 1] for at in range(1, 10)})
    groups: dict[int, list[int]] = {}
    for at, value in enumerate(said):
        groups.setdefault(sum(end < value for end in ends), []).append(at)
    return sum(abs(said[each].mean() - truth[each].mean()) * len(each) / len(said) for each in groups.values())


def test_three_classes_are_measured_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(2)
    said = rng.dirichlet((1, 2, 3), 2000)
    truth = np.array([rng.choice(3, p=each) for each in said])
    words = np.array(["a", "b", "c"])
    columns = {f"p_{word}": said[:, at] for at, word in enumerate(words)}
    table = pa.table(columns | {"predict": words[said.argmax(1)], "label": words[truth]})
    found = {name: each.value for name, each in measured(judge(table, MANY)).items()}
    expected = {
        "accuracy": sk.accuracy_score(truth, said.argmax(1)),
        "auc": sk.roc_auc_score(truth, said, multi_class="ovr"),
        "log_loss": sk.log_loss(truth, said),
        "brier": sk.brier_score_loss(words[truth], said, labels=list(words)),
        "f1": sk.f1_score(truth, said.argmax(1), average="macro"),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert set(found) == {*expected, "calibration_error"}


def test_numbers_are_measured_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(10, 3, 1000)
    answer = truth + rng.normal(0.5, 1, 1000)
    found = measured(judge(pa.table({"predict": answer, "label": truth}), NUMBER))
    assert {name: each.value for name, each in found.items()} == pytest.approx(
        {
            "mae": sk.mean_absolute_error(truth, answer),
            "rmse": sk.root_mean_squared_error(truth, answer),
            "bias": (answer - truth).mean(),
            "r2": sk.r2_score(truth, answer),
        }
    )


def test_the_variance_of_an_area_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(4)
    scores, positive = rng.integers(0, 8, 60) / 8, rng.random(60) < 0.4
    pairs = np.subtract.outer(scores[positive], scores[~positive])
    wins = (pairs > 0) + 0.5 * (pairs == 0)
    value, above, below = roc_parts(scores, positive)
    assert value == pytest.approx(wins.mean())
    np.testing.assert_allclose(above, wins.mean(axis=1))
    np.testing.assert_allclose(below, wins.mean(axis=0))


@pytest.mark.parametrize(
    ("classes", "answers", "labels"),
    [
        ((0, 1), [0, 1, 1], ["0", "1", None]),
        ((0, 1), [0, 1, 1], [0.0, 1.0, None]),
        ((0, 1), [0, 1, 1], [False, True, None]),
        ((False, True), [False, True, True], [0, 1, None]),
        ((False, True), [False, True, True], ["false", "true", None]),
        (("0", "1"), ["0", "1", "1"], [0, 1, None]),
        ((1.5, 2.0), [1.5, 2.0, 2.0], ["1.5", "2", None]),
    ],
)
def test_labels_mean_the_class_that_they_are_written_like(
    classes: tuple[Any, ...], answers: list[Any], labels: list[Any]
) -> None:
    task = Task(aim=Aim.BINARY, answer="predict", classes=classes)
    read = judge(pa.table({"predict": answers, "label": labels}), task)
    assert read.answer.tolist() == [0, 1, 1]
    assert read.truth.tolist() == [0, 1, -1]


def test_labels_that_are_no_class_and_answers_that_are_none_are_left_out_and_named() -> None:
    table = pa.table(
        {
            "predict": ["yes", None, "no"],
            "p_no": [0.2, None, 0.6],
            "p_yes": [0.8, None, 0.4],
            "label": ["yes", "no", "?"],
        }
    )
    found = measured(judge(table, PLAIN))
    assert found["accuracy"].rows == found["brier"].rows == 1
    assert found["accuracy"].value == 1.0
    assert strangers(table, PLAIN) == {"?": 1}


def test_nothing_known_gives_no_values_and_no_errors() -> None:
    table, _, _ = binary(5)
    for task, columns in ((PLAIN, table), (NUMBER, pa.table({"predict": [1.0], "label": pa.nulls(1, pa.float64())}))):
        for rows in (slice(0, 0), slice(0, 1), slice(0, 2)):
            measured(judge(columns, task).take(rows))
    empty = measured(judge(table.slice(0, 0), PLAIN))
    assert all(each.value is None for each in empty.values())


def test_probabilities_in_one_list_are_read_as_those_by_name() -> None:
    table, said, _ = binary(50)
    listed = table.drop_columns(["p_no", "p_yes"]).append_column("p", pa.array([f"[{1 - x}, {x}]" for x in said]))
    task = Task(aim=Aim.BINARY, answer="predict", classes=("no", "yes"), together="p")
    assert measured(judge(listed, task))["brier"] == measured(judge(table, PLAIN))["brier"]
    odd = pa.table({"predict": ["yes"] * 3, "label": ["yes"] * 3, "p": ['["a"]', "[0.1, 0.2, 0.7]", None]})
    assert measured(judge(odd, task))["brier"].rows == 0


def test_a_mean_of_the_losses_of_rows_is_the_metric() -> None:
    table, _, _ = binary(400)
    known = judge(table, PLAIN)
    found = measured(known)
    assert row_losses(known, "brier").mean() == pytest.approx(found["brier"].value)
    assert row_losses(known, "log_loss").mean() == pytest.approx(found["log_loss"].value)
    assert 1 - row_losses(known, "accuracy").mean() == pytest.approx(found["accuracy"].value)


def test_what_does_not_fit_is_refused_by_name() -> None:
    table, _, _ = binary(5)
    with pytest.raises(InvalidRequest, match="no metric 'mae' for binary"):
        measured(judge(table, PLAIN), ["mae"])
    bare = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1))
    assert not METRICS["auc"].fits(bare)


def test_a_schema_says_which_columns_judge_it() -> None:
    outputs = (
        Output("predict", Kind.BOOL, "label", "predict", classes=(False, True)),
        Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=(False, True)),
    )
    task = Task.of(Schema("dataframe", (), outputs))
    assert task.probabilities == ("predict_proba_false", "predict_proba_true")
    assert task.columns == ("predict", "predict_proba_false", "predict_proba_true", "predict_proba")
    with pytest.raises(InvalidRequest, match=r"transform \(features\)"):
        Task.of(Schema("dataframe", (), (Output("transform", Kind.FLOAT64, "features", "transform", shape=(3,)),)))


def test_a_million_rows_are_one_array_each() -> None:
    table, _, _ = binary(20_000)
    assert isinstance(judge(table, PLAIN), Judged)

"""What counts as learned, and how far two estimators lie apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from modelyard.bundle import pickling, skopsfile
from modelyard.reproduction.learned import compared, digest, parts_of

ROWS = np.random.default_rng(0).normal(size=(60, 3))
LABELS = (ROWS[:, 0] > 0).astype(int)

SAME: dict[str, Callable[[bool], Any]] = {
    "jobs and verbosity": lambda again: RandomForestClassifier(
        5, random_state=0, n_jobs=2 if again else 1, verbose=0
    ).fit(ROWS, LABELS),
    "times of a search": lambda again: GridSearchCV(
        LogisticRegression(), {"C": [0.1, 1.0]}, cv=2, n_jobs=None if again else 1
    ).fit(ROWS, LABELS),
    "boosted trees": lambda again: HistGradientBoostingClassifier(max_iter=3, random_state=None if again else 7).fit(
        ROWS, LABELS
    ),
    "a pipeline": lambda again: make_pipeline(
        StandardScaler(), PCA(2), LogisticRegression(), memory=None, verbose=False
    ).fit(ROWS, LABELS),
    "XGBoost": lambda again: XGBClassifier(n_estimators=3, n_jobs=2 if again else 1).fit(ROWS, LABELS),
    "LightGBM": lambda again: LGBMClassifier(n_estimators=3, n_jobs=2 if again else 1, verbose=-1).fit(ROWS, LABELS),
    "texts": lambda again: OneHotEncoder(handle_unknown="ignore").fit([["b"], ["a"], ["ß"]]),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("written", ["skops", "cloudpickle"])
def test_what_was_not_learned_makes_no_difference(name: str, written: str) -> None:
    first, second = (state(SAME[name](again), written) for again in (False, True))
    found = compared(first, second)
    assert found.equal, found.differing
    assert found.parts > 3


@pytest.mark.parametrize("written", ["skops", "cloudpickle"])
def test_a_difference_is_pointed_at_and_measured(written: str) -> None:
    one = make_pipeline(StandardScaler(), Ridge()).fit(ROWS, ROWS[:, 1])
    other = make_pipeline(StandardScaler(), Ridge()).fit(ROWS, ROWS[:, 1])
    other.steps[1][1].coef_ = np.nextafter(other.steps[1][1].coef_, np.inf)
    found = compared(state(one, written), state(other, written))
    assert (found.equal, found.different, found.largest_ulp) == (False, 1, 1)
    assert 0 < found.largest_abs < 1e-14
    assert found.differing[0].startswith("steps[1][1].coef_: largest distance")


def test_another_class_or_shape_is_a_difference() -> None:
    ridge, forest = state(Ridge().fit(ROWS, LABELS)), state(RandomForestClassifier(2).fit(ROWS, LABELS))
    assert any("only now" in said for said in compared(ridge, forest).differing)
    wide, narrow = state(PCA(3).fit(ROWS)), state(PCA(2).fit(ROWS))
    assert any("shape (3, 3), now (2, 3)" in said for said in compared(wide, narrow).differing)


def test_a_pickle_is_read_without_running_what_is_in_it() -> None:
    found = parts_of("cloudpickle", pickling.dumps(Bomb()))
    assert any("Bomb" in str(value) or "boom" in str(value) for value in found.values())


class Bomb:
    """Would raise if anything of it were called."""

    def __reduce__(self) -> Any:
        return boom, ("now",)


def boom(word: str) -> None:
    raise AssertionError(word)


def test_a_file_that_cannot_be_looked_into_is_one_part() -> None:
    assert parts_of("cloudpickle", b"no pickle at all") == {"<file>": b"no pickle at all"}
    assert digest({"<file>": b"a"}) != digest({"<file>": b"b"})


def state(estimator: Any, written: str = "skops") -> dict[str, Any]:
    raw = skopsfile.dumps(estimator) if written == "skops" else pickling.dumps(estimator)
    return parts_of(written, raw)

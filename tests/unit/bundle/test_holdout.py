"""The holdout of a bundle: truths and answers side by side, nothing else, and what cannot be one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from modelyard.bundle.layout import open_bundle
from modelyard.bundle.pack import build_bundle
from modelyard.errors import CannotPack

DRAW = np.random.default_rng(0)
ROWS = pd.DataFrame({"x": DRAW.normal(size=400), "z": DRAW.normal(size=400)})
TRUTH = pd.Series(np.where(ROWS["x"] + DRAW.normal(size=400) > 0, "yes", "no"))
MODEL = LogisticRegression().fit(ROWS[:200], TRUTH[:200])


def packed(into: Path, holdout: Any) -> Any:
    return build_bundle(MODEL, sample=ROWS[:200], name="m", into=into, golden_rows=8, holdout=holdout)


def test_truths_and_answers_are_kept_and_no_inputs(tmp_path: Path) -> None:
    packed(tmp_path / "b", (ROWS[200:], TRUTH[200:]))
    kept = open_bundle(tmp_path / "b").holdout()
    assert kept is not None
    assert set(kept) == {"label", "answers"}
    assert kept["label"] == TRUTH[200:].tolist()
    assert kept["answers"]["predict"] == MODEL.predict(ROWS[200:]).tolist()
    np.testing.assert_allclose(kept["answers"]["predict_proba"], MODEL.predict_proba(ROWS[200:]))


def test_without_a_holdout_there_is_none(tmp_path: Path) -> None:
    assert packed(tmp_path / "b", None).holdout() is None


@pytest.mark.parametrize(
    ("holdout", "said"),
    [
        (ROWS, "is a pair"),
        ((ROWS[:5], TRUTH[:4]), "5 rows and 4 truths"),
        ((ROWS[:2], ["yes", None]), "a truth of the holdout is missing"),
        ((ROWS[:2], [[1], [2]]), "2 dimensions"),
        ((ROWS[["x"]], TRUTH), "rows of the holdout are not as the sample is"),
    ],
)
def test_what_cannot_be_a_holdout_is_said(tmp_path: Path, holdout: Any, said: str) -> None:
    with pytest.raises(CannotPack, match=said):
        packed(tmp_path / "b", holdout)

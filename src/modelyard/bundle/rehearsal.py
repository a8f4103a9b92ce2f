"""Questions before anything is written: would rows be answered as in training, and each for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelyard.bundle.drawing import SAMPLE, mixed_rows
from modelyard.bundle.native import InProcess
from modelyard.domain.compare import compare, describe, pick
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import Tolerance
from modelyard.domain.schema import Output, Schema
from modelyard.errors import CannotPack, Failed

_ROWS = 1_000
_ALONE = 32

_LOOSE = Tolerance(rtol=1e-3, atol=1e-6)
"""Sums are rounded differently in batches; an answer that depends on other rows differs by more."""

_FEW = 0.1
"""Ties may fall either way in a batch; where more of the rows than this differ, it is not ties."""


def check_as_given(asked: InProcess, sample: Any, rows: Frame, schema: Schema) -> None:
    """Let the estimator pass if it answers the sample's own rows and those made from the schema alike.

    They can differ where one column held several things that are one and the same here: None and NaN, which are
    both missing, or 1 and 1.0.

    Raises:
        CannotPack: naming the column if it is one, the row, and both answers.
    """
    picked = mixed_rows(rows.rows, _ROWS)
    if _check_rows(asked, sample, rows, picked, schema):
        return
    for row in picked[:_ALONE]:
        _check_rows(asked, sample, rows, [row], schema)


def _check_rows(asked: InProcess, sample: Any, rows: Frame, picked: Sequence[int], schema: Schema) -> bool:
    """Compare these rows; False where the estimator raises on them either way."""
    given, kept = _part(sample, picked), asked.native(rows.take(picked))

    def answers(what: Any) -> Answers | None:
        return _unless_failed(lambda: asked.answer(what, len(picked)))

    expected, got = answers(given), answers(kept)
    if expected is None or got is None:
        return False
    found = compare(expected, got, schema.outputs, Tolerance(), rows=picked)
    if not found.equal:
        raise CannotPack(
            f"{_culprit(given, kept, answers, expected, schema.outputs)} that are one and the same here (None and NaN "
            f"both mean missing, 1 and 1.0 are one number): {found.reason}; "
            "train with one type and one marker for missing values in each column"
        )
    return True


def _culprit(
    given: Any, kept: Any, answers: Callable[[Any], Answers | None], expected: Answers, outputs: Sequence[Output]
) -> str:
    """The first column that changes the answers when it alone is as the schema makes it."""
    if isinstance(given, pd.DataFrame):
        for name in given.columns:
            got = answers(given.assign(**{name: kept[name].set_axis(given.index)}))
            if got is None or not compare(expected, got, outputs, Tolerance()).equal:
                return f"column {name!r}: the estimator tells values apart"
    return "the estimator tells values of the sample apart"


def _part(sample: Any, rows: Sequence[int]) -> Any:
    """These rows of a sample, as it was given."""
    if isinstance(sample, Mapping):
        return {name: np.asarray(part)[list(rows)] for name, part in sample.items()}
    if isinstance(sample, list | tuple):
        return type(sample)(sample[row] for row in rows)
    return sample.iloc[list(rows)] if hasattr(sample, "iloc") else sample[list(rows)]


def _unless_failed(ask: Callable[[], Answers]) -> Answers | None:
    try:
        return ask()
    except Failed:
        return None


def check_each_for_itself(golden: GoldenSet, schema: Schema) -> None:
    """Let the estimator pass if its answer to a row of the sample does not depend on the rows beside it.

    Rows come one at a time online and in batches of any size in bulk.

    Raises:
        CannotPack: naming a row and both answers.
    """
    asked = [row for row in golden.answered() if golden.origins[row] == SAMPLE]
    differing = []
    for row in asked:
        alone, beside = pick(golden.single, [row]), pick(golden.batch, [row])
        found = compare(alone, beside, schema.outputs, _LOOSE, rows=[row])
        if not found.equal:
            differing.append(found)
    if len(differing) > max(1, _FEW * len(asked)):
        mismatches = differing[0].mismatches
        first = describe(mismatches[0]).replace("expected", "alone").replace("got", "with others") if mismatches else ""
        raise CannotPack(
            f"the answer to a row changes with the rows beside it ({len(differing)} of {len(asked)} rows): {first}; "
            "rows are asked one at a time and in batches of any size, so each has to be answered for itself and in "
            "the order in which it came"
        )

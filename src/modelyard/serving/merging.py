"""Whether calls may be computed together: only where the answer to a row does not depend on those beside it."""

from __future__ import annotations

import random
from collections.abc import Callable

from modelyard.domain.compare import compare, describe, pick
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.golden import GoldenSet
from modelyard.domain.manifest import Tolerance
from modelyard.domain.schema import Schema
from modelyard.errors import ModelyardError

_ORDER = 20130101


def why_alone(predict: Callable[[Frame], Answers], golden: GoldenSet, schema: Schema, tolerance: Tolerance) -> str:
    """Why calls of this version must be computed one by one; empty when they may be merged.

    The golden rows are asked as merged calls would be: shuffled, half of them twice; each must be answered as training
    answered it alone, within the tolerance. So must those that training answered as one batch.
    """
    rows = golden.answered()
    if not rows:
        return "its golden set has no answered row that could show that rows are answered each for itself"
    alone = pick(golden.single, rows)
    found = compare(alone, pick(golden.batch, rows), schema.outputs, tolerance, rows=rows, origins=golden.origins)
    if found.equal:
        mixed = [*rows, *rows[: (len(rows) + 1) // 2]]
        random.Random(_ORDER).shuffle(mixed)  # noqa: S311 - any order will do, the same each time
        try:
            answers = predict(golden.inputs.take(mixed))
        except ModelyardError as error:
            return f"rows that it answers one at a time are refused together: {error}"
        found = compare(
            pick(golden.single, mixed), answers, schema.outputs, tolerance, rows=mixed, origins=golden.origins
        )
    if found.equal:
        return ""
    first = describe(found.mismatches[0]) if found.mismatches else found.problem
    return f"the answer to a row changes with the rows beside it: {first.replace('expected', 'alone')}"

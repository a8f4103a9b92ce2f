"""Which values an estimator's encoders accept from a column, where they accept no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from modelyard.bundle.compile.encoders import is_missing
from modelyard.domain.schema import Column, Scalar

_PASSING = {"SimpleImputer", "passthrough"}
_ENCODERS = {"OneHotEncoder", "OrdinalEncoder"}


def known_categories(estimator: Any, column: Column) -> tuple[Scalar, ...] | None:
    """The complete set of values that do not make an encoder raise; None where no encoder limits the column.

    Found by following the column through pipelines and column transformers to the encoders with
    ``handle_unknown="error"`` that it reaches, directly or behind an imputer. Missing values are not listed.

    >>> import pandas as pd
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from modelyard.domain.schema import Kind
    >>> encoder = OneHotEncoder().fit(pd.DataFrame({"colour": ["red", "blue"]}))
    >>> known_categories(encoder, Column("colour", Kind.STRING, nullable=False, dtype="str"))
    ('blue', 'red')
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return None
    found = [
        _scalars(limit) for name, limit in _limits(estimator, [str(name) for name in names]) if name == column.name
    ]
    if not found:
        return None
    return tuple(value for value in found[0] if all(value in other for other in found[1:]))


def _scalars(categories: Any) -> tuple[Scalar, ...]:
    plain = (value.item() if isinstance(value, np.generic) else value for value in categories)
    return tuple(value for value in plain if not is_missing(value))


def _limits(step: Any, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Every column with the categories to which an encoder limits it."""
    kind = type(step).__name__
    if kind == "Pipeline":
        yield from _through(step.steps, names)
    elif kind == "ColumnTransformer":
        inputs = step._transformer_to_input_indices
        for name, inner, _ in step.transformers_:
            yield from _limits(inner, [names[index] for index in inputs[name] if index < len(names)])
    elif kind == "FeatureUnion":
        for _, inner in step.transformer_list:
            yield from _limits(inner, names)
    elif kind in _ENCODERS and step.handle_unknown == "error":
        yield from zip(names, step.categories_, strict=False)


def _through(steps: Sequence[tuple[str, Any]], names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The steps of a pipeline as far as its columns stay what they are."""
    for _, step in steps:
        yield from _limits(step, names)
        if not _keeps_columns(step):
            return


def _keeps_columns(step: Any) -> bool:
    if step is None or isinstance(step, str):
        return step != "drop"
    if type(step).__name__ not in _PASSING:
        return False
    dropped = [value for value in np.asarray(step.statistics_, dtype=object) if is_missing(value)]
    return not dropped or bool(step.keep_empty_features)

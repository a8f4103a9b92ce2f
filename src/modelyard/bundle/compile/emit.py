"""Who writes which estimator into a graph.

An `Emitter` stands for one fitted estimator applied to one table. Its methods have the names of the estimator's own
and give values of the graph. One file a family of estimators; `emits` enters a class in the list by package and name.
Subclasses are never taken for their parents: they may compute something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np

from modelyard.bundle.compile.graph import Graph, NoConverter, Value
from modelyard.bundle.compile.table import Table, matrix
from modelyard.domain.frame import Array


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Answers that are one of `classes`, as positions in it (shape ``(rows, 1)``)."""

    index: Value
    classes: Array

    def numbers(self) -> Value:
        """The labels themselves, where they are numbers.

        Raises:
            NoConverter: when they are texts.
        """
        if self.classes.dtype.kind not in "iufb":
            raise NoConverter("a step calculates with labels that are texts")
        if self.classes.dtype.kind != "f" and np.array_equal(self.classes, np.arange(len(self.classes))):
            return self.index.cast("f8")
        return self.index.rows_of(self.classes.astype(np.float64).reshape(-1, 1))


Answer: TypeAlias = "Value | Labels | Table | list[Any]"
"""What a method answers: a matrix, labels, a table, or a list of these for several targets."""


class Emitter:
    """One fitted estimator applied to one table of the graph."""

    def __init__(self, graph: Graph, estimator: Any, table: Table) -> None:
        self.graph = graph
        self.estimator = estimator
        self.table = table

    @property
    def x(self) -> Value:
        """The input as one matrix of doubles."""
        return self.table.numeric()

    @property
    def width(self) -> int:
        """Number of input columns."""
        return self.table.width

    def fitted(self, name: str) -> Array:
        """An attribute of the estimator as an array of doubles, dense if it is sparse."""
        found = getattr(self.estimator, name)
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float64)

    def refuse(self, why: str) -> NoConverter:
        """An error that names the estimator."""
        return NoConverter(f"{type(self.estimator).__name__}: {why}")

    def answer(self, method: str) -> Answer:
        """What that method of the estimator gives, computed once.

        Raises:
            NoConverter: when it cannot be written into the graph.
        """
        key = ("answer", id(self), method)
        if key not in self.graph.memo:
            function = getattr(self, method, None)
            if function is None:
                raise self.refuse(f"no converter for {method}")
            self.graph.memo[key] = function()
        found: Answer = self.graph.memo[key]
        return found

    def value(self, method: str) -> Value:
        """What that method gives, as numbers."""
        answer = self.answer(method)
        if isinstance(answer, Labels):
            return answer.numbers()
        if isinstance(answer, Table):
            return answer.numeric()
        if not isinstance(answer, Value):
            raise self.refuse(f"{method} gives several results")
        return answer.cast("f8")

    def transform(self) -> Table:
        """The columns that the estimator makes of its input."""
        raise self.refuse("no converter for transform")


class Classifier(Emitter):
    """An emitter with classes. Subclasses give `scores`, or `predict_proba`, or `predict`."""

    @property
    def classes(self) -> Array:
        """The classes in the estimator's order."""
        return np.asarray(self.estimator.classes_)

    def labels(self, index: Value) -> Labels:
        """Positions in the estimator's classes, as labels."""
        return Labels(index, self.classes)

    def predict(self) -> Answer:
        """The most probable class."""
        return self.labels(self.value("predict_proba").argmax())

    def by_score(self, scores: Value) -> Labels:
        """The class of the largest score; with one score, the second class where it is positive."""
        if len(self.classes) == 2:
            return self.labels((scores > 0.0).cast("i8"))
        return self.labels(scores.argmax())


class Regressor(Emitter):
    """An emitter with a `predict` that gives numbers."""


class Selection(Emitter):
    """A transformer that keeps some columns as they are."""

    def transform(self) -> Table:
        """The kept columns."""
        positions = np.flatnonzero(self.estimator.get_support())
        return self.table.pick(positions.tolist())


_PRECISION: ContextVar[str] = ContextVar("precision", default="float64")


@contextmanager
def precision(kind: str) -> Iterator[None]:
    """Within it, others' converters write in that precision."""
    token = _PRECISION.set(kind)
    try:
        yield
    finally:
        _PRECISION.reset(token)


def current_precision() -> str:
    """The precision in which others' converters write now."""
    return _PRECISION.get()


AnyEmitter = TypeVar("AnyEmitter", bound=type[Emitter])


class _Catalogue:
    entries: ClassVar[dict[tuple[str, str], type[Emitter]]] = {}
    fallback: ClassVar[list[Callable[[Graph, Any, Table], Emitter]]] = []


def emits(*names: str, package: str = "sklearn") -> Callable[[AnyEmitter], AnyEmitter]:
    """Enter an emitter for these classes of a package."""

    def enter(emitter: AnyEmitter) -> AnyEmitter:
        _Catalogue.entries.update({(package, name): emitter for name in names})
        return emitter

    return enter


def otherwise(make: Callable[[Graph, Any, Table], Emitter]) -> Callable[[Graph, Any, Table], Emitter]:
    """Enter what is asked for classes that have no emitter."""
    _Catalogue.fallback.append(make)
    return make


def known(estimator: Any) -> bool:
    """Whether there is an emitter of our own for this estimator."""
    return _key(estimator) in _Catalogue.entries


def _key(estimator: Any) -> tuple[str, str]:
    kind = type(estimator)
    return kind.__module__.partition(".")[0], kind.__name__


def emitter(graph: Graph, estimator: Any, table: Table) -> Emitter:
    """The emitter of an estimator applied to a table; the same one when asked again.

    Raises:
        NoConverter: when nothing here can write it.
    """
    key = ("emitter", id(estimator), tuple(block.value.name for block in table.blocks))
    if key not in graph.memo:
        graph.memo[key] = _make(graph, estimator, table)
    made: Emitter = graph.memo[key]
    return made


def _make(graph: Graph, estimator: Any, table: Table) -> Emitter:
    found = _Catalogue.entries.get(_key(estimator))
    if found is not None:
        return found(graph, estimator, table)
    for make in _Catalogue.fallback:
        return make(graph, estimator, table)
    raise NoConverter(f"{type(estimator).__module__}.{type(estimator).__name__}: no converter")


def transformed(graph: Graph, estimator: Any, table: Table) -> Table:
    """A table after a transformer, ``passthrough`` or ``drop``.

    Raises:
        NoConverter: when the transformer cannot be written.
    """
    if estimator is None or (isinstance(estimator, str) and estimator == "passthrough"):
        return table
    if isinstance(estimator, str):
        return Table(graph, ())
    made = emitter(graph, estimator, table)
    answer = made.answer("transform")
    result = answer if isinstance(answer, Table) else matrix(_as_value(answer), _width_out(estimator))
    return result.renamed(_names_out(estimator, table, result))


def _as_value(answer: Answer) -> Value:
    if not isinstance(answer, Value):
        raise NoConverter("a transformer that gives several results")
    return answer.cast("f8")


def _width_out(estimator: Any) -> int:
    return len(estimator.get_feature_names_out())


def _names_out(estimator: Any, table: Table, result: Table) -> Sequence[str] | None:
    """Column names after a step: those matter only where a DataFrame is handed on."""
    config = getattr(estimator, "_sklearn_output_config", {})
    if config.get("transform") not in ("pandas", "polars") and not _global_frames():
        return None if not _hands_on_frames(estimator, table) else table.names
    try:
        names = estimator.get_feature_names_out()
    except (AttributeError, ValueError, TypeError):
        return None
    return [str(name) for name in names] if len(names) == result.width else None


def _hands_on_frames(estimator: Any, table: Table) -> bool:
    return type(estimator).__name__ == "FunctionTransformer" and table.frame


def _global_frames() -> bool:
    import sklearn

    return sklearn.get_config().get("transform_output", "default") in ("pandas", "polars")


def values_of(emitters: Iterable[Emitter], method: str) -> list[Value]:
    """The same method of several emitters, as numbers."""
    return [made.value(method) for made in emitters]

"""Imputers and encoders: steps that know missing values and categories."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from modelyard.bundle.compile.emit import Emitter, emits
from modelyard.bundle.compile.graph import Codes, Graph, NoConverter, Value
from modelyard.bundle.compile.table import MISSING_TEXT, Block, Table, matrix, side_by_side
from modelyard.domain.frame import Array


def is_nan(value: Any) -> bool:
    """Whether a value is a floating-point NaN."""
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def is_missing(value: Any) -> bool:
    """Whether a value is one of the markers for missing: NaN, None or ``pandas.NA``."""
    return value is None or is_nan(value) or type(value).__name__ == "NAType"


def _same_marker(block: Block, marker: Any) -> bool:
    """Whether what is missing in this block was, in training, the marker that a step looks for."""
    if block.marker in (None, "nan"):
        return is_nan(marker) or type(marker).__name__ == "NAType"
    if block.marker == "none":
        return marker is None
    return is_missing(marker) and marker is not None


def missing_mask(block: Block, marker: Any) -> Value | None:
    """Where a block holds the value that a step takes for missing; None: nowhere.

    Raises:
        NoConverter: when text and number are compared.
    """
    if is_missing(marker):
        if not _same_marker(block, marker):
            return None
        if block.is_text:
            return None if block.fill is not None else block.value.equals(MISSING_TEXT)
        return block.value.isnan() if block.value.kind in ("f8", "f4") else None
    if block.is_text != isinstance(marker, str):
        raise NoConverter(f"missing values given as {marker!r} in a column of another type")
    if block.fill is not None:
        raise NoConverter("a text column is imputed twice")
    return block.value.equals(marker)


@emits("SimpleImputer")
class SimpleImputerEmitter(Emitter):
    """Put a learned value where one is missing."""

    def transform(self) -> Table:
        imputer = self.estimator
        statistics = np.asarray(imputer.statistics_, dtype=object)
        parts: list[Table] = []
        start = 0
        for block in replace(self.table, blocks=self._as_filled()).merged().blocks:
            chosen = statistics[start : start + block.width]
            parts.extend(self._filled(block, chosen))
            start += block.width
        if imputer.add_indicator:
            parts.append(_indicator(self.table, imputer.indicator_))
        return side_by_side(self.graph, parts, sparse=self.table.sparse)

    def _as_filled(self) -> tuple[Block, ...]:
        """The blocks, numbers as doubles: the library makes one array of them, single only if all of them are."""
        blocks = self.table.blocks
        if all(block.value.kind == "f4" for block in blocks):
            return blocks
        as_doubles = self.estimator.strategy in ("mean", "median")
        return tuple(block if block.is_text else _doubles(block, forget=as_doubles) for block in blocks)

    def _filled(self, block: Block, statistics: Array) -> Iterator[Table]:
        kept = [at for at, value in enumerate(statistics) if self.estimator.keep_empty_features or not is_nan(value)]
        if not kept:
            return
        block = block.pick(kept)
        yield Table(self.graph, (self._fill(block, [statistics[at] for at in kept]),))

    def _fill(self, block: Block, fills: Sequence[Any]) -> Block:
        mask = missing_mask(block, self.estimator.missing_values)
        if mask is None:
            return block
        if block.is_text != all(isinstance(fill, str) for fill in fills):
            raise self.refuse("text and number in one column")
        if block.is_text and is_missing(self.estimator.missing_values) and len(set(fills)) == 1:
            return replace(block, marker=None, fill=str(fills[0]))
        line = np.array([fills], dtype=object if block.is_text else np.float64)
        value = self.graph.where(mask, self.graph.constant(line, block.value.kind), block.value)
        return Block(value, block.width, block.names, None, block.dtype)


def _doubles(block: Block, *, forget: bool) -> Block:
    """Numbers as doubles; with `forget`, whatever marked a missing one is NaN from here on."""
    return replace(block, value=block.value.cast("f8"), marker=None if forget else block.marker)


def _indicator(table: Table, indicator: Any) -> Table:
    columns = [table.pick([int(at)]).blocks[0] for at in indicator.features_]
    if not columns:
        return Table(table.graph, ())
    return matrix(
        table.graph.concat([_mask_column(block, indicator.missing_values) for block in columns]), len(columns)
    )


def _mask_column(block: Block, marker: Any) -> Value:
    mask = missing_mask(block, marker)
    if mask is None:
        mask = ~(block.value.equals(block.value) | block.value.equals(block.value))
    return mask.cast("i8")


@emits("MissingIndicator")
class MissingIndicatorEmitter(Emitter):
    """One where a value is missing."""

    def transform(self) -> Table:
        return _indicator(self.table, self.estimator)


@dataclass(frozen=True, slots=True)
class Lookup:
    """What an encoder makes of one column: a line for each category, and one for everything else."""

    keys: list[Any]
    lines: Array
    otherwise: Array


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A column of texts that enters as numbers: which line of `lines` each text becomes."""

    column: int
    codes: Codes
    lines: Array

    @property
    def marks_one(self) -> bool:
        """Whether each line is all zeros but for at most a single one."""
        return bool(np.isin(self.lines, (0.0, 1.0)).all() and (self.lines.sum(axis=1) <= 1.0).all())

    def shifted(self, by: int) -> Codes:
        """The numbers beginning at another one than zero."""
        texts = tuple((text, number + by) for text, number in self.codes.texts)
        return Codes(texts, self.codes.missing + by, self.codes.other + by)


def _values_at(graph: Graph, columns: Sequence[_Numbered]) -> Value:
    """One value a column, all from one table: the numbers of a column go on where those before it end."""
    starts = np.cumsum([0, *(len(column.lines) for column in columns)]).tolist()
    entered = graph.enter_codes(
        [(column.column, column.shifted(start)) for column, start in zip(columns, starts, strict=False)]
    )
    table = graph.constant(np.concatenate([column.lines[:, 0] for column in columns]))
    return graph.node("Gather", (table, entered), "f8", axis=0)


def _marks(graph: Graph, columns: Sequence[_Numbered]) -> Value:
    """A one where the number of a column is that of the mark, else a zero."""
    codes = graph.enter_codes([(column.column, column.codes) for column in columns])
    sources, numbers = [], []
    for at, column in enumerate(columns):
        sources += [at] * column.lines.shape[1]
        found = column.lines.argmax(axis=0)
        numbers += np.where(column.lines.max(axis=0) > 0.0, found, -1).tolist()
    spread = codes if len(columns) == 1 else codes.columns(sources)
    return spread.equals([numbers]).cast("f8")


class LookupEmitter(Emitter):
    """An encoder that treats each column by itself.

    The table is taken from the fitted encoder's own answers, so that every option of it counts (dropped and infrequent
    categories, special values).
    """

    def transform(self) -> Table:
        parts: list[tuple[Value, int]] = []
        columns = enumerate(self.table.single_columns())
        for as_codes, run in groupby(columns, key=lambda pair: self.graph.text_column(pair[1].value) is not None):
            if as_codes:
                parts.extend(self._coded([self._numbered(block, self.lookup(at)) for at, block in run]))
            else:
                parts.extend(self._encoded(block, self.lookup(at)) for at, block in run)
        width = sum(size for _, size in parts)
        value = self.graph.concat([part for part, size in parts if size])
        return matrix(value, width, sparse=self.is_sparse())

    def is_sparse(self) -> bool:
        """Whether the encoder gives a sparse matrix."""
        return False

    def widths(self) -> list[int]:
        """How many columns each input column becomes."""
        return [1] * self.width

    def unseen(self, at: int, width: int) -> Array | None:
        """The line for a value that is no category; None: any, since it is refused before."""
        raise NotImplementedError

    def lookup(self, at: int) -> Lookup:
        """The table of one column."""
        widths = self.widths()
        start = sum(widths[:at])
        categories = list(self.estimator.categories_[at])
        answers = self._ask(at, categories)
        lines = answers[:, start : start + widths[at]]
        other = self.unseen(at, widths[at])
        return Lookup(categories, lines, np.zeros(widths[at]) if other is None else other)

    def _ask(self, at: int, categories: Sequence[Any]) -> Array:
        """The encoder's answers to every category of one column, beside the first category of all others."""
        import pandas as pd

        columns = {}
        for other, known in enumerate(self.estimator.categories_):
            values = categories if other == at else [known[0]] * len(categories)
            dtype = known.dtype if known.dtype.kind != "U" else np.dtype(object)
            columns[other] = pd.Series(np.array(_boxed(values), dtype=dtype), dtype=dtype)
        frame = pd.DataFrame(columns)
        frame.columns = getattr(self.estimator, "feature_names_in_", list(range(frame.shape[1])))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = self.estimator.transform(frame)
        dense = answers.toarray() if hasattr(answers, "toarray") else answers
        return np.asarray(dense, dtype=np.float64)

    def _numbered(self, block: Block, lookup: Lookup) -> _Numbered:
        """A column of texts that enters as the numbers of its lines, with each different line once."""
        keys, lines = self._keys(block, lookup)
        numbers: dict[bytes, int] = {}
        table = [np.asarray(line, dtype=np.float64) for line in (*lines, lookup.otherwise)]
        given = [numbers.setdefault(line.tobytes(), len(numbers)) for line in table]
        distinct = np.array([np.frombuffer(line) for line in numbers]).reshape(len(numbers), lookup.lines.shape[1])
        texts = tuple((key, number) for key, number in zip(keys, given, strict=False) if key != MISSING_TEXT)
        missing = given[keys.index(MISSING_TEXT)] if MISSING_TEXT in keys else given[-1]
        column = self.graph.text_column(block.value)
        return _Numbered(int(column or 0), Codes(texts, missing, given[-1]), distinct)

    def _coded(self, columns: Sequence[_Numbered]) -> list[tuple[Value, int]]:
        """Columns of texts, looked up together if their lines allow it."""
        columns = [column for column in columns if column.lines.shape[1]]
        if columns and all(column.lines.shape[1] == 1 for column in columns):
            return [(_values_at(self.graph, columns), len(columns))]
        if columns and all(column.marks_one for column in columns):
            return [(_marks(self.graph, columns), sum(column.lines.shape[1] for column in columns))]
        made = [self.graph.enter_codes([(column.column, column.codes)]).rows_of(column.lines) for column in columns]
        return [(value, column.lines.shape[1]) for value, column in zip(made, columns, strict=True)]

    def _encoded(self, block: Block, lookup: Lookup) -> tuple[Value, int]:
        if block.dtype == "datetime":
            raise self.refuse("no converter for datetimes")
        keys, lines = self._keys(block, lookup)
        width = lookup.lines.shape[1]
        if not width:
            return block.value, 0
        source = block.value.cast("f8") if block.value.kind == "f4" else block.value
        if not keys:
            return _constant_line(source, lookup.otherwise), width
        if width == 1:
            return self.graph.lookup(source, keys, lines[:, 0], float(lookup.otherwise[0])), 1
        index = self.graph.lookup(source, keys, np.arange(len(keys)), len(keys), "i8")
        return index.rows_of(np.vstack([lines, lookup.otherwise])), width

    def _keys(self, block: Block, lookup: Lookup) -> tuple[list[Any], Array]:
        """Categories as they appear in the tensor, and their lines."""
        keys: list[Any] = []
        lines: list[Array] = []
        for category, line in zip(lookup.keys, lookup.lines, strict=True):
            key = self._key(block, category)
            if key is not None and key not in keys:
                keys.append(key)
                lines.append(line)
        if block.fill is not None and keys and MISSING_TEXT not in keys:
            # A text that is missing is looked up as the one that an imputer puts there.
            keys.append(MISSING_TEXT)
            lines.append(lines[keys.index(block.fill)] if block.fill in keys else lookup.otherwise)
        return keys, np.array(lines)

    def _key(self, block: Block, category: Any) -> Any:
        """One category as it appears in the tensor; None when it cannot appear."""
        if is_missing(category):
            return _missing_key(block, category)
        if block.is_text:
            return self._text_key(category)
        if isinstance(category, str):
            raise self.refuse("the categories of a numeric column are texts")
        if block.value.kind == "i8":
            return int(category) if float(category).is_integer() else None
        return float(category)

    def _text_key(self, category: Any) -> str:
        if not isinstance(category, str):
            raise self.refuse("the categories of a text column are not all texts")
        if category == MISSING_TEXT:
            raise self.refuse("a category equals the mark for missing texts")
        return str(category)


def _missing_key(block: Block, category: Any) -> Any:
    if block.is_text:
        return MISSING_TEXT if block.fill is None else None
    return np.nan if block.value.kind in ("f8", "f4") else None


def _boxed(values: Sequence[Any]) -> Array:
    boxed = np.empty(len(values), dtype=object)
    boxed[:] = list(values)
    return boxed


def _constant_line(like: Value, line: Array) -> Value:
    zero = like.equals(like).cast("i8") * 0
    return zero.rows_of(line.reshape(1, -1))


@emits("OneHotEncoder")
class OneHotEmitter(LookupEmitter):
    """One column a category."""

    def is_sparse(self) -> bool:
        return bool(self.estimator.sparse_output)

    def widths(self) -> list[int]:
        return [int(width) for width in self.estimator._n_features_outs]

    def unseen(self, at: int, width: int) -> Array | None:
        if self.estimator.handle_unknown == "error":
            return None
        line = np.zeros(width)
        infrequent = getattr(self.estimator, "_infrequent_indices", None)
        if self.estimator.handle_unknown == "ignore" or infrequent is None or infrequent[at] is None:
            return line
        sample = self.estimator.categories_[at][infrequent[at][0]]
        start = sum(self.widths()[:at])
        answer: Array = self._ask(at, [sample])[0, start : start + width]
        return answer


@emits("OrdinalEncoder")
class OrdinalEmitter(LookupEmitter):
    """The number of the category."""

    def unseen(self, at: int, width: int) -> Array | None:
        if self.estimator.handle_unknown == "error":
            return None
        return np.array([self.estimator.unknown_value], dtype=np.float64)


@emits("TargetEncoder")
class TargetEmitter(LookupEmitter):
    """The mean of the target in the category."""

    def widths(self) -> list[int]:
        classes = len(self.estimator.classes_) if self.estimator.target_type_ == "multiclass" else 1
        return [classes] * self.width

    def unseen(self, at: int, width: int) -> Array | None:
        return np.broadcast_to(np.asarray(self.estimator.target_mean_, dtype=np.float64), (width,)).copy()

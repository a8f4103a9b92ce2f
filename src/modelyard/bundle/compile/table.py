"""What flows between the steps of a pipeline: columns of several kinds, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from modelyard.bundle.compile.graph import Graph, NoConverter, Value
from modelyard.domain.schema import Column, Kind, Missing, Schema

MISSING_TEXT = "\ue000missing\ue000"
"""Stands in the graph for a missing text. The runtime sees to it that no value of a user equals it."""


@dataclass(frozen=True, slots=True)
class Block:
    """Columns of one kind: `value` has shape ``(rows, width)``.

    `marker` says what a missing value was in training, for texts and objects; it is None where the kind itself can
    say it (NaN) or nothing can be missing. `dtype` is that of the training data where it differs from the kind
    (``float32`` arrays, objects), `names` the column names if the step before gave any. `fill` is the text that an
    imputer puts where one is missing: whoever looks texts up counts the two as one, which saves two nodes.
    """

    value: Value
    width: int
    names: tuple[str, ...] | None = None
    marker: Missing | None = None
    dtype: str = ""
    fill: str | None = None

    def pick(self, positions: Sequence[int]) -> Block:
        """These columns of it, in this order."""
        if list(positions) == list(range(self.width)):
            return self
        names = None if self.names is None else tuple(self.names[at] for at in positions)
        return replace(self, value=self.value.columns(list(positions)), width=len(positions), names=names)

    @property
    def is_text(self) -> bool:
        """Whether it holds texts."""
        return self.value.kind == "str"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Blocks side by side. `sparse` tells that training had a sparse matrix here, `frame` that it had a DataFrame."""

    graph: Graph
    blocks: tuple[Block, ...]
    sparse: bool = False
    frame: bool = False

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(block.width for block in self.blocks)

    @property
    def names(self) -> tuple[str, ...] | None:
        """Column names, if every column has one."""
        if any(block.names is None for block in self.blocks):
            return None
        return tuple(name for block in self.blocks for name in block.names or ())

    def numeric(self) -> Value:
        """All columns as one matrix of doubles.

        Raises:
            NoConverter: when a column holds texts.
        """
        if not self.blocks:
            raise NoConverter("a step without any input column")
        if any(block.is_text for block in self.blocks):
            raise NoConverter("a text column is used as a number")
        if any(block.dtype == "datetime" for block in self.blocks):
            raise NoConverter("a datetime column is used")
        key = ("numeric", *(block.value.name for block in self.blocks))
        if key not in self.graph.memo:
            runs = [list(run) for _, run in groupby(self.blocks, key=lambda block: block.value.kind)]
            parts = [self.graph.concat([block.value for block in run]).cast("f8") for run in runs]
            self.graph.memo[key] = self.graph.concat(parts)
        value: Value = self.graph.memo[key]
        return value

    def numeric_any(self) -> Value:
        """Some column of numbers with a line for every row, whatever is in it."""
        usable = [block for block in self.blocks if block.dtype != "datetime"]
        if not usable:
            raise NoConverter("no column but datetimes")
        numbers = [block for block in usable if not block.is_text]
        return numbers[0].value.cast("f8") if numbers else usable[0].value.equals(MISSING_TEXT).cast("f8")

    def pick(self, positions: Sequence[int]) -> Table:
        """These columns, in this order."""
        if list(positions) == list(range(self.width)):
            return self
        homes = [(block, at) for block in self.blocks for at in range(block.width)]
        chosen = [homes[position] for position in positions]
        blocks = [block.pick([at for _, at in run]) for block, run in _runs(chosen)]
        return replace(self, blocks=tuple(blocks))

    def merged(self) -> Table:
        """The same columns in as few blocks as possible: neighbours alike in all but name become one."""
        runs = [list(run) for _, run in groupby(self.blocks, key=_likeness)]
        return replace(self, blocks=tuple(_as_one(run) for run in runs))

    def single_columns(self) -> Iterator[Block]:
        """Every column as a block of its own."""
        for block in self.blocks:
            for at in range(block.width):
                yield block.pick([at])

    def renamed(self, names: Sequence[str] | None) -> Table:
        """The same columns under other names."""
        blocks, start = [], 0
        for block in self.blocks:
            given = None if names is None else tuple(names[start : start + block.width])
            blocks.append(replace(block, names=given))
            start += block.width
        return replace(self, blocks=tuple(blocks))


def _likeness(block: Block) -> tuple[object, ...]:
    alone = block.value.name if block.is_text else ""
    return alone, block.value.kind, block.marker, block.dtype, block.fill, block.names is None


def _as_one(blocks: Sequence[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    value = blocks[0].value.graph.concat([block.value for block in blocks])
    names = None if blocks[0].names is None else tuple(name for block in blocks for name in block.names or ())
    return replace(blocks[0], value=value, width=sum(block.width for block in blocks), names=names)


def _runs(chosen: Sequence[tuple[Block, int]]) -> Iterator[tuple[Block, list[tuple[Block, int]]]]:
    for _, run in groupby(chosen, key=lambda pair: pair[0].value.name):
        pairs = list(run)
        yield pairs[0][0], pairs


def matrix(value: Value, width: int, *, sparse: bool = False) -> Table:
    """A table of one numeric block."""
    return Table(value.graph, (Block(value, width),), sparse=sparse)


def side_by_side(graph: Graph, tables: Sequence[Table], *, sparse: bool | None = None) -> Table:
    """One table from several."""
    blocks = tuple(block for table in tables for block in table.blocks)
    return Table(graph, blocks, sparse=any(table.sparse for table in tables) if sparse is None else sparse)


def input_table(graph: Graph, schema: Schema) -> Table:
    """The columns of the schema as inputs of the graph.

    Raises:
        NoConverter: for layouts that are no table of numbers and texts.
    """
    if schema.layout not in ("dataframe", "array"):
        raise NoConverter(f"input of layout {schema.layout!r}")
    blocks = tuple(_input_block(graph, column, at) for at, column in enumerate(schema.columns))
    return Table(graph, blocks, frame=schema.layout == "dataframe")


def feed_kind(column: Column) -> str:
    """The kind of tensor by which a column enters a graph.

    Whole numbers that may be missing, and those that do not fit 64 bits with sign, enter as doubles.
    """
    if column.kind is Kind.STRING:
        return "str"
    if column.kind is Kind.FLOAT32:
        return "f4"
    whole = column.kind is Kind.BOOL or (column.kind.is_integer and column.kind is not Kind.UINT64)
    return "i8" if whole and not column.nullable else "f8"


def _input_block(graph: Graph, column: Column, at: int) -> Block:
    if len(column.shape) > 1 or any(size < 0 for size in column.shape):
        raise NoConverter(f"column {column.name!r} has shape {column.shape}")
    width = column.shape[0] if column.shape else 1
    value = graph.enter_matrix(at, feed_kind(column), width) if column.shape else graph.enter([at], feed_kind(column))
    names = None if column.shape else (column.name,)
    marked = column.nullable and (value.kind == "str" or column.dtype == "object")
    if column.kind is Kind.DATETIME:
        return Block(value, width, names, None, "datetime")
    return Block(value, width, names, column.missing if marked else None, column.dtype)

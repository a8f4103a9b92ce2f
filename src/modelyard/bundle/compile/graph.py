"""An ONNX graph, written as if it were numpy.

A `Value` is one tensor in the graph under construction; operators and methods on it add nodes. All of them are
matrices with one line per row of input, unless they are constants. Arithmetic is done in double precision, because that
is what the libraries do whose answers have to be reproduced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from modelyard.domain.frame import Array

ROWS_PER_RUN = "modelyard.rows_per_run"
"""Key in the model's metadata: how many rows one run may take, so that intermediate results stay small."""

CODES = "modelyard.codes."
"""Begin of the keys in the model's metadata that say, as JSON, which number each text of a column enters as."""

_CELLS_PER_RUN = 1 << 23
_OPSETS = (("", 21), ("ai.onnx.ml", 5))
_IR_VERSION = 10

Kind: TypeAlias = str
"""Element type of a value: ``f8``, ``f4``, ``i8``, ``b1`` or ``str``."""

_PROTO = {
    "f8": TensorProto.DOUBLE,
    "f4": TensorProto.FLOAT,
    "i8": TensorProto.INT64,
    "b1": TensorProto.BOOL,
    "str": TensorProto.STRING,
}
_DTYPE = {"f8": np.float64, "f4": np.float32, "i8": np.int64, "b1": np.bool_, "str": object}
DTYPE_NAME = {"f8": "float64", "f4": "float32", "i8": "int64", "b1": "bool", "str": "string"}
"""What a `Feed` calls each kind."""


class NoConverter(Exception):
    """This estimator, or this way of using it, has no compiled form. The text says which and why."""


class NoDoubleConverter(NoConverter):
    """Others' converter refuses it in double precision; single precision may still work."""


@dataclass(frozen=True, slots=True)
class Codes:
    """Numbers by which the texts of one column enter a graph. All texts that are not named have the number `other`."""

    texts: tuple[tuple[str, int], ...]
    missing: int
    other: int

    def as_json(self) -> str:
        """What the model's metadata says of it."""
        return json.dumps({"texts": dict(self.texts), "missing": self.missing, "other": self.other})


@dataclass(frozen=True, slots=True)
class Entry:
    """What one input of a graph holds: plain columns of the schema side by side, by position.

    `codes` are the keys in the metadata, one a column, where texts enter as numbers; else it is empty. `whole` marks
    the input of a column that is no plain one, but a matrix by itself.
    """

    kind: Kind
    columns: tuple[int, ...]
    codes: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor of a graph under construction."""

    graph: Graph
    name: str
    kind: Kind

    def __add__(self, other: Operand) -> Value:
        return self.graph.arithmetic("Add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.arithmetic("Sub", self, other)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.arithmetic("Mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        return self.graph.arithmetic("Div", self, other)

    def __pow__(self, other: Operand) -> Value:
        return self.graph.arithmetic("Pow", self, other)

    def __matmul__(self, other: Operand) -> Value:
        return self.graph.arithmetic("MatMul", self, other)

    def __radd__(self, other: Constant) -> Value:
        return self.graph.arithmetic("Add", self.graph.constant(other, self.kind), self)

    def __rsub__(self, other: Constant) -> Value:
        return self.graph.arithmetic("Sub", self.graph.constant(other, self.kind), self)

    def __rmul__(self, other: Constant) -> Value:
        return self.graph.arithmetic("Mul", self.graph.constant(other, self.kind), self)

    def __rtruediv__(self, other: Constant) -> Value:
        return self.graph.arithmetic("Div", self.graph.constant(other, self.kind), self)

    def __neg__(self) -> Value:
        return self.op("Neg")

    def __lt__(self, other: Operand) -> Value:
        return self.graph.comparison("Less", self, other)

    def __le__(self, other: Operand) -> Value:
        return self.graph.comparison("LessOrEqual", self, other)

    def __gt__(self, other: Operand) -> Value:
        return self.graph.comparison("Greater", self, other)

    def __ge__(self, other: Operand) -> Value:
        return self.graph.comparison("GreaterOrEqual", self, other)

    def equals(self, other: Operand) -> Value:
        """Whether elements are equal; a NaN equals nothing."""
        return self.graph.comparison("Equal", self, other)

    def __and__(self, other: Value) -> Value:
        return self.graph.node("And", (self, other), "b1")

    def __or__(self, other: Value) -> Value:
        return self.graph.node("Or", (self, other), "b1")

    def __invert__(self) -> Value:
        return self.graph.node("Not", (self,), "b1")

    def op(self, operator: str, kind: Kind | None = None, **attributes: Any) -> Value:
        """Apply an operator of one operand that keeps the kind, or gives `kind`."""
        return self.graph.node(operator, (self,), kind or self.kind, **attributes)

    def cast(self, kind: Kind) -> Value:
        """The same numbers as another kind. Columns that enter the graph enter as doubles, if that is wanted."""
        if self.kind == kind:
            return self
        entered = self.graph.entered(self)
        if entered is not None and kind == "f8":
            return self.graph.enter(entered, kind)
        return self.op("Cast", kind, to=_PROTO[kind])

    def exp(self) -> Value:
        """Natural exponential."""
        return self.op("Exp")

    def log(self) -> Value:
        """Natural logarithm."""
        return self.op("Log")

    def sqrt(self) -> Value:
        """Square root."""
        return self.op("Sqrt")

    def abs(self) -> Value:
        """Magnitude."""
        return self.op("Abs")

    def tanh(self) -> Value:
        """Hyperbolic tangent."""
        return self.op("Tanh")

    def sigmoid(self) -> Value:
        """Logistic function, as ``scipy.special.expit`` computes it at every magnitude."""
        return 1.0 / (1.0 + (-self).exp())

    def isnan(self) -> Value:
        """Whether elements are NaN."""
        return self.op("IsNaN", "b1")

    def square(self) -> Value:
        """The value times itself."""
        return self * self

    def log1p(self) -> Value:
        """Logarithm of one plus the value, exact for small values too."""
        one_more = self + 1.0
        exact = self * (one_more.log() / (one_more - 1.0))
        plain = one_more.equals(1.0) | one_more.equals(np.inf)
        return self.graph.where(plain, self, exact)

    def expm1(self) -> Value:
        """Exponential minus one, exact for small values too."""
        half = (self * 0.5).tanh()
        small = half * 2.0 / (1.0 - half)
        return self.graph.where(self.abs() < 0.5, small, self.exp() - 1.0)

    def sum(self, axis: int = 1) -> Value:
        """Sum along an axis, which stays as one element."""
        return self._reduce("ReduceSum", axis)

    def max(self, axis: int = 1) -> Value:
        """Largest along an axis, which stays as one element."""
        return self._reduce("ReduceMax", axis)

    def min(self, axis: int = 1) -> Value:
        """Smallest along an axis, which stays as one element."""
        return self._reduce("ReduceMin", axis)

    def _reduce(self, operator: str, axis: int) -> Value:
        return self.graph.node(operator, (self, self.graph.constant([axis], "i8")), self.kind, keepdims=1)

    def argmax(self, axis: int = 1) -> Value:
        """Position of the first largest element along an axis, which stays as one element."""
        return self.op("ArgMax", "i8", axis=axis, keepdims=1)

    def argmin(self, axis: int = 1) -> Value:
        """Position of the first smallest element along an axis, which stays as one element."""
        return self.op("ArgMin", "i8", axis=axis, keepdims=1)

    def softmax(self) -> Value:
        """Softmax along axis 1, computed as scikit-learn does: exponentials of differences to the largest."""
        raised = (self - self.max()).exp()
        return raised / raised.sum()

    def logsumexp(self) -> Value:
        """Logarithm of the sum of exponentials along axis 1, which stays as one element."""
        largest = self.max()
        return (self - largest).exp().sum().log() + largest

    def columns(self, positions: ArrayLike) -> Value:
        """These columns, in this order."""
        entered = self.graph.entered(self)
        if entered is not None:
            return self.graph.enter([entered[at] for at in np.ravel(positions).tolist()], self.kind)
        return self.graph.node("Gather", (self, self.graph.constant(positions, "i8")), self.kind, axis=1)

    def reshape(self, *shape: int) -> Value:
        """The same elements in another shape; 0 keeps a dimension, -1 is computed."""
        return self.graph.node("Reshape", (self, self.graph.constant(shape, "i8")), self.kind)

    def transpose(self, *order: int) -> Value:
        """The axes in another order."""
        return self.op("Transpose", perm=list(order))

    def clip(self, low: float | None, high: float | None) -> Value:
        """Limit to an interval; NaN stays."""
        value = self
        if low is not None:
            value = self.graph.where(value < low, low, value)
        return value if high is None else self.graph.where(value > high, high, value)

    def rows_of(self, table: ArrayLike, kind: Kind = "f8") -> Value:
        """Look up the lines of a constant table at these positions (shape ``(rows, 1)``: gives ``(rows, width)``)."""
        source = self.graph.constant(table, kind)
        flat = self.reshape(-1)
        return self.graph.node("Gather", (source, flat), kind, axis=0)


Constant: TypeAlias = ArrayLike
Operand: TypeAlias = "Value | ArrayLike"


class Graph:
    """Nodes, constants, inputs and outputs of a graph under construction.

    Names are numbers in order of creation, so that the same estimator always gives the same bytes.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[Hashable, Value] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: dict[str, tuple[Kind, int | None]] = {}
        self._outputs: list[tuple[str, Value]] = []
        self._entries: dict[str, Entry] = {}
        self._codes: dict[Codes, str] = {}
        self._names = 0
        self._cells = 1
        self.domains: dict[str, int] = {}
        self.memo: dict[Hashable, Any] = {}
        self.foreign: list[str] = []

    def _name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def input(self, name: str, kind: Kind, width: int | None = 1) -> Value:
        """A matrix that comes from outside, of `width` columns; with None a single value."""
        self._inputs[name] = (kind, width)
        return Value(self, name, kind)

    def enter(self, columns: Sequence[int], kind: Kind) -> Value:
        """An input that holds plain columns of the schema side by side; the same one when asked again."""
        return self._entered(Entry(kind, tuple(columns)))

    def enter_matrix(self, column: int, kind: Kind, width: int) -> Value:
        """An input that holds one column of the schema which is a matrix by itself."""
        made = self.input(self._name("in"), kind, width)
        self._entries[made.name] = Entry(kind, (column,), whole=True)
        return made

    def entered(self, value: Value) -> tuple[int, ...] | None:
        """Which columns of numbers a value is, if they come as they are from outside.

        Such columns are put side by side, picked and made doubles by what is asked to enter, without a node.
        """
        entry = self._entries.get(value.name)
        if entry is None or entry.kind == "str" or entry.codes or entry.whole:
            return None
        return entry.columns

    def enter_codes(self, columns: Sequence[tuple[int, Codes]]) -> Value:
        """An input that holds text columns side by side as whole numbers."""
        keys = [self._codes.setdefault(codes, f"{CODES}{len(self._codes)}") for _, codes in columns]
        return self._entered(Entry("i8", tuple(at for at, _ in columns), tuple(keys)))

    def text_column(self, value: Value) -> int | None:
        """Which column of texts a value is, if it comes as it is from outside."""
        entry = self._entries.get(value.name)
        return entry.columns[0] if entry is not None and entry.kind == "str" and not entry.whole else None

    def _entered(self, entry: Entry) -> Value:
        key = ("entry", entry)
        if key not in self.memo:
            made = self.input(self._name("in"), entry.kind, len(entry.columns))
            self._entries[made.name] = entry
            self.memo[key] = made
        found: Value = self.memo[key]
        return found

    def entries(self) -> dict[str, Entry]:
        """What the inputs hold on which an output depends, by their names in order of declaration."""
        return {name: entry for name, entry in self._entries.items() if self.reads(name)}

    def output(self, name: str, value: Value) -> None:
        """Give a value to the outside under a name."""
        self._outputs.append((name, value))

    def constant(self, array: ArrayLike, kind: Kind = "f8") -> Value:
        """A constant; equal ones are stored once."""
        data: NDArray[Any] = np.ascontiguousarray(np.asarray(array, dtype=_DTYPE[kind]))
        data = data.reshape(np.shape(array))
        content = tuple(data.flat) if kind == "str" else data.tobytes()
        key = (kind, data.shape, content)
        if key not in self._constants:
            name = self._name("c")
            self._initializers.append(_tensor(name, data, kind))
            self._constants[key] = Value(self, name, kind)
        return self._constants[key]

    def operand(self, value: Operand, kind: Kind) -> Value:
        """A value as it is, anything else as a constant of that kind."""
        return value if isinstance(value, Value) else self.constant(value, kind)

    def node(self, operator: str, inputs: Sequence[Value], kind: Kind, domain: str = "", **attributes: Any) -> Value:
        """Add a node with one output."""
        return self.nodes(operator, inputs, (kind,), domain, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[Value], kinds: Sequence[Kind], domain: str = "", **attributes: Any
    ) -> tuple[Value, ...]:
        """Add a node with several outputs."""
        outputs = tuple(Value(self, self._name("v"), kind) for kind in kinds)
        made = helper.make_node(operator, [i.name for i in inputs], [o.name for o in outputs], domain=domain)
        made.attribute.extend(helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self._nodes.append(made)
        return outputs

    def arithmetic(self, operator: str, left: Value, right: Operand) -> Value:
        """Add a binary operator on numbers; constants take the kind of the other side."""
        other = self.operand(right, left.kind)
        if other.kind != left.kind:
            raise TypeError(f"{operator} of {left.kind} and {other.kind}")
        return self.node(operator, (left, other), left.kind)

    def comparison(self, operator: str, left: Value, right: Operand) -> Value:
        """Add a comparison; constants take the kind of the other side."""
        return self.node(operator, (left, self.operand(right, left.kind)), "b1")

    def where(self, condition: Value, yes: Operand, no: Operand) -> Value:
        """Choose elements by a condition. At least one of the two is a value, unless both are numbers."""
        kind = next((side.kind for side in (yes, no) if isinstance(side, Value)), "f8")
        return self.node("Where", (condition, self.operand(yes, kind), self.operand(no, kind)), kind)

    def concat(self, values: Sequence[Value], axis: int = 1) -> Value:
        """Put values of one kind side by side."""
        if len(values) == 1:
            return values[0]
        entered = [self.entered(value) for value in values]
        if axis == 1 and all(columns is not None for columns in entered):
            return self.enter([at for columns in entered for at in columns or ()], values[0].kind)
        return self.node("Concat", tuple(values), values[0].kind, axis=axis)

    def total(self, values: Sequence[Value]) -> Value:
        """Sum of several values, in order."""
        result = values[0]
        for value in values[1:]:
            result = result + value
        return result

    def lookup(self, value: Value, keys: Sequence[Any], values: ArrayLike, default: float, kind: Kind = "f8") -> Value:
        """Map elements by a dictionary; NaN may be a key. Texts, integers and doubles are looked up exactly."""
        attributes = {
            "keys_tensor": _tensor("k", np.array(keys, dtype=_DTYPE[value.kind]), value.kind),
            "values_tensor": _tensor("v", np.asarray(values, dtype=_DTYPE[kind]), kind),
            "default_tensor": _tensor("d", np.array([default], dtype=_DTYPE[kind]), kind),
        }
        return self.node("LabelEncoder", (value,), kind, domain="ai.onnx.ml", **attributes)

    def topk(self, value: Value, count: int, *, largest: bool) -> tuple[Value, Value]:
        """The `count` largest or smallest elements of each row in order, and their positions."""
        size = self.constant([count], "i8")
        kinds = (value.kind, "i8")
        values, positions = self.nodes("TopK", (value, size), kinds, axis=1, largest=int(largest), sorted=1)
        return values, positions

    def needs_cells(self, per_row: int) -> None:
        """Say that some intermediate result has this many elements for each row."""
        self._cells = max(self._cells, per_row)

    def subgraph(self, run: Callable[[Graph], None]) -> onnx.GraphProto:
        """Build the body of a loop: `run` gets an empty graph and declares its inputs and outputs on it."""
        inner = Graph()
        inner._names = 1_000_000 + self._names * 1000
        run(inner)
        return inner.body()

    def merge(self, nodes: Sequence[onnx.NodeProto], initializers: Sequence[onnx.TensorProto]) -> None:
        """Take over nodes and constants that were made elsewhere; their names must be free here."""
        self._nodes.extend(nodes)
        self._initializers.extend(initializers)

    def fresh_prefix(self) -> str:
        """A prefix that no name here starts with."""
        return self._name("x") + "_"

    @property
    def converter(self) -> str:
        """Who wrote the graph."""
        return "; ".join(["modelyard", *sorted(set(self.foreign))])

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs in order of declaration."""
        return tuple(self._inputs)

    def body(self) -> onnx.GraphProto:
        """The graph so far, without nodes and constants that no output needs."""
        nodes = self._needed()
        used = {name for node in nodes for name in _reads(node)} | {value.name for _, value in self._outputs}
        outputs = [helper.make_tensor_value_info(name, _PROTO[value.kind], None) for name, value in self._outputs]
        renames = [helper.make_node("Identity", [value.name], [name]) for name, value in self._outputs]
        inputs = [
            helper.make_tensor_value_info(name, _PROTO[kind], [] if width is None else [None, width])
            for name, (kind, width) in self._inputs.items()
        ]
        constants = [tensor for tensor in self._initializers if tensor.name in used]
        return helper.make_graph([*nodes, *renames], "modelyard", inputs, outputs, constants)

    def reads(self, name: str) -> bool:
        """Whether an output depends on that input."""
        return any(name in _reads(node) for node in self._needed()) or name in {v.name for _, v in self._outputs}

    def _needed(self) -> list[onnx.NodeProto]:
        wanted = {value.name for _, value in self._outputs}
        kept = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(_reads(node))
        return kept[::-1]

    def model(self) -> bytes:
        """The finished model, with only the inputs that its outputs depend on.

        Raises:
            NoConverter: when the graph is larger than ONNX allows.
        """
        body = self.body()
        used = {name for node in body.node for name in _reads(node)}
        kept = [item for item in body.input if item.name in used]
        del body.input[:]
        body.input.extend(kept)
        opsets = dict(_OPSETS) | {
            name: max(version, dict(_OPSETS).get(name, 0)) for name, version in self.domains.items()
        }
        made = helper.make_model(
            body,
            opset_imports=[helper.make_opsetid(name, version) for name, version in sorted(opsets.items())],
            ir_version=_IR_VERSION,
            producer_name="modelyard",
        )
        rows = max(1, min(1 << 16, _CELLS_PER_RUN // self._cells))
        named = {key for entry in self.entries().values() for key in entry.codes}
        spelled = {key: codes.as_json() for codes, key in self._codes.items() if key in named}
        helper.set_model_props(made, {ROWS_PER_RUN: str(rows), **spelled})
        if made.ByteSize() >= 2**31 - 1:
            raise NoConverter("the graph would be larger than 2 GB")
        raw: bytes = made.SerializeToString(deterministic=True)
        return raw


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those read by the bodies inside it included."""
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names |= {name for inner in attribute.g.node for name in _reads(inner)}
    return names


def _tensor(name: str, data: Array, kind: Kind) -> onnx.TensorProto:
    if kind == "str":
        # Not by onnx's helpers: numpy's byte strings lose zeros at their end.
        tensor = onnx.TensorProto(name=name, data_type=TensorProto.STRING, dims=data.shape)
        tensor.string_data.extend(str(text).encode() for text in data.flat)
        return tensor
    return numpy_helper.from_array(data, name)

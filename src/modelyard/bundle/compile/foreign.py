"""Estimators that only skl2onnx can write: its nodes are taken into our graph."""

from __future__ import annotations

import importlib.util
from typing import Any

from modelyard.bundle.compile.emit import Answer, Classifier, Emitter, Labels, current_precision, otherwise
from modelyard.bundle.compile.graph import Graph, NoConverter, NoDoubleConverter, Value
from modelyard.bundle.compile.table import Table

_OPSET = {"": 21, "ai.onnx.ml": 3}


class ForeignEmitter(Emitter):
    """One estimator over a numeric matrix, converted by skl2onnx."""

    def answer(self, method: str) -> Answer:
        key = ("foreign", id(self.estimator), tuple(block.value.name for block in self.table.blocks))
        if key not in self.graph.memo:
            self.graph.memo[key] = self._convert()
        found: dict[str, Answer] = self.graph.memo[key]
        if method not in found:
            raise self.refuse(f"no converter for {method}")
        return found[method]

    def _convert(self) -> dict[str, Answer]:
        import numpy as np
        import skl2onnx
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        kind = "f8" if current_precision() == "float64" else "f4"
        tensor = DoubleTensorType if kind == "f8" else FloatTensorType
        estimator = self.estimator
        classifier = hasattr(estimator, "classes_") and hasattr(estimator, "predict")
        options = {"zipmap": False} if hasattr(estimator, "predict_proba") and classifier else None
        if options is not None and not hasattr(estimator, "predict_proba"):
            options = {"raw_scores": True}
        try:
            model = skl2onnx.to_onnx(
                estimator,
                initial_types=[("X", tensor([None, self.width]))],
                options={id(estimator): options} if options else None,
                target_opset=_OPSET,
            )
        except Exception as error:
            text = str(error).strip().partition("\n")[0]
            kind_of_error = NoDoubleConverter if kind == "f8" else NoConverter
            raise kind_of_error(f"{type(estimator).__name__}: skl2onnx {skl2onnx.__version__}: {text[:200]}") from error
        outputs = _inline(self.graph, model, self.x.cast(kind))
        self.graph.foreign.append(f"skl2onnx {skl2onnx.__version__}")
        if classifier:
            return self._classified(outputs, np.asarray(estimator.classes_))
        if hasattr(estimator, "predict"):
            return {"predict": outputs[0]}
        return {"transform": outputs[0]}

    def _classified(self, outputs: list[Value], classes: Any) -> dict[str, Answer]:
        made = Classifier(self.graph, self.estimator, self.table)
        if classes.dtype.kind in "OU":
            index = self.graph.lookup(
                outputs[0].reshape(-1, 1), [str(c) for c in classes], range(len(classes)), 0, "i8"
            )
        else:
            keys = [int(c) for c in classes]
            index = self.graph.lookup(outputs[0].cast("i8").reshape(-1, 1), keys, range(len(classes)), 0, "i8")
        found: dict[str, Answer] = {"predict": Labels(index, made.classes)}
        if len(outputs) > 1:
            found["predict_proba"] = outputs[1]
        return found


def _inline(graph: Graph, model: Any, x: Value) -> list[Value]:
    """Take the nodes of a model with one input into a graph; gives its outputs as doubles, integers or texts."""
    if model.functions:
        raise NoConverter("skl2onnx writes functions of its own, which are not taken over")
    prefix = graph.fresh_prefix()
    body = model.graph
    names = {body.input[0].name: x.name, "": ""}

    def named(name: str) -> str:
        return names.setdefault(name, prefix + name)

    for tensor in body.initializer:
        tensor.name = named(tensor.name)
    for node in body.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise NoConverter("skl2onnx writes a loop, which is not taken over")
        node.name = ""
        node.input[:] = [named(name) for name in node.input]
        node.output[:] = [named(name) for name in node.output]
    graph.merge(body.node, body.initializer)
    graph.domains.update({opset.domain: opset.version for opset in model.opset_import})
    return [_typed(graph, output, named(output.name)) for output in body.output]


def _typed(graph: Graph, output: Any, name: str) -> Value:
    from onnx import TensorProto

    kinds = {TensorProto.DOUBLE: "f8", TensorProto.FLOAT: "f4", TensorProto.INT64: "i8", TensorProto.STRING: "str"}
    kind = kinds.get(output.type.tensor_type.elem_type)
    if kind is None:
        raise NoConverter("skl2onnx gives a type that is not taken over")
    value = Value(graph, name, kind)
    return value.cast("f8") if kind == "f4" else value


@otherwise
def foreign(graph: Graph, estimator: Any, table: Table) -> Emitter:
    """Ask skl2onnx about an estimator of scikit-learn that has no emitter here.

    Raises:
        NoConverter: when it does not know it either, or is not installed.
    """
    kind = type(estimator)
    if kind.__module__.partition(".")[0] != "sklearn" or importlib.util.find_spec("skl2onnx") is None:
        raise NoConverter(f"{kind.__module__}.{kind.__name__}: no converter")
    return ForeignEmitter(graph, estimator, table)

"""Multi-layer perceptrons and the restricted Boltzmann machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelyard.bundle.compile.emit import Answer, Classifier, Emitter, Regressor, emits
from modelyard.bundle.compile.graph import Value
from modelyard.bundle.compile.linear import with_complement
from modelyard.bundle.compile.table import Table, matrix

_ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "identity": lambda x: x,
    "logistic": lambda x: x.sigmoid(),
    "tanh": lambda x: x.tanh(),
    "relu": lambda x: x.op("Relu"),
    "softmax": lambda x: x.softmax(),
    "exp": lambda x: x.exp(),
}


class Perceptron(Emitter):
    """Layers of weighted sums and activations."""

    def forward(self) -> Value:
        """What the last layer gives."""
        model, layer = self.estimator, self.x
        for at, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
            layer = layer @ np.asarray(weights, dtype=np.float64) + np.asarray(bias, dtype=np.float64).reshape(1, -1)
            last = at == len(model.coefs_) - 1
            name = model.out_activation_ if last else model.activation
            if name not in _ACTIVATIONS:
                raise self.refuse(f"no converter for activation {name!r}")
            layer = _ACTIVATIONS[name](layer)
        return layer


@emits("MLPRegressor")
class PerceptronRegressorEmitter(Perceptron, Regressor):
    """The last layer."""

    def predict(self) -> Answer:
        return self.value("forward")


@emits("MLPClassifier")
class PerceptronClassifierEmitter(Perceptron, Classifier):
    """The last layer as probabilities."""

    def predict_proba(self) -> Answer:
        last = self.value("forward")
        return with_complement(last) if self.estimator.n_outputs_ == 1 else last

    def predict(self) -> Answer:
        last = self.value("forward")
        if self.estimator._label_binarizer.y_type_.startswith("multilabel"):
            return (last > 0.5).cast("i8")
        if self.estimator.n_outputs_ == 1:
            return self.labels((last > 0.5).cast("i8"))
        return self.labels(last.argmax())


@emits("BernoulliRBM")
class BoltzmannEmitter(Emitter):
    """Probabilities of the hidden units."""

    def transform(self) -> Table:
        model = self.estimator
        weights = np.asarray(model.components_, dtype=np.float64)
        hidden = (self.x @ weights.T + np.asarray(model.intercept_hidden_).reshape(1, -1)).sigmoid()
        return matrix(hidden, len(weights))

"""What a model answers, as its columns in a deployment's flat view: which of them judge it, and how."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from modelyard.domain.schema import Output, Scalar, Schema
from modelyard.errors import InvalidRequest

LABEL = "label"


class Aim(StrEnum):
    """What kind of truth there is."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Which columns hold what.

    `answer` is the column of the class or the number that was answered; empty where only probabilities are. Of
    `classes` the last is the positive one of a binary task. `probabilities` names a column for each class, in order;
    `together` one that holds all of them as a JSON list, as callers of the Open Inference Protocol are answered.
    `score` is a column that ranks by how likely the positive class is, where there are no probabilities.
    """

    aim: Aim
    answer: str = ""
    classes: tuple[Scalar, ...] = ()
    probabilities: tuple[str, ...] = ()
    together: str = ""
    score: str = ""
    reversed: bool = False
    """Whether list and score speak of the classes the other way round."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it reads, where they exist, without the label."""
        named = (self.answer, *self.probabilities, self.together, self.score)
        return tuple(dict.fromkeys(name for name in named if name))

    def about(self, positive: str) -> Task:
        """The same with that class as the positive one of two; as it is, if none is named.

        >>> task = Task(aim=Aim.BINARY, classes=("bad", "good"), probabilities=("p_bad", "p_good"))
        >>> task.about("bad").probabilities
        ('p_good', 'p_bad')

        Raises:
            InvalidRequest: there is no such class.
        """
        said = [_said(each) for each in self.classes]
        if not positive or self.aim is not Aim.BINARY or said[-1] == positive:
            return self
        if positive not in said:
            raise InvalidRequest(f"there is no class {positive!r}; there are {', '.join(said)}")
        return msgspec.structs.replace(
            self,
            classes=self.classes[::-1],
            probabilities=self.probabilities[::-1],
            reversed=not self.reversed,
        )

    @classmethod
    def of(cls, schema: Schema, positive: str = "") -> Task:
        """What a version's schema says of its answers; `positive` names the positive class, if it is not the last.

        >>> from modelyard.domain.schema import Kind
        >>> schema = Schema("dataframe", (), (Output("predict", Kind.FLOAT64, "value", "predict"),))
        >>> Task.of(schema).aim
        <Aim.REGRESSION: 'regression'>

        Raises:
            InvalidRequest: it answers nothing that a label could be compared with, or has no such class.
        """
        label, probability = _first(schema, "label"), _first(schema, "probability")
        value, score = _first(schema, "value"), _first(schema, "score")
        classes = _classes(probability) or _classes(label) or _classes(score)
        if classes:
            found = cls(
                aim=Aim.BINARY if len(classes) == 2 else Aim.MULTICLASS,
                answer=label.name if label else "",
                classes=classes,
                probabilities=tuple(f"{probability.name}_{_said(each)}" for each in classes) if probability else (),
                together=probability.name if probability else "",
                score=score.name if score and not score.shape and not probability and len(classes) == 2 else "",
            )
            return found.about(positive)
        if value is not None and not value.shape:
            return cls(aim=Aim.REGRESSION, answer=value.name)
        raise InvalidRequest(
            "this model's answers are no classes and no single number, so labels say nothing of how good they are; "
            f"it has {', '.join(f'{each.name} ({each.role})' for each in schema.outputs) or 'no outputs'}"
        )

    @classmethod
    def guess(cls, columns: Mapping[str, str], *, answer: str = "predict", probability: str = "predict_proba") -> Task:
        """What the columns of a flat view look like, for a version that is not in the registry.

        `columns` are SQL types by name. A text, a truth value, or a column of probabilities means classes; what else
        there are numbers, which is right for models of scikit-learn's kind only.

        >>> Task.guess({"predict": "BIGINT", "predict_proba_0": "DOUBLE", "predict_proba_1": "DOUBLE"}).classes
        ('0', '1')

        Raises:
            InvalidRequest: there is no column named like an answer.
        """
        start = f"{probability}_"
        named = tuple(name for name in columns if name.startswith(start))
        there = answer if answer in columns else ""
        if named:
            classes = tuple(name.removeprefix(start) for name in named)
            aim = Aim.BINARY if len(classes) == 2 else Aim.MULTICLASS
            return cls(aim=aim, answer=there, classes=classes, probabilities=named)
        if there and columns[there] in ("DOUBLE", "BIGINT", "HUGEINT", "FLOAT", "INTEGER"):
            return cls(aim=Aim.REGRESSION, answer=there)
        raise InvalidRequest(
            f"what this deployment answers cannot be told from its columns ({', '.join(columns)}); "
            "its version is not in the registry here, which would say so"
        )


def _first(schema: Schema, role: str) -> Output | None:
    return next((each for each in schema.outputs if each.role == role), None)


def _classes(output: Output | None) -> tuple[Scalar, ...]:
    return () if output is None or output.classes is None else output.classes


def _said(label: Any) -> str:
    """A class as JSON writes it as a key.

    >>> _said(True), _said(1), _said("EV")
    ('true', '1', 'EV')
    """
    return str(label).lower() if isinstance(label, bool) else str(label)

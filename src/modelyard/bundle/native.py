"""The native form: the estimator as its library writes it, and the estimator in this process while packing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import msgspec

from modelyard.domain.frame import Answers, Frame
from modelyard.domain.schema import Schema
from modelyard.errors import ModelFailed, RowsRefused
from modelyard.runtime.host import answers, tables


class InProcess:
    """A live estimator behind the interface of every runtime. Used while packing, on the packer's own objects.

    It makes the estimator's input and reads its answers with the very code that the host process uses later.
    Warnings of the estimator are dropped: it is asked about extremes on purpose.
    """

    def __init__(self, estimator: Any, schema: Schema) -> None:
        plain = msgspec.to_builtins(schema)
        self._names = [column.name for column in schema.columns]
        self._build = tables.builder(schema.layout, plain["columns"])
        self._ask = answers.ask(estimator, plain["outputs"])

    def native(self, frame: Frame) -> Any:
        """`frame` as training would have handed it to the estimator."""
        cells = [(frame[name].values, frame[name].missing) for name in self._names]
        return self._build(cells, frame.rows)

    def predict(self, frame: Frame, outputs: Sequence[str] | None = None) -> Answers:
        """Answer every row; see `modelyard.runtime.interface.Runtime.predict`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                given = self.native(frame)
            except (ValueError, TypeError, OverflowError) as raised:
                raise RowsRefused(answers.describe(raised)) from raised
            return self._asked(given, frame.rows, outputs)

    def _asked(self, given: Any, rows: int, outputs: Sequence[str] | None) -> Answers:
        try:
            return self._ask(given, rows, outputs)
        except answers.Refused as refused:
            raise RowsRefused(str(refused)) from refused.__cause__
        except answers.Broken as broken:
            raise ModelFailed(str(broken)) from broken.__cause__

    def close(self) -> None:
        """Nothing is held."""

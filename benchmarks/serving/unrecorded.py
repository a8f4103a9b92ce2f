"""Our server without records, which it does not offer: for telling what they cost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from modelyard.domain.records import PredictionRecord
from modelyard.records.log import PredictionLog
from modelyard.serving import answering
from modelyard.serving.__main__ import main


def _forget(self: PredictionLog, records: Sequence[PredictionRecord]) -> None:
    """Keep nothing."""


def _nothing(*call: Any) -> None:
    """Make no record either."""


if __name__ == "__main__":
    PredictionLog.append_all = _forget  # type: ignore[method-assign]
    answering._record = _nothing  # type: ignore[assignment]  # noqa: SLF001 - no product has such a switch
    sys.exit(main())

"""What of the calls of a deployment is kept: a share of them, bodies up to a size, for so many days.

Rules are kept in ``keeping.json`` of the records folder and are applied when records are shipped or read. What they
leave out is counted (table ``predictions_dropped``). Monitoring counts calls before any rule is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import msgspec

from modelyard.domain.records import PredictionRecord
from modelyard.errors import DataDamaged, InvalidRequest

FILE = "keeping.json"

SAMPLED, TOO_LARGE, EXPIRED = "not in the sample", "body too large", "expired"
"""Why something was left out."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a deployment's calls is kept.

    `share` of the calls that were answered, drawn by their id, so that shipping again draws the same; the others are
    always kept. A call whose bodies are longer than `body_bytes` together is kept without them. Rows are removed
    `days` after the day they came on.
    """

    share: float = 1.0
    body_bytes: int | None = None
    days: int | None = None

    def checked(self) -> Rule:
        """The rule itself.

        Raises:
            InvalidRequest: a number that makes no sense.
        """
        if not 0 <= self.share <= 1:
            raise InvalidRequest(f"the share has to be between 0 and 1, not {self.share}")
        if (self.body_bytes is not None and self.body_bytes < 0) or (self.days is not None and self.days < 1):
            raise InvalidRequest("bytes have to be 0 or more, and days 1 or more")
        return self

    def leaves_out(self, record: PredictionRecord) -> bool:
        """Whether a call is not in the sample.

        >>> from modelyard.domain.records import PredictionRecord
        >>> call = PredictionRecord("a1", "churn", "churn", 1, "", 0, 0, 200, "ok", "rows", 1, b"{}", b"{}")
        >>> Rule(share=0.0).leaves_out(call), Rule().leaves_out(call)
        (True, False)
        """
        return record.outcome == "ok" and crc32(record.prediction_id.encode(errors="replace")) >= self.share * 2**32

    def is_too_large(self, record: PredictionRecord) -> bool:
        """Whether a call is kept without its bodies."""
        return self.body_bytes is not None and len(record.request) + len(record.response) > self.body_bytes


Rules = Mapping[str, Rule]
"""By deployment; what has none is kept whole and for ever."""


def rules(directory: Path) -> Rules:
    """The rules of a records folder.

    Raises:
        DataDamaged: the file cannot be read.
    """
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=dict[str, Rule])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise DataDamaged(f"{directory / FILE} cannot be read: {error}") from error


def set_rule(directory: Path, deployment: str, rule: Rule) -> None:
    """Keep the calls of a deployment by this rule from now on.

    Raises:
        InvalidRequest: a number that makes no sense.
    """
    known = {**rules(directory), deployment: rule.checked()}
    hidden = directory / f".{FILE}.new"
    hidden.write_bytes(msgspec.json.format(msgspec.json.encode(known), indent=2))
    hidden.rename(directory / FILE)

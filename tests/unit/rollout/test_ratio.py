"""Whether calls are divided as they should be: silence while they are, and soon said when they are not."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.rollout import ratio
from modelyard.rollout.batches import Divided


def looked(draw: np.random.Generator, part: float, share: float, calls: int, looks: int) -> int | None:
    """After how many calls it was said that they are not divided as they should be."""
    kept = None
    for look in range(1, looks + 1):
        candidate = int(draw.binomial(calls, part))
        kept = ratio.take(kept, Divided(calls - candidate, 0.0, candidate, 0.0), share)
        if ratio.uneven(kept):
            return look * calls
    return None


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9])
def test_a_right_splitter_is_left_alone(share: float) -> None:
    """Also where callers shift it by up to a quarter: of 150 series of 20,000 calls at most one is called uneven."""
    draw, (low, high) = np.random.default_rng(8), ratio.between(share)
    found = [looked(draw, part, share, 500, 40) for part in (share, low, high) for _ in range(50)]
    assert sum(one is not None for one in found) <= 1


@pytest.mark.parametrize(
    ("share", "part", "within"), [(0.1, 0.0, 600), (0.5, 0.0, 100), (0.01, 0.1, 1000), (0.25, 0.4, 2000)]
)
def test_a_wrong_splitter_is_found(share: float, part: float, within: int) -> None:
    draw = np.random.default_rng(9)
    found = [looked(draw, part, share, 10, 400) for _ in range(30)]
    assert np.median([one or 10**9 for one in found]) <= within


def test_another_share_begins_anew() -> None:
    kept = ratio.take(None, Divided(1000.0, 0.0, 0.0, 0.0), 0.5)
    assert ratio.uneven(kept)
    assert not ratio.uneven(ratio.take(kept, Divided(90.0, 0.0, 10.0, 0.0), 0.1))

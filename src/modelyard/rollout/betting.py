"""Evidence about a mean that stays valid however often one looks: a gambler's wealth.

Whoever bets on a bounded quantity whose mean is at most `m` can expect to win nothing. A stake is the part of the
largest loss that is possible which is put at risk, so wealth never falls below nothing; after each observation z it is
multiplied by 1 + stake (z - m) / (m - least). If the mean is at most m, then whatever else is true of the z (they may
change with time and depend on all that came before), the wealth is a nonnegative supermartingale which begins at 1, and
by Ville's inequality it reaches 1/alpha with probability alpha at most, at whatever moment one looks.

Which stake is best depends on how far the mean is from m. So several gamblers begin with an equal part each; what they
own together is as valid, and at worst that many times less than what the best of them would own alone.

Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting" (JRSS B, arXiv
2010.09686). For two arms between which every call is drawn at random, the quantity bet on weighs each by its share:
Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro 2024, "Anytime-valid off-policy inference for contextual bandits"
(arXiv 2210.10768).
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

STAKES: Floats = 0.9 * 2.0 ** -np.arange(10.0)
"""What each gambler risks, of what could be lost at most."""


def start(*shape: int) -> Floats:
    """Logarithms of what the gamblers own, by gambler and then by `shape`: one part each of a wealth of 1."""
    return np.full((len(STAKES), *shape), -math.log(len(STAKES)))


def gains(outcome: Floats | float, mean: Floats | float, least: Floats | float) -> Floats:
    """What the logarithm of each gambler's wealth gains by one `outcome` of a quantity of at least `least`.

    They bet that its mean is above `mean`. `least` must be known before the outcome is, and below `mean`.

    >>> bool(gains(1.0, 0.5, 0.0)[0] > 0 > gains(0.0, 0.5, 0.0)[0])
    True
    """
    won = (np.asarray(outcome) - mean) / (np.asarray(mean) - least)
    found: Floats = np.log1p(STAKES.reshape(-1, *(1 for _ in np.shape(won))) * won)
    return found


def wealth(logs: Floats) -> Floats:
    """The logarithm of what the gamblers own together: an e-value, once exponentiated.

    >>> round(float(wealth(start())), 9) + 0.0
    0.0
    """
    found: Floats = np.logaddexp.reduce(logs, axis=0)
    return found

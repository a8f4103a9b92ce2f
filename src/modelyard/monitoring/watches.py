"""All watches, in one place."""

from __future__ import annotations

from modelyard.monitoring.computing import Computing
from modelyard.monitoring.estimate.watch import Estimates
from modelyard.monitoring.health import Health, Staleness
from modelyard.monitoring.moving import moving_watches
from modelyard.monitoring.pairing import Pairing
from modelyard.monitoring.performance.watch import Performance
from modelyard.monitoring.quality import Exchanged, Repeated, Stuck
from modelyard.monitoring.seasons import Previous, Seasonal
from modelyard.monitoring.traffic import Absent, Refusals
from modelyard.monitoring.watching import LabelledWatch, Watch

WATCHES: tuple[Watch, ...] = (
    *moving_watches().values(),
    Seasonal(),
    Previous(),
    Pairing(),
    Stuck(),
    Exchanged(),
    Repeated(),
    Refusals(),
    Absent(),
    Health(),
    Staleness(),
    Computing(),
)
"""Those that look at windows. The shares of all watches of both lists together are at most 1."""

LABELLED: tuple[LabelledWatch, ...] = (Performance(), Estimates())
"""Those that look at rows and labels."""

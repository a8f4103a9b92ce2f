"""What labelled rows teach: what to expect of a row, how far that missed in blocks of time, and where it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.monitoring.estimate.cells import Cells, design, learned
from modelyard.monitoring.estimate.drifting import History
from modelyard.monitoring.estimate.fitting import linear, logistic, logit, sigmoid
from modelyard.monitoring.estimate.metrics import BINARY
from modelyard.monitoring.estimate.rows import Rows
from modelyard.monitoring.estimate.shifts import Moved, moved

FOLDS = 5
SCORE_CELLS = 10
_RIDGE = 10.0
_STRENGTHS = (10.0, 100.0, 1000.0, 1e5)
_FREE = 1e-6


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled rows and all that is computed of them once.

    `blocks` numbers the blocks of time from 0. `fits` has the coefficients for each thing that is expected (``p`` of a
    binary task, each loss of others), `held` what a fit without the row's own part of time expects of each row.
    """

    rows: Rows
    cells: Cells
    edges: Array
    scale: tuple[float, float]
    blocks: Array
    design: Array
    fits: Mapping[str, Array]
    held: Mapping[str, Array]
    alone: float
    history: Mapping[str, History]
    moves: tuple[Moved, ...]
    strengths: Mapping[str, float]

    def seen(self, rows: Rows) -> tuple[NDArray[np.int16], Array]:
        """The cells of other rows, and their design."""
        codes = self.cells.codes(rows.inputs)
        where = np.searchsorted(self.edges, rows.score, "right")
        return codes, _design(codes, self.cells, _line(rows, self.scale), where)

    def expected(self, name: str, rows: Rows, made: Array) -> Array:
        """What is expected of other rows."""
        linear_part = (made @ self.fits[name].astype(np.float32)).astype(np.float64)
        return sigmoid(logit(rows.score) + linear_part) if self.rows.task == "binary" else linear_part


def learn(rows: Rows, blocks: Array, names: tuple[str, ...], strengths: Mapping[str, float] | None = None) -> Labelled:
    """Fit what is expected of a row to its score and the columns `names`, as far as that helps in other blocks of time.

    A binary task starts from the score as it is and corrects its odds (Platt 1999, with steps by quantiles of the score
    and by cells of the columns); others are fitted by least squares. How strongly columns are held back is decided by
    what does best on parts of time that were left out; `strengths` that were found so before save the search.

    Raises:
        InvalidRequest: the rows have no labels.
    """
    cells, codes, alone = learned(rows.inputs, names)
    edges = np.unique(np.quantile(rows.score, np.arange(1, SCORE_CELLS) / SCORE_CELLS))
    scale = (float(np.mean(rows.score)), float(np.std(rows.score)) or 1.0)
    made = _design(codes, cells, _line(rows, scale), np.searchsorted(edges, rows.score, "right"))
    blocks = np.unique(blocks, return_inverse=True)[1]
    parts = [np.flatnonzero(blocks == each) for each in range(int(blocks.max()) + 1)]
    fitting = _Fitting(made, 2 + SCORE_CELLS, blocks * FOLDS // len(parts), strengths or {})
    if rows.task == "binary":
        fits, held, found = fitting.of({"p": rows.labels}, logit(rows.score))
        history = _binary_history(rows, held["p"], parts)
        rate = float(np.mean(rows.labels))
        moves = tuple(moved(held["p"][part], rate, rows.labels[part]) for part in parts)
    else:
        fits, held, found = fitting.of(rows.losses, None)
        history = {name: _losses_history(name, rows.losses[name], held[name], parts) for name in held}
        moves = ()
    return Labelled(rows, cells, edges, scale, blocks, made, fits, held, float(alone.mean()), history, moves, found)


@dataclass(frozen=True, slots=True)
class _Fitting:
    """Fits on one design, of which the first `within` columns are about the score alone."""

    made: Array
    within: int
    folds: Array
    strengths: Mapping[str, float]

    def of(
        self, truths: Mapping[str, Array], offset: Array | None
    ) -> tuple[dict[str, Array], dict[str, Array], dict[str, float]]:
        """Coefficients for each truth, what a fit without its fold expects of each row, and how strong the ridge was.

        With an `offset` of log odds truths are 1 or 0, without one they are numbers.
        """
        fits, held, strengths = {}, {}, {}
        for name, truth in truths.items():
            tries = (self.strengths[name],) if name in self.strengths else _STRENGTHS
            tried = [self._held(truth, offset, strength) for strength in tries]
            costs = [_cost(truth, each, logarithmic=offset is not None) for each in tried]
            best = int(np.argmin(costs))
            held[name], strengths[name] = tried[best], tries[best]
            fits[name] = self._fit(truth, offset, tries[best], np.ones(len(truth), dtype=np.bool_))
        return fits, held, strengths

    def _held(self, truth: Array, offset: Array | None, strength: float) -> Array:
        out = np.zeros(len(truth)) if offset is None else offset.copy()
        for each in range(FOLDS):
            part = self.folds == each
            if part.any():
                out[part] += self.made[part] @ self._fit(truth, offset, strength, ~part).astype(np.float32)
        return out if offset is None else sigmoid(out)

    def _fit(self, truth: Array, offset: Array | None, strength: float, rows: Array) -> Array:
        ridge = np.full(self.made.shape[1], strength)
        ridge[: self.within] = _RIDGE
        ridge[0], ridge[1] = _FREE, 1.0
        if offset is None:
            return linear(self.made[rows], truth[rows], ridge)
        return logistic(self.made[rows], truth[rows], offset[rows], ridge)


def _cost(truth: Array, expected: Array, *, logarithmic: bool) -> float:
    if logarithmic:
        return float(-np.mean(np.where(truth > 0, np.log(expected), np.log1p(-expected))))
    return float(np.mean((truth - expected) ** 2))


def _line(rows: Rows, scale: tuple[float, float]) -> Array:
    return logit(rows.score) if rows.task == "binary" else (rows.score - scale[0]) / scale[1]


def _design(codes: NDArray[np.int16], cells: Cells, line: Array, score_cell: Array) -> Array:
    """A constant, the score, its cell, the cells of all columns."""
    every = np.concatenate([np.asarray(score_cell, dtype=np.int16)[:, None], codes], axis=1)
    first = np.stack([np.ones(len(line)), line], axis=1).astype(np.float32)
    return np.concatenate([first, design(every, (SCORE_CELLS, *cells.sizes))], axis=1)


def _binary_history(rows: Rows, p: Array, parts: list[Array]) -> dict[str, History]:
    """Block by block: the metric as it was minus the metric as it was expected."""
    history = {}
    for name, metric in BINARY.items():
        missed, chance = np.full(len(parts), np.nan), np.full(len(parts), np.nan)
        for at, part in enumerate(parts):
            score, decided = rows.score[part], rows.decided[part]
            expected, slope = metric(score, decided, p[part])
            missed[at] = metric(score, decided, rows.labels[part])[0] - expected
            chance[at] = float(np.mean(p[part] * (1 - p[part]) * slope(score, decided) ** 2)) / len(part)
        history[name] = History(missed, chance)
    return history


def _losses_history(name: str, losses: Array, held: Array, parts: list[Array]) -> History:
    means = np.array([[float(np.mean(each[part])) for part in parts] for each in (losses, held)])
    chance = np.array([float(np.mean((losses - held)[part] ** 2)) / len(part) for part in parts])
    if name == "rmse":
        roots = np.sqrt(np.maximum(means, 1e-300))
        return History(roots[0] - roots[1], chance / (4 * roots[1] ** 2))
    return History(means[0] - means[1], chance)

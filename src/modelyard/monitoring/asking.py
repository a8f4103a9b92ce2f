"""The questions about all columns of a reference at once, packed so that a window's answers are a few array operations.

Slots that no question tells apart are added up first (a *cell*), so that the cost goes by questions and not by slots.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.monitoring.facets import Facet, questions
from modelyard.monitoring.reference import Reference
from modelyard.monitoring.slots import Counts
from modelyard.monitoring.windows import Profile

Index = NDArray[np.intp]


class Asked:
    """Every question about the columns of a reference, in one order.

    `columns` are the columns, `column_of` the place of each question's column in it, `facets` what each question is
    about (those of the chosen ones). `first` is where the questions of each column begin. `cell_of` is the cell of each
    slot of all columns, `sizes` the number of slots of each column.
    """

    def __init__(self, reference: Reference, facets: Collection[Facet] = tuple(Facet)) -> None:
        self.reference = reference
        self.columns = tuple(reference.slots)
        self.questions = tuple(questions(slots, slots.reference).only(facets) for slots in reference.slots.values())
        numbers = [len(each.facets) for each in self.questions]
        self.column_of: Index = np.repeat(np.arange(len(numbers)), numbers)
        self.first: Index = np.concatenate([[0], np.cumsum(numbers)]).astype(np.intp)
        self.facets: tuple[Facet, ...] = tuple(facet for each in self.questions for facet in each.facets)
        self.sizes = [reference.slots[name].size for name in self.columns]
        starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.intp)
        self._places = {name: slice(starts[at], starts[at + 1]) for at, name in enumerate(self.columns)}
        self._slots = int(starts[-1])
        self._compile()

    def __len__(self) -> int:
        return len(self.facets)

    def _compile(self) -> None:
        cell_of, cells = np.zeros(self._slots, dtype=np.intp), 0
        inside: list[Index] = []
        among: list[Index] = []
        for name, asked in zip(self.columns, self.questions, strict=True):
            signature = np.concatenate([asked.inside, asked.among])
            distinct, which = np.unique(signature, axis=1, return_inverse=True)
            cell_of[self._places[name]] = cells + which.reshape(-1)
            half = len(asked.facets)
            inside += [cells + np.flatnonzero(row) for row in distinct[:half]]
            among += [cells + np.flatnonzero(row) for row in distinct[half:]]
            cells += distinct.shape[1]
        self.cell_of, self.cells = cell_of, cells
        self._inside, self._among = _Sums(inside), _Sums(among)

    def in_cells(self, window: Profile) -> Counts:
        """A window's counts, cell after cell; columns that it lacks have none."""
        counts = np.zeros(self._slots)
        for name, tally in window.columns.items():
            place = self._places.get(name)
            if place is not None:
                counts[place] = tally.counts
        return self.added(counts)

    def added(self, counts: Array) -> Counts:
        """Counts of all slots of all columns, added up by cell."""
        return np.bincount(self.cell_of, weights=counts, minlength=self.cells).astype(np.int64)

    def reference_cells(self) -> Counts:
        """The reference's own counts, cell after cell."""
        own = [self.reference.slots[name].reference for name in self.columns]
        return self.added(np.concatenate(own) if own else np.zeros(0))

    def answers(self, cells: Counts) -> tuple[Array, Array]:
        """For each question how many rows fall into its slots, and among how many.

        >>> asked = Asked(Reference.of_table({"n": [float(at) for at in range(100)]}))
        >>> x, n = asked.answers(asked.reference_cells())
        >>> int(x[0]), int(n[0])
        (0, 100)
        """
        return self._inside.of(cells), self._among.of(cells)

    def likely(self, certainty: float) -> tuple[Array, Array]:
        """Where the true shares of the reference's source lie: all of them together with probability `certainty`."""
        error = np.log(2 * max(len(self), 1) / (1 - certainty))
        ends = [
            each.likely(self.reference.slots[name].reference, error)
            for name, each in zip(self.columns, self.questions, strict=True)
        ]
        low, high = ([end[side] for end in ends] for side in (0, 1))
        return (np.concatenate(low), np.concatenate(high)) if ends else (np.zeros(0), np.zeros(0))

    def per_column(self, values: Array) -> Array:
        """Sums of something over the questions of each column."""
        found: Array = np.bincount(self.column_of, weights=values, minlength=len(self.columns))
        return found


class _Sums:
    """Sums over lists of places, each at once."""

    def __init__(self, places: Sequence[Index]) -> None:
        lengths = np.array([len(each) for each in places], dtype=np.intp)
        self._places: Index = np.concatenate(places) if places else np.zeros(0, dtype=np.intp)
        self._empty = lengths == 0
        # A sum of nothing would take the next list's first place; it is put right afterwards.
        self._starts = np.minimum(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.intp), len(self._places) - 1)

    def of(self, values: Array) -> Array:
        if not len(self._places):
            return np.zeros(len(self._empty))
        found: Array = np.add.reduceat(values[self._places], self._starts).astype(np.float64)
        if self._empty.any():
            found[self._empty] = 0.0
        return found

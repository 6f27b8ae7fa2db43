"""The last readings of every patient, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import VITALS, PerPatient

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]


class Ring(PerPatient):
    """Ring buffer of `depth` readings for `count` patients.

    Attributes
    ----------
    times, values
        [patient, depth] in s, [patient, depth, vital]; NaN where nothing is yet.
    """

    def __init__(self, count: int, depth: int) -> None:
        self.times = np.full((count, depth), np.nan)
        self.values = np.full((count, depth, len(VITALS)), np.nan, dtype=np.float32)
        self._next = np.zeros(count, dtype=np.intp)
        self._keep("times", "values", "_next")

    def put(self, rows: Rows, time_s: Floats, values: Floats) -> None:
        """Add one reading of each of some patients."""
        place = self._next[rows]
        self.times[rows, place] = time_s
        self.values[rows, place] = values
        self._next[rows] = (place + 1) % self.times.shape[1]

    def fill(self, row: int, time_s: Floats, values: NDArray[np.float32]) -> None:
        """Put readings of one patient into an empty row, oldest first; only the last ones find room."""
        depth = self.times.shape[1]
        count = min(len(time_s), depth)
        self.times[row, :count], self.values[row, :count] = time_s[-count:], values[-count:]
        self._next[row] = count % depth

    def read(self, row: int) -> tuple[Floats, NDArray[np.float32]]:
        """Return times and values of a patient, oldest first."""
        order = np.roll(np.arange(self.times.shape[1]), -int(self._next[row]))
        order = order[np.isfinite(self.times[row, order])]
        return self.times[row, order], self.values[row, order]

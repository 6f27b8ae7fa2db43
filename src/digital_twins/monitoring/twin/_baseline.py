"""What is normal for this patient: a slow mean and spread of every vital sign, blind to outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import PerPatient, columns, jit
from digital_twins.monitoring.twin._trend import TrendNoise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]

_OUTLIER_SD = 3.0


class PersonalBaseline(PerPatient):
    """Exponentially forgetting mean and variance, [patient, vital].

    A reading further than three standard deviations from the mean counts as if it lay there, so a crisis
    moves the baseline slowly.

    Parameters
    ----------
    count
        Patients.
    memory_s
        Time constant of forgetting; a choice of this project.
    """

    def __init__(self, count: int, *, memory_s: float = 3600.0) -> None:
        self._floor = TrendNoise.default().reading
        self.memory_s = memory_s
        self.mean = np.full((count, len(self._floor)), np.nan)
        self.variance = np.tile(self._floor, (count, 1))
        self._weight = np.zeros(self.mean.shape)
        self._time_s = np.full(count, np.nan)
        self._keep("mean", "variance", "_weight", "_time_s")

    def step(self, rows: Rows, time_s: Floats, values: Floats) -> Floats:
        """Take readings in and return how many standard deviations each lay from its patient's mean.

        Parameters
        ----------
        rows, time_s, values
            As for `TrendFilter.step`.
        """
        rows, time_s, values = columns(rows, time_s, values)
        score: Floats = np.empty(values.shape)
        state = (self.mean, self.variance, self._weight, self._time_s)
        _step(rows, time_s, values, self._floor, float(self.memory_s), state, score)
        return score


@jit
def _step(rows, time_s, values, floor, memory_s, state, score):  # type: ignore[no-untyped-def]
    means, variances, weights, last_s = state
    for place in range(len(rows)):
        row = rows[place]
        dt = 0.0 if np.isnan(last_s[row]) else time_s[place] - last_s[row]
        last_s[row] = time_s[place]
        kept = np.exp(-dt / memory_s)
        for n in range(values.shape[1]):
            value, variance = values[place, n], variances[row, n]
            mean = value if np.isnan(means[row, n]) else means[row, n]
            sd = np.sqrt(max(variance, floor[n]))
            off = value - mean
            score[place, n] = off / sd
            if np.isfinite(value):
                off = min(max(off, -_OUTLIER_SD * sd), _OUTLIER_SD * sd)
                weight = weights[row, n] * kept + 1.0
                mean += off / max(weight, 1.0)
                # the first readings of a patient say little about the spread: the floor counts as thirty
                variances[row, n] = variance + (off * off - variance) / (weight + 30.0)
                weights[row, n] = weight
            means[row, n] = mean

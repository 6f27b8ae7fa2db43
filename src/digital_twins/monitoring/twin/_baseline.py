"""What is normal for this patient: a slow mean and spread of every vital sign, blind to outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import PerPatient
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
        last = self._time_s[rows]
        dt = np.where(np.isnan(last), 0.0, time_s - last)[:, None]
        mean, variance, weight = self.mean[rows], self.variance[rows], self._weight[rows]
        mean = np.where(np.isnan(mean), values, mean)
        off = values - mean
        sd = np.sqrt(np.maximum(variance, self._floor))
        score: Floats = off / sd
        off = np.clip(np.where(np.isfinite(off), off, 0.0), -_OUTLIER_SD * sd, _OUTLIER_SD * sd)
        weight = np.where(np.isfinite(values), weight * np.exp(-dt / self.memory_s) + 1.0, weight)
        share = np.where(np.isfinite(values), 1.0 / np.maximum(weight, 1.0), 0.0)
        # the first readings of a patient say little about the spread: the floor counts as thirty of them
        share_spread = np.where(np.isfinite(values), 1.0 / (weight + 30.0), 0.0)
        self.mean[rows] = mean + share * off
        self.variance[rows] = variance + share_spread * (off * off - variance)
        self._weight[rows] = weight
        self._time_s[rows] = time_s
        return score

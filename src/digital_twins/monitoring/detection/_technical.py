"""Technical alarms: which signals have been bad for longer than the delay, or are stale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import VITALS, PerPatient, Quality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]

TEXTS = {
    Quality.LEAD_OFF: "lead off",
    Quality.OUT_OF_RANGE: "impossible value",
    Quality.TOO_FAST: "jumps",
    Quality.FLAT: "frozen",
    Quality.STALE: "no signal",
    Quality.CONTRADICTED: "contradicts another signal",
}
"""Words of a technical alarm."""


class TechnicalAlarms(PerPatient):
    """State of `count` patients' signals, [patient, vital].

    Parameters
    ----------
    count
        Patients.
    delay_s
        How long a signal must be bad.
    """

    def __init__(self, count: int, *, delay_s: float) -> None:
        shape = (count, len(VITALS))
        self._delay_s = delay_s
        self._since = np.full(shape, np.inf)
        self.kind = np.zeros(shape, dtype=np.int8)
        self.active = np.zeros(shape, dtype=np.bool_)
        self._keep("_since", "kind", "active")

    def step(self, rows: Rows, time_s: Floats, flags: NDArray[np.int8]) -> None:
        """Take the flags of readings in; a missing value leaves a signal as it was."""
        known = flags != Quality.MISSING
        bad = known & (flags != Quality.GOOD)
        since = self._since[rows]
        since = np.where(bad, np.minimum(since, time_s[:, None]), np.where(known, np.inf, since))
        self._since[rows] = since
        self.kind[rows] = np.where(bad, flags, self.kind[rows])

    def tick(
        self, now_s: float, stale: NDArray[np.bool_]
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return what began and what ended, as (patient, vital)."""
        bad = now_s - self._since >= self._delay_s
        self.kind[stale & ~bad] = Quality.STALE
        wanted = bad | stale
        began, ended = wanted & ~self.active, self.active & ~wanted
        self.active = wanted
        return _pairs(began), _pairs(ended)


def _pairs(found: NDArray[np.bool_]) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in np.argwhere(found)] if found.any() else []

"""Technical alarms: which signals have been bad for longer than the delay, or are stale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import VITALS, PerPatient, Quality, columns, jit

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
_GOOD, _MISSING = int(Quality.GOOD), int(Quality.MISSING)


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
        rows, time_s = columns(rows, time_s)
        _step(rows, time_s, flags, self._since, self.kind)

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


@jit
def _step(rows, time_s, flags, since, kind):  # type: ignore[no-untyped-def]
    for place in range(len(rows)):
        row = rows[place]
        for n in range(flags.shape[1]):
            flag = flags[place, n]
            if flag == _GOOD:
                since[row, n] = np.inf
            elif flag != _MISSING:
                since[row, n] = min(since[row, n], time_s[place])
                kind[row, n] = flag


def _pairs(found: NDArray[np.bool_]) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in np.argwhere(found)] if found.any() else []

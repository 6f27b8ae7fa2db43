"""Change points on the innovations of the trend: windowed NIS and two-sided cumulative sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import VITALS, PerPatient, columns, jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]


class ChangeDetector(PerPatient):
    """Cumulative sums and mean NIS of `count` patients, [patient, vital].

    Page 1954 (doi:10.1093/biomet/41.1-2.100): up = max(0, up + z - slack), down the same of -z, where z is
    the innovation in standard deviations. A sum over `limit` is a change; with normal z the mean run to a
    false one is near (exp(2 slack b) - 2 slack b - 1) / (2 slack^2) for one side, where b = limit + 1.166
    (Siegmund 1985).

    Parameters
    ----------
    count
        Patients.
    slack, limit
        In standard deviations.
    nis_memory
        Readings over which the NIS is averaged.
    """

    def __init__(
        self, count: int, *, slack: float = 0.5, limit: float = 10.0, nis_memory: float = 20.0
    ) -> None:
        self.slack, self.limit, self._share = slack, limit, 1.0 / nis_memory
        shape = (count, len(VITALS))
        self.up, self.down, self.nis = np.zeros(shape), np.zeros(shape), np.ones(shape)
        self._keep("up", "down", "nis")

    def step(self, rows: Rows, innovation: Floats, nis: Floats) -> NDArray[np.bool_]:
        """Take innovations in and return where a sum passed its limit, [row, vital]; those sums begin anew.

        Parameters
        ----------
        rows
            Patients, each at most once.
        innovation, nis
            As in `TrendStep`.
        """
        rows, innovation, nis = columns(rows, innovation, nis)
        found: NDArray[np.bool_] = np.zeros(nis.shape, dtype=np.bool_)
        law = (float(self.slack), float(self.limit), float(self._share))
        _step(rows, innovation, nis, law, (self.up, self.down, self.nis), found)
        return found


@jit
def _step(rows, innovation, nis, law, state, found):  # type: ignore[no-untyped-def]
    slack, limit, share = law
    ups, downs, means = state
    for place in range(len(rows)):
        row = rows[place]
        for n in range(nis.shape[1]):
            each = nis[place, n]
            if not np.isfinite(each):
                continue
            z = np.sign(innovation[place, n]) * np.sqrt(each)
            up, down = max(ups[row, n] + z - slack, 0.0), max(downs[row, n] - z - slack, 0.0)
            if up > limit or down > limit:
                found[place, n] = True
                up, down = 0.0, 0.0
            ups[row, n], downs[row, n] = up, down
            means[row, n] += share * (min(each, 25.0) - means[row, n])

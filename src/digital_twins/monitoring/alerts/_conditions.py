"""Which limits hold for which patients: all rules and all patients in one pass, with delay and hysteresis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.alerts._thresholds import SIGNALS
from digital_twins.monitoring.signals import PerPatient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from digital_twins.monitoring.alerts._thresholds import Rule

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Rows = NDArray[np.intp]

Edges = list[tuple[int, int]]


class Conditions(PerPatient):
    """State of every rule of `count` patients, [patient, rule].

    Parameters
    ----------
    rules
        Limits for all.
    count
        Patients.

    Attributes
    ----------
    active
        The condition has held for its delay and has not ended.
    limit
        Limit of each patient; change it with `set_limits`.
    """

    def __init__(self, rules: Sequence[Rule], count: int) -> None:
        self.rules = tuple(rules)
        shape = (count, len(self.rules))
        self._column = np.array([SIGNALS[each.signal] for each in rules], dtype=np.intp)
        self._sign = np.array([-1.0 if each.below else 1.0 for each in rules])
        self._delay = np.array([each.delay_s for each in rules])
        self._back = np.array([each.hysteresis for each in rules])
        self.limit = np.tile(np.array([each.limit for each in rules]), (count, 1))
        self.active = np.zeros(shape, dtype=np.bool_)
        self._since = np.full(shape, np.inf)
        self._keep("limit", "active", "_since")

    def set_limits(self, row: int, limits: Mapping[str, float]) -> None:
        """Give a patient own limits, by rule id; other ids are left alone."""
        for number, rule in enumerate(self.rules):
            if rule.id in limits:
                self.limit[row, number] = limits[rule.id]

    def step(self, rows: Rows, time_s: Floats, signals: Floats, *, blanked: Bools) -> tuple[Edges, Edges]:
        """Take signals in and return what began and what ended, as (patient, rule).

        Parameters
        ----------
        rows, time_s
            Patients, each at most once, and their times.
        signals
            [row, signal] as `SIGNALS`; NaN: not known, which changes nothing.
        blanked
            [row, signal]: a value came that is none, so a condition that waits for its delay begins anew.
        """
        excess = (signals[:, self._column] - self.limit[rows]) * self._sign
        active, since = self.active[rows], self._since[rows]
        time = time_s[:, None]
        met = excess > 0
        since = np.where(met, np.minimum(since, time), np.where(excess <= 0, np.inf, since))
        since = np.where(blanked[:, self._column] & ~active, np.inf, since)
        ended = active & (excess <= -self._back)
        began = ~active & (time - since >= self._delay)
        self.active[rows] = (active | began) & ~ended
        self._since[rows] = since
        return _pairs(began, rows), _pairs(ended, rows)

    def tick(self, now_s: float) -> Edges:
        """Return what began only because its delay has passed since the last signal, as (patient, rule)."""
        began = ~self.active & (now_s - self._since >= self._delay)
        self.active |= began
        return _pairs(began, np.arange(len(began)))


def _pairs(found: Bools, rows: Rows) -> Edges:
    if not found.any():
        return []
    place, rule = np.nonzero(found)
    return list(zip(rows[place].tolist(), rule.tolist(), strict=True))

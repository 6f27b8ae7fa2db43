"""Which limits hold for which patients: all rules and all patients in one pass, with delay and hysteresis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.alerts._thresholds import SIGNALS
from digital_twins.monitoring.signals import PerPatient, columns, jit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from digital_twins.monitoring.alerts._thresholds import Rule

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Rows = NDArray[np.intp]

_BEGAN, _ENDED = 1, 2
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
        rows, time_s, signals = columns(rows, time_s, signals)
        edges = np.zeros((len(rows), len(self.rules)), dtype=np.int8)
        rules = (self._column, self._sign, self._delay, self._back)
        state = (self.limit, self.active, self._since)
        if not _step(rows, time_s, signals, blanked, rules, state, edges):
            return [], []
        return _pairs((edges & _BEGAN) != 0, rows), _pairs((edges & _ENDED) != 0, rows)

    def tick(self, now_s: float) -> Edges:
        """Return what began only because its delay has passed since the last signal, as (patient, rule)."""
        began = ~self.active & (now_s - self._since >= self._delay)
        self.active |= began
        return _pairs(began, np.arange(len(began)))


@jit
def _step(rows, time_s, signals, blanked, rules, state, edges):  # type: ignore[no-untyped-def]
    """Set the bits of what began and ended; return how many there are."""
    columns_of, sign, delay, back = rules
    limits, active, since = state
    count = 0
    for place in range(len(rows)):
        row = rows[place]
        for rule in range(len(sign)):
            column = columns_of[rule]
            excess = (signals[place, column] - limits[row, rule]) * sign[rule]
            was, start = active[row, rule], since[row, rule]
            if excess > 0:
                start = min(start, time_s[place])
            elif excess <= 0:
                start = np.inf
            if blanked[place, column] and not was:
                start = np.inf
            ends, begins = was and excess <= -back[rule], not was and time_s[place] - start >= delay[rule]
            if ends or begins:
                edges[place, rule] = (_ENDED if ends else 0) | (_BEGAN if begins else 0)
                count += 1
            active[row, rule] = (was or begins) and not ends
            since[row, rule] = start
    return count


def _pairs(found: Bools, rows: Rows) -> Edges:
    if not found.any():
        return []
    place, rule = np.nonzero(found)
    return list(zip(rows[place].tolist(), rule.tolist(), strict=True))

"""The physiological twin of every patient: an extended Kalman filter, all patients at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import COLUMN
from digital_twins.monitoring.twin._kernels import carried, moved_and_slopes, seen_and_slopes, taken_in
from digital_twins.monitoring.twin._physiology import (
    OBSERVED,
    SIZE,
    Body,
    Inputs,
    observe,
    resting_state,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]

# Standard deviations, choices of this project: of a state's random step in sqrt(s), at first, of a reading.
STEP_SD = np.array([0.5, 0.3, 0.1, 2.0, 0.3, 0.05, 0.1, 0.002, 0.006, 0.006, 0.006, 0.002, 0.004])
START_SD = np.array([10, 8, 3, 300, 8, 4, 3, 0.5, 0.3, 0.5, 0.2, 0.5, 0.15])
READING_SD = np.array([2.0, 4.0, 6.0, 5.0, 1.0, 1.5, 0.15])
LONGEST_GAP_S = 120.0
"""A longer silence is bridged as one of this length: the model says nothing about the time between."""


def measured(values: Floats) -> Floats:
    """Return vital signs [row, vital] as what the model predicts, [row, 7]; the line goes before the cuff.

    Parameters
    ----------
    values
        Columns as `VITALS`; NaN where there is no value.
    """
    out = np.full((len(values), len(OBSERVED)), np.nan)
    for place, codes in enumerate(_SOURCES):
        for code in codes:
            candidate = values[:, COLUMN[code]]
            out[:, place] = np.where(np.isnan(out[:, place]), candidate, out[:, place])
    return out


_SOURCES = (
    ("HR", "PULSE"),
    ("ART_MEAN", "NIBP_MEAN"),
    ("ART_SYS", "NIBP_SYS"),
    ("ART_DIA", "NIBP_DIA"),
    ("SPO2",),
    ("RR",),
    ("TEMP",),
)


@dataclass(frozen=True, eq=False)
class TwinStep:
    """What one step found.

    Attributes
    ----------
    innovation
        Reading minus what the twin expected, [row, 7] as `OBSERVED`; NaN where there was none.
    variance
        Variance of each innovation, given those before it in the row.
    nis
        Sum over the readings of innovation squared over variance, [row].
    """

    innovation: Floats
    variance: Floats
    nis: Floats


class LiveTwin:
    """Belief about states and slow parameters of `count` patients.

    Parameters
    ----------
    bodies
        What each patient is like in health; arrays [count].
    count
        Patients.

    Attributes
    ----------
    mean
        [count, SIZE]: `STATES`, then `SLOW`.
    covariance
        [count, SIZE, SIZE].
    time_s
        Time of the state, [count]; NaN before the first step.
    """

    def __init__(self, bodies: Body, count: int) -> None:
        arrays = {n: np.broadcast_to(getattr(bodies, n), count).copy() for n in bodies.__dataclass_fields__}
        self.bodies = Body(**arrays)
        self.oxygen_fraction = np.full(count, 0.21)
        self.mean = resting_state(self.bodies, count).T.copy()
        self.covariance = np.tile(np.diag(START_SD**2), (count, 1, 1))
        self.time_s = np.full(count, np.nan)
        self._compile()

    def _compile(self) -> None:
        """Have the kernels compiled, or read from disk, before the first patient waits for them."""
        first = self.bodies.rows(np.array([0]))
        moved, slopes = linearised_step(self.mean[:1].T, first, Inputs(), dt_s=np.ones(1))
        covariance = self.covariance[:1].copy()
        carried(covariance, slopes, np.zeros((1, SIZE)))
        seen, slopes = linearised_view(moved, first)
        found = np.empty(seen.T.shape), np.empty(seen.T.shape), np.empty(1)
        taken_in(moved.T.copy(), covariance, np.full(seen.T.shape, np.nan), slopes, READING_SD**2, *found)

    def forget(self, row: int, body: Body) -> None:
        """Begin anew for a row, which now is another patient."""
        for name in body.__dataclass_fields__:
            np.asarray(getattr(self.bodies, name))[row] = getattr(body, name)
        self.oxygen_fraction[row] = 0.21
        self.mean[row] = resting_state(body, 1)[:, 0]
        self.covariance[row] = np.diag(START_SD**2)
        self.time_s[row] = np.nan

    def step(self, rows: Rows, time_s: Floats, readings: Floats) -> TwinStep:
        """Carry patients to a time and take their readings in.

        Parameters
        ----------
        rows
            Patients, each at most once.
        time_s
            Times of the readings, [row].
        readings
            [row, 7] as `measured` returns; NaN where there is none.
        """
        last = self.time_s[rows]
        dt = np.where(np.isnan(last), 0.0, np.clip(time_s - last, 0.0, LONGEST_GAP_S))
        body = self.bodies.rows(rows)
        inputs = Inputs(oxygen_fraction=self.oxygen_fraction[rows])
        mean, transition = linearised_step(self.mean[rows].T, body, inputs, dt_s=dt)
        covariance = self.covariance[rows]
        carried(covariance, transition, dt[:, None] * STEP_SD**2)
        expected, slopes = linearised_view(mean, body)
        after = np.ascontiguousarray(mean.T)
        shape = readings.shape
        found = TwinStep(np.empty(shape), np.empty(shape), np.empty(len(rows)))
        off = readings - expected.T
        taken_in(after, covariance, off, slopes, READING_SD**2, found.innovation, found.variance, found.nis)
        self.mean[rows], self.covariance[rows] = after, covariance
        self.time_s[rows] = time_s
        return found

    def expected(self) -> Floats:
        """Return what the monitor should show now, [count, 7] as `OBSERVED`."""
        return observe(self.mean.T, self.bodies).T


def linearised_step(state: Floats, body: Body, inputs: Inputs, *, dt_s: Floats) -> tuple[Floats, Floats]:
    """Return the next state [SIZE, row] and its derivative [row, SIZE, SIZE]."""
    states = np.ascontiguousarray(state.T)
    moved, slopes = np.empty(states.shape), np.empty((len(states), SIZE, SIZE))
    parts = _columns(body, len(states)), _columns(inputs, len(states))
    moved_and_slopes(states, *parts, np.asarray(dt_s, dtype=np.float64), moved, slopes)
    return moved.T, slopes


def linearised_view(state: Floats, body: Body) -> tuple[Floats, Floats]:
    """Return what would be seen [7, row] and its derivative [row, 7, SIZE]."""
    states = np.ascontiguousarray(state.T)
    seen, slopes = np.empty((len(states), len(OBSERVED))), np.empty((len(states), len(OBSERVED), SIZE))
    seen_and_slopes(states, _columns(body, len(states)), seen, slopes)
    return seen.T, slopes


def _columns(part: Body | Inputs, count: int) -> Floats:
    fields = [np.broadcast_to(getattr(part, name), count) for name in part.__dataclass_fields__]
    return np.stack(fields, axis=1).astype(np.float64, copy=False)

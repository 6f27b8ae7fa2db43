"""Level and slope of every vital sign of every patient: one Kalman filter, all patients at once.

The model is the local linear trend (Harvey 1989, Forecasting, structural time series models and the Kalman
filter, section 2.3) in continuous time: the level follows its slope, both take random steps. Between two
samples dt apart the transition is [[1, dt], [0, 1]] and the noise q_level dt on the level plus
q_slope [[dt^3/3, dt^2/2], [dt^2/2, dt]].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import VITALS, PerPatient, columns, jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]

# per vital sign: standard deviation of a reading, of a level step in sqrt(s), of a slope step in s^(-3/2);
# choices of this project, near what served best on one real record; temperature's level on a quarter of stays
_NOISE = {
    "HR": (2.0, 0.12, 1e-4),
    "PULSE": (2.0, 0.12, 1e-4),
    "SPO2": (0.7, 0.04, 3e-5),
    "RR": (1.5, 0.06, 5e-5),
    "TEMP": (0.1, 0.0055, 1e-6),
    "FIO2": (1.0, 0.2, 1e-6),
    "ETCO2": (1.5, 0.08, 1e-4),
    "ACVPU": (0.1, 0.02, 1e-6),
}
_PRESSURE = (4.0, 0.2, 2e-4)

RETURN_S = 3600.0
"""Time constant with which a forecast returns to the baseline, in s; chosen on a quarter of real stays."""

# these keep their trend: a fever goes on, a setting stays where it was put
_RETURNS = np.array([each.code not in {"TEMP", "FIO2", "ACVPU"} for each in VITALS])


@dataclass(frozen=True, eq=False)
class TrendNoise:
    """Noise of the trend model, each an array [vital] in the vital's unit.

    Attributes
    ----------
    reading
        Variance of a reading.
    level
        Variance that the level gains a second.
    slope
        Variance that the slope gains a second, in unit^2/s^3.
    first_slope
        Variance of the slope at the first reading, in unit^2/s^2.
    """

    reading: Floats
    level: Floats
    slope: Floats
    first_slope: Floats

    @classmethod
    def default(cls) -> TrendNoise:
        """Return the noise of the table of vital signs."""
        rows = np.array([_NOISE.get(each.code, _PRESSURE) for each in VITALS])
        return cls(rows[:, 0] ** 2, rows[:, 1] ** 2, rows[:, 2] ** 2, (rows[:, 2] * 10) ** 2)


@dataclass(frozen=True, eq=False)
class TrendStep:
    """What one step found, each an array [row, vital], NaN where there was no reading.

    Attributes
    ----------
    innovation
        Reading minus what was expected.
    nis
        Innovation squared over its variance: chi-square with one degree of freedom when all is as it was.
    """

    innovation: Floats
    nis: Floats


class TrendFilter(PerPatient):
    """The filter of `count` patients; arrays are [patient, vital].

    Parameters
    ----------
    count
        Patients.
    noise
        Noise of the model; `TrendNoise.default` if not given.

    Attributes
    ----------
    level, slope
        Means, in the vital's unit and unit a second; NaN before the first reading.
    p_level, p_cross, p_slope
        Their covariance.
    time_s
        Time of the state, [patient].
    """

    def __init__(self, count: int, *, noise: TrendNoise | None = None) -> None:
        self.noise = noise or TrendNoise.default()
        shape = (count, len(self.noise.reading))
        self.level, self.slope = np.full(shape, np.nan), np.zeros(shape)
        self.p_level, self.p_cross, self.p_slope = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.time_s = np.full(count, np.nan)
        self._keep("level", "slope", "p_level", "p_cross", "p_slope", "time_s")

    def step(self, rows: Rows, time_s: Floats, values: Floats) -> TrendStep:
        """Carry patients to the time of their readings and take the readings in.

        Parameters
        ----------
        rows
            Patients, each at most once, [row].
        time_s
            Times of the readings, [row]; not before the patient's last.
        values
            Readings, [row, vital]; NaN where there is none.
        """
        rows, time_s, values = columns(rows, time_s, values)
        innovation, nis = np.empty(values.shape), np.empty(values.shape)
        noise = (self.noise.reading, self.noise.level, self.noise.slope, self.noise.first_slope)
        state = (self.level, self.slope, self.p_level, self.p_cross, self.p_slope, self.time_s)
        _step(rows, time_s, values, noise, state, innovation, nis)
        return TrendStep(innovation, nis)

    def forecast(
        self, ahead_s: float, *, z: float = 1.96, damping_s: float = 900.0, baseline: Floats | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Return mean, low and high of readings `ahead_s` after each patient's last, [patient, vital].

        Parameters
        ----------
        ahead_s
            Seconds after the state.
        z
            Half width of the interval in standard deviations; 1.96 holds 95 % when the model is right.
        damping_s
            The slope dies away with this time constant, so a long forecast does not run off.
        baseline
            What is normal for each patient, [patient, vital], as `PersonalBaseline` has it. Given, every
            vital but temperature and settings returns to it with the time constant `RETURN_S` instead of
            following its slope, with the interval of a random walk; NaN keeps the trend.
        """
        reach = damping_s * -np.expm1(-ahead_s / damping_s)
        noise = self.noise
        mean = self.level + reach * self.slope
        variance = self.p_level + 2.0 * reach * self.p_cross + reach**2 * self.p_slope
        variance = variance + ahead_s * noise.level + ahead_s * reach**2 / 3.0 * noise.slope + noise.reading
        if baseline is not None:
            share = float(np.exp(-ahead_s / RETURN_S))
            back = _RETURNS & np.isfinite(baseline)
            mean = np.where(back, baseline + share * (self.level - baseline), mean)
            # the baseline wanders too, so the level's random walk counts in full
            variance = np.where(back, self.p_level + ahead_s * noise.level + noise.reading, variance)
        half = z * np.sqrt(variance)
        return mean, mean - half, mean + half


@jit
def _step(rows, time_s, values, noise, state, innovation, nis):  # type: ignore[no-untyped-def]
    reading, level_noise, slope_noise, first_slope = noise
    levels, slopes, p_level, p_cross, p_slope, last_s = state
    for place in range(len(rows)):
        row = rows[place]
        dt = 0.0 if np.isnan(last_s[row]) else time_s[place] - last_s[row]
        last_s[row] = time_s[place]
        for n in range(values.shape[1]):
            slope, p00, p01, p11 = slopes[row, n], p_level[row, n], p_cross[row, n], p_slope[row, n]
            level = levels[row, n] + dt * slope
            p00 += dt * (2.0 * p01 + dt * p11 + level_noise[n] + dt * dt / 3.0 * slope_noise[n])
            p01 += dt * (p11 + dt / 2.0 * slope_noise[n])
            p11 += dt * slope_noise[n]
            value = values[place, n]
            off = value - level
            variance = p00 + reading[n]
            innovation[place, n] = off
            nis[place, n] = off * off / variance
            if np.isfinite(nis[place, n]):
                gain, gain_slope = p00 / variance, p01 / variance
                level += gain * off
                slope += gain_slope * off
                p11 -= gain_slope * p01
                p01 *= 1.0 - gain
                p00 *= 1.0 - gain
            if np.isnan(level) and not np.isnan(value):
                level, slope, p00, p01, p11 = value, 0.0, reading[n], 0.0, first_slope[n]
            levels[row, n], slopes[row, n] = level, slope
            p_level[row, n], p_cross[row, n], p_slope[row, n] = p00, p01, p11

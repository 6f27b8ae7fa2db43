"""Checks that blank a value: a bad signal raises a technical alarm, no clinical one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import COLUMN, VITALS, PerPatient, Quality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]
    Flags = NDArray[np.int8]

_HR, _PULSE, _RR = COLUMN["HR"], COLUMN["PULSE"], COLUMN["RR"]
_LINE = (COLUMN["ART_SYS"], COLUMN["ART_MEAN"], COLUMN["ART_DIA"])
_CUFF = (COLUMN["NIBP_SYS"], COLUMN["NIBP_MEAN"], COLUMN["NIBP_DIA"])
_ZERO_IS_OFF = np.array([each.code not in {"FIO2", "ACVPU", "RR", "HR"} for each in VITALS])
_LOW = np.array([each.low for each in VITALS])
_HIGH = np.array([each.high for each in VITALS])
_RATE = np.array([each.max_change_per_s for each in VITALS])
_FLAT_S = np.array([each.flat_s or np.inf for each in VITALS])
_STALE_S = np.array([each.stale_s for each in VITALS])
_PULSE_GAP = 30.0  # per minute between heart and pulse rate; a choice of this project
_PULSATILE_MMHG = 10.0


@dataclass(frozen=True, eq=False)
class Checked:
    """What the checks found, arrays of the rows that were checked.

    Attributes
    ----------
    values
        Readings with everything that is not GOOD blanked to NaN, [row, vital].
    flags
        `Quality` of each, [row, vital].
    asystole
        The heart rate went to 0 and nothing shows a pulse, [row].
    apnoea
        The respiratory rate went to 0 while the heart beats, [row].
    """

    values: Floats
    flags: Flags
    asystole: NDArray[np.bool_]
    apnoea: NDArray[np.bool_]


def plausible(values: Floats) -> Floats:
    """Return readings, [row, vital], without those outside of the possible range."""
    return np.where((values >= _LOW) & (values <= _HIGH), values, np.nan)


class QualityChecks(PerPatient):
    """Checks of `count` patients.

    A heart rate of 0 is a lead that fell off only while a pulse is seen, or before any heart rate was; else
    it is reported as asystole, which is never suppressed. A breath rate of 0 with a beating heart is apnoea.

    Attributes
    ----------
    good
        Last good values, [patient, vital].
    good_time_s
        Their times; -inf before the first.
    """

    def __init__(self, count: int) -> None:
        shape = (count, len(VITALS))
        self.good = np.full(shape, np.nan)
        self.good_time_s = np.full(shape, -np.inf)
        self._raw = np.full(shape, np.nan)
        self._raw_since_s = np.full(shape, -np.inf)
        self._keep("good", "good_time_s", "_raw", "_raw_since_s")

    def step(self, rows: Rows, time_s: Floats, values: Floats) -> Checked:
        """Check readings.

        Parameters
        ----------
        rows, time_s, values
            As for `TrendFilter.step`.
        """
        good, good_time = self.good[rows], self.good_time_s[rows]
        flags = np.where(np.isnan(values), np.int8(Quality.MISSING), np.int8(Quality.GOOD))
        asystole, apnoea = self._stops(values, good_time, flags)
        _flag(flags, (values == 0) & _ZERO_IS_OFF, Quality.LEAD_OFF)
        stopped = np.zeros(values.shape, dtype=np.bool_)
        stopped[:, _HR], stopped[:, _RR] = asystole, apnoea
        _flag(flags, ((values < _LOW) | (values > _HIGH)) & ~stopped, Quality.OUT_OF_RANGE)
        for triple in (_LINE, _CUFF):
            _contradicted(values, flags, triple)
        gap = time_s[:, None] - good_time
        with np.errstate(invalid="ignore"):
            fast = np.abs(values - good) > _RATE * np.maximum(gap, 0.5)
        _flag(flags, fast & ~stopped & (gap < np.inf), Quality.TOO_FAST)
        _flag(flags, self._flat(rows, time_s[:, None], values), Quality.FLAT)
        _compare_pulse(values, flags)
        fine = flags == Quality.GOOD
        clean = np.where(fine, values, np.nan)
        self.good[rows] = np.where(fine, values, good)
        self.good_time_s[rows] = np.where(fine, time_s[:, None], good_time)
        return Checked(clean, flags, asystole, apnoea)

    def stale(self, now_s: float) -> NDArray[np.bool_]:
        """Return which vital signs were once good and are too old to be shown, [patient, vital]."""
        old: NDArray[np.bool_] = np.isfinite(self.good_time_s) & (now_s - self.good_time_s > _STALE_S)
        return old

    def shown(self, now_s: float) -> Floats:
        """Return the last good values with the stale ones blanked, [patient, vital]."""
        return np.where(self.stale(now_s), np.nan, self.good)

    def _stops(
        self, values: Floats, good_time: Floats, flags: Flags
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        heart, breath = values[:, _HR], values[:, _RR]
        line = values[:, _LINE[0]] - values[:, _LINE[2]] > _PULSATILE_MMHG
        pulse = (values[:, _PULSE] > 0) | line
        was_seen = np.isfinite(good_time[:, _HR])
        asystole = (heart == 0) & ~pulse & was_seen
        apnoea = (breath == 0) & np.isfinite(good_time[:, _RR]) & ((heart > 0) | pulse)
        off = np.zeros(values.shape, dtype=np.bool_)
        off[:, _HR] = (heart == 0) & ~asystole
        off[:, _RR] = (breath == 0) & ~apnoea
        _flag(flags, off, Quality.LEAD_OFF)
        return asystole, apnoea

    def _flat(self, rows: Rows, time_s: Floats, values: Floats) -> NDArray[np.bool_]:
        raw, since = self._raw[rows], self._raw_since_s[rows]
        moved = (values != raw) & ~np.isnan(values)
        since = np.where(moved, time_s, since)
        self._raw[rows] = np.where(moved, values, raw)
        self._raw_since_s[rows] = since
        flat: NDArray[np.bool_] = (time_s - since > _FLAT_S) & (values != 0)
        return flat


def _flag(flags: Flags, where: NDArray[np.bool_], quality: Quality) -> None:
    """Set a flag where nothing was found before."""
    flags[where & (flags == Quality.GOOD)] = quality


def _contradicted(values: Floats, flags: Flags, triple: tuple[int, int, int]) -> None:
    """Mark pressures whose mean does not lie between diastole and systole."""
    systole, mean, diastole = (values[:, column] for column in triple)
    wrong = (mean > systole) | (mean < diastole) | (diastole >= systole)
    for column in triple:
        flags[wrong & (flags[:, column] == Quality.GOOD), column] = Quality.CONTRADICTED


def _compare_pulse(values: Floats, flags: Flags) -> None:
    """Mark a pulse rate far from the heart rate; the heart rate itself stays, for it may be the true one."""
    far = np.abs(values[:, _HR] - values[:, _PULSE]) > _PULSE_GAP
    flags[far & (flags[:, _HR] == Quality.GOOD) & (flags[:, _PULSE] == Quality.GOOD), _PULSE] = (
        Quality.CONTRADICTED
    )

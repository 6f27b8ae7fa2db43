"""Checks that blank a value: a bad signal raises a technical alarm, no clinical one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import COLUMN, VITALS, PerPatient, Quality, columns, jit

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
_GOOD, _MISSING, _LEAD_OFF, _OUT_OF_RANGE, _TOO_FAST, _FLAT, _CONTRADICTED = (
    int(each)
    for each in (
        Quality.GOOD,
        Quality.MISSING,
        Quality.LEAD_OFF,
        Quality.OUT_OF_RANGE,
        Quality.TOO_FAST,
        Quality.FLAT,
        Quality.CONTRADICTED,
    )
)


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
        rows, time_s, values = columns(rows, time_s, values)
        clean, flags = np.empty(values.shape), np.empty(values.shape, dtype=np.int8)
        asystole, apnoea = np.empty(len(rows), dtype=np.bool_), np.empty(len(rows), dtype=np.bool_)
        state = (self.good, self.good_time_s, self._raw, self._raw_since_s)
        _step(rows, time_s, values, state, clean, flags, asystole, apnoea)
        return Checked(clean, flags, asystole, apnoea)

    def stale(self, now_s: float) -> NDArray[np.bool_]:
        """Return which vital signs were once good and are too old to be shown, [patient, vital]."""
        old: NDArray[np.bool_] = np.isfinite(self.good_time_s) & (now_s - self.good_time_s > _STALE_S)
        return old

    def shown(self, now_s: float) -> Floats:
        """Return the last good values with the stale ones blanked, [patient, vital]."""
        return np.where(self.stale(now_s), np.nan, self.good)


@jit
def _step(rows, time_s, values, state, clean, flags, asystole, apnoea):  # type: ignore[no-untyped-def]  # noqa: C901  (one pass over bytes or rows)
    good, good_s, raw, raw_since_s = state
    for place in range(len(rows)):
        row, now_s, value, flag = rows[place], time_s[place], values[place], flags[place]
        for n in range(len(value)):
            flag[n] = _MISSING if np.isnan(value[n]) else _GOOD
        asystole[place], apnoea[place] = _stops(value, good_s[row], flag)
        for n in range(len(value)):
            stopped = (n == _HR and asystole[place]) or (n == _RR and apnoea[place])
            if value[n] == 0 and _ZERO_IS_OFF[n]:
                _mark(flag, n, _LEAD_OFF)
            if (value[n] < _LOW[n] or value[n] > _HIGH[n]) and not stopped:
                _mark(flag, n, _OUT_OF_RANGE)
        _contradict(value, flag, _LINE)
        _contradict(value, flag, _CUFF)
        for n in range(len(value)):
            stopped = (n == _HR and asystole[place]) or (n == _RR and apnoea[place])
            gap = now_s - good_s[row, n]
            if gap < np.inf and not stopped and abs(value[n] - good[row, n]) > _RATE[n] * max(gap, 0.5):
                _mark(flag, n, _TOO_FAST)
            if value[n] != raw[row, n] and not np.isnan(value[n]):
                raw[row, n], raw_since_s[row, n] = value[n], now_s
            if now_s - raw_since_s[row, n] > _FLAT_S[n] and value[n] != 0:
                _mark(flag, n, _FLAT)
        _compare_pulse(value, flag)
        for n in range(len(value)):
            fine = flag[n] == _GOOD
            clean[place, n] = value[n] if fine else np.nan
            if fine:
                good[row, n], good_s[row, n] = value[n], now_s


@jit
def _mark(flag, n, quality):  # type: ignore[no-untyped-def]
    """Set a flag where nothing was found before."""
    if flag[n] == _GOOD:
        flag[n] = quality


@jit
def _stops(value, good_s, flag):  # type: ignore[no-untyped-def]
    """Return whether heart and breath have stopped; mark a zero that is none as a lead off."""
    heart, breath = value[_HR], value[_RR]
    pulse = value[_PULSE] > 0 or value[_LINE[0]] - value[_LINE[2]] > _PULSATILE_MMHG
    asystole = heart == 0 and not pulse and np.isfinite(good_s[_HR])
    apnoea = breath == 0 and np.isfinite(good_s[_RR]) and (heart > 0 or pulse)
    if heart == 0 and not asystole:
        _mark(flag, _HR, _LEAD_OFF)
    if breath == 0 and not apnoea:
        _mark(flag, _RR, _LEAD_OFF)
    return asystole, apnoea


@jit
def _contradict(value, flag, triple):  # type: ignore[no-untyped-def]
    """Mark pressures whose mean does not lie between diastole and systole."""
    systole, mean, diastole = value[triple[0]], value[triple[1]], value[triple[2]]
    if mean > systole or mean < diastole or diastole >= systole:
        for n in triple:
            _mark(flag, n, _CONTRADICTED)


@jit
def _compare_pulse(value, flag):  # type: ignore[no-untyped-def]
    """Mark a pulse rate far from the heart rate; the heart rate itself stays, for it may be the true one."""
    if abs(value[_HR] - value[_PULSE]) > _PULSE_GAP and flag[_HR] == _GOOD:
        _mark(flag, _PULSE, _CONTRADICTED)

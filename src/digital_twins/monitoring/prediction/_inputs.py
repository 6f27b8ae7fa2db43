"""From the values of a stay so far to one row of inputs, the same for every predictor; NaN: not measured."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.monitoring.prediction._parameters import NUMBER, PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from digital_twins.monitoring.prediction._physionet import Stays

    Floats = NDArray[np.floating[Any]]

_MERGED = {"SBP": ("SysABP", "NISysABP"), "MBP": ("MAP", "NIMAP"), "DBP": ("DiasABP", "NIDiasABP")}
_SERIES = (*(each.name for each in PARAMETERS if each.kind != "fixed"), *_MERGED)
_VITALS = {*(each.name for each in PARAMETERS if each.kind == "vital"), *_MERGED}
_WHOLE = ("last", "first", "min", "max", "mean", "std", "slope_per_h", "count", "hours_since")
_PART = ("mean", "min", "max")
_WINDOWS_H = ((0, 6), (6, 12), (12, 24), (24, 36), (36, 48))


@dataclass(frozen=True, eq=False)
class StayInputs:
    """Inputs of the predictors.

    Attributes
    ----------
    names
        Name of each input: parameter, dot, statistic.
    values
        [stay, input]; NaN where nothing was measured.
    """

    names: tuple[str, ...]
    values: Floats


def predictor_inputs(stays: Stays, *, hours: float = 48.0, vitals_only: bool = False) -> StayInputs:
    """Return the inputs that are known ``hours`` after admission.

    Of every series: last, first, least, greatest, mean, standard deviation, slope, number and age of the last
    value; mean, least and greatest in windows of hours before now; change of the mean from the first to the
    second half. With all inputs also what is known at admission, ratios (shock index, PaO2/FiO2, urea to
    creatinine), urine per kg and ventilated hours.

    Parameters
    ----------
    stays
        As `read_stays` gives them.
    hours
        Nothing later is looked at.
    vitals_only
        Only heart rate, pressures, temperature, respiratory rate and saturation.
    """
    columns: dict[str, Floats] = {}
    for name in _SERIES:
        if not vitals_only or name in _VITALS:
            series = _one(stays, name, hours * 60)
            columns |= {
                f"{name}.{key}": each for key, each in _statistics(*series, len(stays), hours).items()
            }
    columns["shock.index"] = columns["HR.last"] / columns["SBP.last"]
    columns["shock.index_max"] = columns["HR.max"] / columns["SBP.min"]
    if not vitals_only:
        columns |= _more(stays, columns, hours)
    return StayInputs(tuple(columns), np.stack(list(columns.values()), axis=1))


def inputs_at(stays: Stays, hours: Sequence[float], *, vitals_only: bool) -> Floats:
    """Return the inputs that are known at each of several hours, [stay, hour, input], as 32-bit floats."""
    return np.stack(
        [
            predictor_inputs(stays, hours=each, vitals_only=vitals_only).values.astype(np.float32)
            for each in hours
        ],
        axis=1,
    )


def _one(stays: Stays, name: str, end: float) -> tuple[NDArray[np.int64], Floats, Floats]:
    sources = [NUMBER[each] for each in _MERGED.get(name, (name,))]
    keep = np.flatnonzero(np.isin(stays.parameter, sources) & (stays.minute <= end))
    if len(sources) > 1:
        keep = keep[np.lexsort((stays.minute[keep], stays.stay[keep]))]
    return stays.stay[keep], stays.minute[keep] / 60, stays.value[keep]


def _statistics(
    stay: NDArray[np.int64], hour: Floats, value: Floats, size: int, now: float
) -> dict[str, Floats]:
    names, nothing = (*_WHOLE, "change"), np.full(size, np.nan)
    found = dict.fromkeys(names, nothing)
    for begin, end in _WINDOWS_H:
        found |= {f"{key}_{begin}_{end}h": nothing for key in _PART}
    if not stay.size:
        return found | {"count": np.zeros(size)}
    rows, starts = np.unique(stay, return_index=True)
    ends = np.append(starts[1:], stay.size) - 1
    count, mean, low, high = _summary(stay, value, size)
    spread = np.sqrt(_sums(stay, (value - mean[stay]) ** 2, size) / np.maximum(count, 1))
    mid = _sums(stay, hour, size) / np.maximum(count, 1)
    away = hour - mid[stay]
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = _sums(stay, away * (value - mean[stay]), size) / _sums(stay, away**2, size)
    slope[~np.isfinite(slope)] = np.nan
    last, first, since = nothing.copy(), nothing.copy(), nothing.copy()
    last[rows], first[rows], since[rows] = value[ends], value[starts], now - hour[ends]
    spread[count == 0] = np.nan
    for key, each in zip(_WHOLE, (last, first, low, high, mean, spread, slope, count, since), strict=True):
        found[key] = each
    early = hour <= now / 2
    found["change"] = (
        _summary(stay[~early], value[~early], size)[1] - _summary(stay[early], value[early], size)[1]
    )
    for begin, end in _WINDOWS_H:
        inside = (now - hour >= begin) & (now - hour < end + (end == 48))
        parts = _summary(stay[inside], value[inside], size)[1:]
        found |= {f"{key}_{begin}_{end}h": each for key, each in zip(_PART, parts, strict=True)}
    return found


def _sums(stay: NDArray[np.int64], value: Floats, size: int) -> Floats:
    return np.bincount(stay, weights=value, minlength=size).astype(np.float64)


def _summary(stay: NDArray[np.int64], value: Floats, size: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return number, mean, least and greatest of each stay; ``stay`` is sorted."""
    count = _sums(stay, np.ones(stay.size), size)
    mean, low, high = (np.full(size, np.nan) for _ in range(3))
    if stay.size:
        rows, starts = np.unique(stay, return_index=True)
        mean[rows] = np.add.reduceat(value, starts) / count[rows]
        low[rows], high[rows] = np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts)
    return count, mean, low, high


def _more(stays: Stays, columns: dict[str, Floats], hours: float) -> dict[str, Floats]:
    fixed = {}
    for name in ("Age", "Gender", "Height", "ICUType"):
        stay, _, value = _one(stays, name, hours * 60)
        fixed[name] = np.full(len(stays), np.nan)
        fixed[name][stay] = value
    more = {f"{name}.fixed": fixed[name] for name in ("Age", "Gender", "Height")}
    more |= {f"ICUType.{unit}": (fixed["ICUType"] == unit).astype(np.float64) for unit in (1, 2, 3, 4)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        weight = columns["Weight.last"]
        urine = columns["Urine.count"] * np.nan_to_num(columns["Urine.mean"])
        more |= {
            "BMI.fixed": weight / (fixed["Height"] / 100) ** 2,
            "PF.last": columns["PaO2.last"] / columns["FiO2.last"],
            "PF.worst": columns["PaO2.min"] / columns["FiO2.max"],
            "BUN_creatinine.last": columns["BUN.last"] / columns["Creatinine.last"],
            "Urine.total": np.where(columns["Urine.count"] > 0, urine, np.nan),
            "Urine.ml_per_kg_h": np.where(columns["Urine.count"] > 0, urine, np.nan) / weight / hours,
        }
    stay, hour, _ = _one(stays, "MechVent", hours * 60)
    begin, end = _summary(stay, hour, len(stays))[2:]
    return more | {"MechVent.hours": np.nan_to_num(end - begin)}

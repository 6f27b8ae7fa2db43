"""NEWS2 of charted stays, each hour with the last known values: partial, as few stays hold every part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.monitoring.detection import news2
from digital_twins.monitoring.prediction._parameters import NUMBER
from digital_twins.monitoring.prediction._physionet import HOURS
from digital_twins.monitoring.signals import COLUMN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from digital_twins.monitoring.prediction._physionet import Stays

    Floats = NDArray[np.floating[Any]]

_VITALS = {
    "HR": "HR",
    "SysABP": "ART_SYS",
    "NISysABP": "NIBP_SYS",
    "RespRate": "RR",
    "SaO2": "SPO2",
    "Temp": "TEMP",
}
_OTHERS = {"FiO2": "FIO2", "GCS": "ACVPU"}


@dataclass(frozen=True, eq=False)
class PartialNews2:
    """Partial NEWS2 of stays.

    Attributes
    ----------
    mean
        Over the hours of the stay, [stay].
    highest
        Of the hours since the previous watched hour, [stay, watched hour].
    complete
        Share of stay-hours in which every part of the score was known.
    """

    mean: Floats
    highest: Floats
    complete: float


def hourly(stays: Stays, name: str) -> Floats:
    """Return the last value of a parameter until the end of each hour, [stay, 48]; NaN before the first."""
    keep = stays.parameter == NUMBER[name]
    table = np.full((len(stays), HOURS), np.nan)
    hour = np.minimum(stays.minute[keep] / 60, HOURS - 1).astype(np.int64)
    table[stays.stay[keep], hour] = stays.value[keep]
    place = np.where(np.isfinite(table), np.arange(HOURS), 0)
    return np.take_along_axis(table, np.maximum.accumulate(place, axis=1), axis=1)


def partial_news2(stays: Stays, watched_h: Sequence[int], *, vitals_only: bool) -> PartialNews2:
    """Return the scores of stays, hour by hour, at the end of each watched span.

    With vitals only, consciousness and oxygen are unknown; else GCS below 15 is not alert and FiO2 above
    0.21 is oxygen. Arterial saturation stands for pulse oximetry, which these records lack.
    """
    score, complete = hourly_news2(stays, vitals_only=vitals_only)
    begins = (0, *watched_h[:-1])
    highest = [score[:, a:b].max(axis=1) for a, b in zip(begins, watched_h, strict=True)]
    return PartialNews2(score.mean(axis=1), np.stack(highest, axis=1), complete)


def hourly_news2(stays: Stays, *, vitals_only: bool) -> tuple[Floats, float]:
    """Return partial NEWS2 [stay, 48] and the share of stay-hours in which it is complete."""
    values = np.full((len(stays) * HOURS, len(COLUMN)), np.nan)
    for name, code in (_VITALS if vitals_only else _VITALS | _OTHERS).items():
        column = hourly(stays, name).ravel()
        if name == "FiO2":
            column = column * 100
        if name == "GCS":
            column = np.where(np.isnan(column), np.nan, (column < 15).astype(np.float64))
        values[:, COLUMN[code]] = column
    found = news2(values)
    return found.score.reshape(len(stays), HOURS), float(found.complete.mean())

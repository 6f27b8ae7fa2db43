"""National Early Warning Score 2 (Royal College of Physicians, London 2017), both scales of saturation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import COLUMN, jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PARTS = ("RR", "SPO2", "OXYGEN", "SBP", "PULSE", "CONSCIOUSNESS", "TEMP")
"""What the score is made of, in order."""


@dataclass(frozen=True, eq=False)
class News2:
    """Scores of patients.

    Attributes
    ----------
    score
        Sum of the parts that are known, [row].
    parts
        Points of each part, [row, 7] as `PARTS`; NaN where it is not known.
    complete
        Whether all parts are known, [row]. An incomplete score is a lower bound.
    red
        Whether a single part has 3 points, [row].
    """

    score: Floats
    parts: Floats
    complete: NDArray[np.bool_]
    red: NDArray[np.bool_]

    def risk(self) -> list[str]:
        """Return ``low``, ``low-medium``, ``medium`` or ``high`` for each row, as the score's own table."""
        return [
            "high" if score >= 7 else "medium" if score >= 5 else "low-medium" if red else "low"
            for score, red in zip(self.score, self.red, strict=True)
        ]


def news2(values: Floats, *, scale: NDArray[np.intp] | int = 1) -> News2:
    """Return the score of vital signs.

    Rates, saturation and pressure are rounded to whole numbers and the temperature to a tenth, as charted.
    Pulse is the heart rate, else the pulse rate; pressure the line's, else the cuff's. FiO2 over 21 % is
    oxygen, and no FiO2 at all is air. Consciousness that nobody charted leaves the score incomplete.

    Parameters
    ----------
    values
        [row, vital], columns as `VITALS`; NaN: not known.
    scale
        1, or 2 for hypercapnic failure as a clinician prescribed; [row] or one for all.
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    count = len(values)
    parts, score = np.empty((count, len(PARTS))), np.empty(count)
    complete, red = np.empty(count, dtype=np.bool_), np.empty(count, dtype=np.bool_)
    scales = np.ascontiguousarray(np.broadcast_to(np.asarray(scale, dtype=np.intp), (count,)))
    _score(values, scales, parts, score, complete, red)
    return News2(score, parts, complete, red)


_NAMES = ("RR", "SPO2", "FIO2", "ART_SYS", "NIBP_SYS", "HR", "PULSE", "ACVPU", "TEMP")
_RR, _SPO2, _FIO2, _ART, _CUFF, _HR, _PULSE, _ACVPU, _TEMP = (COLUMN[each] for each in _NAMES)
# the highest values of all bands but the last, and the points of each band
_BREATH = np.array([8.0, 11.0, 20.0, 24.0]), np.array([3.0, 1.0, 0.0, 2.0, 3.0])
_FIRST = np.array([91.0, 93.0, 95.0]), np.array([3.0, 2.0, 1.0, 0.0])
_ON_AIR = np.array([83.0, 85.0, 87.0]), np.array([3.0, 2.0, 1.0, 0.0])
_ON_OXYGEN = (
    np.array([83.0, 85.0, 87.0, 92.0, 94.0, 96.0]),
    np.array([3.0, 2.0, 1.0, 0.0, 1.0, 2.0, 3.0]),
)
_PRESSURE = np.array([90.0, 100.0, 110.0, 219.0]), np.array([3.0, 2.0, 1.0, 0.0, 3.0])
_HEART = np.array([40.0, 50.0, 90.0, 110.0, 130.0]), np.array([3.0, 1.0, 0.0, 1.0, 2.0, 3.0])
_HEAT = np.array([350.0, 360.0, 380.0, 390.0]), np.array([3.0, 1.0, 0.0, 1.0, 2.0])


@jit
def _banded(value, edges, points):  # type: ignore[no-untyped-def]
    """Return the points of the band of a value; NaN stays."""
    if np.isnan(value):
        return np.nan
    place = 0
    while place < len(edges) and edges[place] < value:
        place += 1
    return points[place]


@jit
def _either(first, second):  # type: ignore[no-untyped-def]
    return second if np.isnan(first) else first


@jit
def _score(values, scales, parts, score, complete, red):  # type: ignore[no-untyped-def]
    for row in range(len(values)):
        value, part = values[row], parts[row]
        oxygen = value[_FIO2] > 21.5
        saturation = np.rint(value[_SPO2])
        part[0] = _banded(np.rint(value[_RR]), _BREATH[0], _BREATH[1])
        if scales[row] != 2:
            part[1] = _banded(saturation, _FIRST[0], _FIRST[1])
        elif oxygen:
            part[1] = _banded(saturation, _ON_OXYGEN[0], _ON_OXYGEN[1])
        else:
            part[1] = _banded(saturation, _ON_AIR[0], _ON_AIR[1])
        part[2] = 2.0 if oxygen else 0.0
        part[3] = _banded(np.rint(_either(value[_ART], value[_CUFF])), _PRESSURE[0], _PRESSURE[1])
        part[4] = _banded(np.rint(_either(value[_HR], value[_PULSE])), _HEART[0], _HEART[1])
        part[5] = np.nan if np.isnan(value[_ACVPU]) else 3.0 if value[_ACVPU] > 0 else 0.0
        part[6] = _banded(np.rint(value[_TEMP] * 10), _HEAT[0], _HEAT[1])
        score[row], complete[row], red[row] = 0.0, True, False
        for each in part:
            if np.isnan(each):
                complete[row] = False
            else:
                score[row] += each
                red[row] |= each == 3.0

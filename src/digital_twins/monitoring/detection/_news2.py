"""National Early Warning Score 2 (Royal College of Physicians, London 2017), both scales of saturation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import COLUMN

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


def _banded(values: Floats, edges: tuple[float, ...], points: tuple[int, ...]) -> Floats:
    """Return the points of the band of each value; ``edges`` are the highest values of all but the last."""
    place = np.searchsorted(np.array(edges), np.nan_to_num(values))
    return np.where(np.isnan(values), np.nan, np.array(points, dtype=np.float64)[place])


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
    column = {code: values[:, number] for code, number in COLUMN.items()}
    oxygen = np.nan_to_num(column["FIO2"], nan=21.0) > 21.5
    saturation = np.rint(column["SPO2"])
    first = _banded(saturation, (91, 93, 95), (3, 2, 1, 0))
    on_air = _banded(saturation, (83, 85, 87), (3, 2, 1, 0))
    on_oxygen = _banded(saturation, (83, 85, 87, 92, 94, 96), (3, 2, 1, 0, 1, 2, 3))
    second = np.where(oxygen, on_oxygen, on_air)
    systolic = np.rint(_either(column["ART_SYS"], column["NIBP_SYS"]))
    pulse = np.rint(_either(column["HR"], column["PULSE"]))
    parts = np.stack(
        [
            _banded(np.rint(column["RR"]), (8, 11, 20, 24), (3, 1, 0, 2, 3)),
            np.where(np.asarray(scale) == 2, second, first),
            np.where(oxygen, 2.0, 0.0),
            _banded(systolic, (90, 100, 110, 219), (3, 2, 1, 0, 3)),
            _banded(pulse, (40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3)),
            np.where(np.isnan(column["ACVPU"]), np.nan, np.where(column["ACVPU"] > 0, 3.0, 0.0)),
            _banded(np.rint(column["TEMP"] * 10), (350, 360, 380, 390), (3, 1, 0, 1, 2)),
        ],
        axis=1,
    )
    known = np.isfinite(parts)
    return News2(np.nansum(parts, axis=1), parts, known.all(axis=1), (parts == 3).any(axis=1))


def _either(first: Floats, second: Floats) -> Floats:
    return np.where(np.isnan(first), second, first)

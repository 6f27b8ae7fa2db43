"""Features that clinicians read from vital signs, for the anomaly detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.detection._news2 import news2
from digital_twins.monitoring.signals import COLUMN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEATURES = (
    "heart_rate",
    "saturation",
    "respiratory_rate",
    "temperature",
    "mean_pressure",
    "pulse_pressure",
    "shock_index",
    "rox_index",
    "news2",
)
"""Names of the columns of `features`: rates in /min, saturation in %, pressures in mmHg; the shock index is
heart rate over systolic pressure, the ROX index SpO2 (%) over FiO2 (share) over respiratory rate."""

# what stands for a value that is missing: the middle of health, which makes no anomaly
_HEALTH = np.array([75.0, 97.0, 15.0, 37.0, 90.0, 42.0, 0.62, 30.0, 0.0])


def features(values: Floats) -> Floats:
    """Return the features of vital signs [row, vital], [row, 9]; what is missing counts as healthy."""
    column = {code: values[:, number] for code, number in COLUMN.items()}
    heart = _either(column["HR"], column["PULSE"])
    systolic = _either(column["ART_SYS"], column["NIBP_SYS"])
    diastolic = _either(column["ART_DIA"], column["NIBP_DIA"])
    breath = np.where(column["RR"] > 0, column["RR"], np.nan)
    oxygen = np.nan_to_num(column["FIO2"], nan=21.0)
    table = np.stack(
        [
            heart,
            column["SPO2"],
            column["RR"],
            column["TEMP"],
            _either(column["ART_MEAN"], column["NIBP_MEAN"]),
            systolic - diastolic,
            heart / np.where(systolic > 0, systolic, np.nan),
            column["SPO2"] / (oxygen / 100.0) / breath,
            news2(values).score,
        ],
        axis=1,
    )
    return np.where(np.isfinite(table), table, _HEALTH)


def _either(first: Floats, second: Floats) -> Floats:
    return np.where(np.isnan(first), second, first)

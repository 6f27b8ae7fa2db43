"""Prediction: an ensemble over what is believed of the parameters."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.imaging import Mask, Volume, as_mask
from digital_twins.models import summarise_ensemble
from digital_twins.patient_modeling._simulator import DETECTION_THRESHOLD
from digital_twins.units import MM3_PER_CM3

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    import xarray as xr

    from digital_twins.calibration import Belief
    from digital_twins.patient_modeling._simulator import Simulator
    from digital_twins.records import Treatment

FloatArray = NDArray[np.float64]

MOST_SAMPLES = 1000
_LONGEST_DAYS = 3653.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """Evolution of a tumour, past and future, with its uncertainty.

    Attributes
    ----------
    days
        Days since the twin's baseline, from 0 to ``origin_day + horizon``.
    origin_day
        The twin's "now": its last observation. Days up to it are the model's account of the past; planned
        treatments begin on it.
    volume_cm3, low_cm3, high_cm3
        Median and central ``interval`` of the visible volume: above the detection threshold, dead cells
        that are not cleared yet included. They hold the uncertainty of parameters and baseline
        volume, not that of a future segmentation.
    samples_cm3
        [sample, day]: volumes of each member of the ensemble, for derived endpoints.
    treatments
        What was planned, laid out in days since baseline.
    model_version, input_hash
        Version of the twin, and SHA-256 over it, the treatments, horizon and seed.
    """

    twin_id: str
    days: FloatArray
    origin_day: float
    volume_cm3: FloatArray
    low_cm3: FloatArray
    high_cm3: FloatArray
    interval: float
    samples_cm3: FloatArray
    treatments: tuple[Treatment, ...]
    model_version: int
    input_hash: str
    domain: Mask
    probability: NDArray[np.float32]
    mean_density: NDArray[np.float32]

    def mask_at(self, day: float) -> Mask:
        """Tumour on a day: voxels that show tumour in at least half of the ensemble.

        Between output days the probability is interpolated. The mask may be empty. On the model grid.

        Raises
        ------
        InputError
            When the day is not covered.
        """
        from digital_twins.records import NEOPLASM

        return as_mask(self._plain, self._between(self.probability, day) >= 0.5, meaning=NEOPLASM)

    def probability_at(self, day: float) -> Volume:
        """Share of the ensemble in which a voxel shows tumour, 0..1, on the model grid."""
        return self._plain.with_array(self._between(self.probability, day))

    def density_at(self, day: float) -> Volume:
        """Mean density of living tumour cells as a part of the carrying capacity, on the model grid."""
        return self._plain.with_array(self._between(self.mean_density, day))

    def to_dataframe(self, *, samples: bool = False) -> pd.DataFrame:
        """Return the days as a pandas DataFrame, or every member of the ensemble on every day.

        Raises
        ------
        MissingExtraError
            Without pandas (``pip install 'digital-twins[dataframe]'``).
        """
        from digital_twins.patient_modeling._frames import prediction_frame

        return prediction_frame(self, samples=samples)

    def to_xarray(self) -> xr.Dataset:
        """Return volumes, probability and mean density as an xarray Dataset with coordinates and units.

        Raises
        ------
        MissingExtraError
            Without xarray (``pip install 'digital-twins[xarray]'``).
        """
        from digital_twins.patient_modeling._frames import prediction_dataset

        return prediction_dataset(self)

    def __repr__(self) -> str:
        return (
            f"<Prediction of twin {self.twin_id[:8]} version {self.model_version}: day {self.days[-1]:g}, "
            f"{self.volume_cm3[-1]:.2f} cm3 ({self.low_cm3[-1]:.2f} to {self.high_cm3[-1]:.2f})>"
        )

    def _repr_html_(self) -> str:
        from digital_twins.patient_modeling._card import prediction_card

        return prediction_card(self)

    @property
    def _plain(self) -> Volume:
        return Volume(
            self.domain.array,
            self.domain.affine,
            frame_of_reference_uid=self.domain.frame_of_reference_uid,
            patient_id=self.domain.patient_id,
        )

    def _between(self, fields: NDArray[np.float32], day: float) -> NDArray[np.float32]:
        if not (self.days[0] <= day <= self.days[-1]):
            raise InputError(
                "The prediction does not cover this day.",
                f"It runs from day {self.days[0]:g} to day {self.days[-1]:g}; asked was day {day:g}.",
                "Predict with a longer horizon.",
            )
        after = min(int(np.searchsorted(self.days, day)), self.days.size - 1)
        if self.days[after] == day:
            return np.asarray(fields[after])
        span = self.days[after] - self.days[after - 1]
        share = np.float32((day - self.days[after - 1]) / span)
        return np.asarray((1 - share) * fields[after - 1] + share * fields[after], dtype=np.float32)


def output_days(origin_day: float, horizon_days: float, interval_days: float) -> FloatArray:
    """Days of a prediction: regular before and after the origin, both ends and the origin included.

    Raises
    ------
    InputError
        When horizon or interval are not positive, too long, or give more than 1,000 days.
    """
    usable = math.isfinite(horizon_days) and 0.0 < horizon_days <= _LONGEST_DAYS
    if not usable or not (math.isfinite(interval_days) and interval_days > 0.0):
        raise InputError(
            "The horizon of the prediction cannot be used.",
            f"Horizon {horizon_days:g} days, output every {interval_days:g} days.",
            f"Use a horizon of up to {_LONGEST_DAYS:.0f} days and a positive output interval.",
        )
    if (origin_day + horizon_days) / interval_days > 1000:
        raise InputError(
            "The prediction would have more than 1,000 output days.",
            f"The output interval is {interval_days:g} days.",
            "Use a longer output interval.",
        )
    end = origin_day + horizon_days
    past = np.arange(0.0, origin_day, interval_days)
    future = np.arange(origin_day, end - 1e-6, interval_days)
    return np.unique(np.concatenate([past, future, [end]]))


def run_ensemble(
    simulator: Simulator,
    parameters: Sequence[dict[str, float]],
    treatments: Sequence[Treatment],
    days: FloatArray,
    *,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[FloatArray, NDArray[np.float32], NDArray[np.float32]]:
    """Solve once a parameter set; return volumes [sample, day], probability and mean density [day, ...]."""
    summary = summarise_ensemble(
        [functools.partial(simulator.observed, values, treatments, days) for values in parameters],
        simulator.solver_domain,
        days,
        level=DETECTION_THRESHOLD,
        progress=progress,
    )
    return summary.volume_mm3 / MM3_PER_CM3, summary.share_above, summary.mean_density


def ensemble(belief: Belief, count: int, *, seed: int) -> list[dict[str, float]]:
    """Parameter sets of an ensemble.

    Raises
    ------
    InputError
        When the count is out of range.
    """
    if not 8 <= count <= MOST_SAMPLES:
        raise InputError(
            f"An ensemble of {count} samples cannot be used.",
            "Intervals need some samples, and the memory has an end.",
            f"Use 8 to {MOST_SAMPLES} samples.",
        )
    return belief.sample(count, seed=seed)

"""How well a twin would have foretold its own last scan, had it not seen it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins.imaging import as_mask

if TYPE_CHECKING:
    from digital_twins.patient_modeling import PatientTwin

_LEAST_VISITS = 2


@dataclass(frozen=True, slots=True)
class Hindcast:
    """The last follow-up, forecast from the scans before it.

    Parameters
    ----------
    day
        Day of the scan that was held back.
    observed_cm3
        Its segmented volume.
    forecast_cm3, low_cm3, high_cm3
        Median and 95 % interval of the forecast.
    trained_on
        Number of scans used.
    """

    day: float
    observed_cm3: float
    forecast_cm3: float
    low_cm3: float
    high_cm3: float
    trained_on: int

    @property
    def inside(self) -> bool:
        """Whether the interval held the observation."""
        return self.low_cm3 <= self.observed_cm3 <= self.high_cm3


def hindcast(twin: PatientTwin, *, seed: int = 0) -> Hindcast | None:
    """Calibrate the twin again without its last scan and forecast that scan.

    Parameters
    ----------
    twin
        Stays as it is.
    seed
        Of the forecast's ensemble.

    Returns
    -------
    Hindcast or None
        None with fewer than two follow-up scans: there is nothing to hold back.
    """
    if len(twin.visits) < _LEAST_VISITS:
        return None
    *earlier, last = sorted(twin.visits, key=lambda visit: visit.day)
    again = twin.branch(twin.history[0].version, "hindcast")
    scans = [(visit.day, as_mask(twin.domain, visit.mask, meaning=twin.lesion.meaning)) for visit in earlier]
    given = [each for each in twin.treatment_history if (each.first_day or 0.0) <= last.day]
    again.calibrate(scans, given, seed=seed)
    horizon = last.day - again.origin_day
    prediction = again.predict(horizon, output_interval_days=horizon, seed=seed)
    return Hindcast(
        last.day,
        last.volume_cm3,
        float(prediction.volume_cm3[-1]),
        float(prediction.low_cm3[-1]),
        float(prediction.high_cm3[-1]),
        len(earlier),
    )

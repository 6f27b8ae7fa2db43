"""A reaction-diffusion model that is calibrated on a patient's images: the short way to a twin."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from digital_twins._errors import InputError
from digital_twins.models import ReactionDiffusionModel as Equation
from digital_twins.patient_modeling._pipeline import TumorTwinPipeline
from digital_twins.patient_modeling._priors import DIFFUSION, PROLIFERATION, growth_priors, tumour_family

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from digital_twins.calibration import Prior
    from digital_twins.imaging import ImagingVisit, PatientData
    from digital_twins.patient_modeling._calibrate import CalibrationSettings
    from digital_twins.patient_modeling._predict import Prediction
    from digital_twins.patient_modeling._snapshot import CalibrationResult
    from digital_twins.patient_modeling._twin import PatientTwin
    from digital_twins.records import Treatment

OptimizationMethod = Literal["lm", "map", "bayesian"]
METHODS = ("lm", "map", "bayesian")
_WINDOW_DAYS = 7.0
_NO_ID = "UNNAMED"


class ReactionDiffusionModel:
    """Growth of one patient's tumour, ``dN/dt = div(D grad N) + k N (1 - N/theta)``, from images to forecast.

    The numbers given are where the calibration starts: the medians of the priors of D and k (their spreads
    stay those of the tumour's family). :meth:`calibrate` builds a :class:`PatientTwin` from
    :class:`digital_twins.imaging.PatientData` and fits it; :meth:`predict` asks that twin, which is there as
    ``twin`` for everything else. The equation itself, which knows no patient and takes plain arrays, is
    :class:`digital_twins.models.ReactionDiffusionModel`.

    Parameters
    ----------
    diffusion_coefficient
        D in mm2/day, positive.
    proliferation_rate
        k in 1/day, positive.
    carrying_capacity
        theta in any unit of cell density. The twin computes with N/theta, so volumes do not depend on it.
    clinical_data
        As for :meth:`TumorTwinPipeline.create_twin`; ``{"tumor_type": "glioma"}`` if not given.
    solver
        As for :class:`TumorTwinPipeline`.

    Raises
    ------
    InputError
        When a number is outside the bounds of its prior.
    """

    def __init__(
        self,
        diffusion_coefficient: float,
        proliferation_rate: float,
        carrying_capacity: float = 1.0,
        *,
        clinical_data: Mapping[str, Any] | None = None,
        solver: str = "cpu",
    ) -> None:
        Equation(float(diffusion_coefficient), float(proliferation_rate), float(carrying_capacity))
        self.diffusion_coefficient = float(diffusion_coefficient)
        self.proliferation_rate = float(proliferation_rate)
        self.carrying_capacity = float(carrying_capacity)
        self.clinical_data = dict(clinical_data or {"tumor_type": "glioma"})
        starts = {DIFFUSION: self.diffusion_coefficient, PROLIFERATION: self.proliferation_rate}
        own = [
            _started(prior, starts[prior.name])
            for prior in growth_priors(tumour_family(self.clinical_data))
            if prior.name in starts
        ]
        self._pipeline = TumorTwinPipeline(solver=solver, priors=own)
        self._twin: PatientTwin | None = None

    def __repr__(self) -> str:
        state = "not calibrated" if self._twin is None else repr(self._twin)
        return (
            f"ReactionDiffusionModel(diffusion_coefficient={self.diffusion_coefficient:g}, "
            f"proliferation_rate={self.proliferation_rate:g}, "
            f"carrying_capacity={self.carrying_capacity:g}): {state}"
        )

    @property
    def twin(self) -> PatientTwin:
        """The calibrated twin.

        Raises
        ------
        InputError
            Before :meth:`calibrate`.
        """
        if self._twin is None:
            raise InputError(
                "The model is not calibrated.",
                "It knows no patient yet.",
                "Call calibrate(patient_data=..., longitudinal_timepoints=[...]) first.",
            )
        return self._twin

    def calibrate(
        self,
        patient_data: PatientData,
        longitudinal_timepoints: Sequence[float] | None = None,
        *,
        optimization_method: OptimizationMethod = "bayesian",
        treatment_history: Sequence[Mapping[str, Any] | Treatment] = (),
        settings: CalibrationSettings | None = None,
        seed: int = 0,
        progress: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> CalibrationResult:
        """Build the patient's twin on the first visit and fit it to the later ones.

        Parameters
        ----------
        patient_data
            Images and outlines. Where it holds no domain, one is derived from the first visit's image.
        longitudinal_timepoints
            Nominal days of the visits to use, rising from 0; each takes the visit nearest to it within 7
            days, with the day on which that visit really was. All visits if not given.
        optimization_method
            ``"lm"``, ``"map"`` or ``"bayesian"``: see :meth:`PatientTwin.calibrate`.
        treatment_history
            Treatments given meanwhile, in days since the first visit.
        settings
            As for :meth:`PatientTwin.calibrate`.

        Raises
        ------
        InputError
            When time points do not rise from 0 or have no visit, a visit has no outline, the method is not
            known, or the twin refuses the data.
        """
        if optimization_method not in METHODS:
            raise InputError(
                f"The optimization method '{str(optimization_method)[:40]}' is not known.",
                f"This version has: {', '.join(METHODS)}.",
                "Pass optimization_method='bayesian'.",
            )
        chosen = _chosen(patient_data, longitudinal_timepoints)
        first, *later = [_outlined(visit) for visit in chosen]
        twin = self._pipeline.create_twin(
            patient_data.patient_id or _NO_ID,
            dict(first.images),
            first.lesion,
            clinical_data=self.clinical_data,
            domain=patient_data.domain,
            baseline=patient_data.baseline,
            seed=seed,
        )
        result = twin.calibrate(
            [(visit.day, visit.lesion) for visit in later],
            treatment_history,
            method=optimization_method,
            settings=settings,
            seed=seed,
            progress=progress,
            cancelled=cancelled,
        )
        self._twin = twin
        return result

    def predict(
        self,
        horizon_days: float,
        output_interval: float = 7.0,
        *,
        treatments: Sequence[Mapping[str, Any] | Treatment] = (),
        interval: float = 0.95,
        samples: int = 48,
        seed: int = 0,
    ) -> Prediction:
        """Forecast from the last visit on; see :meth:`PatientTwin.predict`.

        Parameters
        ----------
        horizon_days
            Days after the last visit.
        output_interval
            Days between outputs.

        Raises
        ------
        InputError
            Before :meth:`calibrate`, or when the twin refuses a number.
        """
        return self.twin.predict(
            horizon_days,
            treatments=treatments,
            output_interval_days=output_interval,
            interval=interval,
            samples=samples,
            seed=seed,
        )


def _started(prior: Prior, value: float) -> Prior:
    """Return the prior with its median at the given value, which its bounds must allow."""
    if not prior.low <= value <= prior.high:
        raise InputError(
            f"The starting value {value:g} of {prior.name} cannot be used.",
            f"The prior allows {prior.low:g} to {prior.high:g} {prior.unit}.",
            "Give a value within these bounds.",
        )
    return replace(prior, median=value, source="starting value given by the caller; spread of its family")


def _chosen(data: PatientData, days: Sequence[float] | None) -> list[ImagingVisit]:
    """Return the visits of the time points, each once, the first visit first."""
    if days is None:
        return list(data.visits)
    numbers = [float(day) for day in days]
    rising = all(b > a for a, b in pairwise(numbers))
    if len(numbers) < 2 or numbers[0] != 0.0 or not rising or not all(map(math.isfinite, numbers)):
        raise InputError(
            "The time points cannot be used.",
            f"They are {numbers}; at least two are needed, and they must rise from 0.",
            "Give days since the first visit, e.g. [0, 30, 60].",
        )
    chosen: list[ImagingVisit] = []
    for day in numbers:
        nearest = min(data.visits, key=lambda visit: abs(visit.day - day))
        if abs(nearest.day - day) > _WINDOW_DAYS or nearest in chosen:
            listed = ", ".join(f"{visit.day:g}" for visit in data.visits)
            raise InputError(
                f"The patient has no visit of its own for day {day:g}.",
                f"The visits are of day {listed}; a time point takes one within {_WINDOW_DAYS:g} days.",
                "Add the follow-up with PatientData.with_visit(day, ...), a DICOM SEG beside the images, or "
                "leave the time point out.",
            )
        chosen.append(nearest)
    return chosen


def _outlined(visit: ImagingVisit) -> ImagingVisit:
    if visit.lesion is None:
        raise InputError(
            f"The visit of day {visit.day:g} has no outline of the lesion.",
            "No segmentation lies beside its images, and without T1 before and after contrast none is made.",
            "Pass segmentation_path=..., or PatientData.with_visit(day, lesion=...).",
        )
    return visit

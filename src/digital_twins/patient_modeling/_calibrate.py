"""Calibration of a twin: volumes of the visits against the model's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins.calibration import Estimate, fit_least_squares
from digital_twins.patient_modeling._forcing import refuse_unsimulated
from digital_twins.patient_modeling._priors import (
    ALPHA,
    BASELINE_SCALE,
    DIFFUSION,
    DRUG,
    PROLIFERATION,
    VOLUME_LOG_SD,
    drug_prior,
)
from digital_twins.patient_modeling._simulator import DETECTION_THRESHOLD
from digital_twins.patient_modeling._snapshot import CalibrationResult
from digital_twins.patient_modeling._treatment_priors import informed_by, treatment_priors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from digital_twins.calibration import Belief, Fit
    from digital_twins.patient_modeling._scans import Visit
    from digital_twins.patient_modeling._simulator import Simulator
    from digital_twins.records import Treatment

FloatArray = NDArray[np.float64]


def prior_belief(belief: Belief, treatments: Sequence[Treatment]) -> Belief:
    """Return the belief of the priors alone, with a sensitivity for each drug that was given."""
    fresh = type(belief).from_priors(belief.priors)
    for treatment in treatments:
        if treatment.kind == "chemotherapy" and treatment.drug:
            fresh = fresh.with_prior(drug_prior(f"{DRUG}:{treatment.drug}"))
    for prior in treatment_priors(treatments):
        fresh = fresh.with_prior(prior)
    return fresh


def informed_names(treatments: Sequence[Treatment], last_day: float) -> tuple[str, ...]:
    """Names of the parameters that the visits can inform: growth, and what was given before the last one."""
    names = [DIFFUSION, PROLIFERATION, BASELINE_SCALE]
    if any(f.day < last_day for t in treatments for f in t.fractions):
        names.append(ALPHA)
    drugs = {
        t.drug for t in treatments if t.kind == "chemotherapy" and any(d.day < last_day for d in t.doses)
    }
    names += [f"{DRUG}:{drug}" for drug in sorted(d for d in drugs if d)]
    return (*names, *informed_by(treatments, last_day))


class Likelihood:
    """Residuals log(modelled / segmented volume) / 0.1 of the visits.

    Noise model: every segmented volume, the baseline's too, is the true one times a log-normal factor with a
    standard deviation of 0.1; the baseline's factor is the parameter ``baseline_volume_scale``.
    """

    def __init__(
        self, simulator: Simulator, visits: Sequence[Visit], treatments: Sequence[Treatment], belief: Belief
    ) -> None:
        self._simulator = simulator
        self._treatments = treatments
        self._fixed = belief.values
        self._days = np.array([v.day for v in visits])
        self._observed = np.log([v.volume_cm3 for v in visits])

    def __call__(self, parameters: Mapping[str, float]) -> FloatArray:
        """Residuals in standard deviations, one a visit, visits in order of day."""
        named = {**self._fixed, **parameters}
        states = self._simulator.states(named, self._treatments, self._days)
        volumes = np.array([self._simulator.traced_volume_cm3(state) for _, state in states])
        return np.asarray((np.log(volumes) - self._observed) / VOLUME_LOG_SD)


def calibrate(
    simulator: Simulator,
    visits: Sequence[Visit],
    treatments: Sequence[Treatment],
    belief: Belief,
    *,
    max_iterations: int = 30,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Belief, Fit]:
    """Fit from the priors to all visits (in order of day); return the new belief and the fit."""
    refuse_unsimulated(treatments)
    fresh = prior_belief(belief, treatments)
    names = informed_names(treatments, visits[-1].day)
    priors = [p for p in fresh.priors if p.name in names]
    fit = fit_least_squares(
        Likelihood(simulator, visits, treatments, fresh),
        priors,
        max_iterations=max_iterations,
        progress=progress,
        cancelled=cancelled,
    )
    return fresh.updated(fit.names, fit.log_mean, fit.log_covariance), fit


def current_volume(belief: Belief, visits: Sequence[Visit], fit: Fit) -> Estimate:
    """Modelled volume on the last visit's day, its interval by the delta method on the Laplace covariance."""
    log_volume = float(np.log(visits[-1].volume_cm3) + VOLUME_LOG_SD * fit.residuals[-1])
    slope = fit.jacobian[-1] * VOLUME_LOG_SD
    spread = math.sqrt(max(float(slope @ fit.log_covariance @ slope), 0.0))
    return volume_estimate(math.exp(log_volume), spread, source="modelled on the last visit's day")


def volume_estimate(volume_cm3: float, log_sd: float, *, source: str) -> Estimate:
    """A volume with a log-normal 95 % interval."""
    width = 1.959963984540054 * log_sd
    return Estimate(
        value=volume_cm3,
        standard_deviation=volume_cm3 * log_sd,
        low=volume_cm3 * math.exp(-width),
        high=volume_cm3 * math.exp(width),
        unit="cm3",
        fixed=False,
        source=source,
    )


def summary(
    simulator: Simulator,
    visits: Sequence[Visit],
    treatments: Sequence[Treatment],
    belief: Belief,
    *,
    fit: Fit,
    version: int,
) -> CalibrationResult:
    """Compare the calibrated model with every visit."""
    days = np.array([v.day for v in visits])
    volumes, overlaps = [], []
    for (_, state), visit in zip(simulator.states(belief.values, treatments, days), visits, strict=True):
        modelled = state[1:-1, 1:-1, 1:-1] >= DETECTION_THRESHOLD
        both = np.count_nonzero(modelled & visit.mask)
        overlaps.append(2.0 * int(both) / int(np.count_nonzero(modelled) + np.count_nonzero(visit.mask) or 1))
        volumes.append(simulator.volume_cm3(state))
    return CalibrationResult(
        version=version,
        estimates=belief.estimates(),
        days=tuple(float(d) for d in days),
        observed_cm3=tuple(v.volume_cm3 for v in visits),
        modelled_cm3=tuple(volumes),
        dice=tuple(overlaps),
        residuals=tuple(float(r) for r in fit.residuals),
        cost=fit.cost,
        evaluations=fit.evaluations,
        converged=fit.converged,
        message=fit.message,
        identifiability=fit.notes,
    )

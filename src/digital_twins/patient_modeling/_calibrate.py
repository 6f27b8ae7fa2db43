"""Calibration of a twin: what the visits show against the model."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.calibration import (
    Estimate,
    Particles,
    SamplerOptions,
    covariance_root,
    fit_least_squares,
    identifiability,
    sample_posterior,
)
from digital_twins.patient_modeling._forcing import refuse_unsimulated
from digital_twins.patient_modeling._observations import DEFAULT_OBSERVATIONS, OBSERVATIONS, Likelihood
from digital_twins.patient_modeling._priors import (
    BASELINE_SCALE,
    DIFFUSION,
    DRUG,
    PROLIFERATION,
    drug_prior,
)
from digital_twins.patient_modeling._radiation_priors import ALPHA, CLEARANCE
from digital_twins.patient_modeling._simulator import DETECTION_THRESHOLD
from digital_twins.patient_modeling._snapshot import CalibrationResult, SamplingReport
from digital_twins.patient_modeling._treatment_priors import informed_by, treatment_priors
from digital_twins.patient_modeling._volume_noise import volume_log_sd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from digital_twins.calibration import Belief, Fit, Identifiability, Prior
    from digital_twins.patient_modeling._scans import Visit
    from digital_twins.patient_modeling._simulator import Simulator
    from digital_twins.records import Treatment

FloatArray = NDArray[np.float64]

METHODS = ("map", "lm", "bayesian")
"""Posterior mode with Laplace's interval, bounded likelihood alone, and samples of the posterior."""
JACOBIANS = ("tangent", "finite_difference")
"""Exact derivatives where the model has them, and differences of model runs."""
WEAK_PRIOR = 0.1
"""Weight of the priors under ``lm``: as if they were three times as wide, so that the search has an end."""
_MEMBERS_NOW = 64


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """How a calibration or an assimilation works.

    Attributes
    ----------
    particles
        Samples of ``bayesian`` and members of an ensemble or particle filter. ``bayesian`` runs the model
        five to fourteen times as often.
    observations
        What of the visits is compared: any of ``"volume"``, ``"shape"``, ``"cellularity"``, ``"uptake"``; a
        visit that does not carry one goes without. All but ``"shape"`` by default: it tells diffusion
        apart, but its intervals are too narrow and its diffusion too high (docs/science/calibration.md).
    bounds
        Parameter to (low, high), within its prior's bounds.
    max_iterations
        Of the search for the mode.
    jacobian
        ``"tangent"``: exact derivatives of the model, where it has them for all that is compared and given
        (not for ``"shape"``, surgery, immunotherapy and dose maps, which take differences);
        ``"finite_difference"``: always differences. ``CalibrationResult.jacobian`` says which were used.

    Raises
    ------
    InputError
        When an observation or a Jacobian is not known, or there is no observation.
    """

    particles: int = 256
    observations: tuple[str, ...] = DEFAULT_OBSERVATIONS
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_iterations: int = 30
    jacobian: str = "tangent"

    def __post_init__(self) -> None:
        if not self.observations or not set(self.observations) <= set(OBSERVATIONS):
            raise InputError(
                "The observations of a calibration are not known.",
                f"Asked were: {', '.join(self.observations) or 'none'}.",
                f"Use some of {', '.join(OBSERVATIONS)}.",
            )
        if self.jacobian not in JACOBIANS:
            raise InputError(
                f"The Jacobian '{str(self.jacobian)[:40]}' is not known.",
                f"There are: {', '.join(JACOBIANS)}.",
                "Use 'tangent'.",
            )


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What a calibration or assimilation found.

    Attributes
    ----------
    belief
        The new belief.
    method, cost, evaluations, converged, message
        As in :class:`CalibrationResult`.
    information
        Posterior against prior.
    observations
        What was compared.
    volume_log_sd
        Standard deviation of the logarithm of the modelled volume on the last visit's day.
    sampling
        How the samples came to be, where there are any.
    jacobian
        What the search for the mode used; None where there was no search.
    """

    belief: Belief
    method: str
    cost: float
    evaluations: int
    converged: bool
    message: str
    information: Identifiability
    observations: tuple[str, ...]
    volume_log_sd: float
    sampling: SamplingReport | None = None
    jacobian: str | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told of progress, and asked whether to stop."""

    progress: Callable[[float, str], None] | None = None
    cancelled: Callable[[], bool] | None = None

    def stop_if_asked(self) -> None:
        """Raise when the answer is yes."""
        if self.cancelled is not None and self.cancelled():
            raise CancelledError("the calibration was cancelled")

    def part(self, start: float, end: float) -> Callable[[float, str], None] | None:
        """Progress of a part of the work as progress of the whole."""
        if self.progress is None:
            return None
        tell = self.progress
        return lambda share, text: tell(start + (end - start) * share, text)


def prior_belief(
    belief: Belief, treatments: Sequence[Treatment], bounds: Mapping[str, tuple[float, float]] | None = None
) -> Belief:
    """Return the belief of the priors alone, bounded, with a sensitivity for each drug that was given.

    Raises
    ------
    InputError
        When bounds name no parameter, or contradict each other or the priors.
    """
    fresh = with_drugs(type(belief).from_priors(belief.priors), treatments)
    unknown = sorted(set(bounds or {}) - set(fresh.names))
    if unknown:
        raise InputError(
            f"Bounds are given for something that is no parameter: {', '.join(unknown)}.",
            f"The parameters are {', '.join(fresh.names)}.",
            "Correct the name.",
        )
    limits = dict(bounds or {})
    priors = [p.bounded(*limits[p.name]) if p.name in limits else p for p in fresh.priors]
    return type(belief).from_priors(priors)


def with_drugs(belief: Belief, treatments: Sequence[Treatment]) -> Belief:
    """Return the belief with an independent sensitivity for each drug that it does not know."""
    fresh = belief
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
        names += [ALPHA, CLEARANCE]
    drugs = {
        t.drug for t in treatments if t.kind == "chemotherapy" and any(d.day < last_day for d in t.doses)
    }
    names += [f"{DRUG}:{drug}" for drug in sorted(d for d in drugs if d)]
    return (*names, *informed_by(treatments, last_day))


def calibrate(
    simulator: Simulator,
    visits: Sequence[Visit],
    treatments: Sequence[Treatment],
    belief: Belief,
    *,
    method: str = "map",
    settings: CalibrationSettings | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> Calibrated:
    """Fit from the priors to all visits (in order of day).

    Raises
    ------
    InputError
        When the method, a bound or a treatment cannot be used.
    concurrent.futures.CancelledError
        When ``watch`` said so.
    """
    refuse_unknown(method, METHODS)
    refuse_unsimulated(treatments)
    settings, watch = settings or CalibrationSettings(), watch or Watch()
    fresh = prior_belief(belief, treatments, settings.bounds)
    names = informed_names(treatments, visits[-1].day)
    priors = [p for p in fresh.priors if p.name in names and not p.fixed]
    likelihood = Likelihood(simulator, visits, treatments, fresh.values, observations=settings.observations)
    tangents = settings.jacobian == "tangent" and likelihood.tangents_missing is None
    fit = fit_least_squares(
        likelihood,
        priors,
        derivatives=partial(likelihood.with_tangents, names=[p.name for p in priors]) if tangents else None,
        prior_weight=WEAK_PRIOR if method == "lm" else 1.0,
        max_iterations=settings.max_iterations,
        progress=watch.part(0.0, 0.2 if method == "bayesian" else 1.0),
        cancelled=watch.cancelled,
    )
    found = Calibrated(
        belief=fresh.updated(fit.names, fit.log_mean, fit.log_covariance),
        method=method,
        cost=fit.cost,
        evaluations=fit.evaluations,
        converged=fit.converged,
        message=fit.message,
        information=fit.identifiability,
        observations=likelihood.kinds,
        volume_log_sd=_modelled_log_sd(fit, len(visits), float(likelihood.volume_log_sd[-1])),
        jacobian="tangent" if tangents else "finite_difference",
    )
    if method != "bayesian":
        return found
    sampled = _sampled(
        found, fit, (likelihood, priors), SamplerOptions(settings.particles, seed), watch=watch
    )
    return replace(sampled, volume_log_sd=spread_now(simulator, sampled.belief, treatments, visits[-1].day))


def _modelled_log_sd(fit: Fit, visits: int, segmented_log_sd: float) -> float:
    """By the delta method on the Laplace covariance; the volumes are the first residuals."""
    slope = fit.jacobian[visits - 1] * segmented_log_sd
    return math.sqrt(max(float(slope @ fit.log_covariance @ slope), 0.0))


def _sampled(
    found: Calibrated,
    fit: Fit,
    problem: tuple[Likelihood, list[Prior]],
    options: SamplerOptions,
    *,
    watch: Watch,
) -> Calibrated:
    """Replace the Laplace approximation by samples that start from it."""
    likelihood, priors = problem

    def log_likelihood(parameters: Mapping[str, float]) -> float:
        residuals = likelihood(parameters)
        return -0.5 * float(residuals @ residuals)

    samples = sample_posterior(
        log_likelihood,
        priors,
        start=fit,
        options=options,
        progress=watch.part(0.2, 1.0),
        cancelled=watch.cancelled,
    )
    spread = np.array([p.log_sd for p in priors])
    return replace(
        found,
        belief=found.belief.sampled(Particles(samples.names, samples.logs, samples.weights)),
        evaluations=found.evaluations + samples.evaluations,
        information=identifiability(samples.names, samples.log_covariance, spread),
        sampling=SamplingReport(
            particles=options.particles,
            distinct=samples.distinct,
            effective=min(samples.ess),
            acceptance=float(np.mean(samples.acceptance)),
            stages=len(samples.temperatures),
        ),
    )


def refuse_unknown(method: str, known: Sequence[str]) -> None:
    """Raise when a method is not among the known ones."""
    if method not in known:
        raise InputError(
            f"The method '{method}' is not known.", f"There are: {', '.join(known)}.", "Use one of these."
        )


def spread_now(simulator: Simulator, belief: Belief, treatments: Sequence[Treatment], day: float) -> float:
    """Standard deviation of the logarithm of the modelled volume on a day, from sigma points.

    Two points a direction, at the covariance's roots times the square root of their number (Julier & Uhlmann
    2004, doi:10.1109/JPROC.2003.823141).
    """
    free = [i for i, name in enumerate(belief.names) if name in belief.calibrated]
    covariance = belief.log_covariance[np.ix_(free, free)]
    root = covariance_root(covariance) * math.sqrt(len(free))
    floor = 0.1 * simulator.domain.voxel_volume_mm3 / 1000.0
    logs = []
    for step in (*root.T, *-root.T):
        values = dict(belief.values)
        for i, shift in zip(free, step, strict=True):
            prior = belief.priors[i]
            moved = math.exp(belief.log_mean[i] + shift)
            values[prior.name] = min(prior.high, max(prior.low, moved))
        volume = float(simulator.volumes_cm3(values, treatments, np.array([day]))[0])
        logs.append(math.log(max(volume, floor)))
    return float(np.std(logs))


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
    found: Calibrated,
    *,
    version: int,
) -> CalibrationResult:
    """Compare the calibrated model with every visit."""
    belief = found.belief
    days = np.array([v.day for v in visits])
    volumes, overlaps = [], []
    for state, visit in zip(simulator.observed(belief.values, treatments, days), visits, strict=True):
        modelled = state.visible_mask(DETECTION_THRESHOLD)
        both = np.count_nonzero(modelled & visit.mask)
        overlaps.append(2.0 * int(both) / int(np.count_nonzero(modelled) + np.count_nonzero(visit.mask) or 1))
        volumes.append(simulator.visible_cm3(state))
    observed = np.array([v.volume_cm3 for v in visits])
    floor = 0.1 * simulator.domain.voxel_volume_mm3 / 1000.0
    residuals = np.log(np.maximum(volumes, floor) / observed) / volume_log_sd(observed)
    return CalibrationResult(
        version=version,
        estimates=belief.estimates(),
        days=tuple(float(d) for d in days),
        observed_cm3=tuple(float(v) for v in observed),
        modelled_cm3=tuple(volumes),
        dice=tuple(overlaps),
        residuals=tuple(float(r) for r in residuals),
        cost=found.cost,
        evaluations=found.evaluations,
        converged=found.converged,
        message=found.message,
        identifiability=found.information.words,
        method=found.method,
        observations=found.observations,
        information=found.information,
        sampling=found.sampling,
        jacobian=found.jacobian,
    )

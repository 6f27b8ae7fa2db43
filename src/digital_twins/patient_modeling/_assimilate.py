"""One new visit updates what is believed, without fitting all the earlier ones again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins.calibration import (
    Gaussian,
    Measurement,
    Particles,
    effective_sample_size,
    ekf_update,
    enkf_update,
    identifiability,
    reweighted,
    shrunk_kernel,
)
from digital_twins.patient_modeling._calibrate import (
    Calibrated,
    CalibrationSettings,
    Watch,
    informed_names,
    refuse_unknown,
    spread_now,
    with_drugs,
)
from digital_twins.patient_modeling._forcing import refuse_unsimulated
from digital_twins.patient_modeling._observations import Likelihood
from digital_twins.patient_modeling._snapshot import SamplingReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.calibration import Belief
    from digital_twins.patient_modeling._scans import Visit
    from digital_twins.patient_modeling._simulator import Simulator
    from digital_twins.records import Treatment

FloatArray = NDArray[np.float64]

METHODS = ("enkf", "particle", "ekf")
_EKF_STEP = 0.3
_LEAST_EFFECTIVE = 0.5
_FEW = 20.0
_SURPRISE = 3.0


class _Update:
    """What is believed before, as logarithms of the parameters that the visit informs, and the visit's noise.

    The twin's state on any day follows from its parameters, the baseline's density included, so the
    parameters are the whole state of the filter: members that were updated run again from the baseline.
    """

    def __init__(
        self, simulator: Simulator, visit: Visit, treatments: Sequence[Treatment], belief: Belief, *,
        settings: CalibrationSettings, watch: Watch,
    ) -> None:  # fmt: skip
        informed = informed_names(treatments, visit.day)
        self.belief = belief
        self.where = [i for i, p in enumerate(belief.priors) if p.name in informed and not p.fixed]
        self.names = tuple(belief.names[i] for i in self.where)
        self.low = np.log([belief.priors[i].low for i in self.where])
        self.high = np.log([belief.priors[i].high for i in self.where])
        self.before = Gaussian(
            belief.log_mean[self.where], belief.log_covariance[np.ix_(self.where, self.where)]
        )
        self.likelihood = Likelihood(
            simulator, [visit], treatments, belief.values, observations=settings.observations
        )
        self.evaluations = 0
        self._watch = watch

    def residuals(self, logs: FloatArray) -> FloatArray:
        """Residuals of each row of parameters, [member, datum]."""
        rows = []
        for i, row in enumerate(np.clip(logs, self.low, self.high)):
            self._watch.stop_if_asked()
            rows.append(self.likelihood(dict(zip(self.names, np.exp(row), strict=True))))
            if self._watch.progress is not None:
                self._watch.progress((i + 1) / logs.shape[0], f"run {i + 1} of {logs.shape[0]}")
        self.evaluations += logs.shape[0]
        return np.array(rows)

    def members(self, count: int, seed: int) -> FloatArray:
        """Draws from what is believed before."""
        drawn = self.belief.sample(count, seed=seed)
        return np.log([[member[name] for name in self.names] for member in drawn])


def assimilate(
    simulator: Simulator,
    visit: Visit,
    treatments: Sequence[Treatment],
    belief: Belief,
    *,
    method: str = "enkf",
    settings: CalibrationSettings | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> Calibrated:
    """Update a belief with one visit.

    Noise that the new visit shares with earlier ones (the baseline's outline, persistent growth directions)
    is counted anew each time: an approximation that a full calibration does not make.

    Parameters
    ----------
    method
        ``enkf``: ensemble Kalman filter, its members are kept; ``particle``: importance weights, resampled by
        Liu & West's kernel when under half of them stay effective; ``ekf``: linearised at the mean.

    Raises
    ------
    InputError
        When the method or a treatment cannot be used, or no particle agrees with the visit.
    concurrent.futures.CancelledError
        When ``watch`` said so.
    """
    refuse_unknown(method, METHODS)
    refuse_unsimulated(treatments)
    settings, watch = settings or CalibrationSettings(), watch or Watch()
    belief = with_drugs(belief, treatments)
    update = _Update(simulator, visit, treatments, belief, settings=settings, watch=watch)
    if method == "ekf":
        after, residuals, sampling = _linearised(update)
    else:
        members = update.members(settings.particles, seed)
        seen = update.residuals(members)
        filtered = _by_ensemble if method == "enkf" else _by_weights
        after, residuals, sampling = filtered(update, members, seen, seed)
    spread = np.sqrt(np.diag(update.before.covariance))
    return Calibrated(
        belief=after,
        method=method,
        cost=0.5 * float(residuals @ residuals),
        evaluations=update.evaluations,
        converged=True,
        message=_message(residuals, sampling),
        information=identifiability(
            update.names, after.log_covariance[np.ix_(update.where, update.where)], spread
        ),
        observations=update.likelihood.kinds,
        volume_log_sd=spread_now(simulator, after, treatments, visit.day),
        sampling=sampling,
    )


def _linearised(update: _Update) -> tuple[Belief, FloatArray, None]:
    spread = np.sqrt(np.diag(update.before.covariance))
    mean = update.before.mean
    steps = _EKF_STEP * np.diag(spread)
    runs = update.residuals(np.concatenate([[mean], mean + steps, mean - steps]))
    half = len(update.names)
    jacobian = (runs[1 : half + 1] - runs[half + 1 :]).T / (2.0 * _EKF_STEP * spread)
    seen = Measurement(np.zeros(runs.shape[1]), np.eye(runs.shape[1]))
    after = ekf_update(update.before, runs[0], jacobian, seen=seen)
    kept = np.clip(after.mean, update.low, update.high)
    return update.belief.updated(update.names, kept, after.covariance), runs[0], None


def _by_ensemble(
    update: _Update, members: FloatArray, predicted: FloatArray, seed: int
) -> tuple[Belief, FloatArray, SamplingReport]:
    count, data = predicted.shape
    seen = Measurement(np.zeros(data), np.eye(data))
    moved = np.clip(enkf_update(members, predicted, seen=seen, seed=seed), update.low, update.high)
    after = update.belief.sampled(Particles(update.names, moved, np.full(count, 1.0 / count)))
    return after, predicted.mean(axis=0), SamplingReport(count, count, float(count), 1.0, 1)


def _by_weights(
    update: _Update, members: FloatArray, predicted: FloatArray, seed: int
) -> tuple[Belief, FloatArray, SamplingReport]:
    count = members.shape[0]
    weights = reweighted(np.full(count, 1.0 / count), -0.5 * np.sum(predicted**2, axis=1))
    effective = effective_sample_size(weights)
    residuals = weights @ predicted
    if effective < _LEAST_EFFECTIVE * count:
        members = np.clip(shrunk_kernel(members, weights, count, seed=seed), update.low, update.high)
        weights = np.full(count, 1.0 / count)
    distinct = int(np.unique(members, axis=0).shape[0])
    after = update.belief.sampled(Particles(update.names, members, weights))
    return after, residuals, SamplingReport(count, distinct, effective, 1.0, 1)


def _message(residuals: FloatArray, sampling: SamplingReport | None) -> str:
    if sampling is not None and sampling.effective < _FEW:
        return (
            f"Only {sampling.effective:.0f} of {sampling.particles} particles agree with the scan: calibrate "
            "on all scans instead, or use more particles."
        )
    misfit = float(np.sqrt(np.mean(residuals**2)))
    if misfit > _SURPRISE:
        return (
            f"The scan was not expected: it lies {misfit:.1f} standard deviations from the forecast. Check "
            "the segmentation, the day and the treatments, or calibrate on all scans."
        )
    return "The scan was assimilated."

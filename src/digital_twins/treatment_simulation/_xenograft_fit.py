"""Population model of xenograft growth under an oral drug: hierarchical Bayes by Metropolis within Gibbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins.treatment_simulation._xenograft_data import readings
from digital_twins.treatment_simulation._xenograft_kernels import tumour_volumes
from digital_twins.treatment_simulation._xenograft_pk import STEP_DAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.treatment_simulation._xenograft_data import XenograftMouse
    from digital_twins.treatment_simulation._xenograft_pk import OralKinetics

FloatArray = NDArray[np.float64]
GROWTH_STEP_DAYS = 0.25
_FINE = round(GROWTH_STEP_DAYS / STEP_DAYS)
SHARED = ("transit_per_day", "concentration_power", "proportional_error", "additive_error_cm3")
RANDOM = ("exponential_rate_per_day", "linear_rate_cm3_per_day", "potency_per_day")
_SHARED_MEAN = np.log([1.0, 1.0, 0.15, 0.01])
_SHARED_SD = np.array([0.7, 0.3, 0.5, 0.7])
_POPULATION_MEAN = np.log([0.3, 0.10, 0.5])
_POPULATION_SD = np.array([1.0, 1.0, 1.0])
_SLOPE_SD = np.array([0.5, 0.5, 1e-6])
_SPREAD_SCALE = np.array([0.3, 0.3, 0.3])
_SPREAD_FREEDOM = 2.0
"""Half-t with 2 degrees of freedom on each spread, uniform on each correlation (Huang and Wand 2013)."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of the population.

    ``shared`` [draw, 4] are logs of SHARED; ``mean`` and ``slope`` [draw, 3] and ``factor`` [draw, 3, 3], the
    Cholesky factor of the covariance between mice, describe the logs of RANDOM, where ``slope`` multiplies
    the log of the day-0 volume over ``reference_cm3``.
    """

    shared: FloatArray
    mean: FloatArray
    slope: FloatArray
    factor: FloatArray
    reference_cm3: float
    reference_concentration: float


def schedules(
    mice: Sequence[XenograftMouse], kinetics: OralKinetics, horizon_days: float
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Return the plasma curves of the distinct schedules [schedule, fine step] and each mouse's schedule."""
    keys = [mouse.doses for mouse in mice]
    distinct = list(dict.fromkeys(keys))
    curves = np.array([kinetics.concentration(key, horizon_days)[:-1] for key in distinct])
    return curves, np.array([distinct.index(key) for key in keys], dtype=np.intp)


def log_relative(curves: FloatArray, reference: float) -> FloatArray:
    """Log of ``C / reference``, minus infinity where there is no drug."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(curves / reference))


def drive(logs: FloatArray, power: float) -> FloatArray:
    """Relative drug effect ``(C / reference)^power`` of :func:`log_relative`, averaged over growth steps."""
    relative = np.exp(power * logs)
    n = relative.shape[1] // _FINE
    return np.asarray(relative[:, : n * _FINE].reshape(relative.shape[0], n, _FINE).mean(axis=2))


class _Sampler:
    """State of one chain; every update is a method."""

    def __init__(self, mice: Sequence[XenograftMouse], kinetics: OralKinetics, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.index, days, self.observed = readings(mice)
        self.step = np.round(days / GROWTH_STEP_DAYS).astype(np.intp)
        first = np.array([mouse.volume_cm3[0] for mouse in mice])
        self.reference_cm3 = float(np.exp(np.log(first).mean()))
        self.x = np.log(first / self.reference_cm3)
        curves, self.schedule = schedules(mice, kinetics, float(days.max()) + GROWTH_STEP_DAYS)
        treated = curves[curves.max(axis=1) > 0]
        self.reference = float(treated[treated > 0].mean()) if treated.size else 1.0
        self.log_curves = log_relative(curves, self.reference)
        n = len(mice)
        self.mean, self.slope = _POPULATION_MEAN.copy(), np.zeros(3)
        self.covariance = 0.16 * np.eye(3)
        self.precision = np.linalg.inv(self.covariance)
        self.auxiliary = np.ones(3)
        self.shared = _SHARED_MEAN.copy()
        self.logs = np.column_stack([np.log(first), np.tile(self.mean, (n, 1))])
        self.drive = drive(self.log_curves, np.exp(self.shared[1]))[self.schedule]
        self.mouse_scale = np.ones(n)
        self.mouse_factor = np.tile(np.diag([0.05, 0.15, 0.2, 0.2]), (n, 1, 1))
        self.seen = 0
        self.seen_mean = np.zeros((n, 4))
        self.seen_square = np.zeros((n, 4, 4))
        self.shared_scale = np.array([0.2, 0.1, 0.05, 0.2])
        self.together_scale = 0.1
        self.predicted = self._solve(self.logs, self.shared, self.drive)
        self.fit = self._log_likelihood(self.predicted, self.shared)

    def _solve(self, logs: FloatArray, shared: FloatArray, drives: FloatArray) -> FloatArray:
        volumes = tumour_volumes(np.exp(logs), drives, float(np.exp(shared[0])), GROWTH_STEP_DAYS)
        return np.asarray(volumes[self.index, self.step])

    def _log_likelihood(self, predicted: FloatArray, shared: FloatArray) -> FloatArray:
        """Log likelihood of each mouse under the combined proportional and additive error."""
        variance = (np.exp(shared[2]) * predicted) ** 2 + np.exp(2.0 * shared[3])
        terms = -0.5 * ((self.observed - predicted) ** 2 / variance + np.log(variance))
        summed = np.bincount(self.index, weights=terms, minlength=self.x.size)
        return np.asarray(summed, dtype=np.float64)

    def _log_prior_mouse(self, logs: FloatArray) -> FloatArray:
        centre = self.mean + self.slope * self.x[:, None]
        off = logs[:, 1:] - centre
        return np.asarray(-0.5 * np.einsum("ma,ab,mb->m", off, self.precision, off))

    def update_mice(self, *, adapt: bool) -> None:
        """Random-walk step of every mouse at once (they are independent given the population)."""
        n = self.x.size
        noise = self.mouse_scale[:, None] * self.rng.standard_normal((n, 4))
        proposal = self.logs + np.einsum("mab,mb->ma", self.mouse_factor, noise)
        proposal = np.clip(proposal, -12.0, 5.0)
        predicted = self._solve(proposal, self.shared, self.drive)
        fit = self._log_likelihood(predicted, self.shared)
        ratio = fit - self.fit + self._log_prior_mouse(proposal) - self._log_prior_mouse(self.logs)
        accept = np.log(self.rng.random(n)) < ratio
        self.logs[accept] = proposal[accept]
        self.fit[accept] = fit[accept]
        taken = accept[self.index]
        self.predicted[taken] = predicted[taken]
        if adapt:
            self.mouse_scale *= np.exp(0.1 * (np.where(accept, 1.0, 0.0) - 0.3))
            self._learn_shape()

    def _learn_shape(self) -> None:
        """Adaptive Metropolis (Haario et al. 2001): propose along the correlations that were seen."""
        self.seen += 1
        off = self.logs - self.seen_mean
        self.seen_mean += off / self.seen
        self.seen_square += off[:, :, None] * (self.logs - self.seen_mean)[:, None, :]
        if self.seen >= 300 and self.seen % 100 == 0:
            covariance = self.seen_square / self.seen + 1e-6 * np.eye(4)
            self.mouse_factor = np.linalg.cholesky(covariance)
            if self.seen == 300:
                self.mouse_scale[:] = 1.2

    def update_shared(self, *, adapt: bool) -> None:
        """Random-walk step of one of the parameters that all mice share."""
        k = int(self.rng.integers(len(SHARED)))
        proposal = self.shared.copy()
        proposal[k] += self.shared_scale[k] * self.rng.standard_normal()
        drives = self.drive
        if k == 1:
            drives = drive(self.log_curves, np.exp(proposal[1]))[self.schedule]
        predicted = self._solve(self.logs, proposal, drives) if k < 2 else self.predicted
        fit = self._log_likelihood(predicted, proposal)
        prior = self._log_prior_shared(k, proposal) - self._log_prior_shared(k, self.shared)
        accepted = np.log(self.rng.random()) < fit.sum() - self.fit.sum() + prior
        if accepted:
            self.shared, self.drive, self.predicted, self.fit = proposal, drives, predicted, fit
        if adapt:
            self.shared_scale[k] *= np.exp(0.2 * (float(accepted) - 0.4))

    def update_power(self, *, adapt: bool) -> None:
        """Step of the concentration power in which potencies keep the drug effect that each mouse has had.

        Power and potencies are all but exchangeable in the data; moved alone, either hardly gets on. The
        shift of the logs has a Jacobian of 1.
        """
        shared = self.shared.copy()
        shared[1] += self.together_scale * self.rng.standard_normal()
        drives = drive(self.log_curves, np.exp(shared[1]))[self.schedule]
        had, has = self.drive.mean(axis=1), drives.mean(axis=1)
        treated = had > 0.0
        if not np.any(treated):
            return
        shift = np.log(had[treated] / has[treated])
        logs, mean = self.logs.copy(), self.mean.copy()
        logs[treated, 3] += shift
        logs[~treated, 3] += shift.mean()
        mean[2] += shift.mean()
        before = self._log_prior_mouse(self.logs).sum() + self._log_prior_shared(1, self.shared)
        before -= 0.5 * ((self.mean[2] - _POPULATION_MEAN[2]) / _POPULATION_SD[2]) ** 2
        kept, self.mean = self.mean, mean
        after = self._log_prior_mouse(logs).sum() + self._log_prior_shared(1, shared)
        after -= 0.5 * ((mean[2] - _POPULATION_MEAN[2]) / _POPULATION_SD[2]) ** 2
        predicted = self._solve(logs, shared, drives)
        fit = self._log_likelihood(predicted, shared)
        accepted = np.log(self.rng.random()) < fit.sum() - self.fit.sum() + after - before
        if accepted:
            self.shared, self.drive, self.logs = shared, drives, logs
            self.predicted, self.fit = predicted, fit
        else:
            self.mean = kept
        if adapt:
            self.together_scale *= np.exp(0.1 * (float(accepted) - 0.4))

    def _log_prior_shared(self, k: int, shared: FloatArray) -> float:
        return float(-0.5 * ((shared[k] - _SHARED_MEAN[k]) / _SHARED_SD[k]) ** 2)

    def update_population(self) -> None:
        """Gibbs steps of means and slopes (normal) and of the covariance (inverse Wishart)."""
        design = np.column_stack([np.ones_like(self.x), self.x])
        prior = np.diag(np.concatenate([_POPULATION_SD**-2.0, _SLOPE_SD**-2.0]))
        # Coefficients in the order (means, slopes), so the two blocks are Kronecker products.
        precision = np.kron(design.T @ design, self.precision) + prior
        right = (design.T @ self.logs[:, 1:] @ self.precision).ravel()
        right += prior @ np.concatenate([_POPULATION_MEAN, np.zeros(3)])
        factor = np.linalg.cholesky(precision)
        draw = np.linalg.solve(precision, right) + np.linalg.solve(factor.T, self.rng.standard_normal(6))
        self.mean, self.slope = draw[:3], draw[3:]
        residual = self.logs[:, 1:] - design @ draw.reshape(2, 3)
        scale = residual.T @ residual + 2.0 * _SPREAD_FREEDOM * np.diag(1.0 / self.auxiliary)
        freedom = _SPREAD_FREEDOM + 2.0 + self.x.size
        self.precision = self._wishart(np.linalg.inv(scale), freedom)
        self.covariance = np.asarray(np.linalg.inv(self.precision), dtype=np.float64)
        rate = _SPREAD_FREEDOM * np.diag(self.precision) + _SPREAD_SCALE**-2.0
        self.auxiliary = rate / self.rng.gamma((_SPREAD_FREEDOM + 3.0) / 2.0, size=3)

    def _wishart(self, scale: FloatArray, freedom: float) -> FloatArray:
        """Draw by Bartlett's decomposition."""
        size = scale.shape[0]
        lower = np.tril(self.rng.standard_normal((size, size)), -1)
        lower[np.diag_indices(size)] = np.sqrt(self.rng.chisquare(freedom - np.arange(size)))
        root = np.linalg.cholesky(scale) @ lower
        return np.asarray(root @ root.T)


def fit_population(
    mice: Sequence[XenograftMouse],
    kinetics: OralKinetics,
    *,
    iterations: int = 4500,
    burn_in: int = 1500,
    thin: int = 2,
    seed: int = 0,
) -> Posterior:
    """Sample the population posterior from the mice of the training arms.

    Every mouse has its own day-0 volume, exponential and linear growth rate and potency (log-normal around
    a population mean that may depend on the logarithm of the day-0 volume, correlated); transit rate,
    concentration power and errors are shared. Priors are weak normals on the logarithms, half-t on the
    spreads, uniform on the correlations (Huang and Wand 2013, doi:10.1214/13-BA815).
    """
    chain = _Sampler(mice, kinetics, seed)
    kept: list[tuple[FloatArray, ...]] = []
    for i in range(iterations):
        adapt = i < burn_in
        chain.update_mice(adapt=adapt)
        chain.update_mice(adapt=adapt)
        chain.update_shared(adapt=adapt)
        chain.update_power(adapt=adapt)
        chain.update_population()
        if i >= burn_in and i % thin == 0:
            factor = np.asarray(np.linalg.cholesky(chain.covariance), dtype=np.float64)
            kept.append((chain.shared.copy(), chain.mean.copy(), chain.slope.copy(), factor))
    shared, mean, slope, factors = (np.array(part) for part in zip(*kept, strict=True))
    return Posterior(shared, mean, slope, factors, chain.reference_cm3, chain.reference)

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
_OMEGA_SCALE = np.array([0.3, 0.5, 0.3])


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of the population.

    ``shared`` [draw, 4] are logs of SHARED; ``mean``, ``slope`` and ``omega`` [draw, 3] describe the logs of
    RANDOM, where ``slope`` multiplies the log of the day-0 volume over ``reference_cm3``.
    """

    shared: FloatArray
    mean: FloatArray
    slope: FloatArray
    omega: FloatArray
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


def drive(curves: FloatArray, power: float, reference: float) -> FloatArray:
    """Relative drug effect ``(C / reference)^power``, averaged over each growth step."""
    relative = np.where(curves > 0.0, (curves / reference), 0.0) ** power
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
        self.curves, self.schedule = schedules(mice, kinetics, float(days.max()) + GROWTH_STEP_DAYS)
        treated = self.curves[self.curves.max(axis=1) > 0]
        self.reference = float(treated[treated > 0].mean()) if treated.size else 1.0
        n = len(mice)
        self.mean, self.slope = _POPULATION_MEAN.copy(), np.zeros(3)
        self.omega = np.full(3, 0.4)
        self.shared = _SHARED_MEAN.copy()
        self.logs = np.column_stack([np.log(first), np.tile(self.mean, (n, 1))])
        self.drive = drive(self.curves, np.exp(self.shared[1]), self.reference)[self.schedule]
        self.mouse_scale = np.tile([0.05, 0.15, 0.2, 0.2], (n, 1))
        self.shared_scale = np.array([0.2, 0.1, 0.05, 0.2])
        self.omega_scale = np.full(3, 0.3)
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
        return np.asarray(-0.5 * (((logs[:, 1:] - centre) / self.omega) ** 2).sum(axis=1))

    def update_mice(self, *, adapt: bool) -> None:
        """Random-walk step of every mouse at once (they are independent given the population)."""
        n = self.x.size
        proposal = self.logs + self.mouse_scale * self.rng.standard_normal((n, 4))
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
            self.mouse_scale *= np.exp(0.1 * (np.where(accept, 1.0, 0.0) - 0.3))[:, None]

    def update_shared(self, *, adapt: bool) -> None:
        """Random-walk step of one of the parameters that all mice share."""
        k = int(self.rng.integers(len(SHARED)))
        proposal = self.shared.copy()
        proposal[k] += self.shared_scale[k] * self.rng.standard_normal()
        drives = self.drive
        if k == 1:
            drives = drive(self.curves, np.exp(proposal[1]), self.reference)[self.schedule]
        predicted = self._solve(self.logs, proposal, drives) if k < 2 else self.predicted
        fit = self._log_likelihood(predicted, proposal)
        prior = -0.5 * (((np.array([proposal[k], self.shared[k]]) - _SHARED_MEAN[k]) / _SHARED_SD[k]) ** 2)
        accepted = np.log(self.rng.random()) < fit.sum() - self.fit.sum() + prior[0] - prior[1]
        if accepted:
            self.shared, self.drive, self.predicted, self.fit = proposal, drives, predicted, fit
        if adapt:
            self.shared_scale[k] *= np.exp(0.2 * (float(accepted) - 0.4))

    def update_population(self, *, adapt: bool) -> None:
        """Gibbs step of means and slopes (normal), random-walk step of the spreads (half-normal priors)."""
        design = np.column_stack([np.ones_like(self.x), self.x])
        for j in range(3):
            prior_precision = np.diag([_POPULATION_SD[j] ** -2, _SLOPE_SD[j] ** -2])
            precision = design.T @ design / self.omega[j] ** 2 + prior_precision
            centre = np.linalg.solve(
                precision,
                design.T @ self.logs[:, 1 + j] / self.omega[j] ** 2
                + prior_precision @ np.array([_POPULATION_MEAN[j], 0.0]),
            )
            draw = centre + np.linalg.solve(np.linalg.cholesky(precision).T, self.rng.standard_normal(2))
            self.mean[j], self.slope[j] = draw
            residual = self.logs[:, 1 + j] - design @ draw
            old = self.omega[j]
            new = old * np.exp(self.omega_scale[j] * self.rng.standard_normal())

            def target(omega: float, rss: float = float(residual @ residual), j: int = j) -> float:
                # The trailing log omega is the Jacobian of the walk on the logarithm.
                return float(
                    -self.x.size * np.log(omega)
                    - 0.5 * rss / omega**2
                    - 0.5 * (omega / _OMEGA_SCALE[j]) ** 2
                    + np.log(omega)
                )

            accepted = np.log(self.rng.random()) < target(new) - target(old)
            self.omega[j] = new if accepted else old
            if adapt:
                self.omega_scale[j] *= np.exp(0.1 * (float(accepted) - 0.4))


def fit_population(
    mice: Sequence[XenograftMouse],
    kinetics: OralKinetics,
    *,
    iterations: int = 7500,
    burn_in: int = 2500,
    thin: int = 5,
    seed: int = 0,
) -> Posterior:
    """Sample the population posterior from the mice of the training arms.

    Every mouse has its own day-0 volume, exponential and linear growth rate and potency (log-normal around
    a population mean that may depend on the logarithm of the day-0 volume); transit rate, concentration
    power and errors are shared. Priors are weak normals on the logarithms, half-normals on the spreads.
    """
    chain = _Sampler(mice, kinetics, seed)
    kept: list[tuple[FloatArray, ...]] = []
    for i in range(iterations):
        adapt = i < burn_in
        chain.update_mice(adapt=adapt)
        chain.update_shared(adapt=adapt)
        chain.update_population(adapt=adapt)
        if i >= burn_in and i % thin == 0:
            kept.append(tuple(a.copy() for a in (chain.shared, chain.mean, chain.slope, chain.omega)))
    shared, mean, slope, omega = (np.array(part) for part in zip(*kept, strict=True))
    return Posterior(shared, mean, slope, omega, chain.reference_cm3, chain.reference)

"""Least squares by Levenberg-Marquardt, with Laplace covariance and what the data do not tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.calibration._identifiability import Identifiability, identifiability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.calibration._belief import Prior

FloatArray = NDArray[np.float64]

_FORWARD_STEP = 0.02
_CENTRAL_STEP = 0.1
_MISSED = 3.0
_NEAR_ENOUGH = 0.03
"""Distance to the mode, in standard deviations of the posterior, at which the search ends."""
_NEAR_IN_NOISE = 0.1
"""The same where no step goes downhill any more: the residuals have kinks of the size of the step."""
_WELL_PREDICTED = 0.2
_LEAST_DAMPING = 1.0e-4

Derivatives = Callable[[Mapping[str, float]], tuple[FloatArray, FloatArray]]
"""Parameter values by name -> residuals, and their derivatives by the parameters' logarithms."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Result of :func:`fit_least_squares`.

    Attributes
    ----------
    names, log_mean, log_covariance
        Posterior mode and Laplace covariance (inverse Gauss-Newton Hessian) of the parameters' logarithms.
    residuals
        Data residuals at the mode in units of their standard deviation (priors not included).
    jacobian
        Derivative of ``residuals`` by the parameters' logarithms.
    cost
        Half the sum of squares, of data and prior together.
    evaluations
        How often the model was run; a run with exact derivatives counts once more for each parameter.
    converged, message
        Whether the search ended at a mode; otherwise the message names the remedy.
    identifiability
        What the data determine against the priors (of full weight, also where the fit gave them less).
    """

    names: tuple[str, ...]
    log_mean: FloatArray
    log_covariance: FloatArray
    residuals: FloatArray
    jacobian: FloatArray
    cost: float
    evaluations: int
    converged: bool
    message: str
    identifiability: Identifiability

    @property
    def notes(self) -> tuple[str, ...]:
        """What the data do not determine, in words."""
        return self.identifiability.words


class _Problem:
    """Residuals over z = (log p - log median) / log_sd, in which the prior is a unit normal."""

    def __init__(
        self,
        residuals: Callable[[Mapping[str, float]], FloatArray],
        priors: Sequence[Prior],
        prior_weight: float,
        derivatives: Derivatives | None,
    ) -> None:
        self._residuals, self.weight, self._derivatives = residuals, prior_weight, derivatives
        self.priors = tuple(priors)
        self.spread = np.array([p.log_sd for p in priors])
        self.centre = np.log([p.median for p in priors])
        self.low = (np.log([p.low for p in priors]) - self.centre) / self.spread
        self.high = (np.log([p.high for p in priors]) - self.centre) / self.spread
        self.evaluations = 0
        self._last: tuple[FloatArray, FloatArray] | None = None

    def data(self, z: FloatArray) -> FloatArray:
        """Data residuals; raises if the model gives something else than numbers at the start."""
        self.evaluations += 1
        return np.asarray(self._residuals(self._named(z)), dtype=np.float64)

    def _named(self, z: FloatArray) -> dict[str, float]:
        logs = self.centre + self.spread * z
        return {p.name: math.exp(value) for p, value in zip(self.priors, logs, strict=True)}

    def cost(self, data: FloatArray, z: FloatArray) -> float:
        value = 0.5 * float(data @ data + self.weight * (z @ z))
        return value if math.isfinite(value) else math.inf

    def jacobian(self, z: FloatArray, data: FloatArray) -> FloatArray:
        """Exact where derivatives are given, else forward differences, stepping inwards at a bound."""
        if self._derivatives is not None:
            return self._exact(z, self._derivatives)
        columns = []
        for i in range(z.size):
            step = _FORWARD_STEP if z[i] + _FORWARD_STEP <= self.high[i] else -_FORWARD_STEP
            moved = z.copy()
            moved[i] += step
            columns.append((self.data(moved) - data) / step)
        return np.stack(columns, axis=1)

    def final_jacobian(self, z: FloatArray) -> FloatArray:
        """For the covariance: exact, or differences over a width that averages out the grid."""
        if self._derivatives is not None:
            return self._exact(z, self._derivatives)
        columns = []
        for i in range(z.size):
            up, down = z.copy(), z.copy()
            up[i] = min(z[i] + _CENTRAL_STEP, self.high[i])
            down[i] = max(z[i] - _CENTRAL_STEP, self.low[i])
            columns.append((self.data(up) - self.data(down)) / (up[i] - down[i]))
        return np.stack(columns, axis=1)

    def _exact(self, z: FloatArray, derivatives: Derivatives) -> FloatArray:
        if self._last is not None and np.array_equal(self._last[0], z):
            return self._last[1]
        self.evaluations += 1 + z.size
        found = np.asarray(derivatives(self._named(z))[1] * self.spread, dtype=np.float64)
        self._last = z.copy(), found
        return found


def fit_least_squares(
    residuals: Callable[[Mapping[str, float]], FloatArray],
    priors: Sequence[Prior],
    *,
    prior_weight: float = 1.0,
    derivatives: Derivatives | None = None,
    more_starts: int = 24,
    max_iterations: int = 30,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Fit:
    """Find the posterior mode of positive parameters and its Laplace covariance.

    Minimises ``|r(p)|^2/2 + w |z|^2/2`` with ``z = (log p - log median)/log_sd`` by Levenberg-Marquardt
    (Marquardt 1963, doi:10.1137/0111030), projected on the bounds. Where the cost along a step is not what
    the linear model says, the step's length is corrected once by a parabola. The search ends 0.03 standard
    deviations of the posterior from the mode, as its linear model has it.

    Parameters
    ----------
    residuals
        Parameter values by name -> data residuals over their standard deviation.
    priors
        The free parameters, none of them fixed.
    prior_weight
        w, above 0: 1 gives the posterior mode, 0.01 the likelihood with priors ten times as wide, that only
        keep the search from running away.
    derivatives
        Parameter values by name -> residuals and their exact derivatives by the logarithms of the parameters,
        [residual, parameter] in the order of ``priors``. Without it both the search and the covariance use
        finite differences.
    more_starts
        When the mode misses the data by more than three standard deviations (the search may have stopped on a
        plateau, as where a tumour dies out), so many draws from the priors are tried, and the search begins
        anew from the best of them.
    progress
        Called with a fraction in 0..1 and a text after every iteration.
    cancelled
        Asked before every iteration.

    Raises
    ------
    InputError
        When there is nothing to fit, or the model is not finite at the start.
    concurrent.futures.CancelledError
        When ``cancelled`` said so.
    """
    _refuse_unfit(priors, prior_weight)
    problem = _Problem(residuals, priors, prior_weight, derivatives)
    z = np.zeros(len(priors))
    data = problem.data(z)
    if data.size == 0 or not np.all(np.isfinite(data)):
        raise InputError(
            "The model cannot be compared with the data.",
            "At the prior's medians a residual is missing or not a number.",
            "Check the observations and the priors.",
        )
    z, data, converged = _search(problem, z, data, (max_iterations, progress, cancelled))
    if more_starts and _misfit(data) > _MISSED:
        again = _best_draw(problem, more_starts, cancelled)
        if again is not None:
            tell = None if progress is None else lambda _share, text: progress(1.0, f"second start, {text}")
            other = _search(problem, *again, (max_iterations, tell, cancelled))
            if problem.cost(other[1], other[0]) < problem.cost(data, z):
                z, data, converged = other
    return _fit_at(problem, z, data, converged=converged)


def _refuse_unfit(priors: Sequence[Prior], prior_weight: float) -> None:
    if not priors or any(p.fixed for p in priors):
        raise InputError(
            "There is no free parameter to fit.",
            "A fixed parameter has no uncertainty that data could reduce.",
            "Pass priors with log_sd > 0 only.",
        )
    if not prior_weight > 0.0:
        raise InputError(
            "The weight of the priors cannot be used.",
            f"It is {prior_weight:g}; without any, directions that the data do not determine have no end.",
            "Use 1, or a small positive weight.",
        )


def _fit_at(problem: _Problem, z: FloatArray, data: FloatArray, *, converged: bool) -> Fit:
    """Return the mode with its Laplace covariance."""
    jacobian = problem.final_jacobian(z)
    information = jacobian.T @ jacobian
    covariance = _inverse(information + problem.weight * np.eye(z.size))
    full = _inverse(information + np.eye(z.size)) * np.outer(problem.spread, problem.spread)
    names = tuple(p.name for p in problem.priors)
    return Fit(
        names=names,
        log_mean=problem.centre + problem.spread * z,
        log_covariance=covariance * np.outer(problem.spread, problem.spread),
        residuals=data,
        jacobian=jacobian / problem.spread,
        cost=problem.cost(data, z),
        evaluations=problem.evaluations,
        converged=converged,
        message=_message(problem, z, data, converged=converged),
        identifiability=identifiability(names, full, problem.spread),
    )


def _best_draw(
    problem: _Problem, count: int, cancelled: Callable[[], bool] | None
) -> tuple[FloatArray, FloatArray] | None:
    """Return the draw from the priors with the lowest cost and its residuals; None if none can be run."""
    rng = np.random.default_rng(0)
    best, best_cost = None, math.inf
    for z in np.clip(rng.standard_normal((count, problem.spread.size)), problem.low, problem.high):
        if cancelled is not None and cancelled():
            raise CancelledError("the calibration was cancelled")
        data = problem.data(z)
        if (cost := problem.cost(data, z)) < best_cost:
            best, best_cost = (z, data), cost
    return best


def _misfit(data: FloatArray) -> float:
    return float(np.sqrt(np.mean(data**2)))


def _inverse(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _search(
    problem: _Problem,
    z: FloatArray,
    data: FloatArray,
    control: tuple[int, Callable[[float, str], None] | None, Callable[[], bool] | None],
) -> tuple[FloatArray, FloatArray, bool]:
    limit, progress, cancelled = control
    cost = problem.cost(data, z)
    damping = 1e-2
    for iteration in range(limit):
        if cancelled is not None and cancelled():
            raise CancelledError("the calibration was cancelled")
        jacobian = problem.jacobian(z, data)
        gradient = jacobian.T @ data + problem.weight * z
        hessian = jacobian.T @ jacobian + problem.weight * np.eye(z.size)
        newton = np.clip(z - np.linalg.solve(hessian, gradient), problem.low, problem.high)
        distance = math.sqrt(max(0.0, float(gradient @ (z - newton))))
        if distance < _NEAR_ENOUGH:
            return z, data, True
        accepted = False
        while not accepted and damping < 1e6:
            damped = hessian + damping * np.diag(np.diag(hessian))
            step = np.asarray(-np.linalg.solve(damped, gradient), dtype=np.float64)
            trial, trial_data = _better_length(problem, (z, cost), step, gradient)
            trial_cost = problem.cost(trial_data, trial)
            accepted = trial_cost <= cost
            damping = max(damping / 5.0, _LEAST_DAMPING) if accepted else damping * 4.0
            if not accepted and distance < _NEAR_IN_NOISE:
                break
        if progress is not None:
            progress((iteration + 1) / limit, f"iteration {iteration + 1}: cost {min(cost, trial_cost):.4g}")
        if not accepted:
            return z, data, True  # no direction improves: the mode, to the precision of the derivatives
        moved, gain = float(np.abs(trial - z).max()), cost - trial_cost
        z, data, cost = trial, trial_data, trial_cost
        if moved < 1e-3 or gain < 1e-6 * (1.0 + cost):
            return z, data, True
    return z, data, False


def _better_length(
    problem: _Problem, start: tuple[FloatArray, float], step: FloatArray, gradient: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return where a step leads, and its residuals: corrected once where a parabola says another length."""
    z, cost = start
    trial = np.clip(z + step, problem.low, problem.high)
    data = problem.data(trial)
    fall = float(gradient @ (z - trial))
    bend = problem.cost(data, trial) - cost + fall  # half the second derivative along the step
    if fall <= 0.0 or not math.isfinite(bend):
        return trial, data
    share = min(2.0, max(0.1, 0.5 * fall / bend)) if bend > 0.25 * fall else 2.0
    if abs(share - 1.0) <= _WELL_PREDICTED:
        return trial, data
    other = np.clip(z + share * (trial - z), problem.low, problem.high)
    other_data = problem.data(other)
    better = problem.cost(other_data, other) < problem.cost(data, trial)
    return (other, other_data) if better else (trial, data)


def _message(problem: _Problem, z: FloatArray, data: FloatArray, *, converged: bool) -> str:
    if not converged:
        return "The iteration limit was reached: raise max_iterations, or check the visits for outliers."
    at_bound = [
        p.name
        for p, value, lo, hi in zip(problem.priors, z, problem.low, problem.high, strict=True)
        if value <= lo + 1e-6 or value >= hi - 1e-6
    ]
    if at_bound:
        return f"A mode was found with {', '.join(at_bound)} at its bound: check the visits and treatments."
    misfit = _misfit(data)
    if misfit > _MISSED:
        return (
            f"A mode was found, but the model misses the data by {misfit:.1f} standard deviations: check the "
            "segmentations, the days and the treatment history."
        )
    return "A mode was found."

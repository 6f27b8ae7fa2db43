"""Population (hierarchical) fit of any curve to many short series: empirical Bayes, batched over patients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.calibration._population_kernels import deviance, gauss_newton, misfits, predict
from digital_twins.calibration._population_refine import refine_population

if TYPE_CHECKING:
    from collections.abc import Callable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_STEP = 1e-4
_FREEDOM = 4.0
_RIDGE = 1e-3
_SETTLED = 1e-3
_REFINED = 40


@dataclass(frozen=True, eq=False)
class SeriesBatch:
    """Readings of many patients, padded to one width.

    Attributes
    ----------
    days
        Shape (patients, readings), rising in every row as far as it counts; what follows is padding.
    values
        Same shape: readings on the scale in which the error is normal.
    counts
        Readings of each patient, at least 1.
    """

    days: FloatArray
    values: FloatArray
    counts: IntArray

    def __post_init__(self) -> None:
        known = np.arange(self.days.shape[1]) < self.counts[:, None]
        if self.days.shape != self.values.shape or np.any(self.counts < 1):
            raise InputError(
                "The series cannot be used.",
                "Days and values differ in shape, or a patient has no reading.",
                "Pass arrays of one shape, and only patients with readings.",
            )
        if not (np.isfinite(self.days[known]).all() and np.isfinite(self.values[known]).all()):
            raise InputError(
                "The series cannot be used.",
                "A day or a reading is not a finite number.",
                "Leave out what was not measured.",
            )
        if np.any(np.diff(self.days, axis=1)[known[:, 1:]] < 0.0):
            raise InputError(
                "The series cannot be used.",
                "The days of a patient do not rise.",
                "Sort the readings of every patient by day.",
            )

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which entries are readings, not padding."""
        return np.arange(self.days.shape[1]) < self.counts[:, None]

    def take(self, patients: NDArray[np.integer]) -> SeriesBatch:
        """Return the patients of the given indices."""
        return SeriesBatch(self.days[patients], self.values[patients], self.counts[patients])

    def shortened(self, *, by: int) -> SeriesBatch:
        """Return every series without its last ``by`` readings."""
        return replace(self, counts=self.counts - by)


@dataclass(frozen=True, eq=False)
class Population:
    """What a cohort taught: ``theta_i ~ N(mean, covariance)``, ``z = f(t, theta_i) + W(t) + e``.

    Attributes
    ----------
    mean, covariance
        Of the patients' parameters (unconstrained scale of the curve).
    wander_variance_per_day
        Variance per day of the Brownian motion W that starts at the patient's first reading: what the curve
        does not explain and what persists.
    noise_variance
        Of one reading.
    deviance
        -2 log marginal likelihood, linearised at the patients' modes, without constants.
    iterations
        Rounds of expectation and maximisation used.
    """

    mean: FloatArray
    covariance: FloatArray
    wander_variance_per_day: float
    noise_variance: float
    deviance: float = float("nan")
    iterations: int = 0

    @property
    def variances(self) -> FloatArray:
        """Wander per day and noise, as the kernels take them."""
        return np.array([self.wander_variance_per_day, self.noise_variance])


@dataclass(frozen=True, eq=False)
class Individuals:
    """Posterior mode and Laplace covariance of every patient: (patients, k) and (patients, k, k)."""

    mean: FloatArray
    covariance: FloatArray


def _jacobian(
    curve: Callable[[FloatArray, FloatArray], FloatArray],
    theta: FloatArray,
    since: FloatArray,
    base: FloatArray,
) -> FloatArray:
    result = np.empty((*base.shape, theta.shape[1]))
    for a in range(theta.shape[1]):
        moved = theta.copy()
        moved[:, a] += _STEP
        result[:, :, a] = (curve(moved, since) - base) / _STEP
    return result


def fit_individuals(
    curve: Callable[[FloatArray, FloatArray], FloatArray],
    population: Population,
    series: SeriesBatch,
    *,
    start: FloatArray | None = None,
    sweeps: int = 40,
) -> Individuals:
    """Find every patient's posterior mode under a population by damped Gauss-Newton, all at once.

    Parameters
    ----------
    curve
        ``(parameters (P, k), days since the first reading (P, n)) -> values (P, n)``, finite everywhere.
    population, series
        The prior, and the readings.
    start
        Parameters to start from, shape (P, k); default the population's mean.
    sweeps
        At most so many steps a patient.
    """
    since = series.days - series.days[:, :1]
    size = population.mean.size
    theta = np.tile(population.mean, (series.counts.size, 1)) if start is None else start.copy()
    precision = np.asarray(np.linalg.inv(population.covariance), dtype=np.float64)
    damping = np.full(series.counts.size, 1e-3)
    steps = np.zeros_like(theta)
    covariance = np.zeros((series.counts.size, size, size))
    fitted = curve(theta, since)
    cost = _costs(population, series, fitted, theta, precision)
    for sweep in range(sweeps):
        slopes = _jacobian(curve, theta, since, fitted)
        pull = (population.mean - theta) @ precision
        gauss_newton(
            series.days,
            series.counts,
            (series.values - fitted, slopes, pull, precision),
            population.variances,
            damping,
            (steps, covariance),
        )
        if sweep == sweeps - 1:
            break
        trial = theta + np.clip(steps, -2.0, 2.0)
        trial_fitted = curve(trial, since)
        trial_cost = _costs(population, series, trial_fitted, trial, precision)
        better = trial_cost <= cost
        gain = np.where(better, cost - trial_cost, 0.0)
        theta = np.where(better[:, None], trial, theta)
        fitted = np.where(better[:, None], trial_fitted, fitted)
        cost = np.where(better, trial_cost, cost)
        damping = np.where(better, np.maximum(damping / 5.0, 1e-8), np.minimum(damping * 8.0, 1e8))
        if float(np.max(gain)) < 1e-6 and (np.all(better) or sweep > 3):
            break
    return Individuals(theta, covariance)


def _costs(
    population: Population, series: SeriesBatch, fitted: FloatArray, theta: FloatArray, precision: FloatArray
) -> FloatArray:
    data = np.empty(series.counts.size)
    misfits(series.days, series.counts, series.values - fitted, population.variances, data)
    off = theta - population.mean
    total: FloatArray = data + np.einsum("pa,ab,pb->p", off, precision, off)
    return np.where(np.isfinite(total), total, np.inf)


def fit_population(
    curve: Callable[[FloatArray, FloatArray], FloatArray],
    series: SeriesBatch,
    start: Population,
    *,
    iterations: int = 30,
    wander: bool = True,
    freedom: float = _FREEDOM,
    draws: int = 0,
    seed: int = 0,
) -> Population:
    """Learn a population from its patients' short series (empirical Bayes).

    Expectation-maximisation with a Laplace approximation at every patient's mode (Lindstrom & Bates 1990,
    doi:10.2307/2532087). The two error variances maximise the linearised marginal likelihood, taken as
    Student's t a patient, and the same weights keep the few wild series from
    setting the spread (Pinheiro, Liu & Wu 2001, doi:10.1198/10618600152628059).

    Parameters
    ----------
    curve
        As for :func:`fit_individuals`.
    series
        Readings; a patient with a single one helps too.
    start
        First guess; its covariance also regularises the learnt one, with the weight of one patient.
    iterations
        At most so many rounds.
    wander
        Whether W is in the model; without it the curve is taken as exact but for the noise.
    freedom
        Degrees of freedom of Student's t; 0 for the normal distribution.
    draws
        Above 0, 40 more rounds take their expectation from so many importance samples a patient instead of
        Laplace's approximation, which biases means that the series hardly identify. 64 will do; the deviance
        stays that of the Laplace fit.
    seed
        Of these samples.

    Raises
    ------
    InputError
        With fewer than three patients.
    """
    if series.counts.size < 3:
        raise InputError(
            "A population cannot be learnt.",
            f"There are {series.counts.size} patients; a spread between them needs at least 3.",
            "Pass more series.",
        )
    population = start
    modes: FloatArray | None = None
    weights = np.ones(series.counts.size)
    since = series.days - series.days[:, :1]
    for count in range(1, iterations + 1):
        each = fit_individuals(curve, population, series, start=modes, sweeps=40 if modes is None else 4)
        modes = each.mean
        fitted = curve(modes, since)
        slopes = _jacobian(curve, modes, since, fitted)
        population, weights = _with_variances(population, series, (modes, fitted, slopes), (wander, freedom))
        share = weights / weights.sum()
        mean = share @ modes
        off = modes - mean
        spread = np.einsum("p,pa,pb->ab", share, off, off) + np.einsum("p,pab->ab", share, each.covariance)
        spread = (weights.sum() * spread + start.covariance) / (weights.sum() + 1.0)
        moved = np.abs(mean - population.mean) / np.sqrt(np.diag(spread))
        population = replace(
            population, mean=mean, covariance=spread + _RIDGE * np.diag(np.diag(spread)), iterations=count
        )
        if float(moved.max()) < _SETTLED and count > 5:
            break
    if draws > 0:
        each = fit_individuals(curve, population, series, start=modes)
        population = refine_population(
            curve, series, population, each, weights=weights, rounds=_REFINED, draws=draws, seed=seed
        )
    return population


def _with_variances(
    population: Population,
    series: SeriesBatch,
    linear: tuple[FloatArray, FloatArray, FloatArray],
    kind: tuple[bool, float],
) -> tuple[Population, FloatArray]:
    """Improve the two variances by a coordinate search on their logarithms; weights of the patients."""
    modes, fitted, slopes = linear
    wander, freedom = kind
    at_mean = series.values - fitted - np.einsum("pna,pa->pn", slopes, population.mean - modes)
    weights = np.ones(series.counts.size)

    def value(logs: FloatArray) -> float:
        variances = np.exp(logs)
        if not wander:
            variances[0] = 0.0
        return float(
            deviance(
                series.days,
                series.counts,
                at_mean,
                slopes,
                population.covariance,
                variances,
                freedom,
                weights,
            )
        )

    logs = np.log(np.maximum(population.variances, 1e-8))
    best = value(logs)
    for width in (0.4, 0.1):
        for axis in (0, 1) if wander else (1,):
            for sign in (1.0, -1.0):
                while True:
                    trial = logs.copy()
                    trial[axis] = np.clip(trial[axis] + sign * width, -20.0, 5.0)
                    score = value(trial)
                    if not score < best - 1e-9:
                        break
                    logs, best = trial, score
    value(logs)
    found = np.exp(logs)
    return (
        replace(
            population,
            wander_variance_per_day=float(found[0]) if wander else 0.0,
            noise_variance=float(found[1]),
            deviance=best,
        ),
        weights,
    )


def forecast_individuals(
    curve: Callable[[FloatArray, FloatArray], FloatArray],
    population: Population,
    series: SeriesBatch,
    *,
    days: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Predict readings on later days: mean and standard deviation, each of shape (patients, days).

    Parameters
    ----------
    days
        Shape (patients, m), on the clock of the series, not before the last reading.
    """
    each = fit_individuals(curve, population, series)
    first = series.days[:, :1]
    fitted = curve(each.mean, series.days - first)
    slopes = _jacobian(curve, each.mean, series.days - first, fitted)
    ahead = curve(each.mean, days - first)
    ahead_slopes = _jacobian(curve, each.mean, days - first, ahead)
    mean, variance = np.empty_like(days), np.empty_like(days)
    predict(
        series.days,
        series.counts,
        (series.values - fitted, slopes, each.covariance),
        population.variances,
        (days, ahead_slopes),
        (mean, variance),
    )
    return ahead + mean, np.sqrt(np.maximum(variance, 1e-12))

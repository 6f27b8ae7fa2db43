"""Population fit without Laplace's approximation: expectation by importance sampling."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins.calibration._population_kernels import deviance, misfits

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.calibration._population import Individuals, Population, SeriesBatch

FloatArray = NDArray[np.float64]

_WIDER = 1.3
_ADAPTED = 6
_STEPS = (0.1, 0.02)


def refine_population(
    curve: Callable[[FloatArray, FloatArray], FloatArray],
    series: SeriesBatch,
    population: Population,
    each: Individuals,
    *,
    weights: FloatArray,
    rounds: int,
    draws: int,
    seed: int,
) -> Population:
    """Go on from a Laplace fit with posterior moments by importance sampling.

    Most draws of a patient come from a normal distribution that starts as the Laplace approximation and
    takes on the moments found (population Monte Carlo), a fifth from the population (a defensive mixture,
    Hesterberg 1995), so a posterior that is skewed or hardly narrower than the population is covered
    either way. The same quasi-random numbers serve every round.

    Parameters
    ----------
    each
        Modes and covariances of the patients under ``population``.
    weights
        Of the patients, as the Laplace fit left them.
    rounds, draws
        Rounds of expectation and maximisation, and draws a patient.
    """
    patients, size = each.mean.shape
    noise = _normals((patients, draws, size), seed)
    own = np.arange(draws) % 5 != 0
    centre, roots = each.mean, _cholesky(each.covariance + 1e-9 * np.eye(size)) * _WIDER
    since = series.days - series.days[:, :1]
    tables = (np.repeat(series.days, draws, axis=0), np.repeat(series.counts, draws))
    share = weights / weights.sum()
    for turn in range(rounds):
        spread = _cholesky(population.covariance)
        local = centre[:, None, :] + np.einsum("pab,pdb->pda", roots, noise)
        theta = np.where(own[None, :, None], local, population.mean + noise @ spread.T)
        flat = theta.reshape(-1, size)
        residuals = np.repeat(series.values, draws, axis=0) - curve(flat, np.repeat(since, draws, axis=0))
        chance = _posterior(population, (theta, centre, roots), residuals, tables)
        means = np.einsum("pd,pda->pa", chance, theta)
        if turn < _ADAPTED:
            centre, roots = means, _roots(theta - means[:, None, :], chance, population.covariance)
        mean = share @ means
        off = theta - mean
        covariance = np.einsum("p,pd,pda,pdb->ab", share, chance, off, off)
        population = _with_variances(population, series, (residuals, chance), tables, weights)
        population = replace(
            population, mean=mean, covariance=covariance, iterations=population.iterations + 1
        )
    return population


def _normals(shape: tuple[int, int, int], seed: int) -> FloatArray:
    """Sobol's points, shifted for every patient, as standard normals."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    patients, draws, size = shape
    points = qmc.Sobol(size, seed=seed).random(1 << (draws - 1).bit_length())[:draws]
    shifts = np.random.default_rng(seed).random((patients, 1, size))
    return np.asarray(ndtri(np.clip((points + shifts) % 1.0, 1e-6, 1.0 - 1e-6)))


def _cholesky(matrices: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.cholesky(matrices), dtype=np.float64)


def _roots(off: FloatArray, chance: FloatArray, prior: FloatArray) -> FloatArray:
    """Factors of the weighted covariances, a little widened, with a small share of the population's."""
    found = np.einsum("pd,pda,pdb->pab", chance, off, off)
    return np.asarray(_cholesky(found + 0.01 * prior) * _WIDER)


def _log_normal(off: FloatArray, root: FloatArray) -> FloatArray:
    """Log density, without its constant, of deviations (p, d, a) under Cholesky factors (p, a, b)."""
    scaled = np.einsum("...ab,...db->...da", np.linalg.inv(root), off)
    heights = np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
    return np.asarray(-0.5 * (scaled**2).sum(axis=-1) - np.atleast_1d(heights)[:, None])


def _posterior(
    population: Population,
    draws: tuple[FloatArray, FloatArray, FloatArray],
    residuals: FloatArray,
    tables: tuple[FloatArray, NDArray[np.int64]],
) -> FloatArray:
    """Self-normalised importance weights, shape (patients, draws)."""
    theta, modes, roots = draws
    fit = np.empty(residuals.shape[0])
    misfits(*tables, residuals, population.variances, fit)
    spread = _cholesky(population.covariance)
    prior = _log_normal(theta - population.mean, spread[None])
    own = _log_normal(theta - modes[:, None, :], roots) + np.log(0.8)
    proposal = np.logaddexp(own, prior + np.log(0.2))
    logs = prior - 0.5 * fit.reshape(prior.shape) - proposal
    chance = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(chance / chance.sum(axis=1, keepdims=True))


def _with_variances(
    population: Population,
    series: SeriesBatch,
    expected: tuple[FloatArray, FloatArray],
    tables: tuple[FloatArray, NDArray[np.int64]],
    weights: FloatArray,
) -> Population:
    """Improve the two error variances: a coordinate search of the expected log likelihood."""
    residuals, chance = expected
    fit = np.empty(residuals.shape[0])
    flat = np.zeros((*series.days.shape, 1))
    unused = np.empty(series.counts.size)

    wander = population.wander_variance_per_day > 0.0

    def value(logs: FloatArray) -> float:
        variances = np.exp(logs) * [wander, True]
        misfits(*tables, residuals, variances, fit)
        # Without residuals and slopes the deviance is the sum of the log determinants.
        heights = deviance(
            series.days, series.counts, np.zeros_like(series.days), flat, np.eye(1), variances, 0.0, unused
        )
        return float(weights @ (chance * fit.reshape(chance.shape)).sum(axis=1) + heights)

    logs = np.log(np.maximum(population.variances, 1e-8))
    best = value(logs)
    for width in _STEPS:
        for axis in (0, 1) if wander else (1,):
            for sign in (1.0, -1.0):
                trial = logs.copy()
                trial[axis] += sign * width
                score = value(trial)
                if score < best:
                    logs, best = trial, score
    found = np.exp(logs) * [wander, True]
    return replace(population, wander_variance_per_day=float(found[0]), noise_variance=float(found[1]))

"""Samples of a posterior: tempered sequential Monte Carlo with Metropolis moves."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from digital_twins._errors import InputError
from digital_twins.calibration._filters import effective_sample_size, systematic_resample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from digital_twins.calibration._belief import Prior
    from digital_twins.calibration._fit import Fit

FloatArray = NDArray[np.float64]

_SHARE_FROM_PRIOR = 0.2
_INFLATION = 1.3
_TAIL = 5.0
_ENOUGH_MOTION = 1.0
_TARGET_ACCEPTANCE = 0.3


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """How to sample.

    Attributes
    ----------
    particles
        Number of samples kept, 32 to 100,000.
    seed
        The same seed gives the same samples.
    least_ess
        Each tempering step goes as far as this share of the particles stays effective.
    most_sweeps
        Metropolis sweeps at a temperature at most; fewer when the particles have moved a standard deviation.
    """

    particles: int = 256
    seed: int = 0
    least_ess: float = 0.5
    most_sweeps: int = 8

    def __post_init__(self) -> None:
        if not (32 <= self.particles <= 100_000 and 0.0 < self.least_ess < 1.0 and self.most_sweeps >= 1):
            raise InputError(
                "The sampler's options cannot be used.",
                "It takes 32 to 100,000 particles, a least ESS between 0 and 1, and one sweep or more.",
                "Correct the options.",
            )


@dataclass(frozen=True, eq=False)
class PosteriorSamples:
    """Result of :func:`sample_posterior`.

    Attributes
    ----------
    names
        Of the columns of ``logs``.
    logs
        [particle, parameter]: natural logarithms.
    weights
        Of the particles, summing to 1.
    temperatures
        Exponents at which the samples stopped on the way, the last one 1.
    ess
        Effective sample size at each of them before resampling.
    acceptance
        Share of accepted Metropolis moves at each of them.
    evaluations
        How often the model was run.
    """

    names: tuple[str, ...]
    logs: FloatArray
    weights: FloatArray
    temperatures: tuple[float, ...]
    ess: tuple[float, ...]
    acceptance: tuple[float, ...]
    evaluations: int

    @property
    def log_mean(self) -> FloatArray:
        """Weighted mean of the logarithms."""
        return np.asarray(self.weights @ self.logs)

    @property
    def log_covariance(self) -> FloatArray:
        """Weighted covariance of the logarithms."""
        apart = self.logs - self.log_mean
        return np.asarray((self.weights[:, None] * apart).T @ apart)

    @property
    def distinct(self) -> int:
        """Number of different particles."""
        return int(np.unique(self.logs, axis=0).shape[0])


class _Target:
    """Densities over z = (log p - log median) / log_sd: prior, likelihood, and where sampling starts."""

    def __init__(
        self,
        log_likelihood: Callable[[Mapping[str, float]], float],
        priors: Sequence[Prior],
        start: Fit | None,
        *,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.names = tuple(p.name for p in priors)
        self._log_likelihood, self._cancelled = log_likelihood, cancelled
        self.spread = np.array([p.log_sd for p in priors])
        self.centre = np.log([p.median for p in priors])
        self.low = (np.log([p.low for p in priors]) - self.centre) / self.spread
        self.high = (np.log([p.high for p in priors]) - self.centre) / self.spread
        self.evaluations = 0
        self._mode: FloatArray | None = None
        if start is not None:
            self._mode = (start.log_mean - self.centre) / self.spread
            covariance = start.log_covariance / np.outer(self.spread, self.spread)
            self._root = np.asarray(np.linalg.cholesky(_INFLATION**2 * covariance), dtype=np.float64)

    def inside(self, z: FloatArray) -> bool:
        return bool(np.all((z >= self.low) & (z <= self.high)))

    def log_data(self, z: FloatArray) -> float:
        if self._cancelled is not None and self._cancelled():
            raise CancelledError("the calibration was cancelled")
        self.evaluations += 1
        logs = self.centre + self.spread * z
        value = self._log_likelihood({n: math.exp(v) for n, v in zip(self.names, logs, strict=True)})
        return float(value) if math.isfinite(value) else -math.inf

    @staticmethod
    def log_prior(z: FloatArray) -> float:
        """Of the normal prior; the bounds' constant cancels."""
        return -0.5 * float(z @ z)

    def log_start(self, z: FloatArray) -> float:
        """Density of :meth:`draw` but for the bounds' constant."""
        prior = self.log_prior(z)
        if self._mode is None:
            return prior
        size = z.size
        u = np.linalg.solve(self._root, z - self._mode)
        student = (
            float(gammaln((_TAIL + size) / 2.0) - gammaln(_TAIL / 2.0))
            - 0.5 * size * math.log(_TAIL / 2.0)
            - float(np.log(np.diag(self._root)).sum())
            - 0.5 * (_TAIL + size) * math.log1p(float(u @ u) / _TAIL)
        )  # both without (2 pi)^(-size/2)
        return float(
            np.logaddexp(math.log1p(-_SHARE_FROM_PRIOR) + student, math.log(_SHARE_FROM_PRIOR) + prior)
        )

    def draw(self, rng: np.random.Generator) -> FloatArray:
        """One point inside the bounds: a heavy-tailed Laplace approximation mixed with the prior."""
        while True:
            z = rng.standard_normal(self.low.size)
            from_prior = rng.random() < _SHARE_FROM_PRIOR
            if self._mode is not None and not from_prior:
                z = self._mode + math.sqrt(_TAIL / rng.chisquare(_TAIL)) * (self._root @ z)
            if self.inside(z):
                return np.asarray(z)


@dataclass(slots=True)
class _Cloud:
    """The particles: points, and the three log densities at each."""

    z: FloatArray
    data: FloatArray
    prior: FloatArray
    start: FloatArray

    def tilt(self) -> FloatArray:
        """Log of posterior over start."""
        return self.prior + self.data - self.start

    def take(self, index: NDArray[np.intp]) -> _Cloud:
        return _Cloud(self.z[index], self.data[index], self.prior[index], self.start[index])


def sample_posterior(
    log_likelihood: Callable[[Mapping[str, float]], float],
    priors: Sequence[Prior],
    *,
    start: Fit | None = None,
    options: SamplerOptions | None = None,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> PosteriorSamples:
    """Draw from a posterior of positive parameters by tempered sequential Monte Carlo.

    Particles start from the prior, or, with ``start``, from a heavy-tailed (Student, 5 degrees) Laplace
    approximation of 1.3 times the width mixed with a fifth of the prior, and are led to the posterior
    through ``start^(1-t) posterior^t``. Steps in t keep the effective sample size; after each the particles
    are resampled and moved by random-walk Metropolis with their own covariance (Del Moral, Doucet & Jasra
    2006, doi:10.1111/j.1467-9868.2006.00553.x; scale 2.38/sqrt(d) of Roberts, Gelman & Gilks 1997, adapted to
    an acceptance of 0.3). The samples stay within the priors' bounds.

    Parameters
    ----------
    log_likelihood
        Parameter values by name -> log likelihood up to a constant; not finite counts as impossible.
    priors
        The free parameters, none of them fixed.
    start
        A fit of the same parameters: a good one saves most of the work, a bad one costs work only.
    progress
        Called with a fraction in 0..1 and a text.
    cancelled
        Asked before every run of the model.

    Raises
    ------
    InputError
        When there is nothing to sample, or no start has a finite likelihood.
    concurrent.futures.CancelledError
        When ``cancelled`` said so.
    """
    options = options or SamplerOptions()
    if not priors or any(p.fixed for p in priors):
        raise InputError(
            "There is no free parameter to sample.",
            "A fixed parameter has no uncertainty that data could reduce.",
            "Pass priors with log_sd > 0 only.",
        )
    target = _Target(log_likelihood, priors, start, cancelled=cancelled)
    rng = np.random.default_rng(options.seed)
    say = progress or (lambda _share, _text: None)
    cloud = _first(target, options.particles, rng, say=say)
    t, temperatures, ess, acceptance = 0.0, [], [], []
    scale = 2.38 / math.sqrt(len(target.names))
    while t < 1.0:
        following, weights = _next_temperature(cloud.tilt(), t, options.least_ess)
        temperatures.append(following)
        ess.append(effective_sample_size(weights))
        cloud = cloud.take(systematic_resample(weights, options.particles, seed=int(rng.integers(1 << 31))))
        t = following
        accepted, scale = _moved(target, cloud, (t, scale, options.most_sweeps), rng)
        acceptance.append(accepted)
        say(0.2 + 0.8 * t, f"temperature {t:.3f}: effective {ess[-1]:.0f}, accepted {100 * accepted:.0f} %")
    return PosteriorSamples(
        names=target.names,
        logs=target.centre + target.spread * cloud.z,
        weights=np.full(options.particles, 1.0 / options.particles),
        temperatures=tuple(temperatures),
        ess=tuple(ess),
        acceptance=tuple(acceptance),
        evaluations=target.evaluations,
    )


def _first(
    target: _Target, count: int, rng: np.random.Generator, *, say: Callable[[float, str], None]
) -> _Cloud:
    z = np.stack([target.draw(rng) for _ in range(count)])
    data = np.empty(count)
    for i, point in enumerate(z):
        data[i] = target.log_data(point)
        if (i + 1) % 32 == 0:
            say(0.2 * (i + 1) / count, f"first particles: {i + 1} of {count}")
    if not np.any(np.isfinite(data)):
        raise InputError(
            "The model cannot be compared with the data.",
            "No particle has a finite likelihood.",
            "Check the observations and the priors.",
        )
    return _Cloud(
        z, data, np.array([target.log_prior(p) for p in z]), np.array([target.log_start(p) for p in z])
    )


def _next_temperature(tilt: FloatArray, t: float, least: float) -> tuple[float, FloatArray]:
    """Return the farthest temperature that keeps the effective share of the particles, and their weights."""
    finite = np.where(np.isfinite(tilt), tilt, -np.inf)
    wanted = least * np.count_nonzero(np.isfinite(finite))

    def weights(step: float) -> FloatArray:
        raw = np.exp(step * (finite - finite.max()))
        return np.asarray(raw / raw.sum())

    if effective_sample_size(weights(1.0 - t)) >= wanted:
        return 1.0, weights(1.0 - t)
    low, high = 0.0, 1.0 - t
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective_sample_size(weights(middle)) >= wanted else (low, middle)
    return min(1.0, t + max(low, 1e-9)), weights(max(low, 1e-9))


def _moved(
    target: _Target, cloud: _Cloud, state: tuple[float, float, int], rng: np.random.Generator
) -> tuple[float, float]:
    """Metropolis sweeps in place until the particles have moved enough; return acceptance and next scale."""
    t, scale, most = state
    count, size = cloud.z.shape
    covariance = np.cov(cloud.z.T).reshape(size, size) + 1e-12 * np.eye(size)
    root = np.linalg.cholesky(covariance)
    origin, shares = cloud.z.copy(), []
    for _ in range(most):
        accepted = 0
        for i in range(count):
            trial = cloud.z[i] + scale * (root @ rng.standard_normal(size))
            threshold = math.log(1.0 - rng.random())
            if not target.inside(trial):
                continue
            data, prior, start = target.log_data(trial), target.log_prior(trial), target.log_start(trial)
            before = (1.0 - t) * cloud.start[i] + t * (cloud.prior[i] + cloud.data[i])
            if (1.0 - t) * start + t * (prior + data) - before > threshold:
                cloud.z[i], cloud.data[i], cloud.prior[i], cloud.start[i] = trial, data, prior, start
                accepted += 1
        shares.append(accepted / count)
        scale *= math.exp(shares[-1] - _TARGET_ACCEPTANCE)
        apart = np.linalg.solve(root, (cloud.z - origin).T)
        if float(np.mean(apart**2)) >= _ENOUGH_MOTION:
            break
    return float(np.mean(shares)), scale

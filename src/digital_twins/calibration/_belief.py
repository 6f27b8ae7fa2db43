"""What is believed of positive parameters: log-normal priors, estimates, and a joint belief to sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from digital_twins._errors import InputError
from digital_twins.calibration._axes import covariance_root, principal_axes
from digital_twins.calibration._filters import systematic_resample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """Log-normal prior of one positive parameter.

    Attributes
    ----------
    median, log_sd
        Median in ``unit`` and standard deviation of the natural logarithm; ``log_sd`` 0 fixes the parameter.
    low, high
        Bounds that no fit and no sample leaves.
    source
        Where the numbers come from; "[verify]" marks what was not read there.
    """

    name: str
    median: float
    log_sd: float
    low: float
    high: float
    unit: str
    source: str

    def __post_init__(self) -> None:
        if not (0.0 < self.low <= self.median <= self.high < math.inf and 0.0 <= self.log_sd < math.inf):
            raise InputError(
                f"The prior of '{self.name}' cannot be used.",
                "It needs 0 < low <= median <= high and a log_sd of 0 or more.",
                "Correct the prior.",
            )

    @property
    def fixed(self) -> bool:
        """Whether the parameter is not uncertain."""
        return self.log_sd == 0.0

    def bounded(self, low: float, high: float) -> Prior:
        """Return the prior within narrower bounds, its median moved inside them.

        Raises
        ------
        InputError
            When the bounds contradict each other or the prior's own.
        """
        least, most = max(low, self.low), min(high, self.high)
        if not (0.0 < low <= high < math.inf and least <= most):
            raise InputError(
                f"The bounds of '{self.name}' contradict each other.",
                f"Asked was {low:g} to {high:g} {self.unit}; the prior allows {self.low:g} to {self.high:g}.",
                "Give a positive lower bound below the upper one, and both within the prior's.",
            )
        return replace(self, low=least, high=most, median=min(most, max(least, self.median)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A parameter's value with its uncertainty.

    Attributes
    ----------
    value
        Mode of the posterior in log space (the median of the log-normal belief).
    standard_deviation
        To first order, in ``unit``.
    low, high
        95 % interval (Laplace in log space, or the prior's when never calibrated).
    fixed
        Whether it is taken as known.
    source
        ``"calibrated"`` or the prior's source.
    """

    value: float
    standard_deviation: float
    low: float
    high: float
    unit: str
    fixed: bool
    source: str


@dataclass(frozen=True, eq=False)
class Particles:
    """Weighted samples of some parameters' logarithms.

    Attributes
    ----------
    names
        Of the columns of ``logs``.
    logs
        [particle, parameter].
    weights
        One a particle, summing to 1.
    """

    names: tuple[str, ...]
    logs: FloatArray
    weights: FloatArray

    def quantile(self, name: str, levels: Sequence[float]) -> FloatArray:
        """Weighted quantiles of a parameter's logarithm."""
        column = self.logs[:, self.names.index(name)]
        order = np.argsort(column, kind="stable")
        share = np.cumsum(self.weights[order]) - 0.5 * self.weights[order]
        return np.asarray(np.interp(levels, share, column[order]))

    def drawn(self, count: int, *, seed: int) -> FloatArray:
        """Return ``count`` rows in proportion to the weights, spread evenly along the widest direction."""
        apart = self.logs - self.weights @ self.logs
        _, axes = principal_axes((self.weights[:, None] * apart).T @ apart)
        order = np.argsort(apart @ axes[:, -1], kind="stable")
        picked = order[systematic_resample(self.weights[order], count, seed=seed)]
        return np.asarray(self.logs[np.random.default_rng(seed).permutation(picked)])


@dataclass(frozen=True, eq=False)
class Belief:
    """Joint belief over positive parameters: a mean and covariance of their logarithms, or samples.

    Attributes
    ----------
    priors
        One a parameter, in the order of ``log_mean``.
    log_mean, log_covariance
        Of the natural logarithms.
    calibrated
        Names that data have informed.
    particles
        Weighted samples of the calibrated parameters where a sampler gave them: intervals and draws then
        come from these instead of from the normal with the same mean and covariance.
    """

    priors: tuple[Prior, ...]
    log_mean: FloatArray
    log_covariance: FloatArray
    calibrated: frozenset[str] = frozenset()
    particles: Particles | None = None

    @classmethod
    def from_priors(cls, priors: Iterable[Prior]) -> Belief:
        """Belief before any data: independent priors."""
        items = tuple(priors)
        spread = np.array([p.log_sd for p in items])
        return cls(items, np.log([p.median for p in items]), np.diag(spread**2))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(p.name for p in self.priors)

    @property
    def values(self) -> dict[str, float]:
        """Most probable value of every parameter (log space)."""
        return self._named(self.log_mean)

    def estimates(self, *, interval: float = 0.95) -> dict[str, Estimate]:
        """Return every parameter with its interval."""
        z = NormalDist().inv_cdf(0.5 + interval / 2.0)
        tails = (0.5 - interval / 2.0, 0.5 + interval / 2.0)
        values, result = self.values, {}
        for i, prior in enumerate(self.priors):
            mean, spread = self.log_mean[i], math.sqrt(max(self.log_covariance[i, i], 0.0))
            value = values[prior.name]
            low, high = mean - z * spread, mean + z * spread
            if self.particles is not None and prior.name in self.particles.names:
                low, high = self.particles.quantile(prior.name, tails)
            result[prior.name] = Estimate(
                value=value,
                standard_deviation=value * spread,
                low=min(prior.high, max(prior.low, math.exp(low))) if spread else value,
                high=max(prior.low, min(prior.high, math.exp(high))) if spread else value,
                unit=prior.unit,
                fixed=prior.fixed,
                source="calibrated" if prior.name in self.calibrated else prior.source,
            )
        return result

    def sample(self, count: int, *, seed: int) -> list[dict[str, float]]:
        """Draw ``count`` parameter sets; the same count and seed give the same sets.

        Latin hypercube draws with their mirror images, so that a small ensemble is centred on the mode and
        fills the range of every principal direction evenly (McKay, Beckman & Conover 1979,
        doi:10.2307/1268522). Parameters that have particles are drawn from these instead.
        """
        root = covariance_root(self.log_covariance)
        rng = np.random.default_rng(seed)
        half = (count + 1) // 2
        strata = np.stack([rng.permutation(half) for _ in range(self.log_mean.size)], axis=1)
        normal = ndtri((strata + rng.random(strata.shape)) / half)
        mirrored = np.stack([normal, -normal], axis=1).reshape(-1, self.log_mean.size)
        logs = self.log_mean + mirrored[:count] @ root.T
        if self.particles is not None:
            columns = [self.names.index(name) for name in self.particles.names]
            logs[:, columns] = self.particles.drawn(count, seed=seed)
        return [self._named(row) for row in logs]

    def updated(self, names: tuple[str, ...], log_mean: FloatArray, log_covariance: FloatArray) -> Belief:
        """Return the belief with the named block replaced by a normal; its other correlations are removed."""
        where = [self.names.index(name) for name in names]
        mean, covariance = self.log_mean.copy(), self.log_covariance.copy()
        covariance[where, :] = 0.0
        covariance[:, where] = 0.0
        mean[where] = log_mean
        covariance[np.ix_(where, where)] = log_covariance
        return replace(
            self,
            log_mean=mean,
            log_covariance=covariance,
            calibrated=self.calibrated | frozenset(names),
            particles=None,
        )

    def sampled(self, particles: Particles) -> Belief:
        """Return the belief with the particles' parameters replaced by these samples."""
        mean = particles.weights @ particles.logs
        apart = particles.logs - mean
        covariance = (particles.weights[:, None] * apart).T @ apart
        return replace(self.updated(particles.names, mean, covariance), particles=particles)

    def with_prior(self, prior: Prior) -> Belief:
        """Return the belief with one more, independent parameter; unchanged if the name is known."""
        if prior.name in self.names:
            return self
        size = self.log_mean.size
        covariance = np.zeros((size + 1, size + 1))
        covariance[:size, :size] = self.log_covariance
        covariance[size, size] = prior.log_sd**2
        mean = np.append(self.log_mean, math.log(prior.median))
        return replace(self, priors=(*self.priors, prior), log_mean=mean, log_covariance=covariance)

    def _named(self, logs: FloatArray) -> dict[str, float]:
        clipped = (
            prior.median if prior.fixed else min(prior.high, max(prior.low, math.exp(value)))
            for prior, value in zip(self.priors, logs, strict=True)
        )
        return dict(zip(self.names, clipped, strict=True))

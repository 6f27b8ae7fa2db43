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

if TYPE_CHECKING:
    from collections.abc import Iterable

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
class Belief:
    """Joint log-normal belief over parameters: a mean and covariance of their logarithms.

    Attributes
    ----------
    priors
        One a parameter, in the order of ``log_mean``.
    log_mean, log_covariance
        Of the natural logarithms.
    calibrated
        Names that data have informed.
    """

    priors: tuple[Prior, ...]
    log_mean: FloatArray
    log_covariance: FloatArray
    calibrated: frozenset[str] = frozenset()

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
        result = {}
        for i, prior in enumerate(self.priors):
            mean, spread = self.log_mean[i], math.sqrt(max(self.log_covariance[i, i], 0.0))
            value = self._named(self.log_mean)[prior.name]
            result[prior.name] = Estimate(
                value=value,
                standard_deviation=value * spread,
                low=max(prior.low, math.exp(mean - z * spread)) if spread else value,
                high=min(prior.high, math.exp(mean + z * spread)) if spread else value,
                unit=prior.unit,
                fixed=prior.fixed,
                source="calibrated" if prior.name in self.calibrated else prior.source,
            )
        return result

    def sample(self, count: int, *, seed: int) -> list[dict[str, float]]:
        """Draw ``count`` parameter sets; the same count and seed give the same sets.

        Latin hypercube draws with their mirror images, so that a small ensemble is centred on the mode and
        fills the range of every principal direction evenly (McKay, Beckman & Conover 1979,
        doi:10.2307/1268522).
        """
        eigenvalue, vector = np.linalg.eigh(self.log_covariance)
        root = vector * np.sqrt(np.clip(eigenvalue, 0.0, None))
        rng = np.random.default_rng(seed)
        half = (count + 1) // 2
        strata = np.stack([rng.permutation(half) for _ in range(self.log_mean.size)], axis=1)
        normal = ndtri((strata + rng.random(strata.shape)) / half)
        mirrored = np.stack([normal, -normal], axis=1).reshape(-1, self.log_mean.size)
        return [self._named(self.log_mean + root @ row) for row in mirrored[:count]]

    def updated(self, names: tuple[str, ...], log_mean: FloatArray, log_covariance: FloatArray) -> Belief:
        """Return the belief with the named block replaced and its other correlations removed."""
        where = [self.names.index(name) for name in names]
        mean, covariance = self.log_mean.copy(), self.log_covariance.copy()
        covariance[where, :] = 0.0
        covariance[:, where] = 0.0
        mean[where] = log_mean
        covariance[np.ix_(where, where)] = log_covariance
        return replace(
            self, log_mean=mean, log_covariance=covariance, calibrated=self.calibrated | frozenset(names)
        )

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

"""How old a tumour is, from a few late volumes: the reduced Gompertz law with a population prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.calibration import Population, SeriesBatch, fit_population

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FloatArray = NDArray[np.float64]

_GRID = 400
_RATES = 61
_OFFSETS = (0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class AgeEstimate:
    """Days since the first cells, for each tumour at its first given reading.

    Attributes
    ----------
    median_days, low_days, high_days
        Posterior median and 95 % interval, shape (tumours,).
    """

    median_days: FloatArray
    low_days: FloatArray
    high_days: FloatArray


@dataclass(frozen=True, slots=True)
class ReducedGompertz:
    """``V(t) = V0 exp(k (1 - exp(-b t)))``: one k for all, b log-normal between tumours.

    Of Vaghi et al. 2020 (doi:10.1371/journal.pcbi.1007178), who found the two parameters of Gompertz's law so
    correlated between animals that one of them, here k, can be shared.

    Attributes
    ----------
    initial_volume
        Volume of the first cells (1 mm3 for a million of them), in the unit of the readings.
    offset
        Added to volumes before logarithms are taken: constant error far below it, proportional far above.
    log_ratio
        k: log of carrying volume over ``initial_volume``.
    log_rate_mean, log_rate_sd
        Of log b, b in 1/day.
    noise_sd
        Of ``log(reading + offset)``.
    """

    initial_volume: float
    offset: float
    log_ratio: float
    log_rate_mean: float
    log_rate_sd: float
    noise_sd: float

    def age(self, days: ArrayLike, volumes: ArrayLike, *, oldest_days: float = 200.0) -> AgeEstimate:
        """Infer the age at the first reading, with a flat prior between 0 and ``oldest_days``.

        Parameters
        ----------
        days, volumes
            Shape (tumours, readings): days on any clock (only differences count), volumes of 0 or more.
        oldest_days
            End of the prior.

        Raises
        ------
        InputError
            When a volume is negative or a day is not finite.
        """
        when = np.atleast_2d(np.asarray(days, dtype=np.float64))
        volume = np.atleast_2d(np.asarray(volumes, dtype=np.float64))
        if when.shape != volume.shape or not np.isfinite(when).all() or not np.all(volume >= 0.0):
            raise InputError(
                "The readings cannot be used.",
                "Shapes differ, a day is not finite, or a volume is negative.",
                "Give one volume of 0 or more for each day.",
            )
        logs = np.log(volume + self.offset)
        ages = (np.arange(_GRID) + 0.5) * oldest_days / _GRID
        standard = np.linspace(-4.0, 4.0, _RATES)
        rates = np.exp(self.log_rate_mean + self.log_rate_sd * standard)
        density = np.zeros((when.shape[0], _GRID))
        # One pass a rate keeps memory at tumours x ages; the sum over rates integrates them out.
        exponents = np.empty((_RATES, when.shape[0], _GRID))
        for i, rate in enumerate(rates):
            misfit = np.zeros_like(density)
            for j in range(when.shape[1]):
                at = ages + (when[:, j] - when[:, 0])[:, None]
                grown = self.initial_volume * np.exp(-self.log_ratio * np.expm1(-rate * at))
                misfit += ((logs[:, j : j + 1] - np.log(grown + self.offset)) / self.noise_sd) ** 2
            exponents[i] = -0.5 * misfit - 0.5 * standard[i] ** 2
        exponents -= exponents.max(axis=(0, 2), keepdims=True)
        density = np.exp(exponents).sum(axis=0)
        share = np.cumsum(density, axis=1) / density.sum(axis=1, keepdims=True)
        low, median, high = (ages[np.argmax(share >= level, axis=1)] for level in (0.025, 0.5, 0.975))
        return AgeEstimate(median, low, high)


def fit_reduced_gompertz(
    series: SeriesBatch, *, initial_volume: float = 1.0, readings: int = 3
) -> ReducedGompertz:
    """Learn the law of a cohort whose ages are known.

    The shared k maximises the likelihood, linearised as in :func:`calibration.fit_population` (normal
    errors), for each of five offsets; of these the one is taken that best gives the ages of this cohort
    itself from the last ``readings`` of each animal. The likelihood would choose by the many small
    volumes instead.

    Parameters
    ----------
    series
        Volumes, 0 or more, on days since the first cells. Zeros ('too small to measure') are left out: no
        density of a logarithm belongs to them.
    initial_volume
        Volume of the first cells, in the unit of the readings.
    readings
        How many readings of a tumour :meth:`ReducedGompertz.age` will be given.

    Raises
    ------
    InputError
        When a volume is negative, none is above zero, or no animal has so many readings.
    """
    volumes = series.values[series.known]
    if np.any(volumes < 0.0) or not np.any(volumes > 0.0):
        raise InputError(
            "The cohort cannot be used.",
            "A volume is negative, or all are zero.",
            "Give volumes of 0 or more.",
        )
    typical = float(np.median(volumes[volumes > 0.0]))
    positive = _without_zeros(series)
    laws = [_fit_with_offset(positive, initial_volume, share * typical) for share in _OFFSETS]
    long = positive.take(np.flatnonzero(positive.counts >= readings))
    if long.counts.size == 0:
        raise InputError(
            "The cohort cannot be used.",
            f"No animal has {readings} readings above zero.",
            "Ask for fewer readings.",
        )
    columns = long.counts[:, None] - readings + np.arange(readings)
    days = np.take_along_axis(long.days, columns, axis=1)
    late = np.take_along_axis(long.values, columns, axis=1)
    ages = days[:, 0]
    errors = [float(np.mean(np.abs(law.age(days, late).median_days / ages - 1.0))) for law in laws]
    return laws[int(np.argmin(errors))]


def _without_zeros(series: SeriesBatch) -> SeriesBatch:
    keep = series.known & (series.values > 0.0)
    order = np.argsort(~keep, axis=1, kind="stable")
    counts = keep.sum(axis=1)
    some = counts > 0
    values = np.take_along_axis(series.values, order, axis=1)[some]
    return SeriesBatch(np.take_along_axis(series.days, order, axis=1)[some], values, counts[some])


def _fit_with_offset(series: SeriesBatch, initial_volume: float, offset: float) -> ReducedGompertz:
    from scipy.optimize import minimize_scalar

    # Prepending the known day 0 makes "days since the first reading" the age; its residual is zero.
    patients, rows = series.counts.size, int(series.counts.sum())
    zero = np.zeros((patients, 1))
    volumes = np.hstack([zero + initial_volume, np.maximum(series.values, 0.0)])
    days = np.hstack([zero, series.days])
    from_birth = SeriesBatch(days, np.log(volumes + offset), series.counts + 1)
    typical = float(np.log(3.0 / np.median(series.days[series.known])))

    def learn(log_ratio: float) -> Population:
        def curve(theta: FloatArray, since: FloatArray) -> FloatArray:
            rate = np.exp(np.clip(theta, -15.0, 3.0))
            logs = np.log(initial_volume) - log_ratio * np.expm1(-rate * since)
            return np.asarray(np.logaddexp(logs, np.log(offset)))

        guess = Population(np.array([typical]), np.array([[0.09]]), 0.0, 0.05)
        return fit_population(curve, from_birth, guess, wander=False, freedom=0.0)

    best = minimize_scalar(
        lambda k: learn(k).deviance, bounds=(3.0, 25.0), method="bounded", options={"xatol": 0.02}
    )
    found = learn(float(best.x))
    return ReducedGompertz(
        initial_volume,
        offset,
        float(best.x),
        float(found.mean[0]),
        float(np.sqrt(found.covariance[0, 0])),
        float(np.sqrt(found.noise_variance * (rows + patients) / rows)),
    )

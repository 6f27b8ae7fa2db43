"""What data determine of a model's parameters, and which combinations they leave to the prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FloatArray = NDArray[np.float64]

_LEARNED = 0.5
_CONFOUNDED = 0.95
_OPEN = 0.7
_TAKES_PART = 0.35
_TIED = 0.3


@dataclass(frozen=True, slots=True)
class Direction:
    """A combination of parameters, and how much of its prior width the data leave.

    Attributes
    ----------
    weights
        Unit vector over the parameters' logarithms, each in its prior's standard deviations.
    remaining_sd
        Posterior over prior standard deviation along it: near 0 the data determine it, near 1 they say
        nothing of it.
    tied
        Whether the data tie its parameters together (posterior correlation beyond 0.3), so that only the
        combination is open; otherwise each of them is open by itself.
    """

    weights: Mapping[str, float]
    remaining_sd: float
    tied: bool = False

    @property
    def main(self) -> tuple[str, ...]:
        """Parameters that take the greater part in it."""
        return tuple(name for name, w in self.weights.items() if abs(w) >= _TAKES_PART)

    @property
    def determined(self) -> bool:
        """Whether the data reduce its standard deviation below 0.7 of the prior's (half the variance)."""
        return self.remaining_sd < _OPEN


@dataclass(frozen=True, slots=True)
class Identifiability:
    """Posterior against prior.

    Attributes
    ----------
    variance_reduction
        Parameter to the share of its prior variance that the data removed (0 nothing, 1 all).
    directions
        Principal directions of the posterior in units of the prior, the best determined first.
    confounded
        Pairs (first, second, correlation) that are correlated beyond 0.95 in either sense.
    """

    variance_reduction: Mapping[str, float]
    directions: tuple[Direction, ...]
    confounded: tuple[tuple[str, str, float], ...]

    @property
    def undetermined(self) -> tuple[Direction, ...]:
        """Directions that the prior holds more than the data do."""
        return tuple(each for each in self.directions if not each.determined)

    @property
    def words(self) -> tuple[str, ...]:
        """The same as sentences; empty when everything is determined."""
        notes = [
            f"{name}: its interval is mostly the prior's; the data reduce its variance by only "
            f"{100.0 * share:.0f} %."
            for name, share in self.variance_reduction.items()
            if share < _LEARNED
        ]
        notes += [
            f"{first} and {second} are confounded (correlation {value:+.2f}): only a combination of them is "
            "determined."
            for first, second, value in self.confounded
        ]
        notes += [_mixture(each) for each in self.undetermined if each.tied]
        return tuple(notes)


def _mixture(direction: Direction) -> str:
    parts = {name: direction.weights[name] for name in direction.main}
    lead = next(iter(parts.values()))
    rising = [name for name, w in parts.items() if w * lead > 0.0]
    falling = [name for name, w in parts.items() if w * lead < 0.0]
    text = "more " + " and ".join(rising) + (" with less " + " and ".join(falling) if falling else "")
    return (
        f"The data do not separate {' and '.join(parts)}: {text} fits them as well; along this combination "
        f"{100.0 * direction.remaining_sd:.0f} % of the prior's width remain."
    )


def identifiability(
    names: Sequence[str], covariance: FloatArray, prior_log_sd: FloatArray
) -> Identifiability:
    """Compare a posterior covariance of logarithms with independent priors.

    The eigenvectors of the posterior covariance in prior units are the directions that the data determine
    best and worst (likelihood-informed directions; Cui et al. 2014,
    doi:10.1088/0266-5611/30/11/114015).

    Parameters
    ----------
    names
        The parameters.
    covariance
        Posterior covariance of their logarithms, [parameter, parameter].
    prior_log_sd
        Prior standard deviations of the logarithms, none of them 0.
    """
    scaled = covariance / np.outer(prior_log_sd, prior_log_sd)
    eigenvalue, vector = np.linalg.eigh(0.5 * (scaled + scaled.T))
    spread = np.sqrt(np.clip(np.diag(scaled), 1e-300, None))
    correlation = scaled / np.outer(spread, spread)
    directions = tuple(
        _direction(names, vector[:, i], float(np.sqrt(max(eigenvalue[i], 0.0))), correlation)
        for i in range(len(names))
    )
    pairs = tuple(
        (names[j], names[i], float(correlation[i, j]))
        for i in range(len(names))
        for j in range(i)
        if abs(correlation[i, j]) > _CONFOUNDED
    )
    reduction = {name: float(1.0 - scaled[i, i]) for i, name in enumerate(names)}
    return Identifiability(reduction, directions, pairs)


def _direction(
    names: Sequence[str], vector: FloatArray, remaining_sd: float, correlation: FloatArray
) -> Direction:
    parts = np.flatnonzero(np.abs(vector) >= _TAKES_PART)
    among = np.abs(correlation[np.ix_(parts, parts)]) - np.eye(parts.size)
    weights = {name: float(w) for name, w in zip(names, vector, strict=True)}
    return Direction(weights, remaining_sd, bool(np.max(among, initial=0.0) > _TIED))

"""Growth laws without space, for thousands of tumours at once, with treatment."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from digital_twins.models._forcing import Forcing

FloatArray = NDArray[np.float64]

_BARE = ("initial_volume", "rate_per_day")
_LIMITED = (*_BARE, "carrying_volume")
_EXPONENTS = {"gompertz": 0.0, "logistic": 1.0, "classical_bertalanffy": 1.0 / 3.0}
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
# Ends of the pieces after a dose, in units of its 1/decay: short where the kill rate falls fast.
_GRADED = np.array([0.25, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0])


@dataclass(frozen=True, slots=True)
class GrowthLaw:
    """One law of :func:`growth_law`.

    Attributes
    ----------
    name
        ``exponential``, ``logistic``, ``gompertz``, ``bertalanffy`` or ``classical_bertalanffy``.
    parameter_names
        Columns of the parameters: ``initial_volume`` (volume at day 0, any unit), ``rate_per_day`` r and, but
        for the exponential, ``carrying_volume`` K (same unit); ``exponent`` for ``bertalanffy`` only.
    """

    name: str
    parameter_names: tuple[str, ...]

    def volumes(
        self, parameters: ArrayLike, days: ArrayLike, *, forcing: Forcing | None = None
    ) -> FloatArray:
        """Return the volumes of many tumours, shape (P, n), in the unit of the initial volumes.

        With ``x = V / K``, c(t) the kill rate of the treatment, and jumps on the days of the forcing::

            exponential            V' = r V - c V
            gompertz               V' = -r V log x - c V
            the three others       V' = (r / m) V (1 - x^m) - c V     (m: 1 logistic, 1/3 classical, or free)

        the last is the generalised law of von Bertalanffy (1957, doi:10.1086/401873) in the form of Richards.
        Untreated courses, and the treated exponential and Gompertz, are closed forms; the others are linear
        in ``x^-m`` and need one integral, by Gauss-Legendre on pieces that follow the decay of each dose.

        Parameters
        ----------
        parameters
            Shape (P, k) or (k,), columns ``parameter_names``; all positive but the rate of ``exponential``.
        days
            From 0 on: shape (n,), or (P, n) when untreated. On the day of a jump the volume before it.
        forcing
            One treatment for all the tumours of the call, day 0 being that of the initial volume.

        Raises
        ------
        InputError
            When shapes do not fit, or a parameter or day is out of its range.
        """
        table = np.atleast_2d(np.asarray(parameters, dtype=np.float64))
        when = np.asarray(days, dtype=np.float64)
        self._check(table, when, treated=forcing is not None)
        if forcing is None:
            wide = np.broadcast_to(when, (table.shape[0], when.shape[-1]))
            return np.asarray(np.exp(self._log_volumes(table, wide)))
        return np.asarray(np.exp(self._treated(table, when, forcing)))

    def curve(self, *, offset: float, scale_days: float) -> Callable[[FloatArray, FloatArray], FloatArray]:
        """Return ``log(V(t) + offset)`` as a function of unconstrained parameters, for population fits.

        The columns are log initial volume, log (rate x ``scale_days``), log carrying volume, log exponent;
        for the exponential the second is rate x ``scale_days`` itself, of either sign.
        """
        floor = np.log(offset)

        def values(theta: FloatArray, since: FloatArray) -> FloatArray:
            table = np.exp(np.clip(theta, -30.0, 30.0))
            table[:, 1] /= scale_days
            if self.name == "exponential":
                table[:, 1] = theta[:, 1] / scale_days
            if self.name == "bertalanffy":
                table[:, 3] = np.clip(table[:, 3], 0.02, 5.0)
            return np.logaddexp(np.clip(self._log_volumes(table, since), -60.0, 60.0), floor)

        return values

    def _check(self, table: FloatArray, days: FloatArray, *, treated: bool) -> None:
        positive = np.ones(table.shape[-1], dtype=bool)
        if self.name == "exponential" and positive.size > 1:
            positive[1] = False
        if table.ndim != 2 or table.shape[1] != len(self.parameter_names):
            raise InputError(
                f"The parameters of the {self.name} law have the wrong shape.",
                f"Each tumour needs {len(self.parameter_names)}: {', '.join(self.parameter_names)}.",
                "Pass an array of shape (tumours, parameters).",
            )
        if not np.isfinite(table).all() or np.any(table[:, positive] <= 0.0):
            raise InputError(
                f"A parameter of the {self.name} law cannot be used.",
                "Volumes, rates and exponents must be finite and above zero.",
                "Correct the parameters.",
            )
        if not np.isfinite(days).all() or np.any(days < 0.0) or (treated and days.ndim != 1):
            raise InputError(
                "The days cannot be used.",
                "They count from 0, the day of the initial volume; with a treatment all tumours share them.",
                "Pass finite days from 0 on, in one row when there is a treatment.",
            )

    def _shape(self, table: FloatArray) -> FloatArray:
        if self.name == "bertalanffy":
            return table[:, 3:4]
        return np.full((table.shape[0], 1), _EXPONENTS[self.name])

    def _log_volumes(self, table: FloatArray, days: FloatArray) -> FloatArray:
        start = np.log(table[:, :1])
        if self.name == "exponential":
            return np.asarray(start + table[:, 1:2] * days)
        limit = np.log(table[:, 2:3])
        fading = np.exp(-table[:, 1:2] * days)
        if self.name == "gompertz":
            return np.asarray(limit + (start - limit) * fading)
        m = self._shape(table)
        return np.asarray(limit - np.log1p(np.expm1(np.clip(m * (limit - start), -600, 600)) * fading) / m)

    def _treated(self, table: FloatArray, days: FloatArray, forcing: Forcing) -> FloatArray:
        grid = self._grid(table, days, forcing)
        rate = table[:, 1]
        limit = np.zeros_like(rate) if self.name == "exponential" else np.log(table[:, 2])
        state = np.log(table[:, 0]) - limit
        result = np.empty((rate.size, days.size))
        result[:, days == 0.0] = state[:, None]
        for a, b in pairwise(grid):
            state = state + forcing.log_jumps(a, b)
            state = self._advance(table, state, (a, b), forcing)
            result[:, days == b] = state[:, None]
        return np.asarray(result + limit[:, None])

    def _grid(self, table: FloatArray, days: FloatArray, forcing: Forcing) -> FloatArray:
        """Days between which nothing happens at once, and no longer than the slowest change allows."""
        end = float(days.max(initial=0.0))
        parts = [np.zeros(1), days, forcing.dose_days, forcing.jump_days]
        if self.name not in ("exponential", "gompertz"):
            live = forcing.decay_per_day > 0.0
            graded = forcing.dose_days[live, None] + _GRADED / forcing.decay_per_day[live, None]
            fastest = float(table[:, 1].max())
            parts += [graded.ravel(), np.linspace(0.0, end, 1 + min(400, int(np.ceil(end * fastest))))]
        grid = np.unique(np.concatenate(parts))
        return np.asarray(grid[(grid >= 0.0) & (grid <= end)])

    def _advance(
        self, table: FloatArray, state: FloatArray, piece: tuple[float, float], forcing: Forcing
    ) -> FloatArray:
        """Carry ``log(V / K)`` (for the exponential log V) over a piece without jumps or new doses."""
        a, b = piece
        rate = table[:, 1]
        before, after = forcing.cumulative_log_kill(np.array([a, b]))
        if self.name == "exponential":
            return np.asarray(state + rate * (b - a) - (after - before))
        if self.name == "gompertz":
            return np.asarray(state * np.exp(-rate * (b - a)) - _faded_kill(rate, piece, forcing))
        m = self._shape(table)[:, 0]
        nodes = a + 0.5 * (b - a) * (1.0 + _NODES)
        remaining = after - forcing.cumulative_log_kill(nodes)
        grown = np.exp(-rate[:, None] * (b - nodes) + m[:, None] * remaining)
        source = rate * 0.5 * (b - a) * (grown @ _WEIGHTS)
        old = np.exp(-m * state - rate * (b - a) + m * (after - before))
        return np.asarray(-np.log(old + source) / m)


def _faded_kill(rate: FloatArray, piece: tuple[float, float], forcing: Forcing) -> FloatArray:
    """Return the integral of ``exp(-r (b - s)) c(s)`` over a piece [a, b] in which no dose starts."""
    a, b = piece
    total = np.zeros_like(rate)
    for day, amplitude, decay in zip(
        forcing.dose_days, forcing.amplitude_per_day, forcing.decay_per_day, strict=True
    ):
        if day > a:
            continue
        difference = (decay - rate) * (b - a)
        near = np.abs(difference) < 1e-8
        safe = np.where(near, 1.0, difference)
        share = np.where(near, 1.0 - 0.5 * difference, -np.expm1(-safe) / safe)
        total += amplitude * np.exp(-decay * (a - day) - rate * (b - a)) * (b - a) * share
    return total


def growth_law(name: str) -> GrowthLaw:
    """Return a law by its name.

    Raises
    ------
    InputError
        When there is no such law.
    """
    if name == "exponential":
        return GrowthLaw(name, _BARE)
    if name == "bertalanffy":
        return GrowthLaw(name, (*_LIMITED, "exponent"))
    if name in _EXPONENTS:
        return GrowthLaw(name, _LIMITED)
    raise InputError(
        "There is no such growth law.",
        f"The laws are {', '.join(GROWTH_LAWS)}.",
        "Name one of them.",
    )


GROWTH_LAWS = ("exponential", "logistic", "gompertz", "bertalanffy", "classical_bertalanffy")

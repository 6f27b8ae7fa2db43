"""Tumour, natural killer, CD8+ T and circulating cells: the model of de Pillis, Gu and Radunskaya 2006."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FourCellModel:
    """Untreated tumour T, NK cells N, CD8+ T cells L and circulating lymphocytes C, in cells.

    de Pillis, Gu & Radunskaya, J Theor Biol 2006;238:841, doi:10.1016/j.jtbi.2005.06.037, without drugs::

        T' = a T (1 - b T) - c N T - D T        D = d (L/T)^l / (s + (L/T)^l)
        N' = e C - f N + g T^2 / (h + T^2) N - p N T
        L' = -m L + j (D T)^2 / (k + (D T)^2) L - q L T + (r1 N + r2 C) T - u N L^2
        C' = alpha - beta C

    The defaults are the paper's "patient 9" (read in public transcriptions of its table, not in the journal
    [verify]); names are the paper's, with lower-case l as ``exponent``. Rates are per day.
    """

    a: float = 4.31e-1
    b: float = 1.02e-9
    c: float = 6.41e-11
    d: float = 2.34
    e: float = 2.08e-7
    exponent: float = 2.09
    f: float = 4.12e-2
    g: float = 1.25e-2
    h: float = 2.02e7
    j: float = 2.49e-2
    k: float = 3.66e7
    m: float = 2.04e-1
    q: float = 1.42e-6
    p: float = 3.42e-6
    s: float = 8.39e-2
    r1: float = 1.1e-7
    r2: float = 6.5e-11
    u: float = 3.0e-10
    alpha: float = 7.5e8
    beta: float = 1.2e-2

    def lysis_per_day(self, cd8: float, tumour: float) -> float:
        """D, the rate at which CD8+ T cells kill each tumour cell: it depends on their ratio alone."""
        ratio = max(cd8, 0.0) / max(tumour, 1e-12)
        power = ratio**self.exponent
        return float(self.d * power / (self.s + power))

    def trajectory(self, start: ArrayLike, days: ArrayLike) -> FloatArray:
        """Return (T, N, L, C) on each day from day 0 on: [4, day] (LSODA, relative tolerance 1e-8).

        Raises
        ------
        InputError
            When the start is not four numbers of 0 or more.
        """
        first, times = np.asarray(start, dtype=np.float64), np.asarray(days, dtype=np.float64)
        if first.shape != (4,) or not np.all(np.isfinite(first)) or np.any(first < 0.0):
            raise InputError(
                "The cells at the start cannot be used.",
                "The model has four kinds of cell, none of them fewer than none.",
                "Give tumour, NK, CD8+ and circulating lymphocytes.",
            )
        solved = solve_ivp(
            lambda _, y: self._rates(y),
            (0.0, max(float(times.max()), 1e-9)),
            first,
            t_eval=times,
            method="LSODA",
            rtol=1e-8,
            atol=1e-3,
        )
        return np.asarray(solved.y)

    def _rates(self, y: FloatArray) -> FloatArray:
        tumour, killers, cd8, blood = (max(float(v), 0.0) for v in y)
        lysed = self.lysis_per_day(cd8, tumour) * tumour
        killed = self.c * killers * tumour + lysed
        grown = self.a * tumour * (1.0 - self.b * tumour)
        seen = self.g * tumour**2 / (self.h + tumour**2)
        debris = self.j * lysed**2 / (self.k + lysed**2)
        return np.array(
            [
                grown - killed,
                self.e * blood - self.f * killers + seen * killers - self.p * killers * tumour,
                (debris - self.m - self.q * tumour - self.u * killers * cd8) * cd8
                + (self.r1 * killers + self.r2 * blood) * tumour,
                self.alpha - self.beta * blood,
            ]
        )

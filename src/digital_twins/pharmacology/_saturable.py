"""Saturable kinetics: Michaelis-Menten elimination and transfer, integrated numerically."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.pharmacology._compartments import Exponentials, compartment_model

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from scipy.integrate import OdeSolution

FloatArray = NDArray[np.float64]
Administration = tuple[float, float, float]
"""Start in hours, milligrams, and length in hours (0: bolus)."""

_TAIL_H = 1000.0
_GRADED_H = np.array([0.5, 2.0, 5.0, 12.0, 30.0, 80.0, 240.0, _TAIL_H])
"""Hours after an infusion at which its kill rate steps: fine against the day of the effect site."""
_INFUSION_SHARES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


@dataclass(frozen=True, slots=True)
class SaturableModel:
    """Saturable elimination from a central compartment, and up to two peripheral ones.

    With the amounts A (mg) and the concentration C = A1 / V1 (mg/L)::

        A1' = in - Vmax C / (Km + C) - Tmax C / (Tm + C) + k A2 - Q (C - A3 / V3)
        A2' = Tmax C / (Tm + C) - k A2
        A3' = Q (C - A3 / V3)

    Attributes
    ----------
    central_volume_l, vmax_mg_h, km_mg_l
        V1, greatest elimination rate and concentration at half of it.
    transfer_vmax_mg_h, transfer_km_mg_l, return_per_h
        Tmax, Tm and k of the saturable binding in tissue; Tmax 0 for none.
    flow_l_h, peripheral_volume_l
        Q and V3 of the linear peripheral compartment; Q 0 for none.

    Raises
    ------
    InputError
        When a constant is negative, or one that divides is 0.
    """

    central_volume_l: float
    vmax_mg_h: float
    km_mg_l: float
    transfer_vmax_mg_h: float = 0.0
    transfer_km_mg_l: float = 1.0
    return_per_h: float = 1.0
    flow_l_h: float = 0.0
    peripheral_volume_l: float = 1.0

    def __post_init__(self) -> None:
        positive = (
            self.central_volume_l, self.vmax_mg_h, self.km_mg_l, self.transfer_km_mg_l, self.return_per_h,
            self.peripheral_volume_l,
        )  # fmt: skip
        free = (self.transfer_vmax_mg_h, self.flow_l_h)
        if not all(np.isfinite(c) and c > 0 for c in positive) or not all(
            np.isfinite(c) and c >= 0 for c in free
        ):
            raise InputError(
                "A pharmacokinetic constant is not positive.",
                "Volumes, rates and half-saturations must be > 0; a transfer or flow may be 0.",
                "Correct the drug's parameters.",
            )

    def slope(self, amounts: FloatArray, input_mg_h: float) -> FloatArray:
        """Time derivatives in mg/h of (A1, A2, A3), and of the area under C in mg h/L per h."""
        c = amounts[0] / self.central_volume_l
        eliminated = self.vmax_mg_h * c / (self.km_mg_l + c)
        bound = self.transfer_vmax_mg_h * c / (self.transfer_km_mg_l + c) - self.return_per_h * amounts[1]
        spread = self.flow_l_h * (c - amounts[2] / self.peripheral_volume_l)
        return np.array([input_mg_h - eliminated - bound - spread, bound, spread, c])

    def small_dose_response(self) -> Exponentials:
        """Concentration in mg/L after 1 mg in the limit of small doses, as exponentials in hours."""
        peripherals = []
        if self.transfer_vmax_mg_h > 0.0:
            flow = self.transfer_vmax_mg_h / self.transfer_km_mg_l
            peripherals.append((flow, flow / self.return_per_h))
        if self.flow_l_h > 0.0:
            peripherals.append((self.flow_l_h, self.peripheral_volume_l))
        return compartment_model(
            clearance_l_h=self.vmax_mg_h / self.km_mg_l,
            central_volume_l=self.central_volume_l,
            peripherals=peripherals,
        )


@dataclass(frozen=True, eq=False)
class Course:
    """Concentration and its area after a series of administrations, from :func:`course`."""

    central_volume_l: float
    edges_h: FloatArray
    pieces: tuple[OdeSolution, ...]

    def concentration_mg_l(self, hours: ArrayLike) -> FloatArray:
        """Return the concentration at each hour (0 before the first administration and after the tail)."""
        return self._state(np.asarray(hours, dtype=np.float64))[0] / self.central_volume_l

    def area_mg_h_l(self, hours: ArrayLike) -> FloatArray:
        """Return the area under the concentration up to each hour."""
        return self._state(np.asarray(hours, dtype=np.float64))[1]

    @property
    def total_mg_h_l(self) -> float:
        """Area under the whole curve."""
        return float(self.area_mg_h_l(self.edges_h[-1]))

    def _state(self, hours: FloatArray) -> tuple[FloatArray, FloatArray]:
        flat = np.atleast_1d(hours).ravel()
        amount, area = np.zeros_like(flat), np.zeros_like(flat)
        # An edge belongs to the piece that starts there, so a bolus is seen at its own moment.
        place = np.searchsorted(self.edges_h, flat, side="right") - 1
        for i, piece in enumerate(self.pieces):
            inside = place == i
            if np.any(inside):
                values = piece(flat[inside])
                amount[inside], area[inside] = np.maximum(values[0], 0.0), values[3]
        area[place >= len(self.pieces)] = self.pieces[-1](self.edges_h[-1])[3]
        return amount.reshape(hours.shape), area.reshape(hours.shape)


@lru_cache(maxsize=256)
def course(model: SaturableModel, administrations: tuple[Administration, ...]) -> Course:
    """Integrate the kinetics over a whole series of administrations (LSODA, relative tolerance 1e-8).

    Parameters
    ----------
    model
        The constants.
    administrations
        ``(start in hours, mg, length in hours)``, at least one; they may overlap.
    """
    from scipy.integrate import solve_ivp

    ends = [start + length for start, _, length in administrations]
    edges = np.unique([*(a[0] for a in administrations), *ends, max(ends) + _TAIL_H])
    state = np.zeros(4)
    pieces = []
    for begin, end in pairwise(edges):
        state[0] += sum(mg for start, mg, length in administrations if start == begin and length == 0.0)
        rate = sum(mg / length for start, mg, length in administrations if start <= begin < start + length)
        solved = solve_ivp(
            lambda _, y, rate=rate: model.slope(y, rate),
            (begin, end),
            state,
            method="LSODA",
            rtol=1e-8,
            atol=1e-10,
            dense_output=True,
        )
        pieces.append(solved.sol)
        state = np.maximum(solved.y[:, -1], 0.0)
    return Course(model.central_volume_l, edges, tuple(pieces))


def stepped(curve: Course, administrations: tuple[Administration, ...]) -> tuple[FloatArray, FloatArray]:
    """Steps ``(hours, change of the concentration in mg/L)`` whose area is the curve's at every step.

    The concentration between two steps is its mean there, so no exposure is lost, or moved by more than a
    step; a sum of exponentials can carry it on.
    """
    starts = np.unique([start for start, _, _ in administrations])
    points = [curve.edges_h[-1:]]
    for start, _, length in administrations:
        own = np.concatenate([start + length * _INFUSION_SHARES, start + length + _GRADED_H])
        # From the next administration on, its own grading is the finer one.
        later = starts[starts > start]
        points.append(own[own < later[0]] if later.size else own)
    hours = np.unique(np.concatenate(points))
    means = np.diff(curve.area_mg_h_l(hours)) / np.diff(hours)
    return hours, np.diff(means, prepend=0.0, append=0.0)

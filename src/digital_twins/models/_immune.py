"""Effector cells against a tumour: published models without space, and effectors beside a tumour in space."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from digital_twins._errors import InputError
from digital_twins.models._forcing import Forcing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._domain import Domain
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EffectorDynamics:
    """How many effector cells there are, and how fast they kill.

    ``E' = s + (r + p E) q T / (g + T) - m E T - d E``; each tumour cell dies at the rate ``n E``. T is the
    tumour's burden and q in 0..1 the release from a checkpoint (1 without one). Kuznetsov et al. 1994 is
    r = 0, q = 1; a bounded response is p = m = 0, where E tends to ``(s + r q T / (g + T)) / d``.

    Attributes
    ----------
    source_per_day, recruitment_per_day
        s and r, effectors a day.
    stimulation_per_day, half_burden
        p in 1/day; g in the burden's unit, positive.
    inactivation, loss_per_day
        m in 1/(day burden), d in 1/day.
    kill
        n in 1/(day effector).

    Raises
    ------
    InputError
        When a number is negative or not finite, or the half burden is not positive.
    """

    source_per_day: float = 0.0
    recruitment_per_day: float = 0.0
    stimulation_per_day: float = 0.0
    half_burden: float = 1.0
    inactivation: float = 0.0
    loss_per_day: float = 0.0
    kill: float = 0.0

    def __post_init__(self) -> None:
        numbers = [getattr(self, name) for name in self.__slots__]
        if not all(0.0 <= number < math.inf for number in numbers) or self.half_burden == 0.0:
            raise InputError(
                "The effector cells cannot be simulated.",
                "Rates are finite and not negative, the half burden is positive.",
                "Correct the parameters.",
            )

    def after(self, level: float, days: float, *, burden: float, release: float = 1.0) -> float:
        """Effectors ``days`` later with burden and release held (exact)."""
        driven = release * burden / (self.half_burden + burden)
        gain = self.source_per_day + self.recruitment_per_day * driven
        loss = self.loss_per_day + self.inactivation * burden - self.stimulation_per_day * driven
        held = days if loss == 0.0 else -math.expm1(-loss * days) / loss
        return level * math.exp(-loss * days) + gain * held

    def rate(self, level: float, burden: float, *, release: float = 1.0) -> float:
        """Change of the effectors a day."""
        driven = release * burden / (self.half_burden + burden)
        gain = (self.recruitment_per_day + self.stimulation_per_day * level) * driven
        return self.source_per_day + gain - (self.inactivation * burden + self.loss_per_day) * level


KUZNETSOV_1994 = EffectorDynamics(
    source_per_day=1.3e4,
    stimulation_per_day=0.1245,
    half_burden=2.019e7,
    inactivation=3.422e-10,
    loss_per_day=0.0412,
    kill=1.101e-7,
)
"""Effectors of BCL1 lymphoma in the spleen of chimeric mice, in cells: Kuznetsov, Makalkin, Taylor, Perelson,
Bull Math Biol 1994;56:295, doi:10.1007/BF02460644."""


@dataclass(frozen=True, slots=True)
class TumourImmuneModel:
    """Logistic tumour and effectors without space: ``T' = a T (1 - b T) - n E T`` beside the effectors.

    With its defaults the model of Kuznetsov et al. 1994, which has a dormant state, a saddle and an escaped
    state beside the tumour-free one.

    Attributes
    ----------
    growth_per_day
        a in 1/day.
    crowding
        b, one over the carrying capacity.
    effectors
        The effector cells.
    """

    growth_per_day: float = 0.18
    crowding: float = 2.0e-9
    effectors: EffectorDynamics = KUZNETSOV_1994

    def trajectory(self, effectors: float, tumour: float, days: ArrayLike) -> FloatArray:
        """Effectors and tumour cells on each day from day 0 on: [2, day] (LSODA, relative tolerance 1e-9)."""
        times = np.asarray(days, dtype=np.float64)
        solved = solve_ivp(
            lambda _, y: self._rates(y),
            (0.0, max(float(times.max()), 1e-9)),
            [effectors, tumour],
            t_eval=times,
            method="LSODA",
            rtol=1e-9,
            atol=1e-6,
        )
        return np.asarray(solved.y)

    def equilibria(self) -> FloatArray:
        """States with a tumour where nothing changes: [state, (effectors, tumour)], by tumour size.

        Roots of the cubic in T that follows from setting both rates to zero.
        """
        e, a, b = self.effectors, self.growth_per_day, self.crowding
        r, n = e.recruitment_per_day, e.kill
        level = np.poly1d([-a * b / n, a / n])
        burden, half = np.poly1d([1.0, 0.0]), np.poly1d([1.0, e.half_burden])
        gain = e.source_per_day * half + (r + e.stimulation_per_day * level) * burden
        balance = gain - (e.inactivation * burden + e.loss_per_day) * level * half
        roots = balance.roots
        real = np.sort(roots[np.abs(roots.imag) < 1e-6 * np.abs(roots)].real)
        kept = real[(real > 0.0) & (real <= 1.0 / b)]
        return np.column_stack([level(kept), kept])

    def is_stable(self, effectors: float, tumour: float) -> bool:
        """Whether an equilibrium draws its neighbours: both eigenvalues of the Jacobian are negative."""
        state = np.array([effectors, tumour])
        steps = 1e-6 * np.maximum(state, 1e-6)
        columns = [
            (self._rates(state + h) - self._rates(state - h)) / (2.0 * h.sum()) for h in np.diag(steps)
        ]
        return bool(np.linalg.eigvals(np.column_stack(columns)).real.max() < 0.0)

    def _rates(self, state: FloatArray) -> FloatArray:
        level, burden = float(state[0]), float(state[1])
        growth = self.growth_per_day * (1.0 - self.crowding * burden) - self.effectors.kill * level
        return np.array([self.effectors.rate(level, burden), growth * burden])


@dataclass(frozen=True, slots=True)
class ImmuneCourse:
    """Effectors beside a tumour in space: how they change, how many there are, and their release by day.

    ``burden_per_mm3`` turns the sum of density times volume (mm3 at unit density) into the burden's unit.
    """

    dynamics: EffectorDynamics
    release: Callable[[float], float]
    level: float = 0.0
    burden_per_mm3: float = 1.0e-3


@dataclass(frozen=True, slots=True)
class SplittingOptions:
    """How :func:`coupled_trajectory` steps: longest split in days, first day, aim and number type."""

    split_days: float = 2.0
    start_day: float = 0.0
    tolerance: float = 1.0e-4
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class CoupledState:
    """A day's padded density (overwritten by the next), the effectors of every course, and their kill.

    ``kill`` holds (day, rate in 1/day) of each split since the state before: the rate holds until the next.
    """

    day: float
    density: Array
    courses: tuple[ImmuneCourse, ...] = ()
    kill: tuple[tuple[float, float], ...] = ()


def coupled_trajectory(
    model: ReactionDiffusionModel,
    density: ArrayLike,
    domain: Domain,
    *,
    days: Sequence[float] | FloatArray,
    courses: Sequence[ImmuneCourse],
    forcing: Forcing | None = None,
    options: SplittingOptions | None = None,
) -> Iterator[CoupledState]:
    """Yield the tumour in space and its well-mixed effectors at each day.

    Strang splitting: effectors over half a step with the burden held (exact), the tumour over the step with
    the effectors' mean kill rate in every voxel, effectors over the other half. The error falls with the
    square of the split; at 2 days it is below 1e-3 of density and effectors for a patient's block (kill 0.06
    a day) and below 2e-3 for the rates of Kuznetsov's mice (tests/science/test_immunotherapy.py).

    Parameters
    ----------
    model, density, domain, forcing
        As for :meth:`ReactionDiffusionModel.trajectory`.
    days
        Output days in rising order.
    courses
        Effectors, several kinds side by side; their kill rates add.
    options
        Steps; by default splits of at most 2 days from day 0.

    Raises
    ------
    InputError
        When density or days cannot be used.
    """
    given, how = forcing or Forcing(), options or SplittingOptions()
    field_, now, members = np.asarray(density), how.start_day, tuple(courses)
    voxel = domain.voxel_volume_mm3
    state: Array | None = None
    for day in np.asarray(days, dtype=np.float64):
        count = max(1, math.ceil((day - now) / how.split_days - 1e-9))
        length = (float(day) - now) / count
        acted: list[tuple[float, float]] = []
        for _ in range(count):
            members = _half_step(members, field_, now, length, voxel)
            kill = math.fsum(course.dynamics.kill * course.level for course in members)
            acted.append((now, kill))
            constant = Forcing(
                dose_days=np.array([now]), amplitude_per_day=np.array([kill]), decay_per_day=np.zeros(1)
            )
            end = now + length
            (_, state), *_ = model.trajectory(
                field_,
                domain,
                [end],
                forcing=given + constant,
                start_day=now,
                tolerance=how.tolerance,
                precision="float64" if how.precision == "float64" else "float32",
            )
            field_ = state[1:-1, 1:-1, 1:-1]
            members = _half_step(members, field_, now + 0.5 * length, length, voxel)
            now = end
        now = float(day)
        if state is not None:
            yield CoupledState(now, state, members, tuple(acted))


def _half_step(
    courses: tuple[ImmuneCourse, ...], density: Array, begin: float, length: float, voxel_mm3: float
) -> tuple[ImmuneCourse, ...]:
    total = float(density.sum(dtype=np.float64)) * voxel_mm3
    moved = []
    for course in courses:
        level = course.dynamics.after(
            course.level,
            0.5 * length,
            burden=total * course.burden_per_mm3,
            release=course.release(begin + 0.25 * length),
        )
        moved.append(replace(course, level=level))
    return tuple(moved)

"""Growth laws in space besides the logistic, and carrying capacities that differ from voxel to voxel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._diffusion import diffuse, plan_diffusion, work_for
from digital_twins.models._forcing import Forcing
from digital_twins.models._march import Aim
from digital_twins.models._reaction_diffusion import ReactionDiffusionModel, Solution, padded_density
from digital_twins.models._schedule import event_arrays, reaction_times, refuse_unusable, stops_between

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._domain import Domain

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

LAWS = ("logistic", "gompertz", "allee")
_NODES_PER_UNIT = 128
_MOST_NODES = 1 << 16


@dataclass(frozen=True, eq=False)
class SpatialGrowthModel:
    """Growth by a chosen law with diffusion and treatment: ``dN/dt = div(D grad N) + N r(N/theta) - c(t) N``.

    With n = N / theta the rate of growth r is

    - ``logistic``: ``k (1 - n)``, an exact Moebius map a step;
    - ``gompertz``: ``-k ln n``, an exact power map a step (it has no largest rate as n falls to 0, so
      that every trace of cells grows fast and fronts have no asymptotic speed: a property of the law);
    - ``allee``: ``k (1 - n) (n - A)``, cells below the part A of the capacity die out (strong Allee effect
      with 0 < A < 1, weak with A <= 0; Johnson et al., PLoS Biol 2019;17:e3000399,
      doi:10.1371/journal.pbio.3000399). A step's map is the same function of n in every voxel: it is solved
      on nodes of n with all treatments in it and interpolated (cubic; relative error below 1e-8).

    Diffusion, splitting and treatments are those of :class:`ReactionDiffusionModel`, which is faster for the
    logistic law with one capacity.

    Parameters
    ----------
    diffusion_coefficient
        D in mm2/day, not negative.
    proliferation_rate
        k in 1/day.
    law
        One of the above.
    carrying_capacity
        theta, positive: a number, or an array of the domain's shape.
    allee_threshold
        A, as a part of the capacity, from -1 to below 1; for ``allee`` only.

    Raises
    ------
    InputError
        When a parameter is out of range.
    """

    diffusion_coefficient: float
    proliferation_rate: float
    law: str = "logistic"
    carrying_capacity: float | FloatArray = 1.0
    allee_threshold: float = 0.1

    def __post_init__(self) -> None:
        capacity = np.asarray(self.carrying_capacity, dtype=np.float64)
        usable = bool(np.all(np.isfinite(capacity)) and np.all(capacity > 0.0)) and capacity.ndim in {0, 3}
        if self.law not in LAWS or not usable or not -1.0 <= self.allee_threshold < 1.0:
            raise InputError(
                "The growth law cannot be used.",
                f"The law is one of {', '.join(LAWS)}, the capacity a positive number or map, the Allee "
                "threshold from -1 to below 1.",
                "Correct the parameters; fill capacity maps also outside the tissue.",
            )
        self._plain()

    def _plain(self) -> ReactionDiffusionModel:
        return ReactionDiffusionModel(self.diffusion_coefficient, self.proliferation_rate)

    def trajectory(
        self,
        density: ArrayLike,
        domain: Domain,
        output_days: Sequence[float] | FloatArray,
        *,
        forcing: Forcing | None = None,
        tolerance: float = 1.0e-4,
        precision: str = "float32",
    ) -> Iterator[tuple[float, Array]]:
        """Yield ``(day, density)`` from day 0 on, as :meth:`ReactionDiffusionModel.trajectory` does.

        Raises
        ------
        InputError
            When density, capacity map or days cannot be used.
        """
        days, forcing = np.asarray(output_days, dtype=np.float64), forcing or Forcing()
        refuse_unusable(days, 0.0, tolerance=tolerance, precision=precision)
        dtype = np.dtype(precision)
        field = padded_density(density, domain, dtype, 1.0, most=math.inf)
        capacity = self._capacity(domain)
        flat = field.reshape(field.shape[0], -1)
        share = (1.0 / capacity).astype(dtype).reshape(-1)
        geometry = domain.geometry(dtype)
        scratch = work_for(geometry, dtype)
        largest_part = max(float(capacity.max()), float(field.max())) / float(capacity.min())
        longest = self._plain().longest_step_days(tolerance)
        none = {"gain": np.ones(1), "saturation": np.zeros(1)}
        stops = stops_between(0.0, days, forcing, domain)
        times, steps = reaction_times(0.0, np.array([stop.day for stop in stops]), longest)
        reactions = _Reactions(self, forcing, times, largest_part)
        accuracy = self._accuracy(tolerance, times, dtype)
        at = 0
        for stop, (count, step) in zip(stops, steps, strict=True):
            reactions.apply(at, flat.reshape(-1), share)
            plan = plan_diffusion(
                self.diffusion_coefficient * step, domain.largest_conductance_per_mm2, accuracy=accuracy
            )
            for index in range(at + 1, at + 1 + count):
                diffuse(flat, scratch, geometry, diffusion=plan, **none)
                reactions.apply(index, flat.reshape(-1), share)
            at += count + 1
            if stop.survival is None:
                yield stop.day, field
            else:
                flat *= stop.survival.astype(dtype).reshape(flat.shape)

    def solve(
        self,
        density: ArrayLike,
        domain: Domain,
        output_days: Sequence[float] | FloatArray,
        *,
        forcing: Forcing | None = None,
        tolerance: float = 1.0e-4,
        precision: str = "float32",
    ) -> Solution:
        """Solve and keep the density at every output day; parameters as for :meth:`trajectory`."""
        days = np.asarray(output_days, dtype=np.float64)
        states = self.trajectory(
            density, domain, days, forcing=forcing, tolerance=tolerance, precision=precision
        )
        kept = [state[1:-1, 1:-1, 1:-1].copy() for _, state in states]
        return Solution(days, np.stack(kept) if kept else np.empty((0, *domain.shape), dtype=precision))

    def _accuracy(self, tolerance: float, times: FloatArray, dtype: np.dtype[Any]) -> float:
        """Accuracy of a stabilised diffusion; none for a law whose growth has no largest rate."""
        if self.law == "gompertz":
            return 0.0
        days = float(times[-1] - times[0])
        return Aim(tolerance, steps=times.size).polynomial_accuracy(self.proliferation_rate, days, dtype)

    def _capacity(self, domain: Domain) -> FloatArray:
        capacity = np.asarray(self.carrying_capacity, dtype=np.float64)
        if capacity.ndim and capacity.shape != domain.shape:
            raise InputError(
                "The capacity map does not fit the domain.",
                f"Its shape is {capacity.shape}, that of the domain {domain.shape}.",
                "Resample the map to the model grid.",
            )
        return np.pad(np.broadcast_to(capacity, domain.shape), 1, mode="edge")


class _Reactions:
    """The reaction of each interval of ``times``, ready to be applied."""

    def __init__(
        self, model: SpatialGrowthModel, forcing: Forcing, times: FloatArray, largest_part: float
    ) -> None:
        self._law = model.law
        rate = model.proliferation_rate
        if model.law == "logistic":
            from digital_twins.models._kernels import moebius_maps

            self._first, self._second = moebius_maps(times, *event_arrays(forcing), float(rate))
        elif model.law == "gompertz":
            self._first, self._second = gompertz_maps(times, forcing, rate)
        else:
            a = model.allee_threshold
            coefficients = rate * np.array([-a, 1.0 + a, -1.0])
            self._per_unit, self._first = _tables(times, forcing, coefficients, largest_part)

    def apply(self, index: int, flat: Array, share: Array) -> None:
        from digital_twins.models._law_kernels import apply_moebius, apply_power, apply_table

        kind = flat.dtype.type
        if self._law == "allee":
            apply_table(flat, share, self._first[index].astype(flat.dtype), kind(self._per_unit))
            return
        numbers = kind(self._first[index]), kind(self._second[index])
        (apply_moebius if self._law == "logistic" else apply_power)(flat, share, numbers)


def _tables(
    times: FloatArray, forcing: Forcing, coefficients: FloatArray, largest_part: float
) -> tuple[float, FloatArray]:
    from digital_twins.models._law_kernels import growth_tables

    top = 1.01 * max(largest_part, 1.0)
    count = min(_MOST_NODES, math.ceil(_NODES_PER_UNIT * top)) + 3
    per_unit = (count - 1) / top
    jump_day, jump_log, dose_day, term, amplitude, decay = event_arrays(forcing)
    nodes = np.arange(count) / per_unit
    events = (jump_day, jump_log), dose_day, (term, amplitude, decay)
    return per_unit, growth_tables(times, nodes, coefficients, *events)


def gompertz_maps(times: FloatArray, forcing: Forcing, rate: float) -> tuple[FloatArray, FloatArray]:
    """Exact Gompertz growth, kill and jumps between ``times`` as maps ``n -> exp(b) n^a``.

    ``y = ln n`` obeys ``y' = -k y - c(t)``: ``a = exp(-k h)`` and b is the jumps and the kill, each faded by
    ``exp(-k (h - s))`` (closed form). A jump at ``times[i]`` belongs to the interval that starts there.
    """
    start, end = times[:-1, None], times[1:, None]
    day = forcing.jump_days
    hit = (day >= start) & (day < end)
    logs = np.where(hit, forcing.jump_log_survival * np.exp(-rate * np.where(hit, end - day, 0.0)), 0.0).sum(
        1
    )
    begin = np.clip(forcing.dose_days, start, end)
    length, waned = end - begin, np.maximum(begin - forcing.dose_days, 0.0)
    slower, apart = np.minimum(rate, forcing.decay_per_day), np.abs(rate - forcing.decay_per_day)
    safe = np.where(apart > 0.0, apart, 1.0)
    spread = np.where(apart > 1e-12, -np.expm1(-apart * length) / safe, length)
    kill = forcing.amplitude_per_day * np.exp(-forcing.decay_per_day * waned - slower * length) * spread
    return np.exp(-rate * np.diff(times)), logs - kill.sum(axis=1)

"""The gradient in the region around the tumour, for those who want no derivative by far voxels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins.models._active import ActiveRegion, left_by_maps
from digital_twins.models._forcing import SurvivalMap
from digital_twins.models._gradient import GradientSweep
from digital_twins.models._march import Aim
from digital_twins.models._reaction_diffusion import padded_density
from digital_twins.models._schedule import event_arrays, stops_between

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from digital_twins.models._domain import Domain
    from digital_twins.models._forcing import Forcing
    from digital_twins.models._gradient import Functional, Gradient, GradientOptions
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

# Derivatives weigh the tail more than the density's norm does.
_TAIL_SHARE = 0.1


def region_gradient(
    model: ReactionDiffusionModel,
    density: ArrayLike,
    domain: Domain,
    given: tuple[Forcing, GradientOptions],
    wanted: tuple[FloatArray, Functional],
) -> Gradient:
    """Sweep in a box that holds the tumour on all days; enlarge it where the tumour outruns it.

    ``given`` are forcing and options, ``wanted`` the output days and the functional.
    """
    forcing, options = given
    days, functional = wanted
    dtype = np.dtype(options.precision)
    start = padded_density(density, domain, dtype, model.carrying_capacity)
    last = float(days[-1]) if days.size else options.start_day
    left = left_by_maps(start[1:-1, 1:-1, 1:-1], forcing, (options.start_day, last))
    amplification = Aim(options.tolerance, left=left).amplification(
        model.proliferation_rate, last - options.start_day
    )
    region = ActiveRegion(domain, dtype, _TAIL_SHARE * options.tolerance)
    region.choose(start, amplification)
    while True:
        cut = region.inside(0)
        maps = tuple(SurvivalMap(m.day, m.survival[cut]) for m in forcing.survival_maps)
        sweep = GradientSweep(
            model, domain.within(region.box), days, (replace(forcing, survival_maps=maps), options)
        )
        around = _Around(model, start, domain, (forcing, options.start_day, days))
        found = sweep.run(np.asarray(density)[cut], around.seen(functional, cut), outruns=region.overflows)
        if found is not None:
            return replace(
                found,
                initial_density=_embedded(found.initial_density, domain.shape, cut),
                survival=tuple(_embedded(one, domain.shape, cut) for one in found.survival),
            )
        region.enlarge(start, amplification)


def _embedded(part: Array, shape: tuple[int, ...], cut: tuple[slice, ...]) -> Array:
    whole = np.zeros(shape, dtype=part.dtype)
    whole[cut] = part
    return whole


class _Around:
    """The density around the region, where cells react but do not move."""

    def __init__(
        self,
        model: ReactionDiffusionModel,
        start: Array,
        domain: Domain,
        course: tuple[Forcing, float, FloatArray],
    ) -> None:
        self._model, self._start = model, start
        self._forcing, self._first, days = course
        self._stops = stops_between(self._first, days, self._forcing, domain)

    def seen(self, functional: Functional, cut: tuple[slice, ...]) -> Functional:
        """Return the functional of the region's density alone."""

        def look(index: int, density: Array) -> tuple[float, ArrayLike]:
            whole = self._at(index)
            whole[cut] = density
            value, slope = functional(index, whole)
            return value, np.asarray(slope)[cut]

        return look

    def _at(self, index: int) -> Array:
        from digital_twins.models._kernels import moebius_maps

        field, now = self._start[1:-1, 1:-1, 1:-1].copy(), self._first
        events = event_arrays(self._forcing), float(self._model.proliferation_rate)
        for stop in self._stops:
            gain, saturation = moebius_maps(np.array([now, stop.day]), *events[0], events[1])
            kind = field.dtype.type
            field = kind(gain[0]) * field / (1 + kind(saturation[0]) * field)
            now = stop.day
            if stop.index == index:
                break
            if stop.survival is not None:
                field *= stop.survival[1:-1, 1:-1, 1:-1].astype(field.dtype)
        return np.asarray(field * field.dtype.type(self._model.carrying_capacity))

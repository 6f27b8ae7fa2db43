"""The part of the field in which diffusion is solved: a box that follows the tumour."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins.models._diffusion import work_for

if TYPE_CHECKING:
    from digital_twins.models._domain import Box, Domain, Geometry
    from digital_twins.models._forcing import Forcing

Array = NDArray[Any]

_LEFT_OUT = 0.1
_FIRST_MARGIN = 4
_WORTH = 0.75
PIECE_STEPS = 8


class ActiveRegion:
    """A box with all but a negligible part of the density; outside it cells grow and die but do not move.

    Neglected is the diffusion of a tail. What it may amount to is a tenth of the tolerance at the last day: a
    small difference grows no faster than ``exp(k t)`` (the logistic law is below its linear part, and kill
    and jumps scale tail and tumour alike; survival maps are allowed for by what they leave of the norm). A
    step whose density reaches the box's sides is undone and solved again in a larger box.

    Parameters
    ----------
    domain, dtype
        Where cells can live, and the type of number.
    tolerance
        Relative L2 error that is aimed for; 0 takes the whole domain.
    """

    def __init__(self, domain: Domain, dtype: np.dtype[Any], tolerance: float) -> None:
        self._domain, self._dtype = domain, dtype
        self._tolerance = tolerance
        self._margin = _FIRST_MARGIN
        self._limit = 0.0
        self._use(domain.whole)

    def choose(self, field: Array, amplification: float) -> None:
        """Fit the box to a field whose neglected part grows by ``amplification`` until the end."""
        from digital_twins.models._active_kernels import plane_squares

        if self._tolerance <= 0.0:
            return
        profiles = plane_squares(field)
        self._limit = (_LEFT_OUT * self._tolerance / amplification) ** 2
        allowed = self._limit * float(profiles[0].sum()) / 6.0
        box = tuple(
            _between(profile[1:-1], allowed, self._margin, last)
            for profile, (_, last) in zip(profiles, self._domain.whole, strict=True)
        )
        share = math.prod((b - a) / n for (a, b), n in zip(box, self._domain.shape, strict=True))
        self._use(box if share < _WORTH else self._domain.whole)  # type: ignore[arg-type]

    def enlarge(self, field: Array, amplification: float) -> None:
        """Take a larger box, after the density has reached its sides."""
        self._margin *= 2
        self.choose(field, amplification)

    @property
    def whole(self) -> bool:
        """Whether the box is the whole domain."""
        return self._box == self._domain.whole

    def take(self, field: Array) -> Array:
        """Return the box's density, padded and flat in each slice: a copy unless it is the whole field."""
        if self.whole:
            return field.reshape(field.shape[0], -1)
        inner = self._inner
        inner[1:-1, 1:-1, 1:-1] = field[self.inside()]
        return inner.reshape(inner.shape[0], -1)

    def cut(self, fields: Array) -> Array:
        """Return several fields [field, ...] in the box, padded and flat in each slice."""
        if self.whole:
            return fields.reshape(*fields.shape[:2], -1)
        inner = np.zeros((fields.shape[0], *self.geometry.shape), dtype=self._dtype)
        inner[:, 1:-1, 1:-1, 1:-1] = fields[(slice(None), *self.inside())]
        return inner.reshape(*inner.shape[:2], -1)

    def paste(self, fields: Array, inner: Array) -> None:
        """Write what :meth:`cut` gave back to its place."""
        boxes = inner.reshape(-1, *self.geometry.shape)
        fields[(slice(None), *self.inside())] = boxes[:, 1:-1, 1:-1, 1:-1]

    @property
    def box(self) -> Box:
        """First and last + 1 voxel along each axis."""
        return self._box

    def inside(self, padding: int = 1) -> tuple[slice, ...]:
        """Where the box lies in a field that is padded by so many voxels."""
        return tuple(slice(first + padding, last + padding) for first, last in self._box)

    def overflows(self, flat: Array) -> bool:
        """Whether the density next to an open side of the box is more than may be left out."""
        if self.whole:
            return False
        from digital_twins.models._active_kernels import box_squares

        total, sides = box_squares(flat.reshape(self.geometry.shape))
        ends = zip(self._box, self._domain.shape, strict=True)
        is_open = np.array([(first > 0, last < size) for (first, last), size in ends])
        return bool(sides[is_open].sum() > self._limit * total)

    def put(self, field: Array, flat: Array, reaction: tuple[float, float]) -> None:
        """Write the box back and let the rest of the field react."""
        from digital_twins.models._active_kernels import react_outside

        if not self.whole:
            origin = tuple(first + 1 for first, _ in self._box)
            kind = self._dtype.type
            inner = (flat.reshape(self.geometry.shape), *origin)
            react_outside(field, inner, kind(reaction[0]), kind(reaction[1]))

    def _use(self, box: Box) -> None:
        self._box = box
        self.geometry: Geometry = self._domain.geometry(self._dtype, box)
        self.scratch = work_for(self.geometry, self._dtype)
        self._inner = np.zeros(self.geometry.shape if not self.whole else (0, 0, 0), dtype=self._dtype)


def _between(profile: NDArray[np.float64], allowed: float, margin: int, size: int) -> tuple[int, int]:
    """First and last + 1 plane of what remains when both sides give up ``allowed``, and a margin."""
    first = int(np.searchsorted(np.cumsum(profile), allowed, side="right"))
    last = size - int(np.searchsorted(np.cumsum(profile[::-1]), allowed, side="right"))
    first, last = min(first, size - 1), max(last, 1)
    return max(0, min(first, last - 1) - margin), min(size, max(last, first + 1) + margin)


def left_by_maps(density: Array, forcing: Forcing, days: tuple[float, float]) -> float:
    """Share of the density's norm that the survival maps of a time span leave, at least 1e-6."""
    maps = [m.survival for m in forcing.survival_maps if days[0] <= m.day < days[1]]
    if not maps:
        return 1.0
    product = functools.reduce(np.multiply, maps)
    norm = float(np.linalg.norm(density))
    return max(1e-6, float(np.linalg.norm(density * product)) / norm) if norm > 0.0 else 1.0

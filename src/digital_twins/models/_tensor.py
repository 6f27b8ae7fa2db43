"""Anisotropic diffusion, as from diffusion tensor imaging, on a stencil without negative weights."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._domain import Domain, Graph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

FloatArray = NDArray[np.float64]

_LARGEST_RATIO = 1000.0
_PAIRS = tuple(combinations(range(4), 2))


class TensorDomain(Domain):
    """A mask in which cells move by a symmetric positive tensor per voxel (along fibres, say).

    Each tensor is split into ``sum_k w_k e_k e_k^T`` with whole-numbered offsets e_k and weights w_k >= 0
    (Selling's formula), and each voxel exchanges with the voxels at +-e_k; an edge carries the mean of the
    weights that its two ends give it. The operator is symmetric, conserves mass to rounding, keeps densities
    positive without a limiter and has exactly the tensor's second moments (Fehrenbach & Mirebeau, J Math
    Imaging Vis 2014;49:123, doi:10.1007/s10851-013-0446-3). An edge is dropped unless a path of face
    neighbours between its ends lies in the mask: nothing passes through a wall.

    Parameters
    ----------
    mask, spacing_mm
        As for :class:`Domain`.
    relative_tensor
        Array [slice, row, column, 3, 3] along the axes slice, row, column, that multiplies the model's
        diffusion coefficient: symmetric, positive definite inside the mask. Where cells cannot move at
        all, leave the voxel out of the mask.

    Raises
    ------
    InputError
        When the tensors have another shape, are not finite, symmetric and positive, or are drawn out by more
        than 1000 to 1 in steps of the grid.
    """

    def __init__(
        self, mask: ArrayLike, spacing_mm: tuple[float, float, float], relative_tensor: ArrayLike
    ) -> None:
        super().__init__(mask, spacing_mm)
        given = np.asarray(relative_tensor, dtype=np.float64)
        inside = given[self.mask] if given.shape == (*self.shape, 3, 3) else np.full((1, 3, 3), np.nan)
        symmetric = np.all(np.isfinite(inside)) and np.allclose(inside, np.swapaxes(inside, 1, 2), rtol=1e-6)
        spacing = np.array(self.spacing_mm)
        self._tensors = 0.5 * (inside + np.swapaxes(inside, 1, 2)) / np.multiply.outer(spacing, spacing)
        values = np.linalg.eigvalsh(self._tensors) if symmetric else np.zeros((1, 3))
        if np.any(values[:, 0] <= 0.0) or np.any(values[:, 2] > _LARGEST_RATIO * values[:, 0]):
            raise InputError(
                "The diffusion tensors cannot be used.",
                f"They must have the shape {(*self.shape, 3, 3)}, be symmetric and positive, and not be "
                f"drawn out by more than {_LARGEST_RATIO:g} to 1 in voxels.",
                "Raise the smallest eigenvalues; leave voxels without tissue out of the mask.",
            )

    @cached_property
    def graph(self) -> Graph:
        """Exchange between voxels, in 1/mm2."""
        padded_shape = tuple(size + 2 for size in self.shape)
        number = np.full(padded_shape, -1, dtype=np.int64)
        inner = number[1:-1, 1:-1, 1:-1]
        inner[self.mask] = np.arange(int(self.mask.sum()))
        place = np.argwhere(self.mask)
        ends: list[tuple[NDArray[Any], NDArray[Any], FloatArray]] = []
        offsets, weights = selling(self._tensors)
        for offset, voxels, share in _by_offset(offsets, weights):
            linked = self._linked(offset)
            for sign in (1, -1):
                there = place[voxels] + sign * offset
                lower = place[voxels] if sign > 0 else there
                within = np.flatnonzero(np.all((there >= 0) & (there < self.shape), axis=1))
                joined = within[linked[tuple(lower[within].T)]]
                here, other = voxels[joined], inner[tuple(there[joined].T)]
                half = 0.5 * share[joined]
                ends += [(here, other, half), (other, here, half)]
        return _graph(ends, np.flatnonzero(number >= 0))

    @cached_property
    def largest_conductance_per_mm2(self) -> float:
        """Largest sum of a voxel's weights in 1/mm2: what limits an explicit step."""
        sums = np.add.reduceat(np.append(self.graph.weight, 0.0), self.graph.start[:-1])
        return float(np.where(np.diff(self.graph.start) > 0, sums, 0.0).max())

    def _linked(self, offset: NDArray[Any]) -> NDArray[np.bool_]:
        """Mark where the voxel and the one at ``offset`` are joined by a shortest path of faces inside."""
        step = np.where(offset < 0, -1, 1)
        box = tuple(int(abs(o)) + 1 for o in offset)
        reached: dict[tuple[int, ...], NDArray[np.bool_]] = {(0, 0, 0): self.mask}
        for at in np.ndindex(*box):
            if not any(at):
                continue
            before = [tuple(a - (axis == i) for i, a in enumerate(at)) for axis in range(3) if at[axis]]
            way = np.logical_or.reduce([reached[place] for place in before])
            reached[at] = way & _shifted(self.mask, np.array(at) * step)
        return reached[tuple(b - 1 for b in box)]


def _by_offset(
    offsets: NDArray[np.int64], weights: FloatArray
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]]:
    """Yield each offset that is in use with the voxels that use it and their weights."""
    voxel, entry = np.nonzero(weights)
    used, share = offsets[voxel, entry], weights[voxel, entry]
    reach = 2 * int(np.abs(used).max(initial=0)) + 1
    key = (used[:, 0] * reach + used[:, 1]) * reach + used[:, 2]
    order = np.argsort(key, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if part.size:
            yield used[part[0]], voxel[part], share[part]


def _shifted(mask: NDArray[np.bool_], offset: NDArray[Any]) -> NDArray[np.bool_]:
    """Return ``mask[x + offset]``, False outside."""
    result = np.zeros_like(mask)
    if any(abs(int(o)) >= n for o, n in zip(offset, mask.shape, strict=True)):
        return result
    target = tuple(
        slice(max(0, -o), n - max(0, o)) for o, n in zip(map(int, offset), mask.shape, strict=True)
    )
    source = tuple(
        slice(max(0, o), n - max(0, -o)) for o, n in zip(map(int, offset), mask.shape, strict=True)
    )
    result[target] = mask[source]
    return result


def _graph(ends: list[tuple[NDArray[Any], NDArray[Any], FloatArray]], voxels: NDArray[Any]) -> Graph:
    """Sum the weights of equal ends; rows in order of voxel."""
    if not ends:
        empty = np.zeros(0)
        return Graph(voxels, np.zeros(voxels.size + 1, dtype=np.int64), empty.astype(np.int64), empty)
    here, there, weight = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    keys, position = np.unique(here * voxels.size + there, return_inverse=True)
    total = np.bincount(position, weights=weight, minlength=keys.size).astype(np.float64)
    start = np.searchsorted(keys // voxels.size, np.arange(voxels.size + 1))
    return Graph(voxels, start.astype(np.int64), voxels[keys % voxels.size], total)


def selling(tensors: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Split each tensor [n, 3, 3] into six offsets [n, 6, 3] and weights [n, 6] >= 0, ``sum w e e^T``.

    A superbase of four whole-numbered vectors with sum 0 is changed until no two of them form an acute angle
    in the tensor's metric (Selling 1874); offsets are given with their first non-zero entry positive.
    """
    base = np.tile(
        np.vstack([np.eye(3, dtype=np.int64), -np.ones((1, 3), dtype=np.int64)]), (len(tensors), 1, 1)
    )
    unreduced = np.arange(len(tensors))
    while unreduced.size:
        acute = np.zeros(unreduced.size, dtype=bool)
        scale = np.trace(tensors[unreduced], axis1=1, axis2=2)
        for i, j in _PAIRS:
            b = base[unreduced]
            product = np.einsum("na,nab,nb->n", b[:, i], tensors[unreduced], b[:, j])
            turn = (product > 1e-12 * scale) & ~acute
            rest = [k for k in range(4) if k not in (i, j)]
            changed = b[turn]
            for k in rest:
                changed[:, k] += changed[:, i]
            changed[:, i] *= -1
            base[unreduced[turn]] = changed
            acute |= turn
        unreduced = unreduced[acute]
    offsets = np.empty((len(tensors), 6, 3), dtype=np.int64)
    weights = np.empty((len(tensors), 6))
    for index, (i, j) in enumerate(_PAIRS):
        k, l = (m for m in range(4) if m not in (i, j))
        offsets[:, index] = np.cross(base[:, k], base[:, l])
        weights[:, index] = -np.einsum("na,nab,nb->n", base[:, i], tensors, base[:, j])
    first = np.take_along_axis(offsets, np.argmax(offsets != 0, axis=2)[..., None], axis=2)
    return offsets * np.where(first < 0, -1, 1), np.maximum(weights, 0.0)

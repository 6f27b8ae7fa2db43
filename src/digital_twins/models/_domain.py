"""Where cells can live: a mask on a grid with no-flux walls, and how well they move through it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

Array = NDArray[Any]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Graph:
    """Exchange between voxels that need not share a face: rows of edges, one row a voxel.

    Attributes
    ----------
    voxels
        Flat index of each row's voxel in the field padded by one voxel.
    start
        First edge of each row, and the number of edges.
    neighbour, weight
        Flat padded index and conductance in 1/mm2 of each edge; each edge stands in both its voxels' rows.
    """

    voxels: NDArray[np.int64]
    start: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    weight: NDArray[np.float64]

    @cached_property
    def _compact(self) -> tuple[Array, Array, Array, Array]:
        return (
            self.voxels.astype(np.int32),
            self.start,
            self.neighbour.astype(np.int32),
            self.weight.astype(np.float32),
        )

    def arrays(self, dtype: DTypeLike) -> tuple[Array, Array, Array, Array]:
        """Return the arrays as the kernels take them."""
        voxels, start, neighbour, weight = self._compact
        return voxels, start, neighbour, weight if np.dtype(dtype) == np.float32 else self.weight

    def within(self, shape: tuple[int, int, int], box: Box) -> Graph:
        """Return the graph of the voxels in a box, without the edges that leave it.

        ``shape`` is that of the whole field without padding, ``box`` the first and last + 1 voxel of each
        axis; indices of the result are those of the box's own padded field.
        """
        padded = tuple(size + 2 for size in shape)
        inside = np.zeros(padded, dtype=bool)
        inside[tuple(slice(first + 1, last + 1) for first, last in box)] = True
        cut = tuple(slice(first, last + 2) for first, last in box)
        number = np.zeros(padded, dtype=np.int64)
        number[cut] = np.arange(number[cut].size).reshape(number[cut].shape)
        inside, number = inside.reshape(-1), number.reshape(-1)
        rows = inside[self.voxels]
        edges = inside[self.neighbour] & np.repeat(rows, np.diff(self.start))
        before = np.concatenate([[0], np.cumsum(edges)])[self.start]
        return Graph(
            number[self.voxels[rows]],
            np.append(before[:-1][rows], before[-1]),
            number[self.neighbour[edges]],
            self.weight[edges],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """A domain, or a box of it, as the kernels take it.

    Attributes
    ----------
    shape
        Padded: slices, rows and columns + 2.
    faces, spans, stride
        Face conductances, each slice's range of flat indices and the distance between rows.
    graph
        Arrays of the graph where exchange is not through faces alone.
    """

    shape: tuple[int, int, int]
    faces: Array
    spans: NDArray[np.int64]
    stride: int
    graph: tuple[Array, Array, Array, Array] | None

    @property
    def arrays(self) -> tuple[Array, Array, int]:
        """What the face kernels take."""
        return self.faces, self.spans, self.stride


class Domain:
    """An arbitrary mask on a regular grid, discretised by finite volumes with no flux through its walls.

    The conductance of a face is the harmonic mean of the two voxels' relative diffusivities over the squared
    spacing, and zero where either voxel is outside: mass is conserved to rounding (Patankar, Numerical Heat
    Transfer and Fluid Flow, 1980, section 4.2-3).

    Parameters
    ----------
    mask
        Boolean array, slice, row, column; at least one voxel is inside.
    spacing_mm
        Voxel spacing along the three axes in millimetres.
    relative_diffusivity
        Optional map of the mask's shape that multiplies the model's diffusion coefficient (1 everywhere by
        default), not negative.

    Raises
    ------
    InputError
        When the mask is empty or not three-dimensional, or spacing or diffusivity are unusable.
    """

    def __init__(
        self,
        mask: ArrayLike,
        spacing_mm: tuple[float, float, float],
        relative_diffusivity: ArrayLike | None = None,
    ) -> None:
        self.mask: NDArray[np.bool_] = np.asarray(mask, dtype=bool)
        self.spacing_mm = (float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2]))
        if self.mask.ndim != 3 or not self.mask.any():
            raise InputError(
                "The domain has no voxel.",
                f"A domain is a three-dimensional mask with something inside; this one has {self.mask.ndim} "
                f"dimensions and {int(self.mask.sum())} voxels.",
                "Give the mask of the tissue around the lesion.",
            )
        if not all(np.isfinite(h) and h > 0.0 for h in self.spacing_mm):
            raise InputError(
                "The voxel spacing cannot be used.",
                "Every spacing must be a positive number of millimetres.",
                "Check the image geometry.",
            )
        self._diffusivity = self.mask.astype(np.float64)
        if relative_diffusivity is not None:
            given = np.asarray(relative_diffusivity, dtype=np.float64)
            if given.shape != self.mask.shape or not np.all(np.isfinite(given)) or np.any(given < 0.0):
                raise InputError(
                    "The diffusivity map cannot be used.",
                    "It must have the mask's shape and finite values of 0 or more.",
                    "Resample the map to the model grid and fill what is missing.",
                )
            self._diffusivity *= given

    @property
    def graph(self) -> Graph | None:
        """Exchange between voxels where it is not through faces alone: None for a scalar diffusivity."""
        return None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns."""
        slices, rows, columns = self.mask.shape
        return slices, rows, columns

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm3."""
        return float(np.prod(self.spacing_mm))

    @cached_property
    def _faces64(self) -> NDArray[np.float64]:
        padded = np.pad(self._diffusivity, 1)
        faces = np.zeros((3, *padded.shape))
        for axis, spacing in enumerate(self.spacing_mm):
            here = np.moveaxis(padded, axis, 0)[:-1]
            there = np.moveaxis(padded, axis, 0)[1:]
            total = here + there
            mean = 2.0 * here * there / np.where(total > 0.0, total, 1.0)
            np.moveaxis(faces[axis], axis, 0)[:-1] = mean / spacing**2
        return faces

    @cached_property
    def _faces32(self) -> NDArray[np.float32]:
        return self._faces64.astype(np.float32)

    @cached_property
    def largest_conductance_per_mm2(self) -> float:
        """Largest sum of a voxel's six face conductances in 1/mm2: what limits an explicit step."""
        total = self._faces64.sum(axis=0)
        for axis in range(3):
            np.moveaxis(total, axis, 0)[1:] += np.moveaxis(self._faces64[axis], axis, 0)[:-1]
        return float(total.max())

    @property
    def whole(self) -> Box:
        """The box of all voxels: first and last + 1 of each axis."""
        slices, rows, columns = self.shape
        return (0, slices), (0, rows), (0, columns)

    def within(self, box: Box) -> Domain:
        """Return a box of the domain with no flux through its sides; steps stay those of the whole domain."""
        part = copy.copy(self)
        cut = tuple(slice(first, last) for first, last in box)
        stay = {name: value for name, value in vars(self).items() if name in {"spacing_mm", "_tensors"}}
        vars(part).clear()
        vars(part).update(stay, mask=self.mask[cut], _diffusivity=self._diffusivity[cut])
        vars(part)["largest_conductance_per_mm2"] = self.largest_conductance_per_mm2
        if self.graph is not None:
            vars(part)["graph"] = self.graph.within(self.shape, box)
        return part

    def geometry(self, dtype: DTypeLike, box: Box | None = None) -> Geometry:
        """Return what the kernels need of the whole domain or of a box with no flux through its sides.

        Entry ``faces[axis, z, y * (columns + 2) + x]`` lies between that padded voxel and the next along
        ``axis``. The whole one is kept.
        """
        if box is None or box == self.whole:
            return self._geometry32 if np.dtype(dtype) == np.float32 else self._geometry64
        return self._cut(np.dtype(dtype), box)

    @cached_property
    def _geometry32(self) -> Geometry:
        return self._cut(np.dtype(np.float32), self.whole)

    @cached_property
    def _geometry64(self) -> Geometry:
        return self._cut(np.dtype(np.float64), self.whole)

    def _cut(self, dtype: np.dtype[Any], box: Box) -> Geometry:
        shape = tuple(last - first + 2 for first, last in box)
        graph = self.graph
        if graph is not None:
            graph = graph if box == self.whole else graph.within(self.shape, box)
            none = np.zeros((3, 0, 0), dtype=dtype)
            return Geometry(shape, none, np.zeros((0, 2), dtype=np.int64), 0, graph.arrays(dtype))  # type: ignore[arg-type]
        stored = self._faces32 if dtype == np.float32 else self._faces64
        faces = stored[(slice(None), *(slice(first, last + 2) for first, last in box))].copy()
        for axis in range(3):
            for face in range(3):
                along = np.moveaxis(faces[face], axis, 0)
                along[0] = 0.0
                along[-2 if face == axis else -1 :] = 0.0
        spans = _spans(self.mask[tuple(slice(first, last) for first, last in box)])
        return Geometry(shape, faces.reshape(3, faces.shape[1], -1), spans, shape[2], None)  # type: ignore[arg-type]


def _spans(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """First and last + 1 flat index of the mask in each padded slice (equal where a slice is empty)."""
    padded = np.pad(mask, 1).reshape(mask.shape[0] + 2, -1)
    spans = np.zeros((padded.shape[0], 2), dtype=np.int64)
    filled = padded.any(axis=1)
    spans[filled, 0] = np.argmax(padded[filled], axis=1)
    spans[filled, 1] = padded.shape[1] - np.argmax(padded[filled, ::-1], axis=1)
    return spans

"""Images of visits against the model: means over blocks, with noise that knows of misplaced edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.linalg import solve_triangular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.patient_modeling._scans import Visit
    from digital_twins.patient_modeling._visit_images import VisitImage

FloatArray = NDArray[np.float64]
Spacing = tuple[float, float, float]

EDGE_SD_MM = 1.0
"""Standard deviation of a patch's mean edge offset between readers, an assumption of the order of published
surface distances between readers of 1 to 2 mm [verify]."""
REGISTRATION_SD_MM = 2.0
"""Standard deviation of a visit's shift against the baseline after registration, an assumption."""
CELLULARITY_SD, CELLULARITY_COMMON = 0.08, 0.05
"""Of a block's mean density, and of one factor of a whole visit (scanner, temperature): assumptions."""
UPTAKE_SD, UPTAKE_COMMON = 0.1, 0.1
"""The same for PET, as parts of the hottest block and of the whole: assumptions [verify]."""
_CELL_BLOCK_MM = 6.0
_CORRELATED_MM = 6.0
_DEPTH_STEP_MM = 2.0
_FWHM_PER_SD = 2.354820045030949


class _Blocks:
    """Means over cubes of one image, and the same of the model's density."""

    def __init__(self, image: VisitImage, spacing: Spacing, side_mm: float) -> None:
        usable = np.isfinite(image.values)
        cube = [max(1, round(side_mm / step)) for step in spacing]
        at = np.nonzero(usable)
        index = np.stack([axis // size for axis, size in zip(at, cube, strict=True)])
        _, label, filled = np.unique(index, axis=1, return_inverse=True, return_counts=True)
        keep = filled >= min(0.5 * float(np.prod(cube)), float(filled.max()))
        renumbered = np.where(keep, np.cumsum(keep) - 1, -1)[label.ravel()]
        self._at = tuple(axis[renumbered >= 0] for axis in at)
        self._label, self._filled = renumbered[renumbered >= 0], filled[keep]
        self._sd = tuple(image.fwhm_mm / _FWHM_PER_SD / step for step in spacing) if image.fwhm_mm else None
        self.values = self.means(image.values)
        self.centre_mm = np.zeros((self._filled.size, 3))
        for axis, step in enumerate(spacing):
            sums = np.bincount(self._label, self._at[axis].astype(np.float64), minlength=self._filled.size)
            self.centre_mm[:, axis] = step * sums / self._filled
        slope = _slope_in_depth if image.kind == "cellularity" else _slope_of_image
        self.slope_per_mm = np.stack([self.means(each) for each in slope(image.values, spacing)], axis=1)

    def means(self, field: NDArray[Any]) -> FloatArray:
        """Mean of a field over each block."""
        sums = np.bincount(self._label, field[self._at].astype(np.float64), minlength=self._filled.size)
        return np.asarray(sums / self._filled)

    def modelled(self, density: NDArray[Any]) -> FloatArray:
        """The same of the model's density, blurred as the image is."""
        field = density if self._sd is None else ndimage.gaussian_filter(density, self._sd, truncate=3.0)
        return self.means(field)


def _slope_of_image(values: NDArray[np.float32], spacing: Spacing) -> list[FloatArray]:
    """Gradient per mm of an image that its own blur keeps smooth; holes are filled from beside."""
    hole = ~np.isfinite(values)
    nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    filled = ndimage.gaussian_filter(values[tuple(nearest)].astype(np.float64), 1.0)
    return list(np.gradient(filled, *map(float, spacing)))


def _slope_in_depth(values: NDArray[np.float32], spacing: Spacing) -> list[FloatArray]:
    """Gradient per mm along the depth below the edge: of the mean over each depth, as voxels are noisy."""
    usable = np.isfinite(values)
    hull = ndimage.binary_fill_holes(usable)
    depth = ndimage.distance_transform_edt(hull, sampling=spacing)
    step = (depth / _DEPTH_STEP_MM).astype(int)
    counts = np.bincount(step[usable])
    profile = np.bincount(step[usable], values[usable].astype(np.float64)) / np.maximum(counts, 1)
    profile = np.interp(np.arange(counts.size), np.flatnonzero(counts), profile[counts > 0])
    steep = np.abs(np.gradient(np.concatenate([[0.0], profile])))[1:] / _DEPTH_STEP_MM
    smooth = ndimage.gaussian_filter(depth, 1.0)
    direction = np.stack(np.gradient(smooth, *map(float, spacing)))
    direction /= np.maximum(np.linalg.norm(direction, axis=0), 1e-9)
    return list(direction * steep[np.minimum(step, steep.size - 1)])


class ImageTerm:
    """Residuals of all visits' images of one kind.

    Noise of a block's mean: its own; one factor of the visit; a shift of the visit along the image's
    gradient; and the front's place, which is off by the baseline's outline and by growth that the model does
    not explain: alike over some 6 mm and over the visits. So a steep edge tells little, and a deep or shallow
    gradient what it can.

    PET is compared up to one factor from density to SUV, the same at all visits and fitted anew to every
    parameter set (variable projection: Golub & Pereyra 1973, doi:10.1137/0710036).
    """

    def __init__(self, kind: str, visits: Sequence[Visit], drift_mm: FloatArray, spacing_mm: Spacing) -> None:
        self.kind = kind
        self._blocks = [
            (i, _Blocks(image, spacing_mm, image.fwhm_mm or _CELL_BLOCK_MM))
            for i, visit in enumerate(visits)
            for image in visit.images
            if image.kind == kind
        ]
        values = np.concatenate([blocks.values for _, blocks in self._blocks])
        slope = np.concatenate([blocks.slope_per_mm for _, blocks in self._blocks])
        centre = np.concatenate([blocks.centre_mm for _, blocks in self._blocks])
        visit_of = np.repeat([i for i, _ in self._blocks], [b.values.size for _, b in self._blocks])
        own, common = (
            (CELLULARITY_SD, CELLULARITY_COMMON)
            if kind == "cellularity"
            else (UPTAKE_SD * float(values.max()), UPTAKE_COMMON)
        )
        steep = np.linalg.norm(slope, axis=1)
        apart = np.linalg.norm(centre[:, None] - centre[None], axis=2)
        drift = drift_mm[visit_of]
        place = (EDGE_SD_MM**2 + np.outer(drift, drift)) * np.exp(-((apart / _CORRELATED_MM) ** 2))
        of_visit = common**2 * np.outer(values, values) + REGISTRATION_SD_MM**2 * slope @ slope.T
        noise = np.outer(steep, steep) * place + np.where(visit_of[:, None] == visit_of, of_visit, 0.0)
        self._root = np.linalg.cholesky(noise + own**2 * np.eye(values.size))
        self._seen = self._white(values)

    def modelled(self, visit: int, density: NDArray[Any]) -> list[FloatArray]:
        """Block means of the model at a visit, for each of its images of this kind."""
        return [blocks.modelled(density) for at, blocks in self._blocks if at == visit]

    def residuals(self, modelled: FloatArray) -> FloatArray:
        """In independent standard deviations."""
        model = self._white(modelled)
        if self.kind == "uptake":
            model = model * max(0.0, float(model @ self._seen) / max(float(model @ model), 1e-12))
        return np.asarray(model - self._seen)

    def with_tangents(self, modelled: FloatArray, moved: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Residuals, and their derivatives where the block means move by ``moved`` [block, direction]."""
        model, along = self._white(modelled), self._white(moved)
        if self.kind != "uptake":
            return model - self._seen, along
        square, product = max(float(model @ model), 1e-12), float(model @ self._seen)
        factor = max(0.0, product / square)
        by_factor = (along.T @ self._seen - 2.0 * factor * (along.T @ model)) / square if factor else 0.0
        return factor * model - self._seen, factor * along + np.multiply.outer(model, by_factor)

    def _white(self, values: FloatArray) -> FloatArray:
        return np.asarray(solve_triangular(self._root, values, lower=True, check_finite=False))

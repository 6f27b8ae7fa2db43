"""How likely what was seen at a visit is: volumes, outlines, cellularity and uptake."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.linalg import solve_triangular
from scipy.spatial import cKDTree

from digital_twins.patient_modeling._image_term import EDGE_SD_MM, REGISTRATION_SD_MM, ImageTerm
from digital_twins.patient_modeling._simulator import DETECTION_THRESHOLD
from digital_twins.patient_modeling._simulator_tangents import not_covered, observed_tangents
from digital_twins.patient_modeling._volume_noise import PATCH_MM2, volume_log_sd
from digital_twins.units import mm3_to_cm3

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from digital_twins.models import TumourState
    from digital_twins.patient_modeling._scans import Visit
    from digital_twins.patient_modeling._simulator import Simulator
    from digital_twins.records import Treatment

FloatArray = NDArray[np.float64]

OBSERVATIONS = ("volume", "shape", "cellularity", "uptake")
"""What a visit can carry, and a calibration can be told to use."""
DEFAULT_OBSERVATIONS = ("volume", "cellularity", "uptake")
"""Not the shape: a noisy baseline outline grows smooth in the model, which looks like diffusion."""

GROWTH_DISCREPANCY = 0.15
"""Standard deviation of a patch's growth over the mean growth that the model does not explain (tumours
prefer directions for reasons that it does not know), an assumption; it persists over the visits."""
_FEWEST, _MOST = 8, 16
_FAINTEST = 1.0e-6
_LEAST_VOXELS = 100


@dataclass(frozen=True, eq=False)
class Patches:
    """The lesion's surface in pieces of about 150 mm2, larger than readers' errors are correlated.

    Attributes
    ----------
    label
        Patch of every voxel of the model grid: that of the nearest seed on the baseline's surface.
    normal
        Mean outward direction of each patch at baseline, [patch, axis].
    """

    label: NDArray[np.int64]
    normal: FloatArray

    @property
    def count(self) -> int:
        """Number of patches."""
        return int(self.normal.shape[0])

    @cached_property
    def contrasts(self) -> FloatArray:
        """Orthonormal differences between patches, [patch - 1, patch]: what volume does not tell."""
        full = np.linalg.qr(np.column_stack([np.ones(self.count), np.eye(self.count)[:, 1:]]))[0]
        return np.asarray(full[:, 1:].T)


def surface_patches(simulator: Simulator) -> Patches | None:
    """Cut the baseline's surface into patches; None for a lesion too small for eight of them."""
    spacing = np.array(simulator.domain.spacing_mm)
    distance = simulator.distance_mm.astype(np.float64)
    shell = np.argwhere(np.abs(distance) < 0.5 * spacing.min()) * spacing
    area = shell.shape[0] * float(np.prod(spacing)) / float(spacing.min())
    count = min(_MOST, int(area / PATCH_MM2))
    if count < _FEWEST:
        return None
    seeds = _spread_out(shell, count)
    everywhere = np.argwhere(np.ones(distance.shape, dtype=bool)) * spacing
    _, nearest = cKDTree(seeds).query(everywhere)
    label = np.asarray(nearest, dtype=np.int64).reshape(distance.shape)
    index = tuple((shell / spacing).round().astype(int).T)
    slopes: list[FloatArray] = list(np.gradient(-distance, *map(float, spacing)))
    outward = np.stack([each[index] for each in slopes])
    outward /= np.maximum(np.linalg.norm(outward, axis=0), 1e-9)
    at = label[index]
    sums = np.stack([np.bincount(at, weights=each, minlength=count) for each in outward], axis=1)
    normal = sums / np.maximum(np.bincount(at, minlength=count), 1)[:, None]
    return Patches(label, np.asarray(normal, dtype=np.float64))


def _spread_out(points: FloatArray, count: int) -> FloatArray:
    """Farthest-point choice, then two rounds of averaging (Lloyd): no randomness."""
    chosen = [points[0]]
    apart = np.linalg.norm(points - points[0], axis=1)
    for _ in range(count - 1):
        chosen.append(points[int(np.argmax(apart))])
        apart = np.minimum(apart, np.linalg.norm(points - chosen[-1], axis=1))
    seeds = np.array(chosen)
    for _ in range(2):
        nearest = cKDTree(seeds).query(points)[1]
        seeds = np.stack([points[nearest == i].mean(axis=0) for i in range(count)])
    return seeds


class _Shape:
    """Offsets of the modelled edge from the outlined one, patch by patch, apart from their mean.

    Noise of one contrast between patches: the reader's at this visit and the baseline's (which every visit
    shares), growth in preferred directions (which persists), and a shift of the whole visit along the
    patches' normals, which is left free within the registration's error.
    """

    def __init__(self, patches: Patches, visits: Sequence[Visit], simulator: Simulator) -> None:
        self.patches = patches
        spacing = simulator.domain.spacing_mm
        voxel = simulator.domain.voxel_volume_mm3
        count = patches.count
        self._used = [i for i, v in enumerate(visits) if np.count_nonzero(v.mask) >= _LEAST_VOXELS]
        visits = [visits[i] for i in self._used]
        self._seen = np.stack(
            [np.bincount(patches.label[v.mask], minlength=count).astype(np.float64) for v in visits]
        )
        areas = np.stack([_areas_mm2(v.mask, patches, spacing) for v in visits])
        self._per_mm = voxel / np.maximum(areas, 0.3 * areas.mean(axis=1, keepdims=True))
        self._root = np.linalg.cholesky(self._covariance(unexplained_growth_mm(visits, simulator)))

    def _covariance(self, drift: FloatArray) -> FloatArray:
        size, visits = self.patches.count - 1, drift.size
        over_time = EDGE_SD_MM**2 * (np.eye(visits) + 1.0) + np.outer(drift, drift)
        shift = self.patches.contrasts @ self.patches.normal
        of_visit = REGISTRATION_SD_MM**2 * shift @ shift.T
        return np.asarray(np.kron(over_time, np.eye(size)) + np.kron(np.eye(visits), of_visit))

    def residuals(self, modelled_voxels: FloatArray) -> FloatArray:
        """Whitened contrasts of [visit, patch] volumes in voxels."""
        offsets_mm = (modelled_voxels[self._used] - self._seen) * self._per_mm
        contrasts = offsets_mm @ self.patches.contrasts.T
        return np.asarray(solve_triangular(self._root, contrasts.ravel(), lower=True, check_finite=False))


def unexplained_growth_mm(visits: Sequence[Visit], simulator: Simulator) -> FloatArray:
    """Standard deviation of the front's position that a tumour's own ways add, one a visit."""
    volumes_mm3 = 1000.0 * np.array([simulator.lesion_volume_cm3, *(v.volume_cm3 for v in visits)])
    radius = np.cbrt(0.75 / np.pi * volumes_mm3)
    return np.asarray(GROWTH_DISCREPANCY * (radius[1:] - radius[0]))


def _areas_mm2(mask: NDArray[np.bool_], patches: Patches, spacing: tuple[float, float, float]) -> FloatArray:
    """Surface of a mask by patch: the voxels within one spacing of the edge, over two spacings."""
    step = min(spacing)
    away = ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)
    near = np.bincount(patches.label[away <= 1.0], minlength=patches.count)
    return np.asarray(near * float(np.prod(spacing)) / (2.0 * step))


class Likelihood:
    """Residuals of the visits in independent standard deviations.

    Volumes come first, one a visit: log(modelled / segmented) over its standard deviation. Noise model: every
    segmented volume, the baseline's too, is the true one times a log-normal factor, whose spread
    :func:`volume_log_sd` gives; the baseline's factor is the parameter ``baseline_volume_scale``. Then come
    the contrasts of the outlines' patches, the blocks of cellularity, and those of PET, whose one factor from
    density to SUV is fitted anew to every parameter set (variable projection: Golub & Pereyra 1973,
    doi:10.1137/0710036).
    """

    def __init__(
        self,
        simulator: Simulator,
        visits: Sequence[Visit],
        treatments: Sequence[Treatment],
        fixed: Mapping[str, float],
        *,
        observations: Sequence[str] = OBSERVATIONS,
    ) -> None:
        self._simulator, self._treatments, self._fixed = simulator, treatments, dict(fixed)
        self._days = np.array([v.day for v in visits])
        self._observed = np.log([v.volume_cm3 for v in visits])
        self.volume_log_sd = volume_log_sd([v.volume_cm3 for v in visits])
        self._voxel_cm3 = mm3_to_cm3(simulator.domain.voxel_volume_mm3)
        self._floor = 0.1 * self._voxel_cm3
        self._with_volume = "volume" in observations
        large = any(np.count_nonzero(v.mask) >= _LEAST_VOXELS for v in visits)
        patches = surface_patches(simulator) if "shape" in observations and large else None
        self._shape = None if patches is None else _Shape(patches, visits, simulator)
        self._label = np.zeros(simulator.domain.shape, dtype=np.int64) if patches is None else patches.label
        self._count = 1 if patches is None else patches.count
        drift = unexplained_growth_mm(visits, simulator)
        self._images = [
            ImageTerm(kind, visits, drift, simulator.domain.spacing_mm)
            for kind in ("cellularity", "uptake")
            if kind in observations and any(i.kind == kind for v in visits for i in v.images)
        ]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is compared."""
        outline = [("volume", self._with_volume), ("shape", self._shape is not None)]
        return (*(kind for kind, yes in outline if yes), *(term.kind for term in self._images))

    def __call__(self, parameters: Mapping[str, float]) -> FloatArray:
        """Residuals in standard deviations, volumes first, visits in order of day."""
        named = {**self._fixed, **parameters}
        voxels = np.zeros((self._days.size, self._count))
        densest = np.zeros(self._days.size)
        means: list[list[FloatArray]] = [[] for _ in self._images]
        for i, state in enumerate(self._simulator.observed(named, self._treatments, self._days)):
            voxels[i] = self._visible_voxels(state)
            densest[i] = state.living.max()
            for term, kept in zip(self._images, means, strict=True):
                seen = state.living if term.kind == "uptake" else state.cells
                kept.extend(term.modelled(i, seen[1:-1, 1:-1, 1:-1]))
        parts = [self._of_volumes(voxels.sum(axis=1), densest)]
        if self._shape is not None:
            parts.append(self._shape.residuals(voxels))
        parts += [term.residuals(np.concatenate(m)) for term, m in zip(self._images, means, strict=True)]
        return np.concatenate(parts)

    @property
    def tangents_missing(self) -> str | None:
        """Why :meth:`with_tangents` cannot be called, as the end of a sentence; None where it can."""
        if self._shape is not None:
            return "the outlines' patches have none"
        return not_covered(self._simulator, self._treatments)

    def with_tangents(
        self, parameters: Mapping[str, float], names: Sequence[str]
    ) -> tuple[FloatArray, FloatArray]:
        """Residuals, and their derivatives by the logarithms of ``names``, [residual, name], exactly."""
        named = {**self._fixed, **parameters}
        voxels, densest = np.zeros((2, self._days.size))
        by_voxels, by_densest = np.zeros((2, self._days.size, len(names)))
        means: list[list[FloatArray]] = [[] for _ in self._images]
        moved: list[list[FloatArray]] = [[] for _ in self._images]
        days, inner = self._days, (slice(1, -1),) * 3
        for i, found in enumerate(
            observed_tangents(self._simulator, named, self._treatments, days, names=names)
        ):
            living = found.state.living
            voxels[i], by_voxels[i] = found.visible_volume_mm3(DETECTION_THRESHOLD, voxel_volume_mm3=1.0)
            top = np.unravel_index(int(living.argmax()), living.shape)
            densest[i] = living[top]
            by_densest[i] = [found.by_living[(row, *top)] if row >= 0 else 0.0 for row in found.row]
            for term, kept, along in zip(self._images, means, moved, strict=True):
                dead = term.kind != "uptake"
                kept.extend(term.modelled(i, (found.state.cells if dead else living)[inner]))
                each = [term.modelled(i, found.along(d, dead=dead)[inner]) for d in range(len(names))]
                along.extend(np.stack(columns, axis=1) for columns in zip(*each, strict=True))
        images = [
            term.with_tangents(np.concatenate(m), np.concatenate(by))
            for term, m, by in zip(self._images, means, moved, strict=True)
        ]
        by_volumes = self._by_volumes((voxels, by_voxels), (densest, by_densest))
        return (
            np.concatenate([self._of_volumes(voxels, densest), *(part for part, _ in images)]),
            np.concatenate([by_volumes, *(by for _, by in images)]),
        )

    def _visible_voxels(self, state: TumourState) -> FloatArray | float:
        """Visible voxels of a state, in each patch where there are any."""
        from digital_twins.patient_modeling._observation_kernels import patch_volumes

        visible = state.visible_volume_mm3(DETECTION_THRESHOLD, voxel_volume_mm3=1.0)
        if self._shape is None:
            return visible
        voxels = np.zeros(self._count)
        patch_volumes(
            state.living if state.most is None else state.most, self._label, DETECTION_THRESHOLD, voxels
        )
        if state.most is not None:  # tissue collapses alike in all patches as dead cells are cleared
            voxels *= visible / max(float(voxels.sum()), 1e-30)
        return voxels

    def _of_volumes(self, voxels: FloatArray, densest: FloatArray) -> FloatArray:
        if not self._with_volume:
            return np.zeros(voxels.size)
        seen = np.maximum(voxels * self._voxel_cm3, self._trace(densest))
        return np.asarray((np.log(seen) - self._observed) / self.volume_log_sd)

    def _trace(self, densest: FloatArray) -> FloatArray:
        """Stand-in for the volume where nothing is visible: the densest voxel carries on.

        So a fit through a resection learns which way the tumour comes back.
        """
        return np.asarray(self._floor * np.clip(densest / DETECTION_THRESHOLD, _FAINTEST, 1.0))

    def _by_volumes(
        self, volumes: tuple[FloatArray, FloatArray], densest: tuple[FloatArray, FloatArray]
    ) -> FloatArray:
        """Derivatives of the volumes' residuals; each pair is [visit] and [visit, parameter]."""
        (voxels, by_voxels), (top, by_top) = volumes, densest
        if not self._with_volume:
            return np.zeros_like(by_voxels)
        seen = voxels * self._voxel_cm3 >= self._trace(top)
        rising = (top > _FAINTEST * DETECTION_THRESHOLD) & (top < DETECTION_THRESHOLD)
        of_top = by_top * (rising / np.maximum(top, 1e-30))[:, None]
        logs = np.where(seen[:, None], by_voxels / np.maximum(voxels, 1e-30)[:, None], of_top)
        return np.asarray(logs / self.volume_log_sd[:, None])

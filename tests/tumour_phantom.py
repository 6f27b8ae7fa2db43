"""A made-up patient: a ball in soft tissue, grown by known parameters and segmented with known noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.imaging import Mask, Volume, as_mask
from digital_twins.patient_modeling import PatientTwin, TumorTwinPipeline
from digital_twins.records import parse_treatment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

FRAME = "1.2.826.0.1.3680043.8.498.1"
RADIATION = {"type": "radiation", "total_dose_gy": 40, "fractions": 20, "day": 7}
CHEMOTHERAPY = {"drug": "paclitaxel", "dose_mg": 315, "days": [5, 26]}


def ball(
    radius_mm: float = 14.0, *, shape: tuple[int, int, int] = (24, 48, 48), spacing_mm: float = 2.0
) -> tuple[Volume, Mask]:
    """A CT of soft tissue with a rim of air, and the mask of a ball in it."""
    spacing = np.array([2.0 * spacing_mm, spacing_mm, spacing_mm])
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    inside = z**2 + y**2 + x**2 <= radius_mm**2
    array = np.full(shape, 40, dtype=np.int16)
    array[:, :3, :] = -1000
    array[inside] = 60
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    affine[:3, 3] = -50.0
    image = Volume(array, affine, frame_of_reference_uid=FRAME, modality="CT")
    return image, as_mask(image, inside)


def new_twin(radius_mm: float = 14.0, **options: Any) -> PatientTwin:
    """A twin of the ball."""
    image, mask = ball(radius_mm)
    return TumorTwinPipeline().create_twin("PHANTOM", {"ct": image}, mask, **options)


@dataclass(frozen=True)
class FollowUp:
    """Noisy masks with their days, and the volumes without noise on the days asked for."""

    scans: list[tuple[float, Mask]]
    true_volumes_cm3: NDArray[np.float64]


def follow_up(
    twin: PatientTwin,
    truth: Mapping[str, float],
    days: Sequence[float],
    *,
    treatments: Sequence[Mapping[str, Any]] = (),
    later: Sequence[float] = (),
    noise: float = 0.0,
    seed: int = 0,
) -> FollowUp:
    """Grow the twin's tumour by the true parameters; each mask holds the true volume times a noise factor."""
    rng = np.random.default_rng(seed)
    simulator = twin._simulator
    parameters = {**twin.snapshot.belief.values, **truth}
    course = [parse_treatment(treatment) for treatment in treatments]
    scans, volumes = [], []
    for state in simulator.observed(parameters, course, np.array([*days, *later])):
        day, volume = state.day, simulator.visible_cm3(state)
        volumes.append(volume)
        if day > days[-1]:
            continue
        seen = volume * np.exp(noise * rng.standard_normal())
        voxels = max(1, round(seen * 1000.0 / twin.domain.voxel_volume_mm3))
        inner = state.cells[1:-1, 1:-1, 1:-1]
        level = np.partition(inner.ravel(), -voxels)[-voxels]
        scans.append((day, replace(as_mask(twin.domain, inner >= level), patient_id=None)))
    return FollowUp(scans, np.array(volumes))

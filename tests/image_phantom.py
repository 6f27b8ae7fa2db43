"""A made-up patient seen through noisy outlines: an irregular lesion on 32 x 32 x 32 voxels of 2 mm.

Every outline, the baseline's too, is off by a reader's habit of the day (a shift of the whole edge that makes
10 % of volume) and by a smooth random field (1 mm, correlated over 8 mm), and is then cut into voxels. With
``astray`` the patient does not obey the model either: Gompertz growth, solved on 1 mm, and every edge is
drawn a whole voxel too far out or in (as one reader of the patient always does).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from digital_twins.imaging import Mask, Volume, as_mask
from digital_twins.models import Domain, Forcing, SpatialGrowthModel, lq_log_survival
from digital_twins.patient_modeling import PatientTwin, TumorTwinPipeline
from digital_twins.records import parse_treatment
from digital_twins.units import mm3_to_cm3

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

SIZE, SPACING_MM, FINE_MM, THRESHOLD = 32, 2.0, 1.0, 0.16
LARGEST_CM3 = 130.0
EDGE_MM, CORRELATION_MM, VOLUME_NOISE = 1.0, 8.0, 0.1
Field = "NDArray[np.float64]"


@dataclass(frozen=True)
class ImagePatient:
    """What the hospital has, and what nature knows."""

    twin: PatientTwin
    scans: list[tuple[float, Any]]
    truth: Mapping[str, float]
    true_volumes_cm3: NDArray[np.float64]


def frame(spacing_mm: float) -> Volume:
    """The empty box of 64 mm on voxels of the given size."""
    count = round(SIZE * SPACING_MM / spacing_mm)
    affine = np.zeros((4, 4))
    affine[[0, 1, 2, 3], [2, 1, 0, 3]] = [spacing_mm, spacing_mm, spacing_mm, 1.0]
    affine[:3, 3] = -0.5 * SIZE * SPACING_MM + 0.5 * spacing_mm
    return Volume(np.zeros((count,) * 3, dtype=np.uint8), affine, frame_of_reference_uid="1.2.3.4")


def irregular_distance(rng: np.random.Generator, *, radius_mm: float, elongation: float = 0.0) -> Any:
    """Signed distance (about) to an egg with bumps on the fine grid, positive inside."""
    axis = (np.arange(SIZE * 2) + 0.5) * FINE_MM - SIZE
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    stretch = np.exp(elongation * np.array([2.0, -1.0, -1.0]) / 3.0 + 0.15 * rng.standard_normal(3))
    reach = np.linalg.norm(points @ rotation / (stretch / np.cbrt(np.prod(stretch))), axis=-1)
    bumps = smooth_field(rng, points.shape[:3], FINE_MM, 10.0)
    inside = reach - radius_mm - 1.5 * bumps < 0.0
    largest = ndimage.label(inside)[0]
    inside = largest == np.argmax(np.bincount(largest.ravel())[1:]) + 1
    return signed_distance(inside, FINE_MM)


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], spacing: float, length_mm: float) -> Any:
    """A random field of unit variance, correlated over about the length."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), length_mm / 2.0 / spacing, mode="wrap")
    return field / field.std()


def signed_distance(inside: Any, spacing: float) -> Any:
    """Positive inside, from edge to edge of voxels; the same far value beyond 10 voxels of the box around."""
    box = tuple(slice(max(0, int(ends.min()) - 10), int(ends.max()) + 11) for ends in np.nonzero(inside))
    near = inside[box]
    away = ndimage.distance_transform_edt(near) - ndimage.distance_transform_edt(~near)
    distance = np.full(inside.shape, -10.0 * spacing)
    distance[box] = (away - 0.5 * np.sign(away)) * spacing
    return distance


def outlined(
    distance_fine: Any, rng: np.random.Generator, *, off_mm: float = 0.0, noise: float = 1.0
) -> Mask:
    """What a reader draws around a true edge, on the image's voxels."""
    volume = np.count_nonzero(distance_fine > 0.0)
    area = np.count_nonzero(np.abs(distance_fine) < FINE_MM) / 2.0
    habit = VOLUME_NOISE * volume / max(area, 1.0) * FINE_MM * rng.standard_normal()
    wobble = EDGE_MM * smooth_field(rng, distance_fine.shape, FINE_MM, CORRELATION_MM)
    drawn = distance_fine + noise * (habit + wobble) + off_mm
    coarse = drawn.reshape(SIZE, 2, SIZE, 2, SIZE, 2).mean(axis=(1, 3, 5))
    return as_mask(frame(SPACING_MM), coarse > 0.0)


def images(density_fine: Any, rng: np.random.Generator, *, noise: float = 1.0) -> dict[str, Volume]:
    """A diffusion map (1e-6 mm2/s) and a PET image (SUV, 6 mm blur, background 1) of a true density."""
    coarse = density_fine.reshape(SIZE, 2, SIZE, 2, SIZE, 2).mean(axis=(1, 3, 5))
    scale = 1.0 + noise * 0.03 * rng.standard_normal(2)
    grain = [
        noise * rng.standard_normal(coarse.shape),
        noise * smooth_field(rng, coarse.shape, SPACING_MM, 6.0),
    ]
    adc = 3000.0 * (1.0 - scale[0] * coarse) + 150.0 * grain[0]
    blurred = ndimage.gaussian_filter(coarse, 6.0 / 2.355 / SPACING_MM)
    suv = 1.0 + 5.0 * scale[1] * blurred + 0.2 * grain[1]
    where = frame(SPACING_MM)
    return {
        "adc": where.with_array(np.clip(adc, 1.0, 3500.0).astype(np.float32)),
        "pet": where.with_array(np.maximum(suv, 0.0).astype(np.float32)),
    }


def on_fine(density: Any, domain: Mask) -> Any:
    """A model's density on the fine grid, linear in its logarithm (fronts fall off exponentially)."""
    from digital_twins.imaging import resample

    logs = np.log(np.maximum(density, 1e-6)).astype(np.float32)
    volume = Volume(logs, domain.affine, frame_of_reference_uid=domain.frame_of_reference_uid)
    return resample(volume, frame(FINE_MM)).array


def image_patient(
    index: int,
    *,
    history: Sequence[Mapping[str, Any]] = (),
    days: Sequence[float] = (28.0, 56.0, 84.0, 112.0),
    later: Sequence[float] = (154.0,),
    astray: bool = False,
    noise: float = 1.0,
    elongation: float = 0.0,
    carries: bool = False,
    truth: Mapping[str, float] | None = None,
) -> ImagePatient | None:
    """One patient with growth drawn from the priors, or as given; ``carries`` adds diffusion maps and PET.

    None when the tumour falls below 0.3 cm3, which nobody outlines on voxels of 2 mm, or fills half the box.
    """
    rng = np.random.default_rng([20261128, index])
    distance = irregular_distance(rng, radius_mm=rng.uniform(12.0, 15.0), elongation=elongation)
    real = as_mask(frame(FINE_MM), distance > 0.0)
    pipeline = TumorTwinPipeline()
    nature = pipeline.create_twin("NATURE", None, real)
    values = {**nature.snapshot.belief.sample(1, seed=1000 + index)[0], "baseline_volume_scale": 1.0}
    for treatment in history:
        if "drug" in treatment:
            values[f"drug_sensitivity:{treatment['drug']}"] = values["drug_sensitivity"]
    values |= dict(truth or {})
    off_mm = SPACING_MM * rng.choice([-1.0, 1.0]) if astray else 0.0
    twin = pipeline.create_twin("PATIENT", None, outlined(distance, rng, off_mm=off_mm, noise=noise))
    scans, volumes = [], []
    for day, density, volume in _grown(nature, distance, values, history, [*days, *later], astray=astray):
        if not 0.3 <= volume <= LARGEST_CM3:
            return None
        volumes.append(volume)
        if day <= days[-1]:
            edge = signed_distance(density >= np.log(THRESHOLD), FINE_MM)
            outline = outlined(edge, rng, off_mm=off_mm, noise=noise)
            beside = images(np.exp(density), rng, noise=noise) if carries else {}
            scans.append((day, {"segmentation": outline, **beside}))
    known = {**values, "baseline_volume_scale": real.volume_cm3 / twin.baseline_volume_cm3}
    return ImagePatient(twin, scans, known, np.array(volumes))


def _grown(
    nature: PatientTwin, distance: Any, values: Mapping[str, float], history: Any, days: Any, *, astray: bool
) -> Iterator[tuple[float, Any, float]]:  # fmt: skip
    """Yield (day, log density on the fine grid, true visible volume)."""
    course = [parse_treatment(treatment) for treatment in history]
    simulator = nature._simulator
    if not astray:
        for state in simulator.observed(values, course, np.array(days)):
            cells = on_fine(state.cells[1:-1, 1:-1, 1:-1], simulator.domain)
            volume = simulator.visible_cm3(state)
            if state.most is not None:  # a collapsing tumour shows its densest part
                shown = min(max(round(volume * 1000.0 / FINE_MM**3), 1), cells.size)
                cells = cells + np.log(THRESHOLD) - np.partition(cells.ravel(), -shown)[-shown]
            yield state.day, cells, volume
        return
    own = replace(
        simulator,
        domain=as_mask(frame(FINE_MM), np.ones(distance.shape, dtype=bool)),
        distance_mm=distance.astype(np.float32),
    )
    fractions = [fraction for treatment in course for fraction in treatment.fractions]
    forcing = Forcing(
        jump_days=np.array([f.day for f in fractions]),
        jump_log_survival=lq_log_survival(
            np.array([f.dose_gy for f in fractions]), values["alpha_per_gy"], values["alpha_beta_gy"]
        ),
    )
    # k of a Gompertz law that grows as fast as the logistic one at a tenth of the capacity
    rate = 0.9 * values["proliferation_per_day"] / np.log(10.0)
    model = SpatialGrowthModel(values["diffusion_mm2_per_day"], rate, law="gompertz")
    domain = Domain(own.domain.array, own.domain.spacing_mm)
    for day, state in model.trajectory(own._profile(0.0), domain, days, forcing=forcing, tolerance=1e-3):
        inner = state[1:-1, 1:-1, 1:-1]
        volume = mm3_to_cm3(float(np.count_nonzero(inner >= THRESHOLD)) * FINE_MM**3)
        yield day, np.log(np.maximum(inner, 1e-6)), volume

"""Tissue maps and diffusion tensors from the pipeline to the solver, against closed forms.

Without growth the density's second moments rise by ``2 D T t`` (T the relative tensor) while no wall is near:
the closed form that scalar, labelled and tensor tissue are held against.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from digital_twins import InputError
from digital_twins.imaging import Mask, Volume, as_mask
from digital_twins.patient_modeling import PatientTwin, TensorField, Tissue, TumorTwinPipeline

D, DAYS = 0.5, 30.0
SHAPE = (40, 40, 40)


def turned(angle: float) -> np.ndarray:
    """An affine of 2 mm voxels whose axes are turned about z by an angle."""
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = 2.0 * rotation @ np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(SHAPE) - 1) / 2
    return affine


def lesion(affine: np.ndarray, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mask:
    empty = Volume(np.zeros(SHAPE, dtype=np.uint8), affine)
    place = empty.index_to_mm(np.stack(np.indices(SHAPE), axis=-1))
    return as_mask(empty, np.linalg.norm(place - np.array(centre), axis=-1) <= 12.0)


def twin_in(tissue: Tissue | None, *, angle: float = 0.0) -> PatientTwin:
    mask = lesion(turned(angle))
    domain = mask.with_array(np.ones(SHAPE, dtype=bool))
    return TumorTwinPipeline().create_twin("PHANTOM", None, mask, domain=domain, tissue=tissue)


def spread_per_day(twin: PatientTwin) -> np.ndarray:
    """Growth of the covariance of positions in patient LPS mm2 per day, for pure diffusion."""
    parameters = {**twin.snapshot.belief.values, "diffusion_mm2_per_day": D, "proliferation_per_day": 0.0}
    place = twin.domain.index_to_mm(np.stack(np.indices(twin.domain.shape), axis=-1)).reshape(-1, 3)
    moments = []
    for _, state in twin._simulator.states(parameters, (), np.array([0.0, DAYS])):
        weight = state[1:-1, 1:-1, 1:-1].astype(np.float64).ravel()
        moments.append(np.cov(place.T, aweights=weight, ddof=0))
    return (moments[1] - moments[0]) / DAYS


def field(tensor: np.ndarray, angle: float = 0.0) -> TensorField:
    grid = Volume(np.zeros(SHAPE, dtype=np.uint8), turned(angle))
    return TensorField(np.broadcast_to(tensor, (*SHAPE, 3, 3)).copy(), grid)


def fibre(direction: np.ndarray, ratio: float = 8.0) -> np.ndarray:
    unit = direction / np.linalg.norm(direction)
    return np.eye(3) + (ratio - 1.0) * np.outer(unit, unit)


def test_uniform_tissue_spreads_equally() -> None:
    assert spread_per_day(twin_in(None)) == pytest.approx(2 * D * np.eye(3), abs=0.02)
    halved = Volume(np.full(SHAPE, 0.5), turned(0.0))
    assert spread_per_day(twin_in(Tissue(relative_diffusivity=halved))) == pytest.approx(
        D * np.eye(3), abs=0.02
    )


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_tensor_tissue_spreads_along_the_fibres_whatever_the_grid(angle: float) -> None:
    """The tensor is in patient axes: turning the image grid must not turn the fibres."""
    tensor = fibre(np.array([1.0, 1.0, 0.3]))
    twin = twin_in(Tissue(diffusion_tensor=field(tensor, 0.0)), angle=angle)
    expected = 2 * D * tensor / (np.trace(tensor) / 3)  # mean diffusivity 1
    found = spread_per_day(twin)
    assert found == pytest.approx(expected, abs=0.03 * expected.max())
    assert any("diffusion tensors on" in note for note in twin.provenance.notes)
    assert "diffusion_tensor" in twin.provenance.inputs


@pytest.mark.parametrize("order", ["mrtrix", "lower_triangular"])
def test_tensor_files_are_read_in_their_order_and_axes(tmp_path: Path, order: str) -> None:
    """RAS to LPS turns x and y: xz and yz change their sign, xy does not."""
    tensor = fibre(np.array([1.0, 0.5, 0.7]))
    flip = np.diag([-1.0, -1.0, 1.0])
    ras = flip @ tensor @ flip
    picks = {
        "mrtrix": [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)],
        "lower_triangular": [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)],
    }[order]
    data = np.zeros((5, 6, 7, 6), dtype=np.float32)
    data[:] = [ras[i, j] for i, j in picks]
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "tensor.nii.gz")
    read = TensorField.from_nifti(tmp_path / "tensor.nii.gz", order=order)
    assert read.grid.shape == (7, 6, 5)
    assert read.tensors == pytest.approx(np.broadcast_to(tensor, (7, 6, 5, 3, 3)), abs=1e-6)
    with pytest.raises(InputError, match="order"):
        TensorField.from_nifti(tmp_path / "tensor.nii.gz", order="fsl")
    nibabel.save(nibabel.Nifti1Image(data[..., 0], affine), tmp_path / "scalar.nii.gz")
    with pytest.raises(InputError, match="no diffusion tensors"):
        TensorField.from_nifti(tmp_path / "scalar.nii.gz", order=order)


def half_and_half() -> Volume:
    """Label 2 where x > 14 mm (a barrier), 1 elsewhere."""
    empty = Volume(np.ones(SHAPE, dtype=np.uint8), turned(0.0))
    x = empty.index_to_mm(np.stack(np.indices(SHAPE), axis=-1))[..., 0]
    return empty.with_array(np.where(x > 14.0, 2, 1).astype(np.uint8))


def test_a_barrier_is_out_of_the_domain_and_nothing_passes() -> None:
    twin = twin_in(Tissue(tissue_map=half_and_half(), diffusivity_of={1: 1.0, 2: 0.0}))
    x = twin.domain.index_to_mm(np.stack(np.indices(twin.domain.shape), axis=-1))[..., 0]
    assert not twin.domain.array[x > 15.0].any()
    assert twin.domain.array[x < 13.0].all()
    forecast = twin.predict(60, samples=8)
    assert not forecast.density_at(60.0).array[x > 15.0].any()
    assert forecast.density_at(60.0).array[(x > 9.0) & (x < 13.0)].any()


def test_labels_slow_the_front() -> None:
    """Behind the edge of slow tissue the density is lower than at the same distance on the free side."""
    twin = twin_in(Tissue(tissue_map=half_and_half(), diffusivity_of={2: 0.1}))
    parameters = {**twin.snapshot.belief.values, "diffusion_mm2_per_day": D}
    (_, state), *_ = twin._simulator.states(parameters, (), np.array([60.0]))
    density = state[1:-1, 1:-1, 1:-1]
    place = twin.domain.index_to_mm(np.stack(np.indices(density.shape), axis=-1))
    near = np.linalg.norm(place[..., 1:], axis=-1) < 4.0
    slow = density[near & (place[..., 0] > 18.0) & (place[..., 0] < 22.0)].mean()
    free = density[near & (place[..., 0] < -18.0) & (place[..., 0] > -22.0)].mean()
    assert slow < 0.6 * free


def test_tissue_is_saved_with_the_twin(tmp_path: Path) -> None:
    for tissue in (
        Tissue(diffusion_tensor=field(fibre(np.array([1.0, 0, 0])))),
        Tissue(tissue_map=half_and_half(), diffusivity_of={2: 0.1}),
    ):
        twin = twin_in(tissue)
        twin.save(tmp_path / "a.twin")
        again = PatientTwin.open(tmp_path / "a.twin")
        assert (again.predict(7, samples=8).volume_cm3 == twin.predict(7, samples=8).volume_cm3).all()
        assert again.content_digest == twin.content_digest != twin_in(None).content_digest


def test_unusable_tissue_is_refused() -> None:
    away = Volume(np.ones(SHAPE, dtype=np.uint8), turned(0.0))
    far = turned(0.0)
    far[:3, 3] += 500.0
    cases = {
        "misses most": Tissue(tissue_map=Volume(away.array, far), diffusivity_of={1: 1.0}),
        "no label 7": Tissue(tissue_map=away, diffusivity_of={7: 1.0}),
        "cannot be used": Tissue(tissue_map=away, diffusivity_of={1: -1.0}),
        "without a tissue map": Tissue(diffusivity_of={1: 1.0}),
        "image, not labels": Tissue(tissue_map=away.with_array(np.full(SHAPE, 0.5))),
        "relative diffusivity cannot": Tissue(relative_diffusivity=away.with_array(np.full(SHAPE, -0.5))),
        "miss most": Tissue(diffusion_tensor=field(np.zeros((3, 3)))),
    }
    for why, tissue in cases.items():
        with pytest.raises(InputError, match=why):
            twin_in(tissue)
    with pytest.raises(InputError, match="symmetric"):
        field(np.array([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]]))

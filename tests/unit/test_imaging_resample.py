"""Grids: interpolation, conservation, crops."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  (its usual short name)

from ct_series import AXIAL, ball, oblique, tilted
from digital_twins import InputError
from digital_twins.imaging import (
    Mask,
    Volume,
    bounding_box,
    coverage,
    crop,
    downsample,
    grid,
    load_mask,
    resample,
)


def _linear(volume: Volume) -> np.ndarray:
    """A function linear in millimetres, which trilinear interpolation must reproduce exactly."""
    points = volume.index_to_mm(np.moveaxis(np.indices(volume.shape), 0, -1))
    return points @ np.array([0.3, -0.7, 1.1]) + 5


@pytest.mark.parametrize("affine", [AXIAL, oblique(), tilted()], ids=["axial", "oblique", "tilted"])
def test_trilinear_is_exact_for_linear_functions(affine):
    volume = Volume(np.zeros((12, 20, 22), np.float32), affine)
    volume = volume.with_array(_linear(volume).astype(np.float32))
    inner = Volume(np.zeros((5, 6, 7)), np.array(affine))
    shifted = inner.affine.copy()
    shifted[:3, 3] = volume.index_to_mm([3.3, 4.7, 5.2])
    turned = shifted.copy()
    turned[:3, :3] = shifted[:3, :3] @ np.array([[0.9, 0.02, 0], [-0.1, 0.8, 0.1], [0, 0.05, 1.1]])
    for target in (shifted, turned):
        like = Volume(inner.array, target)
        np.testing.assert_allclose(resample(volume, like).array, _linear(like), atol=1e-3)


def test_resampling_agrees_with_simpleitk():
    rng = np.random.default_rng(3)
    volume = Volume(rng.normal(size=(9, 14, 13)).astype(np.float32), oblique((2.0, 0.9, 1.1)))
    like = grid(volume, spacing_mm=1.3)
    from digital_twins.imaging._files import to_sitk

    theirs = sitk.Resample(
        to_sitk(volume), to_sitk(like.with_array(like.array)), sitk.Transform(), sitk.sitkLinear, -9.0
    )
    ours = resample(volume, like, outside=-9.0).array
    reference = sitk.GetArrayFromImage(theirs)
    assert np.mean(np.abs(ours - reference) < 1e-4) > 0.999


def test_outside_gets_the_fill_value_and_masks_false():
    volume = Volume(np.full((4, 4, 4), 7.0), np.eye(4))
    far = np.eye(4)
    far[:3, 3] = 2.0
    moved = resample(volume, Volume(np.zeros((4, 4, 4)), far), outside=-1000)
    assert moved.array[0, 0, 0] == 7
    assert moved.array[3, 3, 3] == -1000
    mask = Mask(np.ones((4, 4, 4)), np.eye(4))
    assert resample(mask, Volume(np.zeros((4, 4, 4)), far)).array.sum() == 8


@pytest.mark.parametrize("spacing", [2.0, (5.0, 1.7, 2.3), 0.4])
def test_downsampling_conserves_volume_exactly(spacing):
    mask = Mask(ball((15, 40, 42), (7, 20, 20), 6.0), AXIAL)
    coarse = downsample(mask, spacing_mm=spacing)
    assert coarse.array.sum() * coarse.voxel_volume_mm3 / 1000 == pytest.approx(mask.volume_cm3, rel=1e-12)
    assert coarse.array.min() >= 0
    assert coarse.array.max() <= 1
    centre = np.tensordot(coarse.array, np.moveaxis(np.indices(coarse.shape), 0, -1), axes=3)
    np.testing.assert_allclose(coarse.index_to_mm(centre / coarse.array.sum()), mask.centroid_mm, atol=0.05)


def test_coverage_on_a_turned_grid_conserves_volume_closely():
    mask = Mask(ball((30, 30, 30), (15, 15, 15), 9.0), np.eye(4))
    turned = oblique((2.0, 2.0, 2.0))
    turned[:3, 3] = [15, 15, 15] - turned[:3, :3] @ np.array([10, 10, 10])
    covered = coverage(mask, Volume(np.zeros((21, 21, 21)), turned))
    assert covered.array.sum() * covered.voxel_volume_mm3 / 1000 == pytest.approx(mask.volume_cm3, rel=5e-3)


def test_grid_covers_the_same_box():
    volume = Volume(np.zeros((5, 20, 30)), oblique())
    fine = grid(volume, spacing_mm=0.5)
    corner = np.array([-0.5, -0.5, -0.5])
    np.testing.assert_allclose(fine.index_to_mm(corner), volume.index_to_mm(corner), atol=1e-9)
    assert fine.spacing_mm == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(InputError, match="not positive"):
        grid(volume, spacing_mm=0)


def test_crop_keeps_the_place_of_every_voxel():
    mask = Mask(ball((15, 40, 42), (7, 20, 20), 3.0), tilted())
    box = bounding_box(mask, margin_mm=2.0)
    part = crop(mask, box)
    assert part.volume_cm3 == pytest.approx(mask.volume_cm3)
    np.testing.assert_allclose(part.centroid_mm, mask.centroid_mm, atol=1e-9)
    assert [s.start for s in box] == [3, 13, 13]
    np.testing.assert_array_equal(resample(part, mask).array, mask.array)
    with pytest.raises(InputError, match="no bounding box"):
        bounding_box(mask.with_array(np.zeros(mask.shape, bool)))


def test_mask_of_another_grid_is_put_on_the_image():
    image = Volume(np.zeros((10, 20, 20)), AXIAL, frame_of_reference_uid="1.2", patient_id="P")
    finer = grid(image, spacing_mm=(1.25, 0.35, 0.35))
    mask = Mask(ball(finer.shape, (10, 20, 20), 8.0), finer.affine, frame_of_reference_uid="1.2")
    placed = load_mask(mask, like=image)
    assert placed.shape == image.shape
    assert placed.patient_id == "P"
    assert placed.volume_cm3 == pytest.approx(mask.volume_cm3, rel=0.1)
    with pytest.raises(InputError, match="frames of reference"):
        load_mask(mask, like=Volume(image.array, AXIAL, frame_of_reference_uid="3.4"))
    away = AXIAL.copy()
    away[:3, 3] += 5000
    with pytest.raises(InputError, match="outside the image"):
        load_mask(Mask(mask.array, mask.affine), like=Volume(image.array, away))
    stranger = Mask(mask.array, mask.affine, patient_id="Q")
    with pytest.raises(InputError, match="different patients") as caught:
        load_mask(stranger, like=image)
    assert "Q" not in caught.value.why

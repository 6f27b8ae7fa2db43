"""Volume and Mask: points, sizes, digests."""

from __future__ import annotations

import numpy as np
import pytest

from ct_series import AXIAL, ball, oblique, tilted
from digital_twins import InputError
from digital_twins.imaging import Mask, Volume, as_mask


@pytest.mark.parametrize("affine", [AXIAL, oblique(), tilted()], ids=["axial", "oblique", "tilted"])
def test_points_go_there_and_back(affine):
    volume = Volume(np.zeros((4, 5, 6)), affine)
    points = np.random.default_rng(4).normal(size=(20, 3)) * 30
    np.testing.assert_allclose(volume.mm_to_index(volume.index_to_mm(points)), points, atol=1e-10)
    np.testing.assert_allclose(volume.index_to_mm([0, 0, 0]), volume.origin_mm)


def test_nonsense_is_refused():
    for array, affine in (
        (np.zeros((3, 3)), AXIAL),
        (np.zeros((0, 3, 3)), AXIAL),
        (np.zeros((3, 3, 3)), np.zeros((4, 4))),
        (np.zeros((3, 3, 3)), np.full((4, 4), np.nan)),
        (np.zeros((3, 3, 3)), np.eye(3)),
    ):
        with pytest.raises(InputError):
            Volume(array, affine)
    with pytest.raises(InputError, match="same grid"):
        Volume(np.zeros((3, 3, 3)), AXIAL).with_array(np.zeros((2, 3, 3)))


def test_affine_cannot_be_changed_by_mistake():
    mine = AXIAL.copy()
    volume = Volume(np.zeros((3, 3, 3)), mine)
    mine[0, 0] = 9
    assert volume.affine[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 1


def test_digest_sees_voxels_affine_and_shape_only():
    volume = Volume(np.arange(24).reshape(2, 3, 4), AXIAL, patient_id="P")
    assert volume.digest() == Volume(volume.array.copy(order="F"), AXIAL).digest()
    others = [
        Volume(volume.array + 1, AXIAL),
        Volume(volume.array, oblique()),
        Volume(volume.array.reshape(2, 4, 3), AXIAL),
        Volume(volume.array.astype(np.int32), AXIAL),
    ]
    assert len({v.digest() for v in [volume, *others]}) == 5


@pytest.mark.parametrize("radius_mm", [6.0, 11.0, 20.0])
def test_ball_has_the_volume_centre_and_diameter_of_a_ball(radius_mm):
    affine = oblique((1.0, 0.5, 0.5))
    index = np.indices((50, 100, 100)).reshape(3, -1).T
    volume = Volume(np.zeros((50, 100, 100)), affine)
    centre = volume.index_to_mm([24.0, 50.2, 49.1])
    inside = np.linalg.norm(volume.index_to_mm(index) - centre, axis=1) <= radius_mm
    mask = as_mask(volume, inside.reshape(volume.shape))
    assert mask.volume_cm3 == pytest.approx(4 / 3 * np.pi * radius_mm**3 / 1000, rel=0.02)
    np.testing.assert_allclose(mask.centroid_mm, centre, atol=0.05)
    assert mask.longest_diameter_mm() == pytest.approx(2 * radius_mm, abs=0.5)


def test_longest_diameter_is_in_plane_not_across_slices():
    array = np.zeros((30, 20, 20), bool)
    array[:, 5, 5:8] = True
    assert Mask(array, np.eye(4)).longest_diameter_mm() == pytest.approx(3.0)
    array[4, 5:15, 5] = True
    assert Mask(array, np.eye(4)).longest_diameter_mm() == pytest.approx(10.0, rel=0.02)
    assert Mask(np.zeros((3, 3, 3)), np.eye(4)).longest_diameter_mm() == 0
    with pytest.raises(InputError, match="no centroid"):
        _ = Mask(np.zeros((3, 3, 3)), np.eye(4)).centroid_mm


def test_mask_keeps_its_type_through_changes():
    mask = Mask(ball((5, 5, 5), (2, 2, 2), 1), np.eye(4))
    assert isinstance(mask.with_array(~mask.array), Mask)
    assert mask.array.dtype == bool
    assert not mask.is_empty

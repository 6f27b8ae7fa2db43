"""NIfTI, NRRD and other libraries' images; SimpleITK's own point transform is the independent oracle."""

from __future__ import annotations

import gzip
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  (its usual short name)

from ct_series import AXIAL, oblique, tilted
from digital_twins import InputError
from digital_twins.imaging import (
    Mask,
    Volume,
    from_highdicom,
    load_mask,
    load_volume,
    save_nifti,
    save_nrrd,
    to_highdicom,
    to_nifti_bytes,
)

AFFINES = pytest.mark.parametrize(
    "affine",
    [AXIAL, oblique(), oblique((6.5, 0.3, 0.3)), tilted()],
    ids=["axial", "oblique", "anisotropic", "tilted"],
)
POINTS = [(0, 0, 0), (4, 3, 2), (1, 5, 4)]


@pytest.fixture
def array():
    return np.random.default_rng(2).integers(-900, 900, (5, 7, 6)).astype(np.int16)


@AFFINES
def test_nrrd_round_trip_and_position_by_simpleitk(tmp_path, array, affine):
    volume = Volume(array, affine)
    save_nrrd(volume, tmp_path / "a.nrrd")
    again = load_volume(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(again.array, array)
    assert np.abs(again.affine - affine).max() < 1e-6
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    for k, j, i in POINTS:
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint((i, j, k)), volume.index_to_mm([k, j, i]), atol=1e-6
        )
        assert image[i, j, k] == array[k, j, i]


@AFFINES
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_round_trip(tmp_path, array, affine, suffix):
    path = tmp_path / f"a{suffix}"
    save_nifti(Volume(array, affine), path)
    again = load_volume(path)
    np.testing.assert_array_equal(again.array, array)
    assert again.array.dtype == array.dtype
    # sform is stored in single precision: 1e-6 mm holds for the relative part
    assert np.abs(again.affine - affine).max() < 6e-8 * np.abs(affine).max()


def test_nifti_affines_of_exact_single_precision_come_back_to_a_millionth(tmp_path, array):
    affine = np.array([[0.25, 0, 0.5, -64], [0, 0.75, 0, 32.5], [-2.5, 0.125, 0, 8], [0, 0, 0, 1.0]])
    save_nifti(Volume(array, affine), tmp_path / "a.nii.gz")
    assert np.abs(load_volume(tmp_path / "a.nii.gz").affine - affine).max() < 1e-6


@pytest.mark.parametrize("affine", [AXIAL, oblique()], ids=["axial", "oblique"])
def test_nifti_position_by_simpleitk(tmp_path, array, affine):
    volume = Volume(array, affine)
    save_nifti(volume, tmp_path / "a.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    for k, j, i in POINTS:
        point = image.TransformIndexToPhysicalPoint((i, j, k))
        np.testing.assert_allclose(point, volume.index_to_mm([k, j, i]), atol=1e-4)
        assert image[i, j, k] == array[k, j, i]


def test_nifti_bytes_are_reproducible(array):
    volume = Volume(array, AXIAL)
    assert to_nifti_bytes(volume) == to_nifti_bytes(volume)
    assert gzip.decompress(to_nifti_bytes(volume)) == to_nifti_bytes(volume, gzip=False)


def test_masks_are_written_as_labels(tmp_path, array):
    mask = Mask(array > 0, AXIAL)
    for name, save in (("a.nii.gz", save_nifti), ("a.nrrd", save_nrrd)):
        save(mask, tmp_path / name)
        np.testing.assert_array_equal(load_mask(tmp_path / name).array, mask.array)


def test_objects_of_other_libraries(array):
    volume = Volume(array, oblique(), frame_of_reference_uid="1.2.3")
    ras = np.diag([-1, -1, 1, 1]) @ volume.affine[:, [2, 1, 0, 3]]
    lps = volume.affine[:, [2, 1, 0, 3]]
    ijk = array.transpose(2, 1, 0)

    class Tensor(np.ndarray):
        affine: np.ndarray
        meta: dict

    def tensor(data, affine, space):
        made = data.copy().view(Tensor)
        made.affine, made.meta = affine, {"space": space}
        return made

    sources = [
        nib.Nifti1Image(ijk, ras),
        tensor(ijk, ras, "RAS"),
        tensor(ijk[None], ras, "RAS"),
        tensor(ijk, lps, "LPS"),
        to_highdicom(volume),
    ]
    for source in sources:
        made = load_volume(source)
        np.testing.assert_array_equal(made.array, array)
        np.testing.assert_allclose(made.affine, volume.affine, atol=1e-9)
    assert from_highdicom(to_highdicom(volume)).frame_of_reference_uid == "1.2.3"


def test_torch_tensors_are_detached(array):
    ras = np.diag([-1, -1, 1, 1]) @ AXIAL[:, [2, 1, 0, 3]]
    inner = SimpleNamespace(numpy=lambda: array.transpose(2, 1, 0))
    torch_like = SimpleNamespace(
        affine=ras, meta={}, detach=lambda: SimpleNamespace(cpu=lambda: inner), shape=(6, 7, 5)
    )
    np.testing.assert_array_equal(load_volume(torch_like).array, array)


def test_header_units_are_honoured(tmp_path, array):
    image = nib.Nifti1Image(array, np.diag([0.001, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "m.nii")
    assert load_volume(tmp_path / "m.nii").spacing_mm == pytest.approx((3, 2, 1), rel=1e-5)


def test_refusals(tmp_path, array):
    def nifti(data, name="x.nii.gz"):
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / name)
        return tmp_path / name

    holes = array.astype(np.float32)
    holes[0, 0, 0] = np.nan
    for source, message in (
        (nifti(holes), "1 voxels of the image are not numbers"),
        (nifti(np.zeros((4, 4, 4, 2), np.int16), "time.nii"), "several channels"),
        (array, "not an image with a place"),
        ({"ct": 1}, "not an image with a place"),
    ):
        with pytest.raises(InputError, match=message):
            load_volume(source)
    blank = nib.Nifti1Image(array, None)
    nib.save(blank, tmp_path / "blank.nii")
    with pytest.raises(InputError, match="no orientation"):
        load_volume(tmp_path / "blank.nii")
    with pytest.raises(InputError, match="sheared"):
        to_highdicom(Volume(array, tilted()))
    for name in ("bad.nii", "bad.nii.gz", "bad.nrrd", "bad.mha"):
        (tmp_path / name).write_bytes(b"\x00garbage" * 100)
        with pytest.raises(InputError, match="cannot be read"):
            load_volume(tmp_path / name)
    whole = nifti(array, "cut.nii")
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        load_volume(whole)


def test_a_header_that_announces_too_much_is_refused_before_reading(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((20000, 20000, 20000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "bomb.nii").write_bytes(header.binaryblock + bytes(4))
    (tmp_path / "bomb.nrrd").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 20000 20000 20000\nencoding: raw\nendian: little\n\n\0"
    )
    for name in ("bomb.nii", "bomb.nrrd"):
        with pytest.raises(InputError, match="announces the size"):
            load_volume(tmp_path / name)


@pytest.mark.parametrize(("name", "volume_cm3"), [("lung2", 48.434), ("lung1", 1.361), ("brain1", 16.413)])
def test_tumour_volumes_of_pyradiomics(shared_data, name, volume_cm3):
    folder = shared_data / "dicom/tumour_nrrd_pyradiomics"
    image = load_volume(folder / f"{name}_image.nrrd")
    mask = load_mask(folder / f"{name}_label.nrrd", like=image)
    assert mask.volume_cm3 == pytest.approx(volume_cm3, abs=1e-3)
    reference = sitk.ReadImage(str(folder / f"{name}_image.nrrd"))
    corner = np.array(image.shape) - 1
    point = reference.TransformIndexToPhysicalPoint(corner[::-1].tolist())
    np.testing.assert_allclose(image.index_to_mm(corner), point, atol=1e-6)


def test_several_labels_need_a_choice(shared_data):
    path = shared_data / "dicom/tumour_nrrd_pyradiomics/prostate_phantom_subvolume-label.nrrd"
    with pytest.raises(InputError, match="4 labels: 1, 7, 8, 9"):
        load_mask(path)
    total = sum(load_mask(path, segment=n).array.sum() for n in (1, 7, 8, 9))
    assert total == (load_volume(path).array > 0).sum()


def test_images_are_no_masks(tmp_path, array):
    for data, why in (
        (array, "negative values"),
        (np.abs(array) + np.float32(0.5), "fractions"),
        (np.arange(210).reshape(5, 7, 6).astype(np.int16) * 2, None),
        (np.arange(10 * 10 * 10).reshape(10, 10, 10).astype(np.int16), "1000 different values"),
    ):
        save_nifti(Volume(data, AXIAL), tmp_path / "x.nii.gz")
        with pytest.raises(InputError, match=why or "labels"):
            load_mask(tmp_path / "x.nii.gz")
    save_nifti(Volume(np.zeros((3, 3, 3), np.uint8), AXIAL), tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match="mask is empty"):
        load_mask(tmp_path / "x.nii.gz")

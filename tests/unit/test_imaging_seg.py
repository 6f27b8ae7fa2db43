"""DICOM Segmentations in and out."""

from __future__ import annotations

from datetime import UTC, datetime

import highdicom
import numpy as np
import pydicom
import pytest

from ct_series import AXIAL, ball, ct_series, oblique, tilted
from digital_twins import InputError
from digital_twins.imaging import (
    Mask,
    SegDetails,
    as_mask,
    bounding_box,
    crop,
    grid,
    load_mask,
    masks_from_seg,
    seg_from_masks,
    volume_from_series,
)
from digital_twins.records import Code

SHAPE = (6, 12, 11)


def _case(affine):
    series = ct_series(np.zeros(SHAPE, np.int16), affine)
    image = volume_from_series(series)
    return series, image, as_mask(image, ball(SHAPE, (2.5, 6, 5), 2.2))


def _seg(masks, series, **details):
    return seg_from_masks(
        masks, series, series_description="Lesion", series_number=7, details=SegDetails(**details)
    )


@pytest.mark.parametrize("affine", [AXIAL, oblique(), tilted()], ids=["axial", "oblique", "tilted"])
def test_series_to_seg_to_mask_returns_equal_voxels_and_affine(affine):
    series, image, mask = _case(affine)
    seg = _seg([mask], series[::-1])
    tight = load_mask(seg)
    assert tight.shape[0] < image.shape[0]  # empty frames are left out
    assert tight.volume_cm3 == pytest.approx(mask.volume_cm3)
    again = load_mask(seg, like=image)
    np.testing.assert_array_equal(again.array, mask.array)
    assert np.abs(again.affine - affine).max() < 1e-6
    assert np.abs(tight.index_to_mm(np.zeros(3)) - crop(mask, bounding_box(mask)).origin_mm)[2] < 60
    assert again.meaning == Code("108369006", "SCT", "Neoplasm")
    assert again.patient_id == "P1"


def test_several_overlapping_segments_stay_apart():
    series, image, one = _case(AXIAL)
    two = Mask(ball(SHAPE, (3, 7, 5), 2.0), image.affine, meaning=Code("64033007", "SCT", "Kidney"))
    seg = _seg([one, two], series, labels=("Lesion", "Organ"), algorithm="SEMIAUTOMATIC")
    masks = masks_from_seg(seg)
    assert [m.meaning.meaning for m in masks] == ["Neoplasm", "Kidney"]
    for mine, label, number in ((one, "Lesion", 1), (two, "Organ", 2)):
        np.testing.assert_array_equal(load_mask(seg, like=image, segment=label).array, mine.array)
        np.testing.assert_array_equal(load_mask(seg, like=image, segment=number).array, mine.array)
    with pytest.raises(InputError, match="2 segments: 1, 2"):
        load_mask(seg)
    with pytest.raises(InputError, match="not among them"):
        load_mask(seg, segment="Liver")


def test_mask_on_a_model_grid_keeps_that_grid():
    series, image, _ = _case(oblique())
    model = grid(image, spacing_mm=1.5)
    mask = as_mask(model, ball(model.shape, tuple(np.array(model.shape) / 2), 3.0))
    back = load_mask(_seg([mask], series), like=model)
    np.testing.assert_array_equal(back.array, mask.array)


def test_same_uids_and_time_make_the_same_object():
    series, _, mask = _case(AXIAL)
    when = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    details = {"series_uid": "1.2.3.5", "sop_uid": "1.2.3.6", "created": when, "tracking_uid": ("1.2.3.7",)}
    first, second = (_seg([mask], series, **details) for _ in range(2))
    assert first == second
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) == ("1.2.3.6", "1.2.3.5")
    assert (first.ContentDate, first.ContentTime) == ("20260304", "050607")
    assert first.StudyInstanceUID == series[0].StudyInstanceUID


def test_empty_character_set_of_the_source_is_mended_on_a_copy():
    series, _, mask = _case(AXIAL)
    for d in series:
        d.SpecificCharacterSet = ""
    assert _seg([mask], series).SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert series[0].SpecificCharacterSet == ""


def test_changing_the_seg_leaves_its_images_alone():
    series, _, mask = _case(AXIAL)
    seg = _seg([mask], series)
    seg.StudyInstanceUID, seg.StudyDate, seg.PatientName = "1.2.3.77", "20300101", "Other^Name"
    assert {(d.StudyInstanceUID, d.StudyDate, str(d.PatientName)) for d in series} == {
        ("1.2.3.7", "20260102", "Test^One")
    }


def test_refusals_when_writing():
    series, image, mask = _case(AXIAL)
    with pytest.raises(InputError, match="nothing to segment"):
        _seg([as_mask(image, np.zeros(SHAPE, bool))], series)
    with pytest.raises(InputError, match="different grids"):
        _seg([mask, crop(mask, bounding_box(mask))], series)
    other = Mask(mask.array, mask.affine, frame_of_reference_uid="9.9")
    with pytest.raises(InputError, match="frame of reference"):
        _seg([other], series)


def test_refusals_when_reading():
    series, image, mask = _case(AXIAL)
    seg = _seg([mask], series)
    with pytest.raises(InputError, match="not a DICOM Segmentation"):
        masks_from_seg(series[0])
    foreign = volume_from_series(ct_series(image.array, AXIAL, frame_uid="7.7"))
    with pytest.raises(InputError, match="frames of reference"):
        load_mask(seg, like=foreign)
    seg.PixelData = bytes(len(seg.PixelData))
    with pytest.raises(InputError, match="mask is empty"):
        load_mask(seg)
    del seg.PerFrameFunctionalGroupsSequence[0]
    with pytest.raises(InputError, match="each of its frames"):
        load_mask(seg)


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_fractional_and_label_map_segmentations(kind):
    series, image, mask = _case(AXIAL)
    pixels = mask.array * (0.6 if kind == "FRACTIONAL" else 1)
    seg = highdicom.seg.Segmentation(
        series,
        pixels.astype(np.float32 if kind == "FRACTIONAL" else np.uint8),
        kind,
        [
            highdicom.seg.SegmentDescription(
                1,
                "a",
                pydicom.sr.coding.Code("49755003", "SCT", "Morphologically Abnormal Structure"),
                pydicom.sr.coding.Code("108369006", "SCT", "Neoplasm"),
                "MANUAL",
            )
        ],
        "1.2.5",
        1,
        "1.2.6",
        1,
        "T",
        "T",
        "1",
        "1",
    )
    np.testing.assert_array_equal(load_mask(seg, like=image).array, mask.array)
    if kind == "FRACTIONAL":
        assert masks_from_seg(seg, threshold=0.7)[0].is_empty


@pytest.mark.parametrize("size", ["23x38x3", "24x38x3"])
def test_dcmqi_seg_equals_its_label_map(shared_data, size):
    folder = shared_data / "dicom/seg_sr_dcmqi/segmentations" / size
    labels = load_mask(folder / "nrrd/label.nrrd")
    seg = load_mask(folder / "seg/label.seg", like=labels)
    np.testing.assert_array_equal(seg.array, labels.array)
    assert load_mask(folder / "seg/label.seg").volume_cm3 == pytest.approx(labels.volume_cm3)


@pytest.mark.parametrize(
    "name",
    [
        "highdicom/test_files/seg_image_ct_binary.dcm",
        "highdicom/test_files/seg_image_ct_binary_fractional.dcm",
        "highdicom/test_files/seg_image_ct_binary_overlap.dcm",
        "highdicom/test_files/seg_image_ct_binary_single_frame.dcm",
        "highdicom/test_files/seg_image_ct_true_fractional.dcm",
        "seg_sr_dcmqi/sr-example/seg.dcm",
        "seg_sr_dcmqi/segmentations/liver.dcm",
    ],
)
def test_foreign_segmentations_as_highdicom_reads_them(shared_data, name):
    path = shared_data / "dicom" / name
    reference = highdicom.seg.segread(path)
    for number, mask in enumerate(masks_from_seg(pydicom.dcmread(path)), 1):
        theirs = reference.get_volume(segment_numbers=[number])
        np.testing.assert_array_equal(mask.array, theirs.array[..., 0] >= 0.5)
        assert np.abs(mask.affine - theirs.affine).max() < 1e-6


@pytest.mark.parametrize("name", ["seg_image_cr_binary.dcm", "seg_image_sm_control_labelmap.dcm"])
def test_segmentations_outside_patient_space_are_refused(shared_data, name):
    with pytest.raises(InputError, match="lacks PlanePositionSequence"):
        load_mask(shared_data / "dicom/highdicom/test_files" / name, segment=1)

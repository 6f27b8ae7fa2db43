"""Label maps, fractional segmentations, parametric maps and PET in SUV."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from ct_series import AXIAL, ball, ct_series, oblique, tilted
from digital_twins import InputError
from digital_twins.imaging import (
    Mask,
    SegDetails,
    Volume,
    as_mask,
    fractions_from_seg,
    grid,
    load_mask,
    masks_from_seg,
    parametric_map,
    seg_from_fractions,
    seg_from_masks,
    suv_factor,
    suv_from_series,
    volume_from_parametric_map,
    volume_from_series,
)
from digital_twins.records import Code

LIVER, KIDNEY = Code("10200004", "SCT", "Liver"), Code("64033007", "SCT", "Kidney")
ADC, RATE = Code("113041", "DCM", "Apparent Diffusion Coefficient"), Code("um2/s", "UCUM", "um2/s")
HALF_LIFE_S = 6586.2
"""Fluorine-18."""


def case(affine: Any, shape: tuple[int, int, int] = (6, 12, 11)) -> tuple[list[Dataset], Volume]:
    series = ct_series(np.zeros(shape, np.int16), affine)
    return series, volume_from_series(series)


@pytest.mark.parametrize("shape", [(5, 12, 11), (3, 23, 39), (4, 8, 16)])
@pytest.mark.parametrize("affine", [AXIAL, oblique(), tilted()], ids=["axial", "oblique", "tilted"])
def test_label_map_keeps_every_segment(affine: Any, shape: tuple[int, int, int]) -> None:
    series, image = case(affine, shape)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, shape)
    labels[0] = 1  # no slice at the end is empty
    labels[-1] = 2
    masks = [as_mask(image, labels == n, meaning=code) for n, code in ((1, LIVER), (2, KIDNEY))]
    seg = seg_from_masks(
        masks, series, series_description="Organs", series_number=7, segmentation_type="LABELMAP"
    )
    assert seg.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    for mask, again in zip(masks, masks_from_seg(seg), strict=True):
        np.testing.assert_array_equal(again.array, mask.array)
        assert again.meaning == mask.meaning
        assert np.abs(again.affine - affine).max() < 1e-6
    foreign = highdicom.seg.Segmentation.from_dataset(seg).pixel_array
    np.testing.assert_array_equal(foreign[:, :, :], labels)


def test_label_map_refuses_overlap() -> None:
    series, image = case(AXIAL)
    masks = [as_mask(image, ball(image.shape, (2, 6, 5), r), meaning=LIVER) for r in (2.0, 3.0)]
    with pytest.raises(InputError, match="overlap"):
        seg_from_masks(masks, series, series_description="x", series_number=1, segmentation_type="LABELMAP")


@pytest.mark.parametrize("width", [1, 7, 8, 9, 15, 17])
def test_binary_bits_of_odd_sizes(width: int) -> None:
    shape = (3, 23, width)
    series, image = case(AXIAL, shape)
    bits = np.random.default_rng(width).random(shape) < 0.5
    bits[:, 0, 0] = True
    seg = seg_from_masks([as_mask(image, bits)], series, series_description="x", series_number=1)
    np.testing.assert_array_equal(load_mask(seg).array, bits)


@pytest.mark.parametrize(
    ("affine", "own_grid"), [(AXIAL, False), (AXIAL, True), (oblique(), True), (tilted(), False)]
)
def test_fractions_come_back_within_half_a_step(affine: Any, own_grid: bool) -> None:
    series, image = case(affine)
    like = grid(image, spacing_mm=1.2) if own_grid else image
    rng = np.random.default_rng(2)
    values = [rng.random(like.shape).astype(np.float32) for _ in range(2)]
    fractions = [
        (Volume(v, like.affine, frame_of_reference_uid=image.frame_of_reference_uid), code)
        for v, code in zip(values, (LIVER, KIDNEY), strict=True)
    ]
    seg = seg_from_fractions(
        fractions,
        series,
        series_description="Probability",
        series_number=8,
        details=SegDetails(sop_uid="1.2.3.77", created=datetime(2026, 1, 2, tzinfo=UTC)),
    )
    assert (seg.SegmentationFractionalType, seg.SOPInstanceUID) == ("PROBABILITY", "1.2.3.77")
    for (volume, code), (again, meaning) in zip(fractions, fractions_from_seg(seg), strict=True):
        assert meaning == code
        assert again.shape == volume.shape
        assert np.abs(again.array - volume.array).max() <= 0.5 / 255 + 1e-6
    half = masks_from_seg(seg, threshold=0.5)[0]
    stored = np.rint(values[0] * 255)
    np.testing.assert_array_equal(half.array, stored >= 127.5)


def test_fractions_outside_the_range_are_refused() -> None:
    series, image = case(AXIAL)
    for value in (-0.1, 1.1, np.nan):
        bad = Volume(np.full(image.shape, value), image.affine)
        with pytest.raises(InputError, match="fraction"):
            seg_from_fractions([(bad, LIVER)], series, series_description="x", series_number=1)
    mask = as_mask(image, ball(image.shape, (2, 6, 5), 2))
    binary = seg_from_masks([mask], series, series_description="x", series_number=1)
    with pytest.raises(InputError, match="FRACTIONAL"):
        fractions_from_seg(binary)


@pytest.mark.shared
def test_fractions_of_a_foreign_file(shared_data: Any) -> None:
    path = shared_data / "dicom/highdicom/test_files/seg_image_ct_true_fractional.dcm"
    dataset = dcmread(path)
    (volume, _meaning), *_rest = fractions_from_seg(dataset)
    expected = dataset.pixel_array / dataset.MaximumFractionalValue
    first = volume.array[: len(expected)] if len(volume.array) == len(expected) else None
    stored = sorted(np.round(expected.reshape(len(expected), -1).sum(axis=1), 3))
    ours = sorted(np.round(volume.array.reshape(len(volume.array), -1).sum(axis=1), 3))
    assert first is None or first.shape == expected.shape
    np.testing.assert_allclose([x for x in ours if x], [x for x in stored if x], atol=2e-3)


@pytest.mark.parametrize("affine", [AXIAL, oblique()], ids=["axial", "oblique"])
@pytest.mark.parametrize("own_grid", [False, True])
def test_parametric_map_returns_values_unit_and_place(affine: Any, own_grid: bool) -> None:
    series, image = case(affine)
    like = grid(image, spacing_mm=1.2) if own_grid else image
    values = np.random.default_rng(3).normal(1200, 300, like.shape).astype(np.float32)
    volume = Volume(values, like.affine, frame_of_reference_uid=image.frame_of_reference_uid)
    dataset = parametric_map(
        volume,
        series,
        quantity=ADC,
        unit=RATE,
        series_description="ADC",
        series_number=9,
        details=SegDetails(sop_uid="1.2.3.78", created=datetime(2026, 1, 2, tzinfo=UTC), content_label="ADC"),
    )
    assert (dataset.SOPInstanceUID, dataset.ContentLabel, dataset.ContentDate) == (
        "1.2.3.78",
        "ADC",
        "20260102",
    )
    again, unit = volume_from_parametric_map(dataset)
    assert unit == RATE
    np.testing.assert_array_equal(again.array, values)
    assert np.abs(again.affine - like.affine).max() < 1e-5
    assert again.patient_id == "P1"


def test_parametric_map_of_stored_integers() -> None:
    series, image = case(AXIAL)
    dataset = parametric_map(
        image, series, quantity=ADC, unit=RATE, series_description="ADC", series_number=9
    )
    stored = np.arange(np.prod(image.shape), dtype="<u2").reshape(image.shape)
    del dataset.FloatPixelData
    dataset.PixelData = stored.tobytes()
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    shared = dataset.SharedFunctionalGroupsSequence[0]
    groups = (
        shared if "RealWorldValueMappingSequence" in shared else dataset.PerFrameFunctionalGroupsSequence[0]
    )
    mapping = groups.RealWorldValueMappingSequence[0]
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 0.5, -3
    if groups is not shared:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            frame.RealWorldValueMappingSequence = [mapping]
    np.testing.assert_array_equal(volume_from_parametric_map(dataset)[0].array, stored * np.float32(0.5) - 3)
    mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLUTData = (
        0,
        [float(v) for v in range(4000, 0, -1)],
    )
    np.testing.assert_array_equal(volume_from_parametric_map(dataset)[0].array, 4000.0 - stored)
    with pytest.raises(InputError, match="not a parametric map"):
        volume_from_parametric_map(series[0])


def pet(**changes: Any) -> list[Dataset]:
    """Two slices of 10 kBq/mL: 370 MBq injected an hour before the scan into 70 kg."""
    series = ct_series(np.full((2, 4, 4), 10_000, np.int16), AXIAL, intercepts=0)
    for ds in series:
        ds.Modality, ds.Units, ds.DecayCorrection = "PT", "BQML", "START"
        ds.CorrectedImage = ["ATTN", "DECY", "SCAT"]
        ds.PatientWeight = 70
        ds.SeriesDate = ds.AcquisitionDate = "20260102"
        ds.SeriesTime, ds.AcquisitionTime = "110000", "110000.5"
        drug = Dataset()
        drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 370e6, HALF_LIFE_S
        drug.RadiopharmaceuticalStartTime = "100000"
        ds.RadiopharmaceuticalInformationSequence = [drug]
        for name, value in changes.items():
            setattr(drug if name.startswith("Radio") else ds, name, value)
    return series


def test_suv_equals_the_published_formula() -> None:
    decayed_bq = 370e6 * 2 ** (-3600 / HALF_LIFE_S)
    suv = suv_from_series(pet())
    np.testing.assert_allclose(suv.array, 10_000 * 70_000 / decayed_bq, rtol=1e-6)
    at_injection = suv_from_series(pet(DecayCorrection="ADMIN"))
    np.testing.assert_allclose(at_injection.array, 10_000 * 70_000 / 370e6, rtol=1e-6)
    whole = suv_from_series(pet(RadiopharmaceuticalStartDateTime="20260102100000.000000+0000"))
    np.testing.assert_array_equal(whole.array, suv.array)
    over_midnight = pet(RadiopharmaceuticalStartTime="233000", SeriesTime="003000", AcquisitionTime="003100")
    np.testing.assert_allclose(suv_from_series(over_midnight).array, suv.array, rtol=1e-6)


def test_suv_of_other_units() -> None:
    assert suv_factor(pet(Units="GML")[0]) == 1
    for factors, expected in (((0.5, 0.0), 0.5), ((0.0, 2.0), 2 * suv_factor(pet()[0]))):
        series = pet(Units="CNTS")
        for ds in series:
            block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
            block.add_new(0x00, "DS", str(factors[0]))
            block.add_new(0x09, "DS", str(factors[1]))
        np.testing.assert_allclose(suv_from_series(series).array, 10_000 * expected, rtol=1e-6)


def test_suv_of_a_series_that_was_made_anew() -> None:
    """Its own time lies after the acquisition: the reference follows from Frame Reference Time."""
    rate, frame_s = np.log(2) / HALF_LIFE_S, 180.0
    average_s = np.log(rate * frame_s / (1 - np.exp(-rate * frame_s))) / rate
    series = pet(
        SeriesTime="150000",
        AcquisitionTime="111000",
        ActualFrameDuration=int(frame_s * 1000),
        FrameReferenceTime=(600 + average_s) * 1000,
    )
    decayed_bq = 370e6 * 2 ** (-3600 / HALF_LIFE_S)
    np.testing.assert_allclose(suv_from_series(series).array, 10_000 * 70_000 / decayed_bq, rtol=1e-5)
    for ds in series:
        del ds.FrameReferenceTime
        block = ds.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", "20260102110000.00")
    np.testing.assert_allclose(suv_from_series(series).array, 10_000 * 70_000 / decayed_bq, rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"Modality": "CT"},
        {"CorrectedImage": ["ATTN"]},
        {"Units": "PROPCNTS"},
        {"Units": "CNTS"},
        {"Units": "GML", "SUVType": "LBM"},
        {"PatientWeight": None},
        {"RadionuclideTotalDose": None},
        {"RadiopharmaceuticalStartTime": ""},
        {"DecayCorrection": "NONE"},
        {"RadiopharmaceuticalStartDateTime": "20251201100000"},
    ],
)
def test_suv_is_refused_when_it_would_be_wrong(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="SUV"):
        suv_from_series(pet(**changes))


def test_mask_type_is_kept() -> None:
    series, image = case(AXIAL)
    mask = as_mask(image, ball(image.shape, (2, 6, 5), 2), meaning=LIVER)
    seg = seg_from_masks(
        [mask], series, series_description="x", series_number=1, segmentation_type="LABELMAP"
    )
    assert isinstance(load_mask(seg), Mask)

"""DICOM series into volumes: geometry to 1e-6 mm, and every refusal."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from ct_series import AXIAL, ct_series, oblique, tilted
from digital_twins import InputError, NotFoundError
from digital_twins.imaging import load_volume, volume_from_series


@pytest.fixture
def array():
    return np.random.default_rng(1).integers(-1000, 1500, (5, 7, 6)).astype(np.int16)


@pytest.mark.parametrize("affine", [AXIAL, oblique(), tilted()], ids=["axial", "oblique", "tilted"])
def test_series_in_any_order_gives_exact_geometry_and_values(array, affine):
    series = ct_series(array, affine)
    shuffled = [series[i] for i in (3, 0, 4, 2, 1)]
    volume = volume_from_series(shuffled)
    assert np.abs(volume.affine - affine).max() < 1e-6
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.int16
    assert volume.source_uids == tuple(d.SOPInstanceUID for d in series)
    assert (volume.modality, volume.frame_of_reference_uid, volume.patient_id) == ("CT", "1.2.3.4", "P1")
    assert volume.acquired == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("affine", [AXIAL, oblique()], ids=["axial", "oblique"])
def test_geometry_is_that_of_highdicom(array, affine):
    series = ct_series(array, affine)
    theirs = highdicom.get_volume_from_series(series[::-1])
    ours = volume_from_series(series[::-1])
    assert np.abs(ours.affine - theirs.affine).max() < 1e-9
    np.testing.assert_array_equal(ours.array, theirs.array)


def test_each_slice_is_rescaled_by_its_own_intercept(array):
    series = ct_series(array, AXIAL, intercepts=[-1024, -1000, -2000, -1024, -1500])
    np.testing.assert_array_equal(volume_from_series(series).array, array)
    for d in series:
        d.RescaleSlope = 0.5
    halves = volume_from_series(series).array
    assert halves.dtype == np.float32
    np.testing.assert_allclose(halves[0], (array[0] + 1024) * 0.5 - 1024)


def test_tilted_volume_keeps_the_true_voxel_volume(array):
    volume = volume_from_series(ct_series(array, tilted(20.0)))
    assert volume.is_sheared
    assert volume.voxel_volume_mm3 == pytest.approx(0.25 * 4.0 * np.cos(np.deg2rad(20.0)), rel=1e-9)


def test_compressed_pixels_are_decoded(array):
    series = ct_series(array, AXIAL)
    for d in series:
        d.compress(pydicom.uid.JPEGLSLossless)
    np.testing.assert_array_equal(volume_from_series(series).array, array)


def test_enhanced_multi_frame_equals_the_single_frames(array):
    series = ct_series(array, oblique())
    for d in series:
        d.AcquisitionNumber = 1
    legacy = highdicom.legacy.LegacyConvertedEnhancedCTImage(series, highdicom.UID(), 2, highdicom.UID(), 1)
    one, many = load_volume(legacy), volume_from_series(series)
    assert np.abs(one.affine - many.affine).max() < 1e-6
    np.testing.assert_array_equal(one.array, many.array)


def test_lone_slice_has_the_thickness_of_its_header(array):
    volume = volume_from_series(ct_series(array, AXIAL)[:1])
    assert volume.shape[0] == 1
    assert volume.spacing_mm[0] == pytest.approx(2.5)


def test_uneven_slices_are_evened_out_only_when_asked(array):
    series = ct_series(array, AXIAL)
    series[3].ImagePositionPatient[2] += 0.4
    with pytest.raises(InputError, match=r"unequal spacing.*2\.\d+ mm.*even_out"):
        volume_from_series(series)
    ramp = ct_series(np.round(np.linspace(0, 400, 5))[:, None, None] * np.ones((1, 7, 6)), AXIAL)
    ramp[3].ImagePositionPatient[2] += 0.4
    ramp[3].PixelData = np.full((7, 6), 300 - 16 + 1024, "<u2").tobytes()
    even = volume_from_series(ramp, even_out=True)
    assert even.spacing_mm[0] == pytest.approx(2.5)
    np.testing.assert_allclose(even.array[:, 0, 0], [0, 100, 200, 300, 400], atol=1e-3)


def _two_patients(s):
    s[1].PatientID = "P2"


def _two_series(s):
    s[1].SeriesInstanceUID = "1.2.3.88"


def _missing(s):
    del s[2]


def _duplicate(s):
    s[2].ImagePositionPatient = s[1].ImagePositionPatient


def _scout(s):
    s[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def _aside(s):
    s[2].ImagePositionPatient[0] += 3


def _truncated_pixels(s):
    s[1].PixelData = s[1].PixelData[:20]


def _colour(s):
    s[0].PhotometricInterpretation = "RGB"


def _huge(s):
    for d in s:
        d.Rows = d.Columns = 60000


def _no_position(s):
    del s[0].ImagePositionPatient


def _empty(s):
    s.clear()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_two_patients, "2 patients"),
        (_two_series, "2 series"),
        (_missing, "missing slices: 1"),
        (_duplicate, "position of another"),
        (_scout, "differ in orientation"),
        (_aside, "do not lie on one line"),
        (_truncated_pixels, "pixel data cannot be read"),
        (_colour, "colour"),
        (_huge, "announces the size"),
        (_no_position, "lacks ImagePositionPatient"),
        (_empty, "no images"),
    ],
)
def test_refusals_say_what_why_and_fix(array, spoil, message):
    series = ct_series(array, AXIAL)
    spoil(series)
    with pytest.raises(InputError, match=message) as caught:
        volume_from_series(series)
    assert caught.value.why
    assert caught.value.fix
    assert "P1" not in str(caught.value)


def test_nan_in_float_pixels_is_refused(array):
    series = ct_series(array, AXIAL)
    for d in series:
        d.RescaleSlope = 0.5
    series[0].RescaleIntercept = "1e60"
    with pytest.raises(InputError, match="NaN or infinite"), np.errstate(over="ignore"):
        volume_from_series(series)


def test_folder_takes_images_and_passes_over_the_rest(array, tmp_path):
    for k, d in enumerate(ct_series(array, AXIAL)):
        d.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    (tmp_path / "README.txt").write_text("no image")
    report = copy.deepcopy(ct_series(array, AXIAL)[0])
    report.Modality, report.SeriesInstanceUID = "SEG", "1.2.3.99"
    report.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(load_volume(tmp_path).array, array)


def test_file_errors(tmp_path, array):
    text = tmp_path / "a.dcm"
    text.write_text("not DICOM at all")
    with pytest.raises(InputError, match="is not DICOM"):
        load_volume(text)
    with pytest.raises(NotFoundError):
        load_volume(tmp_path / "none.dcm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DICOM file"):
        load_volume(tmp_path / "empty")
    whole = tmp_path / "b.dcm"
    ct_series(array, AXIAL)[0].save_as(whole, enforce_file_format=True)
    data = whole.read_bytes()
    for cut in (133, 200, 500, len(data) - 40):
        whole.write_bytes(data[:cut])
        with pytest.raises(InputError):
            load_volume(whole)


def test_an_element_of_four_gigabytes_costs_no_memory(tmp_path, array):
    path = tmp_path / "big.dcm"
    ct_series(array, AXIAL)[0].save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    at = data.rindex(b"\xe0\x7f\x10\x00OW\x00\x00") + 8
    path.write_bytes(data[:at] + b"\xfe\xff\xff\xff" + data[at + 4 : -20])
    with pytest.raises(InputError, match="pixel data"):
        load_volume(path)


def test_files_of_pydicom():
    ct, mr = load_volume(get_testdata_file("CT_small.dcm")), load_volume(get_testdata_file("MR_small.dcm"))
    assert ct.shape == (1, 128, 128)
    assert ct.spacing_mm == pytest.approx((5.0, 0.661468, 0.661468))
    assert mr.modality == "MR"
    packed = load_volume(get_testdata_file("MR_small_jp2klossless.dcm"))
    np.testing.assert_array_equal(packed.array, mr.array)
    with pytest.raises(InputError):
        load_volume(Path(get_testdata_file("MR_truncated.dcm")))
    for name in ("rtplan_truncated.dcm", "reportsi.dcm", "SC_rgb_small_odd.dcm"):
        with pytest.raises(InputError):
            load_volume(get_testdata_file(name))


def test_siemens_mosaics_are_refused_with_the_way_out(shared_data):
    for path in sorted((shared_data / "dicom/vendor_mr_siemens_dcm_qa").rglob("*")):
        if path.suffix == ".dcm" or path.name.startswith("MR."):
            with pytest.raises(InputError, match=r"mosaic.*dcm2niix"):
                load_volume(path)


@pytest.mark.parametrize("size", ["23x38x3", "24x38x3"])
def test_legacy_converted_ct_equals_its_series(shared_data, size):
    folder = shared_data / "dicom/seg_sr_dcmqi/segmentations" / size
    series, frames = load_volume(folder / "image"), load_volume(folder / "multiframe")
    np.testing.assert_array_equal(series.array, frames.array)
    assert np.abs(series.affine - frames.affine).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("RLE_Lossless-GRAYSCALE-16.rle", pydicom.uid.RLELossless),
        ("JPEG-LS_Lossless_Image_Compression-GRAYSCALE-16.jls", pydicom.uid.JPEGLSLossless),
        ("JPEG_2000_Image_Compression_(Lossless_Only)-GRAYSCALE-16.jp2", pydicom.uid.JPEG2000Lossless),
        ("JPEG_Lossless,_Non-Hierarchical_(Process_14)-GRAYSCALE-16.jpg", pydicom.uid.JPEGLossless),
    ],
)
def test_foreign_encoders_are_decoded(shared_data, name, syntax):
    folder = shared_data / "dicom/codec_frames_wsidicom/encoded"
    raw = (folder / "Explicit_VR_Little_Endian-GRAYSCALE-16.raw").read_bytes()
    expected = np.frombuffer(raw, "<u2").reshape(240, 240)
    image = ct_series(np.zeros((1, 240, 240), np.int32), AXIAL, intercepts=0)[0]
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = pydicom.encaps.encapsulate([(folder / name).read_bytes()])
    np.testing.assert_array_equal(load_volume(image).array[0], expected)

"""RT Dose and RT Plan against a planning system's own figures, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.data import get_testdata_file

import rt_case
from digital_twins import InputError, NotFoundError
from digital_twins.imaging import load_dose, load_plan, load_structures, load_volume


@pytest.fixture(scope="module")
def dose():
    return load_dose(rt_case.packed("rtdose"))


def test_dose_grid_in_gray(dose):
    assert dose.volume.shape == (98, 129, 194)
    assert dose.volume.spacing_mm == pytest.approx((3.0, 2.5, 2.5))
    assert dose.maximum_gy == pytest.approx(14.680764, abs=1e-5)
    assert (dose.summation, dose.dose_type, dose.is_one_session) == ("PLAN", "PHYSICAL", False)
    assert dose.plan_uids == (load_plan(rt_case.packed("rtplan")).uid,)


def test_grid_is_placed_frame_by_frame(dose):
    """The dose plane of frame 40 lies 40 offsets of 3 mm above the first, whatever the order inside."""
    plain = rt_case.dataset("rtdose")
    stored = plain.pixel_array[40] * 1.4e-5
    at = dose.volume.mm_to_index(np.add(plain.ImagePositionPatient, (0, 0, 120.0)))
    assert at == pytest.approx([round(at[0]), 0, 0], abs=1e-6)
    np.testing.assert_allclose(dose.volume.array[round(at[0])], stored, rtol=1e-6)


def test_histogram_means_are_gray_not_the_percent_that_the_file_states(dose):
    """DVHMeanDose there is percent of 14 Gy: the curve's own mean is used, and agrees with it."""
    stated = rt_case.dataset("rtdose").DVHSequence
    for ours, theirs in zip(dose.histograms, stated, strict=True):
        whole_body = ours.roi_numbers == (1,)  # most of it lies below the first bin's width
        if ours.volume_cm3[0] > 5.0 and not whole_body:
            assert ours.mean_gy == pytest.approx(float(theirs.DVHMeanDose) * 0.14, abs=6e-3)
            assert ours.maximum_gy == pytest.approx(float(theirs.DVHMaximumDose) * 0.14, abs=0.03)
    assert len(dose.histograms) == 9


def test_absolute_frame_offsets_mean_the_same_grid(dose):
    """PS3.3 C.8.8.3.2: the vector may hold the planes' z instead of their distance to the first."""
    other = rt_case.dataset("rtdose")
    z = float(other.ImagePositionPatient[2])
    other.GridFrameOffsetVector = [z + float(o) for o in other.GridFrameOffsetVector]
    again = load_dose(other)
    assert again.volume.same_grid(dose.volume)
    np.testing.assert_array_equal(again.volume.array, dose.volume.array)


def test_uneven_planes_are_interpolated_when_asked(dose):
    """Two planes left out, the tenth from either end: the others stay, and those are linear between."""
    thinned = rt_case.dataset("rtdose")
    kept = [n for n in range(98) if n not in {10, 87}]
    thinned.GridFrameOffsetVector = [float(thinned.GridFrameOffsetVector[n]) for n in kept]
    thinned.PixelData = thinned.pixel_array[kept].tobytes()
    thinned.NumberOfFrames = len(kept)
    even = load_dose(thinned, even_out=True).volume
    assert even.same_grid(dose.volume)
    expected = dose.volume.array.copy()
    for n in (10, 87):
        expected[n] = (expected[n - 1] + expected[n + 1]) / 2
    np.testing.assert_allclose(even.array, expected, atol=1e-5)


def _halved(number):
    beam = rt_case.dataset("rtdose")
    beam.DoseSummationType = "BEAM"
    beam.DoseGridScaling = 0.7e-5
    beam.SOPInstanceUID = f"1.2.3.{number}"
    return beam


def test_beams_add_up_to_the_plan(dose):
    total = load_dose([_halved(1), _halved(2)])
    assert total.summation == "PLAN"
    np.testing.assert_allclose(total.volume.array, dose.volume.array, rtol=1e-6)
    assert len(total.volume.source_uids) == 2


def test_beam_on_a_coarser_grid_is_interpolated():
    whole, part = _halved(1), _halved(2)
    keep = whole.pixel_array[::2]
    part.PixelData = keep.tobytes()
    part.NumberOfFrames = len(keep)
    part.GridFrameOffsetVector = list(part.GridFrameOffsetVector)[::2]
    total = load_dose([whole, part])
    expected = load_dose(whole).volume.array
    np.testing.assert_allclose(total.volume.array[-1], 2 * expected[-1], rtol=1e-5)
    assert total.volume.array.sum() == pytest.approx(2 * expected.sum(), rel=0.02)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"DoseUnits": "RELATIVE"}, "not in gray"),
        ({"DoseType": "ERROR"}, "type 'ERROR'"),
        ({"DoseSummationType": "RECORD"}, "DoseSummationType"),
        ({"DoseGridScaling": "0"}, "DoseGridScaling"),
        ({"GridFrameOffsetVector": [0.0, 3.0]}, "one number for each frame"),
        ({"GridFrameOffsetVector": [7.0 + 3.0 * i for i in range(98)]}, "two forms"),
        ({"GridFrameOffsetVector": [0.0, *(3.0 * i + 1.0 for i in range(1, 98))]}, "unequal spacing"),
        ({"Rows": 60000, "Columns": 60000}, "announces the size"),
        ({"Modality": "CT"}, "no RTDOSE"),
    ],
)
def test_what_is_refused(change, match):
    bad = rt_case.dataset("rtdose")
    for keyword, value in change.items():
        setattr(bad, keyword, value)
    with pytest.raises(InputError, match=match):
        load_dose(bad)


def test_doses_that_do_not_add_up_are_refused():
    with pytest.raises(InputError, match="do not add up"):
        load_dose([_halved(1), _halved(1)])
    with pytest.raises(InputError, match="do not add up"):
        load_dose([_halved(1), rt_case.dataset("rtdose")])
    stranger = _halved(3)
    stranger.FrameOfReferenceUID = "1.2.3.4"
    with pytest.raises(InputError, match="frames of reference"):
        load_dose([_halved(1), stranger])


@pytest.mark.parametrize("name", ["rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm", "rtdose_1frame.dcm"])
def test_relative_doses_of_pydicom_are_refused_by_their_units_alone(name):
    path = get_testdata_file(name)
    with pytest.raises(InputError, match="'RELATIVE' units"):
        load_dose(path)
    import pydicom

    dataset = pydicom.dcmread(path)
    dataset.DoseUnits = "GY"
    if dataset.get("NumberOfFrames", 1) > 1:
        loaded = load_dose(dataset)
        assert loaded.volume.shape == (15, 10, 10)
        assert loaded.volume.spacing_mm == pytest.approx((5.0, 10.0, 10.0))
        stored = dataset.pixel_array.astype(float) * float(dataset.DoseGridScaling)
        assert loaded.volume.array.sum() == pytest.approx(stored.sum(), rel=1e-6)


def test_damaged_bytes_leave_as_input_errors():
    good = rt_case.packed("rtplan")
    for data in (b"", b"\0" * 400, good[:900], good[:200] + b"\xff" * 4000):
        for load in (load_dose, load_plan, load_structures):
            with pytest.raises(InputError):
                load(data)
    with pytest.raises(NotFoundError):
        load_dose("nowhere/rtdose.dcm")


def test_a_dose_is_no_image_of_the_patient():
    with pytest.raises(InputError, match="no image"):
        load_volume([rt_case.dataset("rtdose")])


def test_plan_of_the_breast_case():
    plan = load_plan(rt_case.packed("rtplan"))
    assert (plan.label, plan.fractions_planned, plan.prescribed_gy) == ("B1", 7, 14.0)
    (group,) = plan.fraction_groups
    assert group.beam_dose_gy == pytest.approx(2.0)
    assert [beam.name for beam in group.beams] == ["3 RAO", "4 AP", "5 LAO", "6 LPO"]
    assert plan.approval == "UNAPPROVED"


def test_plan_of_pydicom_and_plan_without_fractions():
    plan = load_plan(get_testdata_file("rtplan.dcm"))
    assert (plan.fractions_planned, plan.prescribed_gy) == (30, pytest.approx(30.826203))
    assert plan.fraction_groups[0].beam_dose_gy == pytest.approx(1.0275401)
    bad = rt_case.dataset("rtplan")
    bad.FractionGroupSequence[0].NumberOfFractionsPlanned = None
    with pytest.raises(InputError, match="plans 0 fractions"):
        load_plan(bad)

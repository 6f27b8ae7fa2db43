"""SR, SEG and Encapsulated PDF of a report, read back with pydicom and highdicom."""

from __future__ import annotations

import io
import json

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from digital_twins import ConflictError, InputError
from digital_twins.dicom import DocumentIdentity, Software, encapsulate_pdf
from digital_twins.imaging import SegDetails, masks_from_seg, seg_from_masks
from digital_twins.reports import documents, predicted_days, render_seg, render_sr
from report_samples import CREATED, sample_report, sample_series


def _again(dataset):
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return dcmread(io.BytesIO(buffer.getvalue()))


def _names(group) -> dict[str, float]:
    return {m.name.value: m.value for m in group.get_measurements()}


@pytest.fixture(scope="module")
def lesion_seg():
    report = sample_report()
    return seg_from_masks(
        [report.twin.lesion],
        sample_series(),
        series_description="Lesion",
        series_number=5,
        details=SegDetails(sop_uid="1.2.3.50", series_uid="1.2.3.51", created=CREATED),
    )


@pytest.fixture(scope="module")
def everything(lesion_seg):
    return documents(sample_report(), sample_series(), segmentation=lesion_seg)


def test_sr_holds_measured_volume_with_its_segment(everything, lesion_seg):
    sr = hd.sr.Comprehensive3DSR.from_dataset(_again(everything.sr))
    groups = sr.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 1
    assert _names(groups[0]) == {"118565006": 12.5, "103339001": 31.4}
    assert groups[0].referenced_segment.referenced_sop_instance_uid == lesion_seg.SOPInstanceUID
    assert groups[0].tracking_uid == sample_report().tracking_uid


def test_sr_draws_the_measured_lesion_on_its_largest_image(everything):
    sr = hd.sr.Comprehensive3DSR.from_dataset(_again(everything.sr))
    (group,) = sr.content.get_planar_roi_measurement_groups()
    assert group.tracking_uid == sample_report().tracking_uid
    outline = group.roi.value
    x, y = outline.T
    pixels = 0.5 * abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1]))
    assert pixels == sample_report().twin.lesion.array.sum(axis=(1, 2)).max()
    assert set(_names(group)) == {"42798000"}
    inferred = [
        item
        for each in sr.content.get_image_measurement_groups()
        for number in each.get_measurements()
        for item in number.referenced_coordinates
    ]
    images = {item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in inferred}
    assert len(inferred) == len(images) == 3


def test_sr_holds_estimates_and_predictions_apart_with_intervals(everything):
    report = sample_report()
    sr = hd.sr.Comprehensive3DSR.from_dataset(_again(everything.sr))
    groups = sr.content.get_image_measurement_groups()
    assert [g.tracking_identifier.split(":")[0] for g in groups] == [
        "MODEL ESTIMATE",
        "PREDICTED day 84, NOT ACQUIRED",
        "PREDICTED day 84, NOT ACQUIRED",
    ]
    growth = _names(groups[0])
    assert (growth["growth-rate-lo"], growth["growth-rate"], growth["growth-rate-up"]) == (
        0.0211,
        0.0312,
        0.0433,
    )
    assert (growth["model-volume-lo"], growth["model-volume"], growth["model-volume-up"]) == (
        12.6,
        13.8,
        15.1,
    )
    for group, option in zip(groups[1:], report.options, strict=True):
        numbers = _names(group)
        assert numbers["pred-volume"] == pytest.approx(option.volume.value, rel=1e-8)
        assert numbers["pred-volume-lo"] == pytest.approx(option.volume.low, rel=1e-8)
        assert numbers["pred-volume-up"] == pytest.approx(option.volume.high, rel=1e-8)
        assert numbers["pred-day"] == 84.0
        assert not {"118565006", "103339001"} & set(numbers)
        values = {e.value.value for e in group.get_qualitative_evaluations()}
        assert "not-acquired" in values


def test_sr_is_preliminary_unverified_and_names_its_algorithm(everything):
    sr = everything.sr
    assert (sr.VerificationFlag, sr.PreliminaryFlag, sr.CompletionFlag) == (
        "UNVERIFIED",
        "PRELIMINARY",
        "COMPLETE",
    )
    assert sr.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99DTWIN"
    text = json.dumps(sr.to_json_dict())
    assert "digital-twins" in text
    assert "model=reaction_diffusion" in text
    assert (sr.StudyInstanceUID, sr.PatientID) == ("1.2.3.7", "P1")


def test_sr_lists_every_source_image(everything):
    study = everything.sr.CurrentRequestedProcedureEvidenceSequence[0]
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert {str(d.SOPInstanceUID) for d in sample_series()} < listed


def test_second_run_gives_the_same_uids_and_content(everything, lesion_seg):
    again = documents(sample_report(), sample_series(), segmentation=lesion_seg)
    assert again.identifiers == everything.identifiers
    assert again.sr.to_json_dict() == everything.sr.to_json_dict()
    assert again.encapsulated_pdf.to_json_dict() == everything.encapsulated_pdf.to_json_dict()


def test_no_two_documents_share_a_series(everything):
    series = [d.SeriesInstanceUID for d in everything.dicom]
    assert len(set(series)) == len(series)


def test_predicted_seg_is_a_series_of_its_own_named_so(everything):
    report = sample_report()
    assert predicted_days(report) == (42.0, 84.0)
    for seg, day in zip(everything.segs, predicted_days(report), strict=True):
        assert seg.SeriesDescription == f"PREDICTED day {day:g}, NOT ACQUIRED"
        assert seg.ContentLabel == "PREDICTED"
        assert seg.SeriesInstanceUID not in {d.SeriesInstanceUID for d in sample_series()}
        for segment in seg.SegmentSequence:
            assert segment.SegmentAlgorithmType == "AUTOMATIC"
            assert segment.SegmentLabel.startswith("PREDICTED: ")
            assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "digital-twins"
    assert [len(seg.SegmentSequence) for seg in everything.segs] == [2, 1]


def test_predicted_seg_reads_back_as_the_mask(everything):
    (mask,) = masks_from_seg(_again(everything.segs[1]))
    expected = sample_report().options[0].predicted[1][1]
    assert mask.volume_cm3 == pytest.approx(expected.volume_cm3)
    np.testing.assert_allclose(mask.centroid_mm, expected.centroid_mm, atol=1e-6)


def test_seg_of_a_day_without_prediction_is_refused():
    with pytest.raises(InputError):
        render_seg(sample_report(), sample_series(), day=3.0)


def test_encapsulated_pdf_gives_the_file_back(everything):
    wrapped = _again(everything.encapsulated_pdf)
    assert wrapped.EncapsulatedDocument[: wrapped.EncapsulatedDocumentLength] == everything.pdf
    assert len(wrapped.EncapsulatedDocument) % 2 == 0
    assert wrapped.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert wrapped.BurnedInAnnotation == "YES"
    assert (wrapped.PatientID, wrapped.StudyInstanceUID) == ("P1", "1.2.3.7")
    assert wrapped.ConceptNameCodeSequence[0].CodeValue == "dt-analysis"
    references = {str(i.ReferencedSOPInstanceUID) for i in wrapped.SourceInstanceSequence}
    assert str(everything.sr.SOPInstanceUID) in references
    assert {str(d.SOPInstanceUID) for d in sample_series()} < references


@pytest.mark.parametrize("length", [10, 11])
def test_odd_and_even_documents(length):
    pdf = b"%PDF-1.7".ljust(length, b"x")
    identity = DocumentIdentity("1.2.3.60", "1.2.3.61", CREATED, 1, "x")
    wrapped = encapsulate_pdf(pdf, sample_series(), title="t", identity=identity, software=Software("s", "1"))
    assert len(wrapped.EncapsulatedDocument) == 2 * ((length + 1) // 2)
    assert wrapped.EncapsulatedDocumentLength == length


def test_what_is_no_pdf_is_refused():
    identity = DocumentIdentity("1.2.3.60", "1.2.3.61", CREATED, 1, "x")
    with pytest.raises(InputError):
        encapsulate_pdf(b"<html>", sample_series(), title="t", identity=identity, software=Software("s", "1"))


def test_images_of_two_patients_are_refused():
    series = sample_series()
    series[0].PatientID = "P2"
    with pytest.raises(ConflictError):
        render_sr(sample_report(), series)
    with pytest.raises(InputError):
        render_sr(sample_report(), [])


@pytest.mark.parametrize("charset", ["", "ISO_IR 100", "ISO 2022 IR 87"])
def test_any_character_set_of_the_source_becomes_utf8(charset):
    series = sample_series()
    for dataset in series:
        dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"] if charset == "ISO 2022 IR 87" else charset
        dataset.PatientName = "Yamada^Tarou=山田^太郎" if "87" in charset else "Muller^Anna"
    reread = [_again(d) for d in series]
    sr = _again(render_sr(sample_report(), reread))
    assert sr.SpecificCharacterSet == "ISO_IR 192"
    assert str(sr.PatientName) == str(series[0].PatientName)

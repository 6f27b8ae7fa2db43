"""De-identification of DICOM: nothing planted survives, and what belongs together still does."""

from __future__ import annotations

import io
import json
import struct
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom._private_dict import private_dictionaries
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

import planted_phi
from digital_twins import InputError, StorageError
from digital_twins.crypto import DecryptionError, LocalKeyFile
from digital_twins.governance import (
    Dates,
    DeidentificationKey,
    DicomDeidentifier,
    PixelsMayIdentifyError,
    Policy,
    deidentify_folder,
    k_anonymity,
    read_reidentification_table,
    write_reidentification_table,
)
from digital_twins.governance.deidentification._codes import _luhn, _verhoeff
from digital_twins.governance.deidentification._concepts import concept_meanings
from digital_twins.governance.deidentification._private import safe_private
from digital_twins.governance.deidentification._table import profile_table
from digital_twins.governance.deidentification._words import clean_text, is_plain_term

KEY = DeidentificationKey(bytes(range(32)))
KINDS = planted_phi.kinds()


def passed(content: bytes, policy: Policy | None = None) -> bytes:
    dataset = dcmread(io.BytesIO(content))
    DicomDeidentifier(KEY, policy, pixels_checked=True).deidentify(dataset)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_planted_survives(kind, full):
    assert len(KINDS) >= 20
    for seed in range(20 if full else 2):
        planted = planted_phi.plant(kind, KINDS[kind], seed=seed)
        assert len(planted.values) >= 200
        output = passed(planted.content)
        shown = planted_phi.visible(output)
        assert [value for value in planted.values if value in shown] == []
        again = dcmread(io.BytesIO(output))
        assert again.PatientIdentityRemoved == "YES"
        assert "2024e" in again.DeidentificationMethod


@pytest.mark.parametrize(
    ("terms", "kept"),
    [
        ("ISO_IR 192", "ISO_IR 192"),
        (["", "ISO 2022 IR 149"], ["", "ISO 2022 IR 149"]),
        (["ISO 2022 IR 6", "ISO 2022 IR 87", "ISO 2022 IR 159"],) * 2,
        ("GB18030", "GB18030"),
        ("QBCDF1234", None),
        (["ISO 2022 IR 6", "QBCDF1234"], None),
    ],
)
@pytest.mark.filterwarnings("ignore:Unknown encoding:UserWarning")
def test_character_sets_stay_as_they_are_and_nothing_else_passes_for_one(terms, kept):
    """In the object and in an item of a sequence; text in them is still readable."""
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.SpecificCharacterSet = terms
    item = Dataset()
    item.SpecificCharacterSet = terms
    dataset.RequestAttributesSequence = [item]
    dataset.ReferencedStudySequence = [item]
    DicomDeidentifier(KEY).deidentify(dataset)
    assert dataset.get("SpecificCharacterSet") == kept
    assert [each.get("SpecificCharacterSet") for each in dataset.ReferencedStudySequence] == [kept]


SAFE = Policy(keep=frozenset({"safe_private"}))


def test_listed_private_attributes_stay_with_their_creators_and_no_other():
    """A real GE scan, and blocks of three makers with a value that is not what the list says it is."""
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    speed = dataset[0x00191023].value
    assert len([each for each in dataset if each.tag.is_private]) > 100
    philips = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    philips.add_new(0x00, "DS", "0.000471")
    philips.add_new(0x09, "LO", "MRN4711 DOE")
    siemens = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    siemens.add_new(0x0C, "IS", "1000")
    siemens.add_new(0x0D, "CS", "QDOEJANE")
    siemens.add_new(0x27, "UN", b"DOE^JANE")
    other = dataset.private_block(0x0019, "SOMEBODY ELSE", create=True)
    other.add_new(0x0C, "IS", "1000")
    item = Dataset()
    item.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", 700.0)
    name = struct.unpack("<2f", b"DOE^JANE")
    item.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0D, "FL", list(name))
    dataset.ReferencedStudySequence = [item]
    DicomDeidentifier(KEY, SAFE).deidentify(dataset)
    assert dataset[0x00191023].value == speed
    assert dataset.private_block(0x7053, "Philips PET Private Group")[0x00].value == "0.000471"
    assert 0x09 not in dataset.private_block(0x7053, "Philips PET Private Group")
    assert dataset.private_block(0x0019, "SIEMENS MR HEADER")[0x0C].value == 1000
    assert dataset.private_block(0x0019, "SIEMENS MR HEADER").get_tag(0x27) not in dataset
    assert (
        dataset.ReferencedStudySequence[0].private_block(0x2001, "Philips Imaging DD 001")[0x03].value == 700
    )
    private = [each for each in dataset if each.tag.is_private]
    creators = {each.value for each in private if each.tag.is_private_creator}
    assert creators <= {creator for _, _, creator in safe_private()}
    text = str(dataset)
    assert not any(word in text for word in ("SOMEBODY", "DOE", "4711"))
    assert "113111" in [each.CodeValue for each in dataset.DeidentificationMethodCodeSequence]


def test_the_list_of_private_attributes_agrees_with_pydicoms_dictionary():
    """Where pydicom knows the attribute at all; HOLOGIC's (7E01,xx02) is the one on which they differ."""
    known = [
        (vr, private_dictionaries[creator][name][0], name)
        for (group, element, creator), vr in safe_private().items()
        if (name := f"{group:04X}xx{element:02X}") in private_dictionaries.get(creator, {})
    ]
    assert len(safe_private()) == 101
    assert len(known) >= 30
    assert [name for ours, theirs, name in known if ours != theirs] == ["7E01xx02"]


def test_nothing_planted_survives_where_safe_private_attributes_stay(full):
    """Planted also in the places that the list keeps."""
    for seed, kind in enumerate(KINDS if full else ("CT", "MR implicit", "SR")):
        planted = planted_phi.plant(kind, KINDS[kind], seed=seed, listed=safe_private())
        shown = planted_phi.visible(passed(planted.content, SAFE))
        assert [value for value in planted.values if value in shown] == []


def test_references_and_intervals_stay_whole():
    originals = planted_phi.slices("MRN4711", ["20230105", "20230131", "20240229"])
    days = [date.fromisoformat(each.StudyDate) for each in originals]
    cleaner = DicomDeidentifier(KEY)
    identities = [cleaner.deidentify(each) for each in originals]
    assert len({each.pseudonym for each in identities}) == 1
    moved = [date.fromisoformat(each.StudyDate) for each in originals]
    assert {old - new for old, new in zip(days, moved, strict=True)} == {days[0] - moved[0]}
    assert (days[0] - moved[0]).days == -KEY.shift_days("MRN4711") >= 30
    for before, after in pairwise(originals):
        assert after.ReferencedImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert after.ReferencedImageSequence[0].ReferencedSOPClassUID == before.SOPClassUID
    assert [each.AcquisitionDateTime[:8] for each in originals] == [each.StudyDate for each in originals]
    assert originals[2].AcquisitionDateTime[8:] == "101530.25+0100"
    assert [int(each.pixel_array[0, 0]) for each in originals] == [0, 1, 2]
    assert all(each.LongitudinalTemporalInformationModified == "MODIFIED" for each in originals)


def test_pixels_and_geometry_are_as_they_were():
    before = dcmread(str(get_testdata_file("CT_small.dcm")))
    after = dcmread(io.BytesIO(passed(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())))
    np.testing.assert_array_equal(after.pixel_array, before.pixel_array)
    for keyword in (
        "Modality",
        "ImagePositionPatient",
        "PixelSpacing",
        "RescaleSlope",
        "KVP",
        "ImageType",
        "SOPClassUID",
    ):
        assert after[keyword].value == before[keyword].value


def test_options_keep_what_they_name():
    content = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    before = dcmread(io.BytesIO(content))
    kept = dcmread(
        io.BytesIO(
            passed(content, Policy(Dates.KEEP, frozenset({"uids", "institution", "patient_characteristics"})))
        )
    )
    assert kept.SOPInstanceUID == before.SOPInstanceUID
    assert kept.StudyDate == before.StudyDate
    assert kept.InstitutionName == before.InstitutionName
    assert kept.PatientAge == before.PatientAge
    codes = {each.CodeValue for each in kept.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113104", "113106", "113108", "113110", "113112"}
    removed = dcmread(io.BytesIO(passed(content, Policy(Dates.REMOVE))))
    assert removed.get("StudyDate") in {None, "", "19000101"}
    assert before.StudyDate.encode() not in passed(content, Policy(Dates.REMOVE))
    with pytest.raises(InputError, match="device, institution"):
        Policy(keep=frozenset({"names"}))


def test_what_may_show_text_does_not_pass_unseen():
    cleaner = DicomDeidentifier(KEY)
    for name in ("examples_palette.dcm", "SC_rgb_rle.dcm"):
        dataset = dcmread(str(get_testdata_file(name)))
        before = dataset.to_json()
        with pytest.raises(PixelsMayIdentifyError, match="burned-in text"):
            cleaner.deidentify(dataset)
        assert dataset.to_json() == before
    ct = dcmread(str(get_testdata_file("CT_small.dcm")))
    ct.BurnedInAnnotation = "YES"
    with pytest.raises(PixelsMayIdentifyError, match="BurnedInAnnotation"):
        cleaner.deidentify(ct)


@pytest.mark.parametrize(("part", "face"), [("HEAD", True), ("", True), ("CHEST", False)])
def test_a_face_is_said_to_be_there(part, face):
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.BodyPartExamined = part
    assert DicomDeidentifier(KEY).deidentify(dataset).face is face
    assert (dataset.get("RecognizableVisualFeatures") == "YES") is face


def test_ages_over_89_and_local_codes():
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.PatientAge = "093Y"
    item = planted_phi.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "MEIER1", "99LOCAL", "Meier protocol"
    standard = planted_phi.Dataset()
    standard.CodeValue, standard.CodingSchemeDesignator, standard.CodeMeaning = (
        "10200004",
        "SCT",
        "Leber Meier",
    )
    dataset.AnatomicRegionSequence = [item, standard]
    DicomDeidentifier(KEY, Policy(keep=frozenset({"patient_characteristics"}))).deidentify(dataset)
    local, known = dataset.AnatomicRegionSequence
    assert (local.CodingSchemeDesignator, local.CodeMeaning) == ("99DEID", "protocol")
    assert local.CodeValue == KEY.code("99LOCAL", "MEIER1")
    assert (known.CodeValue, known.CodeMeaning) == ("10200004", "Liver")
    assert dataset.PatientAge == "093Y"  # the option keeps it, as the standard says


def test_check_digits_agree_with_every_code_of_the_dictionaries():
    loinc = [
        code for scheme, code in concept_meanings() if scheme == "LN" and "-" in code and code[0].isdigit()
    ]
    assert (
        sum(_luhn(code.split("-")[0]) == int(code.split("-")[1]) for code in loinc) >= 0.99 * len(loinc) > 700
    )
    snomed = [code for scheme, code in concept_meanings() if scheme == "SCT"]
    assert sum(_verhoeff(code) for code in snomed) >= len(snomed) - 1 > 8_000


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("CT Thorax with contrast", "CT Thorax with contrast"),
        ("CT Thorax of Mr. Meier, 12.03.1961", "CT Thorax of Mr"),
        ("at 555-123-4567 or a.b@c.org", "at or"),
        ("93-year-old", "old"),
        ("Meier", "REMOVED"),
        ("slice 2.5mm", "slice 2.5mm"),
        ("山田", "REMOVED"),
    ],
)
def test_words_that_stay(text, left):
    assert clean_text(text, {"meier"}) == left


def test_terms_of_the_standard_are_terms():
    for term in (
        "ORIGINAL",
        "HFS",
        "MONOCHROME2",
        "CLOSED_PLANAR",
        "HAS OBS CONTEXT",
        "YBR_FULL_422",
        "RTSTRUCT",
        "M",
    ):
        assert is_plain_term(term)
    for term in ("MEIER", "QZX4711", "JOHN SMITH"):
        assert not is_plain_term(term)


def test_our_table_is_the_standard_s(shared_data):
    rows = json.loads(
        (shared_data / "governance/dicom-ps3.15/confidentiality_profile_attributes.json").read_text()
    )
    plain = {int(each["id"], 16): each for each in rows if "x" not in each["id"] and "-" not in each["id"]}
    ours = profile_table()
    assert ours.edition == "2024e"
    assert {tag: rule.basic for tag, rule in ours.rules.items()} == {
        tag: each["basicProfile"] for tag, each in plain.items()
    }
    counted = Counter(option for rule in ours.rules.values() for option in rule.options)
    for name, key in (
        ("modified_dates", "rtnLongModifDatesOpt"),
        ("uids", "rtnUIDsOpt"),
        ("descriptors", "cleanDescOpt"),
    ):
        assert counted[name] == sum(key in each for each in plain.values())


def test_a_folder_goes_through(tmp_path: Path):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    for number, dataset in enumerate(planted_phi.slices("MRN1", ["20230105", "20230131"])):
        dataset.save_as(source / "deep" / f"Meier{number}.dcm")
    (source / "us.dcm").write_bytes(Path(str(get_testdata_file("examples_palette.dcm"))).read_bytes())
    (source / "notes.txt").write_text("Eva Meier")
    (source / "cut.dcm").write_bytes(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()[:3000])
    seen: list[tuple[int, int]] = []
    cleaner = DicomDeidentifier(KEY)
    report = deidentify_folder(source, target, deidentifier=cleaner, progress=lambda *done: seen.append(done))
    assert seen[-1] == (5, 5)
    assert len(report.identities) == 2
    assert set(report.refused) == {"us.dcm", "notes.txt", "cut.dcm"}
    assert report.to_dict()["patients"] == 1
    written = sorted(path for path in target.rglob("*") if path.is_file())
    assert [path.suffix for path in written] == [".dcm", ".dcm"]
    assert {path.parts[-3] for path in written} == {KEY.pseudonym("MRN1")}
    before = [path.read_bytes() for path in written]
    deidentify_folder(source, target, deidentifier=cleaner, workers=2)
    assert [path.read_bytes() for path in sorted(target.rglob("*.dcm"))] == before
    with pytest.raises(InputError, match="lies in the source"):
        deidentify_folder(source, source / "out", deidentifier=cleaner)
    provider = LocalKeyFile(tmp_path / "table-key.json")
    write_reidentification_table(tmp_path / "table.enc", report.identities, provider=provider)
    assert b"MRN1" not in (tmp_path / "table.enc").read_bytes()
    assert read_reidentification_table(tmp_path / "table.enc", provider=provider) == report.identities
    with pytest.raises(DecryptionError):
        read_reidentification_table(tmp_path / "table.enc", provider=LocalKeyFile(tmp_path / "other.json"))


def test_a_key_is_made_once_and_kept_private(tmp_path: Path):
    first = DeidentificationKey.load(tmp_path / "deid.key")
    assert DeidentificationKey.load(tmp_path / "deid.key") == first
    assert first.secret.hex() not in repr(first)
    assert first.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    assert first.uid("1.2.3") != KEY.uid("1.2.3")
    (tmp_path / "deid.key").chmod(0o644)
    with pytest.raises(StorageError, match="chmod 600"):
        DeidentificationKey.load(tmp_path / "deid.key")


def test_k_anonymity_counts_groups():
    people = (
        [{"sex": "F", "zip": "101"}] * 5 + [{"sex": "M", "zip": "101"}] * 2 + [{"sex": "M", "zip": "102"}]
    )
    result = k_anonymity(people, ["sex", "zip"])
    assert (result.k, result.groups, result.unique_records, result.records_below_5) == (1, 3, 1, 3)
    assert k_anonymity(people, ["sex"]).k == 3
    with pytest.raises(InputError, match="quasi-identifier"):
        k_anonymity(people, [])


@pytest.mark.parametrize("charset", ["ISO_IR 144", "ISO_IR 192"])
def test_a_meaning_that_is_put_in_can_be_written_in_every_character_set(charset):
    unit = Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "seen by Dr. Gerhardt"
    dataset = dcmread(io.BytesIO(planted_phi.plant("CT", KINDS["CT"], seed=0).content))
    dataset.SpecificCharacterSet = charset
    dataset.MeasurementUnitsCodeSequence = [unit]
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    again = dcmread(io.BytesIO(passed(out.getvalue())))
    meaning = again.MeasurementUnitsCodeSequence[0].CodeMeaning
    assert meaning.isascii()
    assert "Gerhardt" not in meaning

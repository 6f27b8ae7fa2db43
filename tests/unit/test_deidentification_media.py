"""De-identification of a medium: the old DICOMDIR is gone, a new one finds every new object."""

from __future__ import annotations

import gc
import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.fileset import FileSet

import planted_phi
from digital_twins.cli import main
from digital_twins.governance import Dates, DeidentificationKey, DicomDeidentifier, Policy, deidentify_folder

KEY = DeidentificationKey(bytes(range(32)))
MEDIUM = Path(str(get_testdata_file("DICOMDIR"))).parent


def medium(folder: Path) -> Path:
    """A CD: the DICOMDIR of pydicom's test data with its patients' files, and objects of other kinds."""
    folder.mkdir()
    for name in ("DICOMDIR", "77654033", "98892001", "98892003"):
        source = MEDIUM / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    for name in ("rtplan.dcm", "rtdose.dcm", "reportsi.dcm", "waveform_ecg.dcm"):
        shutil.copy(str(get_testdata_file(name)), folder / name)
    planted_phi.rt_structure_set().save_as(folder / "rtstruct.dcm", enforce_file_format=True)
    return folder


def listed(folder: Path) -> dict[str, Path]:
    """Return SOP instance UID and file of what pydicom's own reader finds through the DICOMDIR."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # pydicom leaves its temporary folder to the collector
        files = FileSet(folder / "DICOMDIR")
        found = {str(each.SOPInstanceUID): Path(each.path) for each in files}
        del files
        gc.collect()
    return found


@pytest.mark.parametrize("dates", [Dates.SHIFT, Dates.REMOVE])
def test_a_new_directory_lists_the_new_objects_and_nothing_of_the_old_one(
    tmp_path: Path, dates: Dates
) -> None:
    source, target = medium(tmp_path / "in"), tmp_path / "out"
    old = dcmread(source / "DICOMDIR")
    cleaner = DicomDeidentifier(KEY, Policy(dates))
    report = deidentify_folder(source, target, deidentifier=cleaner)
    assert report.directories == ["DICOMDIR"]
    assert "DICOMDIR" not in report.refused
    assert report.listed == len(report.identities) > 30

    found = listed(target)
    assert set(found) == {each.new_sop_instance_uid for each in report.identities}
    for uid, path in found.items():
        assert dcmread(path, stop_before_pixels=True).SOPInstanceUID == uid
        assert all(re.fullmatch("[A-Z0-9_]{1,8}", part) for part in path.relative_to(target).parts)
    files = {path for path in target.rglob("*") if path.is_file()}
    assert files == {*found.values(), target / "DICOMDIR"}
    new = dcmread(target / "DICOMDIR")
    kinds = {each.DirectoryRecordType for each in new.DirectoryRecordSequence}
    assert kinds >= {"IMAGE", "RT PLAN", "RT STRUCTURE SET", "RT DOSE", "SR DOCUMENT", "WAVEFORM"}
    for record in new.DirectoryRecordSequence:
        if record.DirectoryRecordType == "STUDY":
            assert record.StudyDate
            assert record.StudyTime
            assert record.StudyID

    content = (target / "DICOMDIR").read_bytes()
    values = {
        str(element.value)
        for record in old.DirectoryRecordSequence
        for element in record
        if element.keyword.endswith("UID") or element.keyword in {"PatientID", "PatientName", "StudyDate"}
    }
    identifying = {value for value in values if len(value) > 4 and not value.startswith("1.2.840.10008.")}
    assert len(identifying) > 20  # the search has something to find
    assert [value for value in identifying if value.encode() in content] == []
    assert new.file_meta.MediaStorageSOPInstanceUID == KEY.uid(old.file_meta.MediaStorageSOPInstanceUID)

    before = {path: path.read_bytes() for path in files}
    deidentify_folder(source, target, deidentifier=cleaner)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_the_command_says_what_became_of_the_directory_and_that_faces_are_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number, dataset in enumerate(planted_phi.slices("MRN1", ["20230105", "20230131"])):
        dataset.BodyPartExamined = "HEAD"
        dataset.save_as(source / f"{number}.dcm")
    shutil.copy(MEDIUM / "DICOMDIR", source / "DICOMDIR")
    words = ["deid", str(source), str(tmp_path / "out"), "--key", str(tmp_path / "deid.key")]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["dicomdir"] == {"left_out": ["DICOMDIR"], "objects_in_new_one": 2}
    assert said["faces_can_be_rendered_from"] == 2
    assert said["refused"] == 0
    assert main(words) == 0
    lines = capsys.readouterr().out
    assert "a new DICOMDIR over 2 objects took the place of the old one" in lines
    assert "faces can be rendered from 2 of them: nothing was defaced" in lines
    assert all(
        dcmread(path).RecognizableVisualFeatures == "YES" for path in listed(tmp_path / "out").values()
    )

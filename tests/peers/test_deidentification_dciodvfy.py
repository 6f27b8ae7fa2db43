"""David Clunie's validator finds no more errors in a de-identified object than in the original."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

import planted_phi
from digital_twins.governance import DeidentificationKey, DicomDeidentifier, deidentify_folder
from digital_twins.samples import NAMES, write_sample
from foreign import missing_peer

pytestmark = pytest.mark.peers
BESIDE_PYTHON = str(Path(sys.executable).parent)
KINDS = planted_phi.kinds()
_UID = re.compile(r"(?<=UID )\S+")
CLEANER = DicomDeidentifier(DeidentificationKey(bytes(range(32))), pixels_checked=True)


def errors(path: Path) -> list[str]:
    """PyPI's build comes first: Debian's knows no label map."""
    tool = shutil.which("dciodvfy", path=f"{BESIDE_PYTHON}:{os.environ.get('PATH', '')}") or missing_peer(
        "dciodvfy"
    )
    done = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [_UID.sub("UID", line) for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("kind", KINDS)
def test_no_new_error_in_any_kind_of_object(kind, tmp_path):
    dataset = KINDS[kind]()
    dataset.save_as(tmp_path / "before.dcm")
    CLEANER.deidentify(dataset)
    dataset.save_as(tmp_path / "after.dcm", enforce_file_format=True)
    before, after = errors(tmp_path / "before.dcm"), errors(tmp_path / "after.dcm")
    assert sorted(set(after) - set(before)) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_error_in_a_sample_patient(name, tmp_path):
    write_sample(name, tmp_path)
    for path in sorted((tmp_path / "dicom").glob("*.dcm")):
        dataset = dcmread(path)
        CLEANER.deidentify(dataset)
        dataset.save_as(path, enforce_file_format=True)
        assert errors(path) == []


def test_no_error_in_a_new_directory_over_every_kind_of_object(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(str(get_testdata_file("DICOMDIR")), source / "DICOMDIR")
    for number, make in enumerate(KINDS.values()):
        make().save_as(source / f"{number}.dcm")
    report = deidentify_folder(source, target, deidentifier=CLEANER)
    assert report.listed == len({each.new_sop_instance_uid for each in report.identities}) >= 15
    assert errors(target / "DICOMDIR") == []

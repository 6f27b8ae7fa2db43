"""kill -9 of a program while its connector downloads: files with a final name are whole, and it can go on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_support import ct_slice
from digital_twins.clinical_integration import ClinicalConnector
from digital_twins.testing import MockPACS

NOWHERE = "http://127.0.0.1:9/fhir"
STUDY, SLICES = "1.2.3.1", 12
READER = """
import sys
from digital_twins.clinical_integration import ClinicalConnector
connector = ClinicalConnector(sys.argv[1], "http://127.0.0.1:9/fhir")
def tell(progress):
    print(progress.instances, flush=True)
while True:
    connector.download_study(sys.argv[2], folder=sys.argv[3], progress=tell)
"""


@pytest.mark.timeout(3600)
def test_a_killed_download_leaves_no_half_file(tmp_path: Path, full: bool) -> None:
    chance, folder = random.Random(7), tmp_path / "files"
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    slices = {n: ct_slice(n, size=256) for n in range(1, SLICES + 1)}
    with MockPACS() as pacs:
        pacs.add_study(list(slices.values()))
        doors = [pacs.dicom_web, f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.dicom_port}"]
        for number in range(50 if full else 4):
            command = [sys.executable, "-c", READER, doors[number % 2], STUDY, str(folder)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
                assert process.stdout is not None
                for _ in range(chance.randint(1, 3 * SLICES)):
                    assert process.stdout.readline()
                os.kill(process.pid, signal.SIGKILL)
            found = [dcmread(path) for path in folder.glob("*.dcm")]
            assert found
            assert all(ds.PixelData == slices[int(ds.InstanceNumber)].PixelData for ds in found)
        for door in doors:
            study = ClinicalConnector(door, NOWHERE).download_study(STUDY, folder=folder)
            assert sorted(ds.InstanceNumber for ds in study) == list(slices)
    assert len(list(folder.glob("*.dcm"))) == SLICES

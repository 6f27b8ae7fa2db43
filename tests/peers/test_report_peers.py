"""Foreign programs read our documents: dciodvfy, dsrdump, pdftotext, pdftoppm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from digital_twins.imaging import load_mask
from digital_twins.reports import RESEARCH_USE, documents
from report_samples import sample_report, sample_series

_POPPLER = "apt-get install poppler-utils"
pytestmark = pytest.mark.peers


@pytest.fixture
def program():
    def find(name: str, install: str) -> str:
        beside_python = Path(sys.executable).parent  # where pip puts the programs of packages
        found = shutil.which(name, path=f"{beside_python}:{os.environ.get('PATH', '')}")
        if found is None:
            message = f"needs {name}: {install} (make peers)"
            pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
        return found

    return find


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    made = documents(sample_report(), sample_series())
    names = ("seg42", "seg84", "sr", "pdf")
    for name, dataset in zip(names, made.dicom, strict=True):
        dataset.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    (folder / "report.pdf").write_bytes(made.pdf)
    return folder


def _run(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


@pytest.mark.parametrize("name", ["seg42", "seg84", "sr", "pdf"])
def test_dciodvfy_finds_no_error(program, files, name):
    output = _run(program("dciodvfy", "apt-get install dicom3tools"), str(files / f"{name}.dcm"))
    assert output.strip()
    assert not [line for line in output.splitlines() if line.startswith("Error")]


def test_dsrdump_shows_prediction_and_flag(program, files):
    output = _run(program("dsrdump", "apt-get install dcmtk"), "+Pl", str(files / "sr.dcm"))
    assert "UNVERIFIED" in output
    assert "PREDICTED day 84, NOT ACQUIRED: Carboplatin AUC 5 x4" in output
    assert "Predicted tumour volume, lower limit" in output


def test_pdftotext_reads_the_sentence(program, files):
    output = _run(program("pdftotext", _POPPLER), "-layout", str(files / "report.pdf"), "-")
    assert RESEARCH_USE.split(".")[0] in " ".join(output.split())


def test_pdftoppm_paints_one_page_that_is_not_blank(program, files):
    _run(
        program("pdftoppm", _POPPLER),
        "-r",
        "40",
        "-gray",
        str(files / "report.pdf"),
        str(files / "p"),
    )
    (page,) = files.glob("p-*.pgm")
    pixels = page.read_bytes()[-1000 * 100 :]
    assert 20 < len(set(pixels)) <= 256


def test_dcmqi_reads_the_measured_lesion_and_the_predictions(program, files):
    reader = program("tid1500reader", "pip install dcmqi")
    _run(reader, "--inputDICOM", str(files / "sr.dcm"), "--outputMetadata", str(files / "sr.json"))
    groups = json.loads((files / "sr.json").read_text())["Measurements"]
    assert [g["TrackingIdentifier"].split(":")[0] for g in groups] == [
        "Lesion 1",
        "MODEL ESTIMATE",
        "PREDICTED day 84, NOT ACQUIRED",
        "PREDICTED day 84, NOT ACQUIRED",
    ]
    volume = groups[0]["measurementItems"][0]
    assert (volume["quantity"]["CodeValue"], volume["units"]["CodeValue"], float(volume["value"])) == (
        "118565006",
        "cm3",
        12.5,
    )


def test_dcmqi_reads_the_predicted_segmentation(program, files):
    reader = program("segimage2itkimage", "pip install dcmqi")
    folder = files / "itk"
    folder.mkdir()
    _run(reader, "--inputDICOM", str(files / "seg84.dcm"), "--outputDirectory", str(folder))
    mask = load_mask(folder / "1.nrrd")
    expected = sample_report().options[0].predicted[-1][1]
    assert mask.volume_cm3 == pytest.approx(expected.volume_cm3, rel=1e-6)
    assert mask.centroid_mm == pytest.approx(expected.centroid_mm, abs=1e-3)

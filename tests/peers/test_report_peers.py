"""Foreign programs read our documents: dciodvfy, dsrdump, pdftotext, pdftoppm."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from digital_twins.reports import RESEARCH_USE, documents
from report_samples import sample_report, sample_series

pytestmark = pytest.mark.peers


@pytest.fixture
def program():
    def find(name: str, package: str) -> str:
        found = shutil.which(name)
        if found is None:
            message = f"needs {name}: apt-get install {package} (make peers)"
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
    output = _run(program("dciodvfy", "dicom3tools"), str(files / f"{name}.dcm"))
    assert output.strip()
    assert not [line for line in output.splitlines() if line.startswith("Error")]


def test_dsrdump_shows_prediction_and_flag(program, files):
    output = _run(program("dsrdump", "dcmtk"), "+Pl", str(files / "sr.dcm"))
    assert "UNVERIFIED" in output
    assert "PREDICTED day 84, NOT ACQUIRED: Carboplatin AUC 5 x4" in output
    assert "Predicted tumour volume, lower limit" in output


def test_pdftotext_reads_the_sentence(program, files):
    output = _run(program("pdftotext", "poppler-utils"), "-layout", str(files / "report.pdf"), "-")
    assert RESEARCH_USE.split(".")[0] in " ".join(output.split())


def test_pdftoppm_paints_one_page_that_is_not_blank(program, files):
    _run(
        program("pdftoppm", "poppler-utils"), "-r", "40", "-gray", str(files / "report.pdf"), str(files / "p")
    )
    (page,) = files.glob("p-*.pgm")
    pixels = page.read_bytes()[-1000 * 100 :]
    assert 20 < len(set(pixels)) <= 256

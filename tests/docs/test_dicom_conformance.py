"""The conformance statement is what the code says, and the page is what it writes.

``TWIN_WRITE_DOCS=1 pytest tests/docs/test_dicom_conformance.py`` writes the page anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.uid import UID

from digital_twins import dicom
from digital_twins.cli import main
from digital_twins.dicom._contexts import negotiate
from digital_twins.dicom._pdu import ProposedContext

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "dicom-conformance.md"


def test_the_page_is_what_the_command_prints() -> None:
    # In a process of its own: pynetdicom, which other tests load, adds to pydicom's table of UIDs.
    command = [sys.executable, "-m", "digital_twins.cli", "dicom", "conformance"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if os.environ.get("TWIN_WRITE_DOCS") == "1":
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text


def test_every_stated_pair_is_really_negotiated() -> None:
    found = dicom.conformance()
    syntaxes = [row["uid"] for row in found["transfer_syntaxes"]]
    pairs = [(row["uid"], uid) for row in found["storage_classes"] for uid in syntaxes]
    pairs += [(row["uid"], uid) for row in found["services"] for uid in row["transfer_syntaxes"]]
    for sop_class, syntax in pairs:
        (answer,), _accepted = negotiate([ProposedContext(1, sop_class, (syntax,))])
        assert (answer.result, answer.transfer_syntax) == (0, syntax)


def test_names_and_functions_exist() -> None:
    found = dicom.conformance()
    assert len(found["storage_classes"]) > 150
    for row in (*found["services"], *found["storage_classes"], *found["transfer_syntaxes"]):
        assert UID(row["uid"]).name == row["name"] != row["uid"]
    for row in found["services"]:
        assert callable(getattr(dicom, row["scu"]))


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dicom", "conformance"]) == 0
    assert capsys.readouterr().out == dicom.conformance_markdown()
    assert main(["dicom", "conformance", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["services"] == dicom.conformance()["services"]

"""`twin keys` as an operator types it: a folder is encrypted, its keys rotate, a patient is erased."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from dicom_support import ct_slice, file_bytes
from digital_twins.audit import tail_trail, verify_trail
from digital_twins.cli import main
from digital_twins.config import Settings
from digital_twins.server import open_keys, open_services

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from digital_twins.server import Services

pytestmark = pytest.mark.timeout(1800)
NAME = b"Qwxzplanted"
STUDIES = {"P1": "1.2.3.1", "P2": "1.2.3.2"}


@pytest.fixture
def twin(tmp_path, monkeypatch, capsys) -> Callable[..., tuple[int, Any, str]]:
    """Run `twin keys ...`; returns exit code, the JSON answer and standard error."""
    monkeypatch.chdir(tmp_path)
    configure(tmp_path, f"local:{tmp_path / 'first.json'}")

    def run(*words: str) -> tuple[int, Any, str]:
        code = main([*words, "--json"] if words[0] == "keys" else words)
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out.startswith("{") else None, said.err

    return run


def configure(folder: Path, keeper: str, *, years: float = 0) -> Settings:
    (folder / "twin.toml").write_text(
        f'data_dir = "{folder / "data"}"\nencryption_at_rest = true\nencryption_keys = "{keeper}"\n'
        f"record_retention_years = {years}\n"
    )
    return Settings(
        data_dir=folder / "data",
        encryption_at_rest=True,
        encryption_keys=keeper,
        record_retention_years=years,
    )


def opened(settings: Settings) -> Any:
    return closing(open_services(settings.data_dir, boot_id="", keys=open_keys(settings)))


def fill(services: Services) -> None:
    for number, patient in enumerate(STUDIES, 1):
        image = ct_slice(1, patient=patient, study=str(number), series=f"{number}.1", size=8)
        image.PatientName = NAME.decode()
        image.StudyDate = datetime.now(tz=UTC).strftime("%Y%m%d")
        services.dicom.ingest(file_bytes(image))


def in_clear(folder: Path) -> list[str]:
    return [str(f) for f in folder.rglob("*") if f.is_file() and NAME.lower() in f.read_bytes().lower()]


def test_from_a_folder_in_clear_to_an_erased_patient(tmp_path, twin):
    settings = configure(tmp_path, f"local:{tmp_path / 'first.json'}")
    with closing(open_services(settings.data_dir, boot_id="")) as services:
        fill(services)
    assert in_clear(settings.data_dir)
    code, done, err = twin("keys", "encrypt")
    assert (code, done["database"], done["blobs"]) == (0, True, 2), err
    assert in_clear(settings.data_dir) == []
    assert twin("keys", "encrypt")[1]["blobs"] == 0  # again: nothing is left to do
    code, status, _ = twin("keys", "status")
    assert (code, status["encrypted"], status["blobs"]) == (0, True, "AES-256-GCM")

    code, rotated, _ = twin("keys", "rotate")
    assert (code, rotated["rewrapped"] >= 3) == (0, True)
    code, moved, err = twin("keys", "rotate", "--to", f"local:{tmp_path / 'second.json'}")
    assert (code, moved["rewrapped"]) == (0, rotated["rewrapped"]), err
    code, _, err = twin("keys", "status")  # the old keeper opens nothing any more
    assert code == 1, err
    settings = configure(tmp_path, f"local:{tmp_path / 'second.json'}")
    with opened(settings) as services:
        assert services.dicom.dataset("1.2.3.1.1.1").PatientName == NAME.decode()

    code, erased, err = twin("keys", "erase", "--patient", "P1", "--reason", "asked for")
    assert (code, erased["objects"], erased["keys_destroyed"] >= 1) == (0, 1, True), err
    assert twin("keys", "erase", "--patient", "P1", "--reason", "again")[0] == 1
    with opened(settings) as services:
        assert [each.study_uid for each in services.dicom.instances(STUDIES["P2"])] == [STUDIES["P2"]]
    assert verify_trail(settings.audit_file).ok
    assert [
        row.event.kind for row in tail_trail(settings.audit_file, n=100) if row.event.kind == "patient.erase"
    ]
    assert in_clear(settings.data_dir) == []


@pytest.fixture
def encrypted(tmp_path) -> Settings:
    settings = configure(tmp_path, f"local:{tmp_path / 'first.json'}", years=10)
    with opened(settings) as services:
        fill(services)
    return settings


def test_nothing_is_erased_under_a_duty_to_keep(encrypted, tmp_path, twin):
    """First for the years that records are kept, then for a legal hold; each refusal is in the trail."""
    configure(tmp_path, encrypted.encryption_keys, years=10)
    erase = ("keys", "erase", "--patient", "P1", "--reason", "asked for")
    code, _, err = twin(*erase)
    assert (code, "ConflictError" in err) == (1, True), err
    configure(tmp_path, encrypted.encryption_keys, years=0)
    assert twin("dicom", "hold", STUDIES["P1"], "--reason", "court order 7")[0] == 0
    code, _, err = twin(*erase)
    assert (code, "hold" in err) == (1, True), err
    with opened(encrypted) as services:
        assert services.dicom.dataset("1.2.3.1.1.1").PatientID == "P1"
    told = [(row.event.kind, row.event.outcome) for row in tail_trail(encrypted.audit_file, n=100)]
    assert told.count(("patient.erase", "refused")) == 2
    assert twin("dicom", "release", STUDIES["P1"])[0] == 0
    assert twin(*erase)[0] == 0


def test_a_wrong_keeper_is_refused_before_anything_is_written(encrypted, tmp_path, twin):
    configure(tmp_path, f"local:{tmp_path / 'another.json'}")
    before = {f: f.read_bytes() for f in encrypted.data_dir.rglob("*") if f.is_file()}
    for words in (("status",), ("rotate",), ("erase", "--patient", "P1", "--reason", "x")):
        code, _, err = twin("keys", *words)
        assert code == 1, words
        assert "P1" not in err
    after = {f: f.read_bytes() for f in encrypted.data_dir.rglob("*") if f.is_file()}
    changed = {f.name for f in before.keys() | after.keys() if before.get(f) != after.get(f)}
    assert not changed & {"keys.sqlite", "twin.sqlite"}, changed

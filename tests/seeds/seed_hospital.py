"""A node that holds the bundled lung patient under the number and the dates of a document."""

from __future__ import annotations

import copy
import json
import re
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from digital_twins.config import load_settings
from digital_twins.samples import sample_patient
from digital_twins.server import Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom import Dataset


def _day(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:8]))


def _moved(instances: list[Dataset], mrn: str, shift: timedelta) -> list[Dataset]:
    instances = copy.deepcopy(instances)  # they share elements with each other
    for instance in instances:
        instance.PatientID = mrn
        instance.StudyDate = (_day(instance.StudyDate) + shift).strftime("%Y%m%d")
    return instances


def _record(patient_id: str, bundle: dict[str, Any], mrn: str, shift: timedelta) -> dict[str, Any]:
    def move(found: re.Match[str]) -> str:
        return (date.fromisoformat(found[0]) + shift).isoformat()

    text = json.dumps(bundle).replace(patient_id, mrn)
    moved_text = re.sub(r"(?<![0-9-])20[0-9]{2}-[0-9]{2}-[0-9]{2}(?![0-9])", move, text)
    answer: dict[str, Any] = json.loads(moved_text)
    return answer


@contextmanager
def hospital_with(folder: Path, mrn: str, first_study: date) -> Iterator[Node]:
    """Run a node whose one patient has this number and the first study on this day.

    It waits for more images before it would build a twin of its own: the documents' blocks build theirs.
    """
    from digital_twins.dicom import DicomWebClient
    from digital_twins.fhir import FHIRClient

    sample = sample_patient("lung")
    instances = sample.datasets()
    shift = first_study - _day(min(i.StudyDate for i in instances))
    settings = load_settings(data_dir=folder, dicom_port=0, http_port=0, study_stable_seconds=3600)
    with Node(settings) as node:
        FHIRClient(base_url=f"{node.base_url}/fhir").transaction(
            _record(sample.patient_id, sample.fhir_bundle(), mrn, shift)
        )
        DicomWebClient(f"{node.base_url}/dicom-web").store(_moved(instances, mrn, shift))
        yield node


def credentials_in(folder: Path) -> str:
    """Write a credentials file as the documents name one."""
    path = folder / "credentials.json"
    path.write_text(json.dumps({"access_token": "for-tests"}), encoding="utf-8")
    path.chmod(0o600)
    return str(path)

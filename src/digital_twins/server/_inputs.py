"""What the node holds of one patient that a twin can be built from, and a hash of its state."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins.clinical_integration import IMAGE_MODALITIES, PREDICTED_PREFIX
from digital_twins.dicom import Level, Query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom import Dataset

    from digital_twins.records import PatientRecord
    from digital_twins.server._services import Services

_VOLATILE = ("versionId", "lastUpdated")


@dataclass(frozen=True, slots=True)
class Series:
    """One stored series."""

    study_uid: str
    series_uid: str
    modality: str
    instances: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything of one patient; ``resources`` is None while there is no FHIR Patient with the PatientID.

    ``patients_found`` counts the FHIR Patients that carry the PatientID as identifier.
    """

    patient_id: str
    images: tuple[Series, ...]
    segmentations: tuple[Series, ...]
    resources: tuple[dict[str, Any], ...] | None
    patients_found: int

    @property
    def missing(self) -> str | None:
        """What has to arrive before a twin can be built, in words; None when nothing is missing."""
        if not self.images:
            return "a CT or MR series"
        if not self.segmentations:
            return "a segmentation of the lesion"
        if self.resources is None:
            several = self.patients_found > 1
            return "one record: several carry this identifier" if several else "the FHIR record"
        return None

    @property
    def series_state(self) -> str:
        """SHA-256 over the series and how many instances each has."""
        series = sorted((s.series_uid, s.instances) for s in (*self.images, *self.segmentations))
        return hashlib.sha256(json.dumps(series).encode()).hexdigest()

    @property
    def state(self) -> str:
        """SHA-256 over what the twin depends on: the same state never builds twice."""
        resources = sorted(json.dumps(_lasting(r), sort_keys=True) for r in self.resources or ())
        return hashlib.sha256(json.dumps([self.series_state, resources]).encode()).hexdigest()

    def record(self) -> PatientRecord:
        """Return the patient's record as the twin reads it."""
        from digital_twins.fhir import patient_record

        return patient_record(self.resources or (), mrn=self.patient_id)

    def datasets(self, services: Services) -> tuple[list[Dataset], list[Dataset]]:
        """Return ``(image instances, SEG instances)``."""
        images = [ds for s in self.images for ds in services.dicom.series_datasets(s.series_uid)]
        segs = [ds for s in self.segmentations for ds in services.dicom.series_datasets(s.series_uid)]
        return images, segs


def gather(services: Services, patient_id: str) -> Inputs:
    """Return what is stored of a patient now."""
    found = [m for m in _series_of(services, patient_id) if m["PatientID"] == patient_id]
    series = [
        Series(
            str(m["StudyInstanceUID"]),
            str(m["SeriesInstanceUID"]),
            str(m["Modality"]),
            int(m["NumberOfSeriesRelatedInstances"] or 0),
        )
        for m in found
        if not str(m["SeriesDescription"] or "").startswith(PREDICTED_PREFIX)
    ]
    resources, count = _resources(services, patient_id)
    return Inputs(
        patient_id,
        tuple(s for s in series if s.modality in IMAGE_MODALITIES),
        tuple(s for s in series if s.modality == "SEG"),
        resources,
        count,
    )


def patient_ids(services: Services) -> Iterable[str]:
    """Yield the PatientID of every patient with images."""
    seen = {str(m["PatientID"]) for m in services.dicom.search(Query(Level.PATIENT))}
    return sorted(seen - {""})


def dicom_name(services: Services, patient_id: str) -> str | None:
    """Return the name that the images carry, for a list that has no record yet."""
    name = next((str(m["PatientName"] or "") for m in _series_of(services, patient_id)), "")
    return ", ".join(part for part in name.split("=")[0].split("^")[:2] if part) or None


def _series_of(services: Services, patient_id: str) -> Iterable[dict[str, str | int | None]]:
    literal = "".join("?" if c in "*\\" else c for c in patient_id)
    query = Query(Level.SERIES, {"PatientID": literal}, frozenset({"NumberOfSeriesRelatedInstances"}))
    return services.dicom.search(query)


def _resources(services: Services, patient_id: str) -> tuple[tuple[dict[str, Any], ...] | None, int]:
    token = patient_id
    for special in "\\|,$":
        token = token.replace(special, "\\" + special)
    hits = services.fhir.search("Patient", {"identifier": token}, agent="node").matches
    if len(hits) != 1:
        return None, len(hits)
    own = services.catalogue.outputs()
    found = services.fhir.patient_resources(hits[0].id, agent="node")
    return tuple(r for r in found if f"{r['resourceType']}/{r['id']}" not in own), 1


def _lasting(resource: dict[str, Any]) -> dict[str, Any]:
    """Drop what changes without the content changing."""
    meta = {k: v for k, v in resource.get("meta", {}).items() if k not in _VOLATILE}
    return {**resource, "meta": meta}

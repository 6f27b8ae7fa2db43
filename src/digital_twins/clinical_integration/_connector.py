"""One object that reaches a hospital's imaging archive and its record."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError, InputError, NotFoundError
from digital_twins.clinical_integration._dimse_archive import SCHEME, DimseArchive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from digital_twins.clinical_integration._twin import ClinicalTwin
    from digital_twins.dicom import DicomWebClient, DownloadedStudy, Progress
    from digital_twins.fhir import FHIRClient
    from digital_twins.records import PatientRecord

AUTH_METHODS = ("none", "bearer", "oauth2")
MODALITY_TERMS = {"PET": "PT", "MRI": "MR", "XRAY": "DX"}
"""Everyday names to the defined terms of Modality (0008,0060)."""
_RECORD_TYPES = (
    "Condition",
    "Observation",
    "MedicationAdministration",
    "MedicationRequest",
    "Procedure",
    "ServiceRequest",
    "DiagnosticReport",
    "DocumentReference",
)


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """Whether an endpoint answers: truthy when it does, readable when printed."""

    ok: bool
    detail: str
    milliseconds: float

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return f"{'connected' if self.ok else 'failed'} ({self.detail})"


@dataclass(frozen=True, slots=True)
class ImagingStudy:
    """A study in the imaging archive; ``id`` is its StudyInstanceUID.

    ``body_parts`` is filled when a body part is asked for; empty, the archive names none for any series.
    """

    id: str
    date: date | None
    modalities: tuple[str, ...]
    description: str
    patient_id: str
    instance_count: int
    body_parts: tuple[str, ...] = ()


class ClinicalConnector:
    """Connects to an imaging archive, by DICOMweb or DIMSE, and a FHIR R4 server.

    Parameters
    ----------
    pacs_endpoint
        DICOMweb root (``https://...``), or ``dicom://AET@host:port`` for C-ECHO, C-FIND and C-GET. There,
        ``?calling=AET`` is our title (default TWIN), and ``receive=[address:]port`` opens that port during a
        download and fetches by C-MOVE.
    fhir_endpoint
        FHIR R4 base URL.
    auth_method
        ``"none"``, ``"bearer"`` or ``"oauth2"``; the latter two send the token of ``credentials_path``.
    credentials_path
        JSON file with ``access_token``; it must be readable by its owner only.

    Raises
    ------
    InputError
        The sign-in method is not known, or its credentials cannot be used.
    """

    def __init__(
        self,
        pacs_endpoint: str,
        fhir_endpoint: str,
        *,
        auth_method: str = "none",
        credentials_path: str | Path | None = None,
    ) -> None:
        if auth_method not in AUTH_METHODS:
            raise InputError(
                what=f"The sign-in method '{auth_method}' is not known.",
                why=f"The connector speaks {', '.join(AUTH_METHODS)}.",
                fix="Choose one of them.",
            )
        self.pacs_endpoint = pacs_endpoint.rstrip("/")
        self.fhir_endpoint = fhir_endpoint.rstrip("/")
        self._token = _token(auth_method, credentials_path)

    @cached_property
    def pacs(self) -> DicomWebClient | DimseArchive:
        """A client of the imaging archive."""
        if self.pacs_endpoint.startswith(SCHEME):
            return DimseArchive.at(self.pacs_endpoint)
        from digital_twins.dicom import DicomWebClient

        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        return DicomWebClient(self.pacs_endpoint, headers=headers)

    @cached_property
    def fhir(self) -> FHIRClient:
        """A client of the record."""
        from digital_twins.fhir import FHIRClient

        return FHIRClient(base_url=self.fhir_endpoint, auth=self._token)

    def test_connection(self) -> Mapping[str, EndpointStatus]:
        """Ask both endpoints for something harmless; return ``{"pacs": ..., "fhir": ...}``; never raises."""
        return {
            "pacs": self._probe_pacs(),
            "fhir": _probe(self.fhir.capabilities, "FHIR R4"),
        }

    def _probe_pacs(self) -> EndpointStatus:
        def ask() -> None:
            archive = self.pacs
            if isinstance(archive, DimseArchive):
                archive.echo()
            else:
                archive.search_studies(limit=1)

        return _probe(ask, "C-ECHO" if self.pacs_endpoint.startswith(SCHEME) else "QIDO-RS")

    def get_patient(self, mrn: str) -> PatientRecord:
        """Return the record of a patient: conditions, stage, biomarkers, treatments, observations.

        Raises
        ------
        NotFoundError
            No patient, or more than one, has this medical record number.
        """
        from digital_twins.fhir import patient_record

        patients = self.fhir.search("Patient", {"identifier": mrn})
        if len(patients) != 1:
            raise NotFoundError(
                what="The patient could not be identified.",
                why=f"{len(patients)} patients have this medical record number.",
                fix="Check the number; merge duplicate patients in the record system.",
            )
        patient = patients[0]
        resources = [dict(patient)]
        for resource_type in _RECORD_TYPES:
            found = self.fhir.search(resource_type, {"patient": str(patient.id)})
            resources.extend(dict(resource) for resource in found)
        return patient_record(resources, mrn=mrn)

    def query_imaging(
        self,
        patient_id: str,
        *,
        modality: Sequence[str] | str = (),
        body_part: str | None = None,
        date_range: tuple[str, str] | None = None,
    ) -> list[ImagingStudy]:
        """List the imaging studies of a patient, oldest first.

        Parameters
        ----------
        patient_id
            PatientID of the images: the medical record number, as ``get_patient(...).id`` returns it.
        modality
            Keep studies that hold at least one of these; everyday names such as ``"PET"`` are accepted.
        body_part
            Keep studies with a series of this BodyPartExamined, e.g. ``"CHEST"``, and those without any: many
            scanners leave it out, and their ``body_parts`` is empty.
        date_range
            First and last StudyDate, ISO 8601, both included.
        """
        wanted = {MODALITY_TERMS.get(m.upper(), m.upper()) for m in _as_list(modality)}
        filters: dict[str, Any] = {"PatientID": patient_id}
        if date_range is not None:
            filters["StudyDate"] = "-".join(_dicom_date(day) for day in date_range)
        studies = [_study(found) for found in self.pacs.search_studies(**filters)]
        kept = [study for study in studies if not wanted or wanted.intersection(study.modalities)]
        if body_part is not None:
            known = [replace(study, body_parts=self._body_parts(study)) for study in kept]
            asked = body_part.upper()
            kept = [s for s in known if not s.body_parts or asked in map(str.upper, s.body_parts)]
        return sorted(kept, key=lambda study: (study.date or date.min, study.id))

    def _body_parts(self, study: ImagingStudy) -> tuple[str, ...]:
        series = self.pacs.search_series(study.id, fields=("BodyPartExamined",))
        found = {str(each.get("BodyPartExamined") or "") for each in series}
        return tuple(sorted(found - {""}))

    def download_study(
        self,
        study_id: str,
        *,
        folder: str | Path | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> DownloadedStudy:
        """Download every instance of a study into files: by WADO-RS, C-GET or C-MOVE.

        What is returned is a sequence of data sets, each read from its file when it is asked for: a study of
        many gigabytes is never in memory.

        Parameters
        ----------
        folder
            Where the files go and stay; by default a temporary folder that lives as long as the result.
        progress
            Called as the bytes arrive.
        """
        return self.pacs.download_study(study_id, folder, progress=progress)

    def create_digital_twin(
        self,
        patient_id: str,
        *,
        imaging_studies: Sequence[ImagingStudy] | None = None,
        include_clinical_notes: bool = True,
        include_lab_results: bool = True,
        seed: int = 0,
    ) -> ClinicalTwin:
        """Build the twin of a patient from the given studies, or from all of them.

        ``include_clinical_notes`` keeps notes and conditions; ``include_lab_results`` keeps observations.
        """
        from digital_twins.clinical_integration._build import build_clinical_twin
        from digital_twins.clinical_integration._visits import split_images

        record = self.get_patient(patient_id)
        if not include_clinical_notes:
            record = record.without("note", "diagnosis")
        if not include_lab_results:
            record = record.without("lab")
        studies = self.query_imaging(patient_id) if imaging_studies is None else imaging_studies
        images, segs = split_images(i for study in studies for i in self.download_study(study.id))
        return replace(build_clinical_twin(record, images, segs, seed=seed), connector=self)


def _token(auth_method: str, credentials_path: str | Path | None) -> str | None:
    if auth_method == "none":
        return None
    if credentials_path is None:
        raise InputError(
            what="The connector has nothing to sign in with.",
            why=f"auth_method='{auth_method}' needs a token, and credentials_path is not given.",
            fix="Give credentials_path, a JSON file with access_token and mode 0600, or auth_method='none'.",
        )
    from digital_twins.fhir import read_credentials

    return read_credentials(credentials_path)


def _probe(call: Callable[[], object], service: str) -> EndpointStatus:
    started = time.perf_counter()
    try:
        call()
    except DigitalTwinError as error:
        return EndpointStatus(ok=False, detail=error.why, milliseconds=1000 * (time.perf_counter() - started))
    return EndpointStatus(ok=True, detail=service, milliseconds=1000 * (time.perf_counter() - started))


def _as_list(modality: Sequence[str] | str) -> Sequence[str]:
    return (modality,) if isinstance(modality, str) else modality


def _dicom_date(iso_day: str) -> str:
    try:
        return date.fromisoformat(iso_day).strftime("%Y%m%d")
    except ValueError as error:
        raise InputError(
            what="The date range cannot be read.",
            why="Its ends are not ISO 8601 dates.",
            fix='Write them as ("2025-06-01", "2026-01-31").',
        ) from error


def _study(found: Dataset) -> ImagingStudy:
    text = str(found.get("StudyDate") or "")
    modalities = found.get("ModalitiesInStudy") or []
    return ImagingStudy(
        id=str(found.StudyInstanceUID),
        date=datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date() if text else None,
        modalities=(modalities,) if isinstance(modalities, str) else tuple(modalities),
        description=str(found.get("StudyDescription") or ""),
        patient_id=str(found.get("PatientID") or ""),
        instance_count=int(found.get("NumberOfStudyRelatedInstances") or 0),
    )

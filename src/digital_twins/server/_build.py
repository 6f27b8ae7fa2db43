"""The build job: from what is stored of a patient to a twin version, predictions, documents and the view."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from digital_twins._errors import InputError, NotFoundError
from digital_twins.server._inputs import gather
from digital_twins.server._models import Document, ObservedPoint
from digital_twins.server._operations import mark_if_withdrawn
from digital_twins.server._results import queue_results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import apsw
    from pydicom import Dataset

    from digital_twins.clinical_integration import ClinicalTwin, Course
    from digital_twins.patient_modeling import PatientTwin
    from digital_twins.records import PatientRecord
    from digital_twins.reports import Documents
    from digital_twins.server._services import Services
    from digital_twins.storage import Job
    from digital_twins.treatment_simulation import Response

HORIZON_DAYS = 180.0
"""Days from the last observation to the assessment; longer when a planned treatment needs it."""

_AFTER_LAST_DOSE_DAYS = 30.0
SIMULATED = "SIMULATED"
"""In SeriesDescription: a follow-up that a model made, not an examination."""


@dataclass(frozen=True, slots=True)
class _Made:
    record: PatientRecord
    twin: PatientTwin
    responses: list[Response]
    notes: tuple[str, ...]
    course: Course
    observed: list[ObservedPoint]
    inputs: tuple[str, ...]


def build(services: Services, job: Job, progress: Callable[[float, str], None]) -> None:
    """Run one build job and end it as succeeded; the view, the audit event and the end are one transaction.

    Every step may run again after a crash: a stored twin version is found again, documents carry UIDs and ids
    that follow from twin, version and options.

    Parameters
    ----------
    progress
        Called with a fraction in 0..1 and a phrase; raises to end the job early.

    Raises
    ------
    InputError
        Images and record belong to different patients, or cannot make a twin.
    NotFoundError
        The data of the job is no longer complete.
    """
    made = _make(services, job, progress)
    progress(0.80, "writing documents")
    written = _documents(made, job)
    links = _store_documents(services, made, written)
    progress(0.94, "preparing the page")
    _finish(services, job, made, written, links)


def _make(services: Services, job: Job, progress: Callable[[float, str], None]) -> _Made:
    from digital_twins.clinical_integration import build_clinical_twin
    from digital_twins.server._versions import settle

    progress(0.01, "collecting the study and the record")
    inputs = gather(services, str(job.payload["patient_id"]))
    if inputs.missing is not None:
        raise NotFoundError(
            "The twin was not built.",
            f"The patient's data is no longer complete: {inputs.missing} is missing.",
            "Send what is missing; the build starts again by itself.",
        )
    record = inputs.record()
    images, segs = inputs.datasets(services)
    clinical = build_clinical_twin(
        record, images, segs, seed=0, progress=lambda f, text: progress(0.02 + 0.38 * f, text)
    )
    twin = settle(services.registry, clinical.twin)
    progress(0.42, "predicting")
    responses, skipped = _responses(clinical, twin, progress)
    notes = (*record.notes, *clinical.notes, *twin.provenance.notes, *skipped)
    used = tuple(str(each.SOPInstanceUID) for each in (*images, *segs))
    return _Made(record, twin, responses, notes, _course(clinical), _observed(twin, segs), used)


def _responses(
    clinical: ClinicalTwin, twin: PatientTwin, progress: Callable[[float, str], None]
) -> tuple[list[Response], list[str]]:
    from digital_twins.records import Treatment
    from digital_twins.treatment_simulation import TreatmentSimulator

    planned = clinical.record.treatments_planned
    plans = [Treatment(kind="observation", label="observation"), *planned]
    ends = [plan.last_day or 0.0 for plan in plans]
    horizon_days = max(HORIZON_DAYS, *(end + _AFTER_LAST_DOSE_DAYS for end in ends))
    simulator = TreatmentSimulator(twin, body_surface_area_m2=twin.clinical_data.get("body_surface_area_m2"))
    responses, skipped = [], []
    for index, plan in enumerate(plans):
        start, share = 0.42 + 0.36 * index / len(plans), 0.36 / len(plans)

        def told(fraction: float, _: str, start: float = start, share: float = share) -> None:
            progress(start + share * fraction, f"predicting course {index + 1} of {len(plans)}")  # noqa: B023

        try:
            responses.append(simulator.predict_response(plan, horizon_days, progress=told))
        except InputError as error:
            if plan.kind == "observation":
                raise
            skipped.append(f"Not simulated: {plan.label}. {error.why}")
    return responses, skipped


def _course(clinical: ClinicalTwin) -> Course:
    if clinical.course is None:
        raise NotFoundError(
            "The twin has no images.",
            "It was made from the record alone.",
            "Send the imaging study; the build starts again by itself.",
        )
    return clinical.course


def _observed(twin: PatientTwin, segs: Sequence[Dataset]) -> list[ObservedPoint]:
    made_up = {
        str(ds.get("StudyDate")) for ds in segs if SIMULATED in str(ds.get("SeriesDescription") or "").upper()
    }
    points = [ObservedPoint(day=0.0, acquired_utc=twin.baseline, volume_cm3=twin.baseline_volume_cm3)]
    for visit in twin.visits:
        at = None if twin.baseline is None else twin.baseline + timedelta(days=visit.day)
        simulated = at is not None and at.strftime("%Y%m%d") in made_up
        points.append(
            ObservedPoint(day=visit.day, acquired_utc=at, volume_cm3=visit.volume_cm3, simulated=simulated)
        )
    return points


def _documents(made: _Made, job: Job) -> Documents:
    from digital_twins.imaging import load_mask
    from digital_twins.reports import StudyReference, documents, summarise

    twin, course = made.twin, made.course
    image, outline = course.image_datasets[0], course.baseline
    report = summarise(
        twin,
        made.responses,
        made.record,
        study=StudyReference.of(image),
        created=job.created_utc.astimezone(UTC),
        lesion=None if twin.image is None else load_mask(outline.mask, like=twin.image),
        simulated_follow_up=any(point.simulated for point in made.observed),
    )
    # An SR refers to evidence of its own study: an outline of another one is measured, but not pointed at.
    same_study = outline.seg.StudyInstanceUID == image.StudyInstanceUID
    return documents(
        report,
        course.image_datasets,
        segmentation=outline.seg if same_study else None,
        segment_number=outline.segment_number,
    )


def _store_documents(services: Services, made: _Made, written: Documents) -> list[Document]:
    references = [str(entry["request"]["url"]) for entry in written.fhir["entry"]]
    services.catalogue.mark_outputs([(reference, "fhir") for reference in references])
    services.dicom.ingest_many([_part10(ds) for ds in written.dicom], source="node")
    services.fhir.transaction(written.fhir, agent="node")
    twin, links = made.twin, []
    pdf = f"/api/twins/{twin.twin_id}/report.pdf?version={twin.version}"
    pdf_uid = str(written.encapsulated_pdf.SOPInstanceUID)
    links.append(
        Document(
            kind="PDF", title="Twin report", id=pdf_uid, href=pdf, media_type="application/pdf", inline=True
        )
    )
    titles = {"sr": "Structured report (TID 1500)", "encapsulated": "Twin report as DICOM Encapsulated PDF"}
    dicom = [("SEG", ds, str(ds.SeriesDescription)) for ds in written.segs]
    dicom += [
        ("SR", written.sr, titles["sr"]),
        ("DICOM PDF", written.encapsulated_pdf, titles["encapsulated"]),
    ]
    links += [_dicom_link(kind, ds, title) for kind, ds, title in dicom]
    reports = (reference for reference in references if reference.startswith("DiagnosticReport/"))
    return [*links, *(_fhir_link(reference) for reference in reports)]


def _fhir_link(reference: str) -> Document:
    return Document(
        kind="FHIR",
        title="DiagnosticReport, preliminary",
        id=reference,
        href=f"/fhir/{reference}",
        media_type="application/fhir+json",
        inline=True,
    )


def _dicom_link(kind: str, ds: Dataset, title: str) -> Document:
    place = f"{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    href = f"/dicom-web/studies/{place}?accept=application/dicom"
    return Document(
        kind=kind, title=title, id=str(ds.SOPInstanceUID), href=href, media_type="application/dicom"
    )


def _part10(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _finish(services: Services, job: Job, made: _Made, written: Documents, links: list[Document]) -> None:
    from digital_twins.server._view import image_files, twin_view

    twin = made.twin
    files = {**image_files(twin, made.course.baseline.mask, made.responses), "pdf": written.pdf}
    blobs = services.blobs.put_many(files.values(), owner=made.record.patient_id)
    digests = dict(zip(files, blobs, strict=True))
    labels = ["SIMULATED FOLLOW-UP"] if any(point.simulated for point in made.observed) else []
    view = twin_view(
        twin,
        made.responses,
        patient_key=str(job.payload["patient_key"]),
        observed=made.observed,
        labels=labels,
        notes=made.notes,
        documents=links,
    )
    event = services.auditor.event(
        "C",
        "twin.build",
        entity=f"{twin.twin_id}/{twin.version}",
        patient_id=made.record.patient_id,
        detail={"job": job.job_id, "scenarios": len(made.responses)},
    )
    result = {
        "twin_id": twin.twin_id,
        "version": twin.version,
        "documents": written.identifiers,
        "finished_utc": datetime.now(tz=UTC).isoformat(timespec="seconds"),
    }

    def work(cursor: apsw.Cursor) -> None:
        services.catalogue.keep_in(cursor, view, digests)
        services.stale.depends_in(cursor, (twin.twin_id, twin.version), made.inputs)
        mark_if_withdrawn(cursor, services, (twin.twin_id, twin.version))
        services.auditor.stage(cursor, event)
        queue_results(
            services, cursor, [str(e["request"]["url"]) for e in written.fhir["entry"]], twin.version
        )
        services.jobs.succeed_in(cursor, job, result)

    services.database.write(work)

"""The one audit event of a run of a job that made nothing: refused, failed, cancelled or given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from digital_twins._errors import DigitalTwinError
from digital_twins.fhir.bulk import EXPORT
from digital_twins.server._results import RESULT
from digital_twins.server._services import BUILD, METADATA

if TYPE_CHECKING:
    import apsw

    from digital_twins.audit import AuditEvent
    from digital_twins.server._services import Services
    from digital_twins.storage import Job, JobState

EVENT_KINDS = {
    BUILD: "twin.build",
    METADATA: "dicom.metadata.build",
    EXPORT: "fhir.export.written",
    RESULT: "hl7.result",
}
"""Kind of the event of each kind of job; a run that succeeds writes it with what it made."""


def fail_job(
    services: Services,
    job: Job,
    error: DigitalTwinError | BaseException,
    *,
    outcome: Literal["refused", "failure"] = "failure",
    retry: bool = True,
) -> JobState:
    """End a run as failed together with its event; see `JobQueue.fail`."""
    event = unfinished(services, job, outcome, _why(error))

    def work(cursor: apsw.Cursor) -> JobState:
        services.auditor.stage(cursor, event)
        return services.jobs.fail_in(cursor, job, error, retry=retry)

    return services.database.write(work)


def release_job(services: Services, job: Job) -> None:
    """Give a job back together with the event of the run that is broken off."""
    event = unfinished(services, job, "failure", "given back, as the node goes down")

    def work(cursor: apsw.Cursor) -> None:
        services.auditor.stage(cursor, event)
        services.jobs.release_in(cursor, job)

    services.database.write(work)


def unfinished(services: Services, job: Job, outcome: Literal["refused", "failure"], why: str) -> AuditEvent:
    """Return the event of a run that made nothing."""
    patient = job.payload.get("patient_id")
    return services.auditor.event(
        "E",
        EVENT_KINDS[job.kind],
        outcome=outcome,
        patient_id=None if patient is None else str(patient),
        detail={"job": job.job_id, "attempt": job.attempts, "why": why},
    )


def _why(error: BaseException) -> str:
    """Return what may be said of an error: the text of others may name a patient."""
    return error.what if isinstance(error, DigitalTwinError) else type(error).__name__

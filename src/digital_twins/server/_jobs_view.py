"""A job of the queue as the API shows it: no payload, for that names the patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins.server._models import JobView

if TYPE_CHECKING:
    from digital_twins.storage import Job


def job_view(job: Job) -> JobView:
    """Return what may leave the node of a job."""
    return JobView(
        job_id=job.job_id,
        kind=job.kind,
        state=str(job.state),
        fraction=job.progress,
        text=job.progress_text,
        error=job.error,
        result=job.result,
        patient=job.payload.get("patient_key"),
        created_utc=job.created_utc,
        updated_utc=job.updated_utc,
    )

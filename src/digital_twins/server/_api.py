"""The ``/api`` door: patients, twins, jobs, progress."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from starlette.responses import FileResponse, StreamingResponse

import digital_twins
from digital_twins.server import _problems
from digital_twins.server._authenticators_api import add_authenticators
from digital_twins.server._jobs_view import job_view
from digital_twins.server._models import (
    RESEARCH_USE,
    JobView,
    PatientDetail,
    PatientSummary,
    Problem,
    StaleMark,
    TwinDetail,
    TwinSummary,
)
from digital_twins.server._nifti import one_frame
from digital_twins.server._operations_api import Operations, add_operations
from digital_twins.server._queues_api import add_queues
from digital_twins.server._signing_api import add_signatures, may_sign
from digital_twins.server._static import STATIC

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from digital_twins.dicom import SendQueues
    from digital_twins.server._catalogue import Catalogue, Entry
    from digital_twins.server._signed_reports import ReportSigning
    from digital_twins.server._stale import StaleMarks
    from digital_twins.storage import JobQueue

NIFTI = "application/gzip"
_POLL_S = 0.4

Version = Annotated[int | None, Query(description="Version of the twin; the latest by default.")]


@dataclass(frozen=True, slots=True)
class ApiParts:
    """What the API needs of the node: the tests hand in their own.

    ``audit(action, kind, entity, patient_id)`` writes exactly one event for an access that touches a patient;
    ``stopping`` tells open event streams that the node goes down; without ``queues`` nothing is forwarded;
    ``stale``, ``operations`` and ``signing`` are those of a whole node.
    """

    catalogue: Catalogue
    jobs: JobQueue
    audit: Callable[[Literal["R", "U"], str, str, str | None], None]
    stopping: Callable[[], bool] = lambda: False
    queues: SendQueues | None = None
    stale: StaleMarks | None = None
    operations: Operations | None = None
    signing: ReportSigning | None = None


def create_api(parts: ApiParts) -> FastAPI:
    """Return the API as an application of its own, to be mounted at ``/api``."""
    app = FastAPI(
        title="Digital Twins",
        version=digital_twins.__version__,
        description=RESEARCH_USE,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        servers=[{"url": "/api"}],
        root_path_in_servers=False,
        responses={
            status: {"model": Problem, "description": text}
            for status, text in ((404, "Not found"), (422, "Unusable"))
        },
    )
    _problems.install(app)
    _patients(app, parts)
    _twins(app, parts)
    _files(app, parts)
    _jobs(app, parts)
    add_queues(app, parts.queues, audit=parts.audit)
    add_operations(app, parts.operations)
    add_signatures(app, parts.catalogue, parts.signing, audit=parts.audit)
    add_authenticators(app, parts.signing)

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(STATIC / "docs.html")

    return app


def _patients(app: FastAPI, parts: ApiParts) -> None:
    @app.get(
        "/patients",
        response_model=list[PatientSummary],
        summary="Patients known to this node",
        tags=["patients"],
    )
    def patients() -> list[PatientSummary]:
        entries = parts.catalogue.patients()
        jobs = [_latest_job(parts, entry) for entry in entries]
        counts = parts.catalogue.twin_counts()  # after the jobs: one that has succeeded has its twin
        found = [
            PatientSummary(**_summary(entry, job, counts)) for entry, job in zip(entries, jobs, strict=True)
        ]
        parts.audit("R", "api.patients.list", "patients", None)
        return found

    @app.get(
        "/patients/{key}",
        response_model=PatientDetail,
        summary="A patient with twins and jobs",
        tags=["patients"],
    )
    def patient(key: str) -> PatientDetail:
        entry = parts.catalogue.patient(key)
        views = parts.catalogue.twins(key)
        newest = {view["twin_id"]: view for view in reversed(views)}
        twins = [
            TwinSummary(
                twin_id=view["twin_id"],
                version=view["version"],
                created_utc=view["created_utc"],
                volume_cm3=view["current_volume"]["value"],
                simulated=view["simulated"],
                stale=bool(_stale(parts, view)),
            )
            for view in newest.values()
        ]
        summary = _summary(entry, _latest_job(parts, entry), parts.catalogue.twin_counts())
        jobs = [job_view(job) for job in parts.jobs.list(limit=500) if job.payload.get("patient_key") == key]
        parts.audit("R", "api.patient.read", key, entry.patient_id)
        return PatientDetail(
            **summary,
            biomarkers=entry.summary.get("biomarkers", {}),
            twins=twins,
            jobs=jobs,
            may_sign=may_sign(parts.signing),
        )


def _latest_job(parts: ApiParts, entry: Entry) -> JobView | None:
    return job_view(parts.jobs.get(entry.job_id)) if entry.job_id else None


def _summary(entry: Entry, job: JobView | None, counts: dict[str, tuple[int, str]]) -> dict[str, Any]:
    count, twin_id = counts.get(entry.key, (0, None))
    return {
        "key": entry.key,
        "patient_id": entry.patient_id,
        "twin_count": count,
        "twin_id": twin_id,
        "updated_utc": entry.updated_utc,
        "latest_job": job,
        "waiting_for": entry.waiting_for,
        **{name: value for name, value in entry.summary.items() if name != "biomarkers"},
    }


def _twins(app: FastAPI, parts: ApiParts) -> None:
    @app.get(
        "/twins/{twin_id}",
        response_model=TwinDetail,
        summary="A twin version with its predictions",
        tags=["twins"],
    )
    def twin(twin_id: str, version: Version = None) -> TwinDetail:
        view, _ = parts.catalogue.twin(twin_id, version)
        _touch(parts, "api.twin.read", twin_id, view)
        return TwinDetail.model_validate({**view, "stale": _stale(parts, view)})


def _stale(parts: ApiParts, view: dict[str, Any]) -> list[StaleMark]:
    return [] if parts.stale is None else parts.stale.of(view["twin_id"], view["version"])


def _touch(parts: ApiParts, kind: str, twin_id: str, view: dict[str, Any]) -> None:
    patient_id = parts.catalogue.patient(view["patient_key"]).patient_id
    parts.audit("R", kind, twin_id, patient_id)


def _files(app: FastAPI, parts: ApiParts) -> None:
    def blob(twin_id: str, version: int | None, name: str) -> bytes:
        view, _ = parts.catalogue.twin(twin_id, version)
        data = parts.catalogue.blob(twin_id, version, name)
        _touch(parts, "api.twin.file", f"{twin_id}/{name}", view)
        return data

    nifti: dict[int | str, dict[str, Any]] = {200: {"content": {NIFTI: {}}, "description": "Gzipped NIfTI-1"}}

    @app.get(
        "/twins/{twin_id}/image.nii.gz",
        response_class=Response,
        responses=nifti,
        summary="Baseline image",
        tags=["twins"],
    )
    def image(twin_id: str, version: Version = None) -> Response:
        return Response(blob(twin_id, version, "image"), media_type=NIFTI)

    @app.get(
        "/twins/{twin_id}/lesion.nii.gz",
        response_class=Response,
        responses=nifti,
        summary="Measured lesion on the image's grid",
        tags=["twins"],
    )
    def lesion(twin_id: str, version: Version = None) -> Response:
        return Response(blob(twin_id, version, "lesion"), media_type=NIFTI)

    @app.get(
        "/twins/{twin_id}/predicted.nii.gz",
        response_class=Response,
        responses=nifti,
        tags=["twins"],
        summary="PREDICTED tumour, NOT ACQUIRED: 4-D labels, a frame for each of `mask_days`; or one day",
    )
    def predicted(
        twin_id: str, treatment: str, day: float | None = None, version: Version = None
    ) -> Response:
        data = blob(twin_id, version, f"predicted/{treatment}")
        if day is not None:
            view, _ = parts.catalogue.twin(twin_id, version)
            days = next(s["mask_days"] for s in view["scenarios"] if s["key"] == treatment)
            data = one_frame(data, days, day)
        return Response(data, media_type=NIFTI)

    @app.get(
        "/twins/{twin_id}/report.pdf",
        response_class=Response,
        summary="The report, preliminary until signed",
        tags=["twins"],
    )
    def report(twin_id: str, version: Version = None) -> Response:
        headers = {
            "content-disposition": 'inline; filename="twin-report.pdf"',
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; object-src 'self'",
        }
        return Response(blob(twin_id, version, "pdf"), media_type="application/pdf", headers=headers)


def _jobs(app: FastAPI, parts: ApiParts) -> None:
    @app.get("/jobs", response_model=list[JobView], summary="Jobs, newest first", tags=["jobs"])
    def jobs(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[JobView]:
        return [job_view(job) for job in parts.jobs.list(limit=limit)]

    @app.get("/jobs/{job_id}", response_model=JobView, summary="One job", tags=["jobs"])
    def job(job_id: str) -> JobView:
        return job_view(parts.jobs.get(job_id))

    @app.post("/jobs/{job_id}/cancel", response_model=JobView, summary="Cancel a job", tags=["jobs"])
    def cancel(job_id: str) -> JobView:
        parts.jobs.cancel(job_id)
        view = job_view(parts.jobs.get(job_id))
        parts.audit("U", "api.job.cancel", job_id, None)
        return view

    @app.post(
        "/jobs/{job_id}/retry",
        response_model=JobView,
        summary="Run a failed or cancelled job again",
        tags=["jobs"],
    )
    def retry(job_id: str) -> JobView:
        parts.jobs.retry(job_id)
        parts.audit("U", "api.job.retry", job_id, None)
        return job_view(parts.jobs.get(job_id))

    @app.get(
        "/events",
        response_class=StreamingResponse,
        summary="Progress of jobs as server-sent events",
        tags=["jobs"],
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "Event `job` with a JobView as data"}
        },
    )
    async def events(request: Request) -> StreamingResponse:
        return StreamingResponse(_events(request, parts), media_type="text/event-stream")


async def _events(request: Request, parts: ApiParts) -> AsyncIterator[str]:
    """Yield the states of recent jobs, then each change; a comment every 15 s keeps proxies from closing."""
    seen: dict[str, str] = {}
    quiet_s = 0.0
    yield "retry: 2000\n\n"
    while not (parts.stopping() or await request.is_disconnected()):
        for job in reversed(await asyncio.to_thread(parts.jobs.list, limit=50)):
            data = job_view(job).model_dump_json()
            if seen.get(job.job_id) != data:
                seen[job.job_id] = data
                quiet_s = 0.0
                yield f"event: job\ndata: {data}\n\n"
        await asyncio.sleep(_POLL_S)
        quiet_s += _POLL_S
        if quiet_s > 15:
            quiet_s = 0.0
            yield ": still here\n\n"

"""Exports as jobs: kicked off, run, asked after, cancelled, expired."""

from __future__ import annotations

import shutil
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import NotFoundError
from digital_twins.audit import AuditEvent, stage
from digital_twins.fhir._outcome import FhirError, Issue
from digital_twins.fhir.bulk._request import ExportRequest
from digital_twins.fhir.bulk._selection import check_group
from digital_twins.fhir.bulk._write import write_export
from digital_twins.storage import JobState, SealedFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal

    import apsw

    from digital_twins.fhir._package_index import PackageParameters
    from digital_twins.fhir._package_search import Extra
    from digital_twins.storage import Database, Job, JobQueue, KeyRegister

EXPORT = "fhir.export"
"""Kind of the jobs that write the files of an export."""
LIFETIME_S = 24 * 3600.0
MAX_OPEN = 10
_ENDED = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Export:
    """An export as its requester sees it; ``expires`` is seconds since 1970 once it is complete."""

    job: Job
    expires: float | None

    @property
    def url(self) -> str:
        """The address of the kick-off request."""
        return str(self.job.payload["url"])


class BulkExports:
    """Bulk Data exports of a store, kept in its job queue: they survive a restart.

    Parameters
    ----------
    database
        Of the store, with the audit outbox and the job queue.
    jobs
        The queue; somebody claims its jobs of kind `EXPORT` and hands them to `run`.
    folder
        Where the files go, a folder for each export, readable by this user only.
    lifetime_s
        Seconds after which the files of an export are removed.
    keys
        Of an encrypted store: the files are then encrypted too.
    parameters
        The search parameters of packages, for ``_typeFilter``.
    """

    def __init__(
        self,
        database: Database,
        jobs: JobQueue,
        folder: Path,
        *,
        lifetime_s: float = LIFETIME_S,
        keys: KeyRegister | None = None,
        parameters: PackageParameters | None = None,
    ) -> None:
        self._database = database
        self._jobs = jobs
        self.folder = folder
        self.files = SealedFiles(keys, "exports")
        self._lifetime_s = lifetime_s
        self._parameters = parameters

    @property
    def package_parameters(self) -> Extra:
        """The search parameters of packages that a ``_typeFilter`` may name."""
        return self._parameters.served if self._parameters is not None else {}

    def kick_off(self, request: ExportRequest, *, agent: str, url: str) -> str:
        """Queue an export and return its id.

        Parameters
        ----------
        request
            As `parse_export` returns it.
        agent
            Who asks: nobody else gets at the export.
        url
            Address of the kick-off request, for the manifest.

        Raises
        ------
        FhirError
            404 for an unknown Group; 429 when the requester has ten exports under way.
        """
        self.sweep()
        if request.level == "group":
            check_group(self._database, request.group)
        waiting = [
            job
            for state in (JobState.QUEUED, JobState.RUNNING)
            for job in self._jobs.list(kind=EXPORT, state=state, limit=1000)
            if job.payload["agent"] == agent
        ]
        if len(waiting) >= MAX_OPEN:
            text = f"{MAX_OPEN} exports of this requester are under way."
            raise FhirError(429, [Issue("throttled", text)], fix="Wait for one of them, or cancel it.")
        payload = {"request": request.to_payload(), "agent": agent, "url": url}
        key = f"{EXPORT}:{uuid.uuid4().hex}"

        def work(cursor: apsw.Cursor) -> str:
            job_id = self._jobs.enqueue_in(cursor, EXPORT, payload, key=key)
            stage(cursor, _event("E", "fhir.export", agent, job_id, level=request.level))
            return job_id

        return self._database.write(work)

    def run(self, job: Job, progress: Callable[[float, str], None]) -> None:
        """Write the files of a claimed job and end it; what breaks it off leaves no file.

        Raises
        ------
        FhirError
            The Group is no longer there.
        StorageError
            The disk does not take the files.
        """
        request = ExportRequest.from_payload(job.payload["request"])
        agent = str(job.payload["agent"])
        part = self.folder / f"{job.job_id}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True, mode=0o700)
        try:
            result = write_export(
                self._database, request, part, progress, files=self.files, extra=self.package_parameters
            )
            shutil.rmtree(self.folder / job.job_id, ignore_errors=True)
            part.replace(self.folder / job.job_id)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        count = sum(row["count"] for row in result["output"])

        def work(cursor: apsw.Cursor) -> None:
            self._jobs.succeed_in(cursor, job, result)
            stage(cursor, _event("R", "fhir.export.written", agent, job.job_id, resources=count))

        self._database.write(work)

    def find(self, export_id: str, *, agent: str) -> Export:
        """Return an export of this requester.

        Raises
        ------
        NotFoundError
            There is none, it is somebody else's, or its files are gone.
        """
        job = self._owned(export_id, agent)
        if job.state is not JobState.SUCCEEDED:
            return Export(job, None)
        expires = job.updated_utc.timestamp() + self._lifetime_s
        if expires < time.time() or not (self.folder / job.job_id).is_dir():
            raise _no_export()
        return Export(job, expires)

    def file(self, export_id: str, name: str, *, agent: str) -> Path:
        """Return the path of a file of a complete export, and put its download into the audit trail.

        Raises
        ------
        NotFoundError
            As `find`, or the export has no such file.
        """
        export = self.find(export_id, agent=agent)
        result: dict[str, Any] = export.job.result or {}
        names = {row["name"] for kind in ("output", "deleted", "error") for row in result.get(kind, ())}
        path = self.folder / export_id / name
        if name not in names or not path.is_file():
            raise _no_export()
        event = _event("R", "fhir.export.download", agent, export_id, file=name)
        self._database.write(lambda cursor: stage(cursor, event))
        return path

    def cancel(self, export_id: str, *, agent: str) -> None:
        """Stop an export that is under way, or remove the files of a complete one.

        Raises
        ------
        NotFoundError
            As `find`.
        """
        self.find(export_id, agent=agent)
        self._jobs.cancel(export_id)
        event = _event("D", "fhir.export.delete", agent, export_id)
        self._database.write(lambda cursor: stage(cursor, event))
        shutil.rmtree(self.folder / export_id, ignore_errors=True)

    def sweep(self) -> None:
        """Remove the files of exports that are past their lifetime, and what a crash left behind."""
        if not self.folder.is_dir():
            return
        limit = time.time() - self._lifetime_s
        for place in self.folder.iterdir():
            name = place.name.removesuffix(".part")
            try:
                job = self._jobs.get(name)
            except NotFoundError:
                continue
            if job.state in _ENDED and (job.updated_utc.timestamp() < limit or place.suffix == ".part"):
                shutil.rmtree(place, ignore_errors=True)

    def _owned(self, export_id: str, agent: str) -> Job:
        try:
            job = self._jobs.get(export_id)
        except NotFoundError:
            raise _no_export() from None
        if job.kind != EXPORT or job.payload["agent"] != agent or job.cancel_requested:
            raise _no_export()
        return job


def _event(
    action: Literal["R", "D", "E"], kind: str, agent: str, export_id: str, **detail: str | int
) -> AuditEvent:
    return AuditEvent(action, kind, "success", agent, f"export/{export_id}", detail=detail)


def _no_export() -> NotFoundError:
    return NotFoundError(
        "There is no such export.",
        "It never was, it was cancelled, its time is over, or somebody else asked for it.",
        "Kick off a new one.",
    )

"""A job queue in the database: what was enqueued is done in the end, also over crashes and restarts."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, DigitalTwinError, NotFoundError
from digital_twins.storage._migrations import Migration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import apsw

    from digital_twins.storage._database import Database

MIGRATIONS = (
    Migration(
        "storage.0001.job",
        """
        CREATE TABLE job(
            job_id TEXT PRIMARY KEY,
            job_key TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL,
            payload TEXT NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            max_attempts INTEGER NOT NULL,
            progress REAL NOT NULL DEFAULT 0,
            progress_text TEXT NOT NULL DEFAULT '',
            result TEXT,
            error TEXT,
            cancel_requested INTEGER NOT NULL DEFAULT 0,
            worker TEXT,
            boot_id TEXT,
            lease_until REAL,
            not_before REAL NOT NULL DEFAULT 0,
            created REAL NOT NULL,
            updated REAL NOT NULL
        );
        CREATE INDEX job_open ON job(state, not_before, created);
        CREATE INDEX job_kind ON job(kind, created);
        """,
        protected=("job.payload", "job.result"),
    ),
)
"""The queue's table. Times are seconds since 1970-01-01 UTC."""

_COLUMNS = (
    "job_id, job_key, kind, payload, state, attempts, max_attempts, progress, progress_text, result, error,"
    " cancel_requested, worker, boot_id, lease_until, created, updated"
)
_LONGEST_RETRY_DELAY_S = 300.0


class JobState(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stood when it was read.

    `attempts` counts the starts, this one included; together with `worker` it tells a run from the runs of
    others, so a worker that lost its lease cannot write over the job. `error` holds ``what``, ``why`` and
    ``fix`` of the last failure, also while a retry waits. `progress` is a fraction from 0 to 1.
    """

    job_id: str
    key: str
    kind: str
    payload: dict[str, Any]
    state: JobState
    attempts: int
    max_attempts: int
    progress: float
    progress_text: str
    result: dict[str, Any] | None
    error: dict[str, str] | None
    cancel_requested: bool
    worker: str | None
    boot_id: str | None
    lease_until_utc: datetime | None
    created_utc: datetime
    updated_utc: datetime


class JobQueue:
    """Jobs by key, with leases, retries, progress and cancellation.

    A worker claims a job for a lease and renews it with `heartbeat`. A job whose lease ran out, or whose
    node restarted (`release_stale`), is given to the next worker; a job that broke its worker `max_attempts`
    times fails. A job therefore runs at least once: its work must be idempotent, or be written together with
    its end by `succeed_in`.

    Parameters
    ----------
    database
        Opened with this room's ``MIGRATIONS`` among its migrations.
    boot_id
        Names one start of the node; worker processes get the node's. Default: a new one.
    """

    def __init__(self, database: Database, *, boot_id: str | None = None) -> None:
        self._database = database
        self.boot_id = boot_id or uuid.uuid4().hex

    def enqueue(self, kind: str, payload: Mapping[str, Any], *, key: str, max_attempts: int = 3) -> str:
        """Enqueue a job durably and return its id; see `enqueue_in`."""
        return self._database.write(
            lambda cursor: self.enqueue_in(cursor, kind, payload, key=key, max_attempts=max_attempts)
        )

    def enqueue_in(
        self, cursor: apsw.Cursor, kind: str, payload: Mapping[str, Any], *, key: str, max_attempts: int = 3
    ) -> str:
        """Enqueue a job inside the caller's transaction and return its id.

        Parameters
        ----------
        cursor
            The cursor of the caller's unit of work: the job exists exactly if that unit is committed.
        kind
            What is to be done, e.g. ``"twin.build"``.
        payload
            Arguments, as JSON. Never logged.
        key
            The same key always means the same job: a second call changes nothing and returns the first id,
            whatever state that job is in.
        max_attempts
            Starts after which a job that keeps failing is given up.
        """
        now = time.time()
        cursor.execute(
            "INSERT INTO job(job_id, job_key, kind, payload, state, max_attempts, created, updated)"
            " VALUES (?, ?, ?, ?, 'queued', ?, ?, ?) ON CONFLICT(job_key) DO NOTHING",
            (uuid.uuid4().hex, key, kind, json.dumps(payload, sort_keys=True), max_attempts, now, now),
        )
        rows = cursor.execute("SELECT job_id FROM job WHERE job_key = ?", (key,)).fetchall()
        return str(rows[0][0])

    def claim(self, worker: str, kinds: Sequence[str], lease_s: float = 60.0) -> Job | None:
        """Take the oldest waiting job of the given kinds for `lease_s` seconds; None when there is none."""
        now = time.time()
        with self._database.read() as connection:
            if _next(connection.cursor(), kinds, now) is None:
                return None
        return self._database.write(lambda cursor: self._claim_in(cursor, worker, kinds, lease_s))

    def heartbeat(self, job: Job, *, lease_s: float = 60.0) -> bool:
        """Renew the lease; False when the work should stop (cancelled, or given to another worker)."""
        return self._database.write(
            lambda cursor: _while_held(
                cursor, job, "lease_until = ?", (time.time() + lease_s,), " AND cancel_requested = 0"
            )
        )

    def progress(self, job: Job, fraction: float, text: str = "") -> bool:
        """Record how far the work is (0 to 1, and a phrase without patient data); see `heartbeat`."""
        return self._database.write(
            lambda cursor: _while_held(
                cursor,
                job,
                "progress = ?, progress_text = ?",
                (min(max(fraction, 0.0), 1.0), text),
                " AND cancel_requested = 0",
            )
        )

    def succeed(self, job: Job, result: Mapping[str, Any] | None = None) -> None:
        """End a job with its result; see `succeed_in`."""
        self._database.write(lambda cursor: self.succeed_in(cursor, job, result))

    def succeed_in(self, cursor: apsw.Cursor, job: Job, result: Mapping[str, Any] | None = None) -> None:
        """End a job inside the transaction that writes what it made, so that both exist or neither.

        Raises
        ------
        ConflictError
            The job is no longer this worker's: its lease ran out and another took it.
        """
        held = _while_held(
            cursor,
            job,
            "state = 'succeeded', progress = 1, error = NULL, lease_until = NULL, result = ?",
            (json.dumps(result or {}, sort_keys=True),),
        )
        if not held:
            raise _lost()

    def fail(
        self, job: Job, error: BaseException, *, retry: bool = True, retry_delay_s: float = 1.0
    ) -> JobState:
        """Record a failure and return the state that follows.

        Parameters
        ----------
        job
            As `claim` returned it.
        error
            A DigitalTwinError is kept as what/why/fix; of any other exception only its type is kept,
            because its text may hold patient data.
        retry
            Whether another start can help; it then waits `retry_delay_s`, doubled with each attempt.
        retry_delay_s
            Seconds before the second start.

        Raises
        ------
        ConflictError
            The job is no longer this worker's.
        """
        return self._database.write(
            lambda cursor: self.fail_in(cursor, job, error, retry=retry, retry_delay_s=retry_delay_s)
        )

    def fail_in(
        self,
        cursor: apsw.Cursor,
        job: Job,
        error: BaseException,
        *,
        retry: bool = True,
        retry_delay_s: float = 1.0,
    ) -> JobState:
        """Record a failure inside the transaction that stages its audit event; see `fail`."""
        return _fail_in(cursor, job, _described(error), retry, retry_delay_s)

    def release(self, job: Job) -> None:
        """Give a job back unfinished, e.g. when the node shuts down; this start is not counted."""
        self._database.write(lambda cursor: self.release_in(cursor, job))

    def release_in(self, cursor: apsw.Cursor, job: Job) -> None:
        """Give a job back inside the transaction that stages its audit event; see `release`."""
        _while_held(cursor, job, "state = 'queued', lease_until = NULL, attempts = attempts - 1", ())

    def cancel(self, job_id: str) -> JobState:
        """Cancel a waiting job at once, ask the worker of a running one to stop, and return its state.

        Raises
        ------
        NotFoundError
            No job has that id.
        """

        def work(cursor: apsw.Cursor) -> JobState:
            cursor.execute(
                "UPDATE job SET cancel_requested = 1, updated = ?,"
                " state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END"
                " WHERE job_id = ? AND state IN ('queued', 'running')",
                (time.time(), job_id),
            )
            return _get(cursor, job_id).state

        return self._database.write(work)

    def retry(self, job_id: str) -> None:
        """Put a failed or cancelled job back into the queue with its attempts counted anew.

        Raises
        ------
        NotFoundError
            No job has that id.
        """

        def work(cursor: apsw.Cursor) -> None:
            _get(cursor, job_id)
            cursor.execute(
                "UPDATE job SET state = 'queued', attempts = 0, cancel_requested = 0, not_before = 0,"
                " progress = 0, progress_text = '', updated = ?"
                " WHERE job_id = ? AND state IN ('failed', 'cancelled')",
                (time.time(), job_id),
            )

        self._database.write(work)

    def release_stale(self, boot_id: str | None = None) -> int:
        """Queue again the running jobs of earlier starts of the node, and return how many there were.

        Parameters
        ----------
        boot_id
            The present start; default this queue's.
        """
        present = boot_id or self.boot_id

        def work(cursor: apsw.Cursor) -> int:
            cursor.execute(
                "UPDATE job SET state = 'queued', lease_until = NULL, updated = ?"
                " WHERE state = 'running' AND boot_id <> ?",
                (time.time(), present),
            )
            return _changes(cursor)

        return self._database.write(work)

    def release_worker(self, worker: str) -> int:
        """Queue again the running jobs of a worker that has ended, and return how many there were."""

        def work(cursor: apsw.Cursor) -> int:
            cursor.execute(
                "UPDATE job SET state = 'queued', lease_until = NULL, updated = ?"
                " WHERE state = 'running' AND boot_id = ? AND worker = ?",
                (time.time(), self.boot_id, worker),
            )
            return _changes(cursor)

        return self._database.write(work)

    def get(self, job_id: str) -> Job:
        """Return a job as it stands.

        Raises
        ------
        NotFoundError
            No job has that id.
        """
        with self._database.read() as connection:
            return _get(connection.cursor(), job_id)

    def list(
        self, *, kind: str | None = None, state: JobState | str | None = None, limit: int = 100
    ) -> tuple[Job, ...]:
        """Return the newest jobs first, of one kind or in one state if asked."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM job WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR state = ?2)"  # noqa: S608  (constant)  # nosec B608
                " ORDER BY created DESC, job_id LIMIT ?3",
                (kind, None if state is None else str(state), limit),
            ).fetchall()
        return tuple(_job(row) for row in rows)

    def _claim_in(self, cursor: apsw.Cursor, worker: str, kinds: Sequence[str], lease_s: float) -> Job | None:
        now = time.time()
        while (found := _next(cursor, kinds, now)) is not None:
            job_id, attempts, max_attempts, cancelled = found
            if cancelled:
                cursor.execute(
                    "UPDATE job SET state = 'cancelled', updated = ? WHERE job_id = ?", (now, job_id)
                )
            elif attempts >= max_attempts:
                cursor.execute(
                    "UPDATE job SET state = 'failed', updated = ?, error = ? WHERE job_id = ?",
                    (now, json.dumps(_WORKER_DIED), job_id),
                )
            else:
                cursor.execute(
                    "UPDATE job SET state = 'running', attempts = attempts + 1, worker = ?, boot_id = ?,"
                    " lease_until = ?, progress = 0, progress_text = '', updated = ? WHERE job_id = ?",
                    (worker, self.boot_id, now + lease_s, now, job_id),
                )
                return _get(cursor, job_id)
        return None


_WORKER_DIED = {
    "error": "JobError",
    "what": "The job was given up.",
    "why": "Each time it ran, its worker ended without an answer.",
    "fix": "Look for the worker's end in the system log (memory?), then retry the job.",
}


def _next(cursor: apsw.Cursor, kinds: Sequence[str], now: float) -> tuple[str, int, int, int] | None:
    marks = ", ".join("?" * len(kinds))
    row = cursor.execute(
        "SELECT job_id, attempts, max_attempts, cancel_requested FROM job"  # noqa: S608  (question marks)  # nosec B608
        f" WHERE kind IN ({marks}) AND ((state = 'queued' AND not_before <= ?)"
        " OR (state = 'running' AND lease_until < ?)) ORDER BY created, job_id LIMIT 1",
        (*kinds, now, now),
    ).fetchone()
    return None if row is None else (str(row[0]), int(row[1]), int(row[2]), int(row[3]))


def _while_held(
    cursor: apsw.Cursor, job: Job, assignments: str, values: tuple[str | float, ...], extra: str = ""
) -> bool:
    cursor.execute(
        f"UPDATE job SET {assignments}, updated = ?"  # noqa: S608  (constants of this module)  # nosec B608
        " WHERE job_id = ? AND state = 'running' AND worker = ? AND attempts = ?" + extra,
        (*values, time.time(), job.job_id, job.worker, job.attempts),
    )
    return _changes(cursor) > 0


def _fail_in(
    cursor: apsw.Cursor, job: Job, error: Mapping[str, str], retry: bool, retry_delay_s: float
) -> JobState:
    if _get(cursor, job.job_id).cancel_requested:
        state = JobState.CANCELLED
    elif retry and job.attempts < job.max_attempts:
        state = JobState.QUEUED
    else:
        state = JobState.FAILED
    delay = min(retry_delay_s * 2.0 ** (job.attempts - 1), _LONGEST_RETRY_DELAY_S)
    held = _while_held(
        cursor,
        job,
        "state = ?, error = ?, not_before = ?, lease_until = NULL",
        (state.value, json.dumps(error), time.time() + delay),
    )
    if not held:
        raise _lost()
    return state


def _described(error: BaseException) -> dict[str, str]:
    if isinstance(error, DigitalTwinError):
        return error.to_dict()
    return {
        "error": type(error).__name__,
        "what": "The job failed.",
        "why": f"{type(error).__name__} was raised; its text is not kept, for it may name a patient.",
        "fix": "Look for this time in the node's log, which has the place in the code, and report it.",
    }


def _lost() -> ConflictError:
    return ConflictError(
        "The result of this job was not kept.",
        "The worker's lease had run out and the job was given to another worker, or it had ended.",
        "Renew the lease more often, or claim with a longer one.",
    )


def _changes(cursor: apsw.Cursor) -> int:
    return int(cursor.connection.changes())


def _get(cursor: apsw.Cursor, job_id: str) -> Job:
    row = cursor.execute(f"SELECT {_COLUMNS} FROM job WHERE job_id = ?", (job_id,)).fetchone()  # noqa: S608  (constant)  # nosec B608
    if row is None:
        raise NotFoundError(
            "There is no such job.",
            "No job has that id in this data folder.",
            "List the jobs to find its id.",
        )
    return _job(row)


def _job(row: Sequence[Any]) -> Job:
    return Job(
        job_id=row[0],
        key=row[1],
        kind=row[2],
        payload=json.loads(row[3]),
        state=JobState(row[4]),
        attempts=row[5],
        max_attempts=row[6],
        progress=row[7],
        progress_text=row[8],
        result=None if row[9] is None else json.loads(row[9]),
        error=None if row[10] is None else json.loads(row[10]),
        cancel_requested=bool(row[11]),
        worker=row[12],
        boot_id=row[13],
        lease_until_utc=None if row[14] is None else datetime.fromtimestamp(row[14], tz=UTC),
        created_utc=datetime.fromtimestamp(row[15], tz=UTC),
        updated_utc=datetime.fromtimestamp(row[16], tz=UTC),
    )

"""The worker process: ``python -m digital_twins.server.worker --data DIR --boot ID``.

It claims build jobs from the node's queue. When its standard input closes, the node is going down and the
running job is given back. When the node dies, however it dies, the kernel ends the worker at once where it
can (Linux), also inside a long computation; elsewhere the closed input ends it at the next step of the job.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, InputError, NotFoundError, StorageError
from digital_twins._logging import get_logger, setup_logging
from digital_twins.fhir.bulk import EXPORT
from digital_twins.server._encryption import open_register
from digital_twins.server._job_events import EVENT_KINDS, fail_job, release_job
from digital_twins.server._operations import follow_operations
from digital_twins.server._results import RESULT, send_result
from digital_twins.server._routing import follow_routing
from digital_twins.server._services import BUILD, METADATA, open_services
from digital_twins.server._workers import worker_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

    from digital_twins.server._services import Services
    from digital_twins.storage import Job, KeyRegister

_log = get_logger("digital_twins.server.worker")
_POLL_S = 0.25
_LEASE_S = 30.0
_STORAGE_PAUSE_S = 2.0
_PR_SET_PDEATHSIG = 1


class StoppedError(Exception):
    """The job should end now: cancelled, or the node is going down."""


class _Run:
    """One claimed job: its lease is renewed by a thread, and progress tells the work to stop."""

    def __init__(self, services: Services, job: Job, stopping: threading.Event) -> None:
        self._services = services
        self._job = job
        self._stopping = stopping
        self._lost = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def progress(self, fraction: float, text: str) -> None:
        """Record progress; raise StoppedError when the job should end."""
        if self._stopping.is_set() or self._lost.is_set():
            raise StoppedError
        if not self._services.jobs.progress(self._job, fraction, text):
            raise StoppedError

    def end(self) -> None:
        """Stop renewing the lease."""
        self._done.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._done.wait(_LEASE_S / 3):
            try:
                held = self._services.jobs.heartbeat(self._job, lease_s=_LEASE_S)
            except StorageError as error:  # a full disk may have room again before the lease ends
                _log.warning("job.lease.failed", job_id=self._job.job_id, what=error.what)
                continue
            if not held:
                self._lost.set()
                return


def _build_twin(services: Services, job: Job, progress: Callable[[float, str], None]) -> None:
    from digital_twins.server._build import build

    build(services, job, progress)


def _write_metadata(services: Services, job: Job, progress: Callable[[float, str], None]) -> None:
    from digital_twins.dicom import build_pending

    written = 0
    while count := build_pending(services.dicom, limit=100):
        written += count
        progress(0.5, f"{written} instances")
    event = services.auditor.event(
        "C", EVENT_KINDS[METADATA], detail={"job": job.job_id, "instances": written}
    )

    def work(cursor: apsw.Cursor) -> None:
        services.auditor.stage(cursor, event)
        services.jobs.succeed_in(cursor, job, {"instances": written})

    services.database.write(work)


def _export(services: Services, job: Job, progress: Callable[[float, str], None]) -> None:
    services.exports.run(job, progress)


_WORK = {BUILD: _build_twin, METADATA: _write_metadata, EXPORT: _export, RESULT: send_result}


def run_job(services: Services, job: Job, stopping: threading.Event) -> None:
    """Run one job to its end: succeeded, failed with what/why/fix, cancelled, or given back."""
    run = _Run(services, job, stopping)
    _log.info("job.started", job_id=job.job_id, kind=job.kind, attempts=job.attempts)
    try:
        _WORK[job.kind](services, job, run.progress)
        _log.info("job.succeeded", job_id=job.job_id)
    except StoppedError:
        if stopping.is_set():
            release_job(services, job)
        else:
            fail_job(services, job, _cancelled(), retry=False)
    except (InputError, NotFoundError) as error:
        _log.info("job.refused", job_id=job.job_id, what=error.what)
        fail_job(services, job, error, outcome="refused", retry=False)
    except DigitalTwinError as error:
        _log.warning("job.failed", job_id=job.job_id, what=error.what)
        fail_job(services, job, error)
    except Exception as error:  # noqa: BLE001  (edge of the worker: a job's trouble must not end the worker)
        _log.error("job.failed", job_id=job.job_id, error=type(error).__name__, where=_place(error))
        fail_job(services, job, error)
    finally:
        run.end()


def _cancelled() -> InputError:
    return InputError("The job was cancelled.", "Somebody asked for it.", "Run it again with retry.")


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"


def serve(
    data_dir: Path,
    boot_id: str,
    stopping: threading.Event,
    *,
    routing: str = "",
    results_to: str = "",
    server: str = "",
    keys: KeyRegister | None = None,
) -> None:
    """Claim and run jobs until `stopping` is set.

    Parameters
    ----------
    data_dir, boot_id
        Of the node.
    stopping
        Ends the work.
    routing
        As `worker_routing` writes it.
    results_to
        ``HOST:PORT`` that gets each report as HL7 v2.
    server
        Address of a database server instead of files.
    keys
        Of an encrypted data folder.
    """
    services = open_services(data_dir, boot_id=boot_id, server=server, keys=keys)
    services.results_to = results_to
    follow_routing(services, routing)
    follow_operations(services)
    name = worker_name(os.getpid())
    troubled = False
    try:
        while not stopping.is_set():
            try:
                if troubled:
                    services.jobs.release_worker(name)
                    troubled = False
                job = services.jobs.claim(name, list(_WORK), lease_s=_LEASE_S)
                if job is not None:
                    run_job(services, job, stopping)
                    continue
            except StorageError as error:
                # A full disk takes no job and no end of a job: once there is room, it is given back.
                troubled = True
                _log.error("worker.storage.failed", what=error.what, why=error.why)
                stopping.wait(_STORAGE_PAUSE_S)
            stopping.wait(_POLL_S)
    finally:
        services.close()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch_parent(stopping: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stopping.set()


def main(arguments: list[str] | None = None) -> int:
    """Run as a process of the node; returns the exit code."""
    parser = argparse.ArgumentParser(prog="digital_twins.server.worker")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--boot", required=True)
    parser.add_argument("--log-level", default="INFO")
    parser.add_argument("--routing", default="")
    parser.add_argument("--database", default="")
    parser.add_argument("--results-to", default="")
    parser.add_argument("--encryption-keys", default="")
    parser.add_argument("--encryption-vault-token-file", type=Path, default=None)
    given = parser.parse_args(arguments)
    setup_logging(given.log_level)
    stopping = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the node too, which decides
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    _die_with_parent()
    threading.Thread(target=_watch_parent, args=(stopping,), daemon=True).start()
    try:
        keys = None
        if given.encryption_keys:
            keys = open_register(given.data, given.encryption_keys, given.encryption_vault_token_file)
        serve(
            given.data,
            given.boot,
            stopping,
            routing=given.routing,
            results_to=given.results_to,
            server=given.database,
            keys=keys,
        )
    except DigitalTwinError as error:
        _log.error("worker.failed", what=error.what, why=error.why, fix=error.fix)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

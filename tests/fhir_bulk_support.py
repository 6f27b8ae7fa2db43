"""A store with Bulk Data exports in a server, and a thread that runs them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from digital_twins.audit import OUTBOX_MIGRATIONS
from digital_twins.fhir import MIGRATIONS, FhirStore, fhir_routes
from digital_twins.fhir.bulk import EXPORT, BulkExports, bulk_routes
from digital_twins.storage import MIGRATIONS as JOBS, Database, JobQueue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from starlette.requests import Request
    from starlette.routing import BaseRoute


@dataclass
class BulkServer:
    """What a test of exports needs."""

    store: FhirStore
    jobs: JobQueue
    exports: BulkExports
    base: str = ""

    def work_once(self) -> bool:
        """Run the oldest waiting export; False when there is none."""
        job = self.jobs.claim("test", [EXPORT])
        if job is None:
            return False
        try:
            self.exports.run(job, lambda fraction, text: _go_on(self.jobs.progress(job, fraction, text)))
        except InterruptedError as error:
            self.jobs.fail(job, error, retry=False)
        return True


def _go_on(held: bool) -> None:
    if not held:
        raise InterruptedError


@contextmanager
def open_bulk(folder: Path, *, lifetime_s: float = 3600.0) -> Iterator[BulkServer]:
    """A store with a job queue and exports, without a server."""
    with Database(folder / "node.db", migrations=(*JOBS, *OUTBOX_MIGRATIONS, *MIGRATIONS)) as database:
        store = FhirStore(database, pseudonym=lambda _: "ab" * 32)
        jobs = JobQueue(database)
        yield BulkServer(store, jobs, BulkExports(database, jobs, folder / "exports", lifetime_s=lifetime_s))
        store.close()


def caller(request: Request) -> str:
    """Name who asks by the test's own header."""
    return request.headers.get("x-test-user", "anonymous")


@contextmanager
def serve_routes(routes: Sequence[BaseRoute]) -> Iterator[str]:
    """Run routes in uvicorn on a free port and yield the address."""
    config = uvicorn.Config(
        Starlette(routes=routes), log_config=None, lifespan="off", ws="none", access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 120
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def serve_bulk(bulk: BulkServer, *, working: bool = True) -> Iterator[str]:
    """Serve REST and exports; with ``working`` a thread runs what is kicked off."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            if not bulk.work_once():
                stop.wait(0.01)

    thread = threading.Thread(target=work)
    routes = [*bulk_routes(bulk.exports, agent=caller), *fhir_routes(bulk.store, agent=caller)]
    with serve_routes(routes) as address:
        if working:
            thread.start()
        bulk.base = f"{address}/fhir"
        yield bulk.base
        stop.set()
        if working:
            thread.join()

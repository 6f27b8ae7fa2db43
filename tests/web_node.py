"""A small node for tests of the web door: real storage and application, made-up twin."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

import twin_page_fixture as made_up
from digital_twins.server import create_app
from digital_twins.server._api import ApiParts
from digital_twins.server._catalogue import MIGRATIONS, Catalogue
from digital_twins.server._metrics import Metrics
from digital_twins.server._models import Health
from digital_twins.storage import MIGRATIONS as STORAGE_MIGRATIONS, BlobStore, Database, JobQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import ASGIApp


class WebNode:
    """The parts of a node that the web needs, with every audit event kept in ``events``."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "twin.sqlite", migrations=(*STORAGE_MIGRATIONS, *MIGRATIONS))
        self.blobs = BlobStore(folder / "blobs")
        self.jobs = JobQueue(self.database)
        self.catalogue = Catalogue(self.database, self.blobs)
        self.metrics = Metrics()
        self.events: list[tuple[str, str, str, str | None]] = []
        parts = ApiParts(self.catalogue, self.jobs, lambda *event: self.events.append(event))
        self.app: ASGIApp = create_app(parts, metrics=self.metrics, health=self.health)

    def health(self) -> Health:
        """Always well."""
        return Health(status="ok", version="0", parts={"database": "ok"})

    def add_patient(self, *, with_twin: bool = True, waiting_for: str | None = None) -> str:
        """Put a patient into the catalogue and return the key."""
        shown = made_up.patient()
        key = self.catalogue.patient_key(shown.patient_id if with_twin else "TEST-WAITING")
        named = ("name", "sex", "diagnosis", "stage", "labels", "biomarkers")
        summary: dict[str, Any] = (
            {**shown.model_dump(mode="json", include=set(named) | {"birth_date"})} if with_twin else {}
        )
        self.database.write(
            lambda cursor: self.catalogue.note_in(
                cursor, key, summary=summary, waiting_for=waiting_for, job_id=None
            )
        )
        if with_twin:
            image, affine, centre = made_up.phantom()
            files = {
                f"predicted/{name}": made_up.ball_volumes(image.shape, affine, centre, name)
                for name in made_up.COURSES
            }
            files["image"] = made_up.nifti(image, affine)
            files["lesion"] = made_up.nifti((image == 40).astype("uint8"), affine)
            files["pdf"] = b"%PDF-1.4 made up"
            digests = dict(zip(files, self.blobs.put_many(files.values()), strict=True))
            self.database.write(lambda cursor: self.catalogue.keep_in(cursor, made_up.twin(key), digests))
        return key

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve over HTTP on a free port of 127.0.0.1 and give the base address."""
        config = uvicorn.Config(
            self.app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 120
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

"""A PACS in this process for the tests of other programs: DIMSE, DICOMweb, and faults on request."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from digital_twins.testing._faults import Fault, Script, faulty_app, faulty_port

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from pydicom.dataset import Dataset

    from digital_twins.dicom import DicomStore, Remote

_START_S = 30.0


class MockPACS:
    """An archive on free ports of this machine; ``with MockPACS() as pacs:`` starts and ends it.

    It is this project's own DICOM port and DICOMweb door over a temporary folder, so it answers as a real
    archive does: queries at all levels, C-MOVE to the destinations that it is told, C-GET, STOW-RS.

    Parameters
    ----------
    ae_title
        Its application entity title.
    destinations
        AE title to host and port, for C-MOVE.

    Attributes
    ----------
    dicom_port
        The port for DIMSE.
    dicom_web
        The DICOMweb root.

    Examples
    --------
    >>> with MockPACS() as pacs:  # doctest: +SKIP
    ...     pacs.add_study(datasets)
    ...     pacs.fail("dicom-web", "reject", status=503, times=2)
    ...     DicomWebClient(pacs.dicom_web).search_studies()  # succeeds at the third attempt
    """

    def __init__(
        self, *, ae_title: str = "MOCKPACS", destinations: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        self.ae_title = ae_title
        self.dicom_port = 0
        self.dicom_web = ""
        self._destinations = dict(destinations or {})
        self._scripts = {"dicom": Script(), "dicom-web": Script()}
        self._stack = ExitStack()
        self._store: DicomStore | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def store(self) -> DicomStore:
        """What the archive holds."""
        if self._store is None:
            raise RuntimeError("the archive is not running: use it in a with statement")
        return self._store

    @property
    def remote(self) -> Remote:
        """How `digital_twins.dicom.find` and its sisters call it."""
        from digital_twins.dicom import Remote

        return Remote("127.0.0.1", self.dicom_port, called_ae=self.ae_title)

    def add_study(self, objects: Iterable[Dataset | bytes | Path]) -> None:
        """Put objects into the archive: data sets, DICOM files as bytes, or paths.

        Raises
        ------
        ObjectRefusedError
            An object that no archive would take.
        """
        self.store.ingest_many((_file(item) for item in objects), source="MockPACS.add_study")

    def fail(
        self,
        port: Literal["dicom", "dicom-web"],
        kind: Literal["reject", "time-out", "truncate"],
        *,
        times: int = 1,
        status: int = 503,
        after_bytes: int = 1000,
    ) -> None:
        """Let the next associations or HTTP requests go wrong; `Fault` tells what the words mean."""
        self._scripts[port].add(Fault(kind, status, after_bytes), times)

    def _start(self) -> None:
        from digital_twins import audit, dicom, storage

        # The threads of a request that was cut may still hold a file when the folder goes.
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        migrations = (*storage.MIGRATIONS, *audit.OUTBOX_MIGRATIONS, *dicom.MIGRATIONS)
        database = self._stack.enter_context(storage.Database(folder / "index.db", migrations=migrations))
        self._store = dicom.DicomStore(database, storage.BlobStore(folder / "blobs"))
        loop = _Loop()
        self._stack.callback(loop.close)
        peers = [dicom.DicomPeer(title, host, port) for title, (host, port) in self._destinations.items()]
        access = dicom.Access(peers=dicom.PeerTable.of(peers))
        listener = loop.run(dicom.start_listener(self._store, port=0, ae_title=self.ae_title, access=access))
        self._stack.callback(lambda: loop.run(listener.close(grace_s=2)))
        front: asyncio.Server = loop.run(faulty_port(self._scripts["dicom"], listener.port))
        self._stack.callback(lambda: loop.call(front.close))
        self.dicom_port = int(front.sockets[0].getsockname()[1])
        self.dicom_web = f"http://127.0.0.1:{self._serve(loop)}/dicom-web"

    def _serve(self, loop: _Loop) -> int:
        """Start the HTTP server and return its port."""
        import uvicorn
        from starlette.applications import Starlette
        from starlette.routing import Mount

        from digital_twins import dicom

        app = Starlette(routes=[Mount("/dicom-web", routes=dicom.dicomweb_routes(self.store))])
        config = uvicorn.Config(
            faulty_app(app, self._scripts["dicom-web"]),
            port=0,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        task = loop.begin(server.serve())

        async def started() -> int:
            while not server.started:
                await asyncio.sleep(0.01)
            return int(server.servers[0].sockets[0].getsockname()[1])

        def stop() -> None:
            server.should_exit = True
            task.result(_START_S)

        port: int = loop.run(started())
        self._stack.callback(stop)
        return port


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="MockPACS", daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.begin(work).result(_START_S)

    def call(self, function: Any) -> None:
        async def work() -> None:
            function()

        self.run(work())

    def close(self) -> None:
        async def cancel_all() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)
        self._loop.close()


def _file(item: Dataset | bytes | Path) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, Path):
        return item.read_bytes()
    buffer = BytesIO()
    item.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()

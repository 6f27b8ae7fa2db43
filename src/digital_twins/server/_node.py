"""The running node: DICOM port, HTTP port, workers and the audit drainer on one data folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import uuid
from typing import TYPE_CHECKING, Self

import digital_twins
from digital_twins._errors import DigitalTwinError, StorageError
from digital_twins._logging import get_logger
from digital_twins.server._datadir import DataFolder
from digital_twins.server._encryption import open_keys, worker_encryption
from digital_twins.server._erase import finish_erasures

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Mapping
    from types import TracebackType
    from typing import Any

    from pydicom.dataset import Dataset

    from digital_twins.audit import AuditTrail
    from digital_twins.config import Settings
    from digital_twins.dicom import Listener
    from digital_twins.server._models import Health
    from digital_twins.server._scheduler import TwinScheduler
    from digital_twins.server._services import Services
    from digital_twins.server._workers import WorkerPool

_log = get_logger(__name__)
_DRAIN_S = 0.2


class Node:
    """A node on one data folder: ``async with Node(settings) as node`` or ``with Node(settings) as node``.

    The plain ``with`` runs the node in a thread of its own, for tests and notebooks. Ports that are 0 in the
    settings are taken free; `dicom_port` and `http_port` tell which.

    Parameters
    ----------
    settings
        As `digital_twins.config.load_settings` returns them.
    deidentifiers
        Functions that routing rules may name: each takes a data set and returns the one that may leave.

    Raises
    ------
    InputError
        On entering: a peer or routing rule that cannot be used.
    StorageError
        On entering: the data folder cannot be written, or a port is occupied.
    ConflictError
        On entering: another node runs on the folder.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        deidentifiers: Mapping[str, Callable[[Dataset], Dataset]] | None = None,
    ) -> None:
        self.settings = settings
        self._deidentifiers = deidentifiers or {}
        self.boot_id = uuid.uuid4().hex
        self.dicom_port = 0
        self.dicom_tls_port = 0
        self.http_port = 0
        self.hl7_port = 0
        self._stack = contextlib.AsyncExitStack()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._leave: Callable[[], object] | None = None

    @property
    def base_url(self) -> str:
        """Address of the pages, e.g. ``"http://127.0.0.1:8042"``."""
        if self.settings.public_url:
            return self.settings.public_url.rstrip("/")
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{'https' if self.settings.http_tls_certificate else 'http'}://{host}:{self.http_port}"

    @property
    def services(self) -> Services:
        """The rooms of the running node."""
        return self._services

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        await self._stack.aclose()
        _log.info("node.stopped")

    def __enter__(self) -> Self:
        ready: threading.Event = threading.Event()
        failures: list[BaseException] = []

        async def live() -> None:
            leave = asyncio.Event()
            loop = asyncio.get_running_loop()
            self._leave = lambda: loop.call_soon_threadsafe(leave.set)
            async with self:
                ready.set()
                await leave.wait()

        def run() -> None:
            try:
                _run(live())
            except BaseException as error:  # noqa: BLE001  (handed to the thread that entered)
                failures.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name="node")
        self._thread.start()
        ready.wait()
        if failures:
            self._thread.join()
            raise failures[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._leave is not None and self._thread is not None:
            self._leave()
            self._thread.join()

    async def _start(self) -> None:
        from digital_twins.server._http_port import listen
        from digital_twins.server._services import open_services

        settings = self.settings
        folder = await asyncio.to_thread(DataFolder, settings.data_dir)
        self._stack.callback(folder.close)
        listening = listen(settings.host, settings.http_port)
        self._stack.callback(listening.close)
        self.http_port = int(listening.getsockname()[1])
        keys = await asyncio.to_thread(open_keys, settings)
        self._services = await asyncio.to_thread(
            open_services,
            folder.path,
            boot_id=self.boot_id,
            node=settings.ae_title,
            server=settings.database,
            keys=keys,
        )
        self._stack.callback(self._services.close)
        await asyncio.to_thread(finish_erasures, self._services)
        self._services.jobs.release_stale()
        self._start_package_index()
        await self._start_audit()
        self._scheduler = self._start_scheduler()
        await self._start_routing()
        self._start_peers()
        self._listener = await self._start_dicom()
        self._start_operations()
        await self._start_hl7()
        self._workers = self._start_workers()
        await self._start_http(listening)
        self._start_subscriptions()
        self._scheduler.rescan()
        self._announce()
        _log.info("node.started", port=self.http_port)

    def _start_package_index(self) -> None:
        """Index what is stored for the search parameters of the packages, beside everything else."""

        def go_on(done: int, _total: int) -> None:
            if self._stopping:
                raise asyncio.CancelledError
            _log.info("fhir.reindex", count=done)

        async def work() -> None:
            try:
                await asyncio.to_thread(self._services.parameters.reindex, go_on)
            except DigitalTwinError as error:
                _log.error("fhir.reindex.failed", what=error.what, why=error.why)

        task = asyncio.create_task(work())

        async def end() -> None:
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)

    async def _start_audit(self) -> None:
        from digital_twins.audit import AuditTrail

        self._trail: AuditTrail = await asyncio.to_thread(
            AuditTrail,
            self._services.data_dir / "audit.sqlite",
            anchor=self.settings.audit_anchor_file,
            server=self.settings.database,
        )
        self._follow_audit()  # ends after the trail, so that the last checkpoint is sent too
        self._stack.callback(self._trail.close)
        task = asyncio.create_task(self._drain())

        async def last_drain() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(self._trail.drain, self._services.database)

        self._stack.push_async_callback(last_drain)

    def _follow_audit(self) -> None:
        """Let a syslog receiver follow the trail, where the settings name one."""
        from digital_twins.audit import SyslogForwarder, SyslogTarget

        settings = self.settings
        if settings.audit_syslog_authority is None or not settings.audit_syslog:
            return
        host, _, port = settings.audit_syslog.rpartition(":")
        shown = settings.audit_syslog_certificate, settings.audit_syslog_key
        target = SyslogTarget(host.strip("[]"), int(port), settings.audit_syslog_authority, *shown)
        forwarder = SyslogForwarder(self._trail.path, target)
        forwarder.start()
        self._stack.callback(forwarder.close)

    async def _drain(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._trail.drain, self._services.database)
            except StorageError as error:
                _log.error("audit.drain.failed", what=error.what, why=error.why)
                await asyncio.sleep(5 * _DRAIN_S)
            await asyncio.sleep(_DRAIN_S)

    def _start_scheduler(self) -> TwinScheduler:
        from digital_twins.server._scheduler import TwinScheduler

        scheduler = TwinScheduler(self._services, stable_s=self.settings.study_stable_seconds)
        self._stack.push_async_callback(scheduler.close)
        return scheduler

    async def _start_routing(self) -> None:
        from digital_twins.server._routing import start_routing

        executor, forwarder = start_routing(self.settings, self._services, self._deidentifiers)
        self._stack.callback(executor.shutdown)
        self._stack.push_async_callback(forwarder.close)

    async def _start_dicom(self) -> Listener:
        from digital_twins.server._dicom_ports import open_dicom_ports

        listeners = await open_dicom_ports(self.settings, self._services, on_stored=self._scheduler.stored)
        for listener in listeners.values():
            self._stack.push_async_callback(listener.close)
        self.dicom_port = listeners["plain"].port if "plain" in listeners else listeners["tls"].port
        self.dicom_tls_port = listeners["tls"].port if "tls" in listeners else 0
        metrics = self._services.metrics
        metrics.gauge(
            "twin_dicom_associations",
            lambda: {"": float(sum(each.associations for each in listeners.values()))},
        )
        return listeners.get("plain") or listeners["tls"]

    def _start_peers(self) -> None:
        from digital_twins.server._dicom_ports import dicom_access
        from digital_twins.server._operations import show_operations

        access = dicom_access(self.settings, tls_port=False)
        book = self._services.peers
        book.know(access.peers.peers.values(), ae_title=self.settings.ae_title, tls=access.tls)
        book.show(self._services.metrics)
        show_operations(self._services)

    def _start_operations(self) -> None:
        from digital_twins.server._dicom_ports import dicom_access
        from digital_twins.server._operations import start_prefetch, start_retention

        access = dicom_access(self.settings, tls_port=False)
        peers = dict(access.peers.peers)
        tasks = (
            start_prefetch(
                self.settings, self._services, peers, tls=access.tls, on_stored=self._scheduler.stored
            ),
            start_retention(self.settings, self._services, peers, tls=access.tls),
        )
        for task in tasks:
            if task is not None:
                self._stack.push_async_callback(_ended, task)

    async def _start_hl7(self) -> None:
        from digital_twins.server._hl7 import open_hl7_port

        if self.settings.hl7_port is None:
            return
        port = await open_hl7_port(self.settings, self._services, on_record=self._scheduler.record_changed)
        self._stack.push_async_callback(port.close)
        self.hl7_port = port.port
        self._services.metrics.gauge("twin_hl7_connections", lambda: {"": float(port.connections)})

    def _start_workers(self) -> WorkerPool:
        from digital_twins.server._routing import worker_routing
        from digital_twins.server._workers import WorkerPool

        pool = WorkerPool(
            self._services,
            count=self.settings.workers,
            log_level=self.settings.log_level,
            routing=worker_routing(self.settings),
            results_to=self.settings.hl7_results_to,
            encryption=worker_encryption(self.settings),
        )
        self._stack.push_async_callback(pool.close)
        return pool

    def _start_subscriptions(self) -> None:
        """Follow the record for subscribers, where the operator allows any."""
        if not self.settings.subscription_endpoints:
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._subscriptions.run, args=(stop,), name="subscriptions")
        thread.start()

        async def finish() -> None:
            stop.set()
            await asyncio.to_thread(thread.join)

        self._stack.push_async_callback(finish)

    async def _start_http(self, listening: socket.socket) -> None:
        from digital_twins.fhir.subscriptions import Subscriptions
        from digital_twins.server._doors import node_app
        from digital_twins.server._http_port import open_http_port
        from digital_twins.server._people import node_authority

        self._subscriptions = Subscriptions(
            self._services.fhir,
            self._services.jobs,
            allowed=self.settings.subscription_endpoints,
            base_url=f"{self.base_url}/fhir",
        )
        self._stack.callback(self._subscriptions.close)
        app = node_app(
            self._services,
            subscriptions=self._subscriptions,
            health=self._health,
            on_stored=self._scheduler.stored,
            on_record=self._scheduler.record_changed,
            stopping=lambda: self._stopping,
            settings=self.settings,
            authority=node_authority(self.settings, self._services, self.base_url),
        )

        self._stack.push_async_callback(await open_http_port(app, listening, self.settings))

    def _health(self) -> Health:
        from digital_twins.server._models import Health

        parts = {"dicom": f"ok, {self._listener.associations} associations"}
        parts["access"] = (
            "ok, people sign in"
            if self.settings.authentication
            else "ok, open to this machine: nobody signs in"
        )
        try:
            with self._services.database.read() as connection:
                connection.execute("SELECT 1").fetchall()
            parts["database"] = "ok"
        except StorageError as error:
            parts["database"] = error.why
        alive = self._workers.alive
        parts["workers"] = (
            "ok" if alive == self.settings.workers else f"{alive} of {self.settings.workers} run"
        )
        well = all(text.startswith("ok") for text in parts.values())
        return Health(status="ok" if well else "degraded", version=digital_twins.__version__, parts=parts)

    def _announce(self) -> None:
        """Write ``node.json`` with the ports, so that tools on this machine find the node."""
        path = self._services.data_dir / "node.json"
        found = {
            "pid": os.getpid(),
            "boot_id": self.boot_id,
            "dicom_port": self.dicom_port,
            "dicom_tls_port": self.dicom_tls_port,
            "http_port": self.http_port,
            "hl7_port": self.hl7_port,
            "ae_title": self.settings.ae_title,
            "base_url": self.base_url,
        }
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(found), encoding="utf-8")
        temporary.replace(path)
        self._stack.callback(lambda: path.unlink(missing_ok=True))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:  # not on Windows
        asyncio.run(main)
    else:
        uvloop.run(main)


def run_node(settings: Settings, *, on_ready: Callable[[Node], None] | None = None) -> None:
    """Run a node in the foreground until SIGTERM or SIGINT, then end it in order.

    Stops accepting, answers what is in flight, lets running jobs be given back to the queue, moves the last
    audit events, closes the files.

    Parameters
    ----------
    settings
        As `digital_twins.config.load_settings` returns them.
    on_ready
        Called once every port is open.

    Raises
    ------
    StorageError, ConflictError
        As for `Node`.
    """

    async def live() -> None:
        leave = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leave.set)
        async with Node(settings) as node:
            if on_ready is not None:
                on_ready(node)
            await leave.wait()

    _run(live())

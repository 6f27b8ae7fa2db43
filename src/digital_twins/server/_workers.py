"""Worker processes of a node: started, watched, started again, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins._logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.server._services import Services

_log = get_logger(__name__)
_LONGEST_PAUSE_S = 30.0


def worker_name(pid: int) -> str:
    """Return the name under which a worker process claims jobs."""
    return f"worker-{pid}"


class WorkerPool:
    """Keeps `count` worker processes running on the data folder.

    Each gets a pipe as standard input that the node never writes to: when the node ends, even by SIGKILL,
    the pipe closes and the worker ends too. What a worker was doing when it ended is given to the next one.
    `routing` holds the rules for what the workers store, as `worker_routing` writes them; `results_to` who
    gets each report as HL7 v2; `encryption` is what `worker_encryption` returns.
    """

    def __init__(
        self,
        services: Services,
        *,
        count: int,
        log_level: str,
        routing: str = "",
        results_to: str = "",
        encryption: Sequence[str] = (),
    ) -> None:
        self._jobs, self._metrics = services.jobs, services.metrics
        self._command = [
            sys.executable,
            "-m",
            "digital_twins.server.worker",
            *("--data", str(services.data_dir), "--boot", services.jobs.boot_id, "--log-level", log_level),
            *("--routing", routing, "--results-to", results_to),
            *("--database", services.database.server),
            *encryption,
        ]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self._stop = asyncio.Event()
        self._waiters = ThreadPoolExecutor(count, thread_name_prefix="worker-wait")
        self._tasks = [asyncio.create_task(self._keep(slot)) for slot in range(count)]

    @property
    def alive(self) -> int:
        """How many workers run at this moment."""
        return sum(p is not None and p.poll() is None for p in self._processes)

    async def close(self, *, grace_s: float = 10.0) -> None:
        """Let running jobs be given back, then end the processes; after `grace_s` they are killed."""
        self._stop.set()
        running = [p for p in self._processes if p is not None]
        for process in running:
            if process.stdin is not None:
                process.stdin.close()
        for process in running:
            try:
                await asyncio.to_thread(process.wait, grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._waiters.shutdown(wait=False)

    async def _keep(self, slot: int) -> None:
        pause_s = 0.5
        while True:
            started = asyncio.get_running_loop().time()
            # Started from the loop's own thread: the parent-death signal is tied to the starting thread.
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE)  # noqa: S603  (own command)
            self._processes[slot] = process
            code = await asyncio.get_running_loop().run_in_executor(self._waiters, process.wait)
            if process.stdin is not None:
                process.stdin.close()
            if self._stop.is_set():
                return
            self._metrics.add("twin_worker_restarts_total")
            _log.warning("worker.ended", status=code, pid=process.pid)
            with contextlib.suppress(StorageError):  # its lease runs out in any case
                await asyncio.to_thread(self._jobs.release_worker, worker_name(process.pid))
            lived_s = asyncio.get_running_loop().time() - started
            pause_s = 0.5 if lived_s > 60 else min(pause_s * 2, _LONGEST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)
                return

"""Worker processes of a node: started, watched, started again, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

from digital_twins._logging import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from digital_twins.server._metrics import Metrics

_log = get_logger(__name__)
_LONGEST_PAUSE_S = 30.0


class WorkerPool:
    """Keeps `count` worker processes running on the data folder.

    Each gets a pipe as standard input that the node never writes to: when the node ends, even by SIGKILL,
    the pipe closes and the worker ends too.
    """

    def __init__(self, data_dir: Path, *, boot_id: str, count: int, log_level: str, metrics: Metrics) -> None:
        self._command = [
            sys.executable,
            "-m",
            "digital_twins.server.worker",
            *("--data", str(data_dir), "--boot", boot_id, "--log-level", log_level),
        ]
        self._metrics = metrics
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self._closing = False
        self._tasks = [asyncio.create_task(self._keep(slot)) for slot in range(count)]

    @property
    def alive(self) -> int:
        """How many workers run at this moment."""
        return sum(p is not None and p.poll() is None for p in self._processes)

    async def close(self, *, grace_s: float = 10.0) -> None:
        """Let running jobs be given back, then end the processes; after `grace_s` they are killed."""
        self._closing = True
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

    async def _keep(self, slot: int) -> None:
        pause_s = 0.5
        while not self._closing:
            started = asyncio.get_running_loop().time()
            # Started from the loop's own thread: the parent-death signal is tied to the starting thread.
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE)  # noqa: S603  (own command)
            self._processes[slot] = process
            code = None
            while code is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = await asyncio.to_thread(process.wait, 1.0)
            if process.stdin is not None:
                process.stdin.close()
            if self._closing:
                return
            self._metrics.add("twin_worker_restarts_total")
            _log.warning("worker.ended", status=code, pid=process.pid)
            lived_s = asyncio.get_running_loop().time() - started
            pause_s = 0.5 if lived_s > 60 else min(pause_s * 2, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

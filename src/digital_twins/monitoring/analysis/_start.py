"""Start of the analysis app: Streamlit in a process of its own, on 127.0.0.1 only."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import MissingExtraError, StorageError
from digital_twins.monitoring.analysis._client import MonitorClient

if TYPE_CHECKING:
    from collections.abc import Callable

ANALYSIS_APP = Path(__file__).with_name("_app.py")
"""The script that Streamlit runs."""
_HOST = "127.0.0.1"
_START_S = 120.0


def run_analysis(
    monitor: str,
    *,
    port: int = 0,
    exit_after_s: float | None = None,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the analysis app until it is interrupted.

    Parameters
    ----------
    monitor
        Address of the running monitor's HTTP API.
    port
        Where the app listens; 0 takes a free one.
    exit_after_s
        End by itself.
    ready
        Called with the app's address once it answers.

    Raises
    ------
    MissingExtraError
        Streamlit or Plotly is not installed (``pip install 'digital-twins[streamlit]'``).
    InputError
        The monitor's address is neither https nor on this machine.
    StorageError
        The app does not start.
    """
    for package in ("streamlit", "plotly"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "streamlit")
    MonitorClient(monitor, token="").close()
    port = port or _free_port()
    options = {
        "server.address": _HOST,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.maxUploadSize": "5",
        "browser.gatherUsageStats": "false",
        "runner.magicEnabled": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    environment = {**os.environ, "TWIN_MONITOR_URL": monitor}
    program = [sys.executable, "-m", "streamlit", "run", str(ANALYSIS_APP), *words]
    process = subprocess.Popen(  # noqa: S603  (this interpreter, fixed words)
        program, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        _wait_ready(process, port)
        ready(f"http://{_HOST}:{port}/")
        process.wait(timeout=exit_after_s)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection((_HOST, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.1)
            continue
        return
    raise StorageError(
        "The analysis app did not start.",
        "Streamlit ended, or its port stayed closed.",
        "Choose another port; another program may use this one.",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])

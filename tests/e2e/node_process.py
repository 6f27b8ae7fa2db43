"""A node as a process of its own, for tests that kill it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_S = 60.0


def free_port() -> int:
    """A port that was free a moment ago; fixed so that a restarted node is found at the same address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class NodeProcess:
    """A running ``twin serve``."""

    process: subprocess.Popen[bytes]
    data: Path
    base_url: str
    dicom_port: int

    def kill(self) -> None:
        """kill -9 of the node alone, as a crash would: its workers have to notice by themselves."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)

    def get(self, path: str) -> Any:
        answer = httpx.get(self.base_url + path, timeout=30)
        answer.raise_for_status()
        return answer.json()


def start_node(data: Path, *, dicom_port: int = 0, http_port: int = 0) -> NodeProcess:
    command = [sys.executable, "-m", "digital_twins.cli", "serve", "--data", str(data)]
    command += ["--dicom-port", str(dicom_port), "--http-port", str(http_port)]
    data.mkdir(parents=True, exist_ok=True)
    with (data.parent / f"{data.name}.log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, (data.parent / f"{data.name}.log").read_text()
        try:
            found = json.loads((data / "node.json").read_text())
        except (FileNotFoundError, ValueError):
            found = {}
        if found.get("pid") == process.pid:
            return NodeProcess(process, data, found["base_url"], found["dicom_port"])
        time.sleep(0.05)
    process.kill()
    raise AssertionError("the node did not announce itself in time")


@contextmanager
def node_process(data: Path, *, dicom_port: int = 0, http_port: int = 0) -> Iterator[NodeProcess]:
    node = start_node(data, dicom_port=dicom_port, http_port=http_port)
    try:
        yield node
    finally:
        node.process.terminate()
        try:
            node.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            node.process.kill()
            node.process.wait()


def start_hospital(
    node: NodeProcess, patient: str, acknowledgements: Path, patience_s: float = 120
) -> subprocess.Popen[bytes]:
    """The sending process; its acknowledgements go to a file, one JSON object a line."""
    command = [sys.executable, "-m", "digital_twins.samples._hospital", "--patient", patient]
    command += ["--fhir", f"{node.base_url}/fhir", "--dicom-port", str(node.dicom_port)]
    command += ["--patience", str(patience_s)]
    with acknowledgements.open("wb") as out:
        return subprocess.Popen(command, stdout=out)


def wait_for_twin(node: NodeProcess, *, version: int = 1, patience_s: float = 180) -> dict[str, Any]:
    """Poll until the one patient's newest job has succeeded; return the twin as the API shows it."""
    deadline = time.monotonic() + patience_s
    seen: Any = None
    while time.monotonic() < deadline:
        seen = node.get("/api/patients")
        for patient in seen:
            job = patient["latest_job"] or {}
            assert job.get("state") != "failed", job
            if patient["twin_id"] and job.get("state") == "succeeded":
                twin: dict[str, Any] = node.get(f"/api/twins/{patient['twin_id']}")
                if twin["version"] >= version:
                    return twin
        time.sleep(0.2)
    raise AssertionError(f"no twin in time: {seen}")

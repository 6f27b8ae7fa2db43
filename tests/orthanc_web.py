"""Debian's Orthanc with its DICOMweb plugin on free ports, as a peer."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def orthanc_program() -> str | None:
    """Path of Orthanc when it and the plugin are installed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    return program if PLUGIN.exists() else None


@dataclass(frozen=True)
class Orthanc:
    rest: str
    dicom_web: str
    dicom_port: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def orthanc(folder: Path, servers: Mapping[str, Any] | None = None) -> Iterator[Orthanc]:
    """Run Orthanc with an empty database in ``folder``; ``servers`` are remote DICOMweb servers."""
    program = orthanc_program()
    assert program is not None
    http, dicom = free_port(), free_port()
    configuration = {
        "Name": "PEER",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http,
        "DicomPort": dicom,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Servers": dict(servers or {})},
    }
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(path)], stdout=log, stderr=log, env={**os.environ, "LC_ALL": "C"}
        )
    try:
        base = f"http://127.0.0.1:{http}"
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{base}/system", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError((folder / "orthanc.log").read_text()[-2000:]) from None
                time.sleep(0.1)
        yield Orthanc(base, f"{base}/dicom-web", dicom)
    finally:
        process.terminate()
        process.wait(30)

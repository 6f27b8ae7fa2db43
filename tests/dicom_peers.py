"""Foreign DICOM programs as peers, and a proxy that records what a sender sends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foreign import program

ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}  # without it Debian's dcmtk waits 40 ms for each message


def run(*command: str, ok: bool = True) -> str:
    """Output of a program that must succeed, or must fail."""
    done = subprocess.run(
        [program(command[0]), *command[1:]],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        env=ENVIRONMENT,
        check=False,
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(port: int, *command: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server program in a process group of its own, once its port is open."""
    process = subprocess.Popen(
        [program(command[0]), *command[1:]],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, f"{command[0]} ended"
            assert time.monotonic() < deadline, f"{command[0]} did not start"
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def dcmqrscp(folder: Path, *, destination: tuple[str, int]) -> Iterator[int]:
    """dcmtk's archive under the title ARCHIVE; it may move to one destination."""
    storage, port = folder / "archive", free_port()
    storage.mkdir(parents=True)
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\ndest = ({destination[0]}, 127.0.0.1, {destination[1]})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {storage} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with serving(port, "dcmqrscp", "-c", str(config)):
        yield port


@contextmanager
def orthanc(folder: Path, *, modalities: dict[str, list[object]]) -> Iterator[tuple[int, str]]:
    """Orthanc under the title ORTHANC: its DICOM port and the root of its REST API."""
    folder.mkdir(parents=True, exist_ok=True)
    port, http = free_port(), free_port()
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "db"),
                "IndexDirectory": str(folder / "db"),
                "HttpPort": http,
                "DicomPort": port,
                "DicomAet": "ORTHANC",
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAlwaysAllowEcho": True,
                "DicomAlwaysAllowStore": True,
                "DicomAlwaysAllowFind": True,
                "DicomAlwaysAllowMove": True,
                "DicomAlwaysAllowGet": True,
                "UnknownSopClassAccepted": True,
                "OverwriteInstances": True,
                "Plugins": [],
                "DicomModalities": modalities,
            }
        )
    )
    with serving(port, "Orthanc", str(folder / "orthanc.json")):
        root = f"http://127.0.0.1:{http}"
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                rest(f"{root}/system")
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port, root


def rest(url: str, body: object | None = None) -> object:
    """Answer of Orthanc's REST API."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
        return json.loads(answer.read() or b"null")


class Recorder:
    """A proxy in front of a port that keeps what the client of each connection sends."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.connections: list[bytearray] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(10)

    def datasets(self) -> list[bytes]:
        """The data sets of all messages, put together from the recorded P-DATA-TF PDUs (PS3.8 9.3.5)."""
        found: list[bytes] = []
        for data in self.connections:
            position, current = 0, bytearray()
            while position + 6 <= len(data):
                length = int.from_bytes(data[position + 2 : position + 6], "big")
                body = data[position + 6 : position + 6 + length]
                kind, position, place = data[position], position + 6 + length, 0
                while kind == 4 and place < len(body):
                    size = int.from_bytes(body[place : place + 4], "big")
                    control = body[place + 5]
                    if not control & 1:
                        current += body[place + 6 : place + 4 + size]
                        if control & 2:
                            found.append(bytes(current))
                            current = bytearray()
                    place += 4 + size
        return found

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                kept = bytearray()
                self.connections.append(kept)
                for source, target, into in ((client, server, kept), (server, client, None)):
                    thread = threading.Thread(target=self._pump, args=(source, target, into), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, into: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if into is not None:
                    into += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        source.close()


@contextmanager
def recorder(port: int) -> Iterator[Recorder]:
    proxy = Recorder(port)
    try:
        yield proxy
    finally:
        proxy.close()

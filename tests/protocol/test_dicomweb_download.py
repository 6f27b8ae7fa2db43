"""Downloading a study: exact files, progress, broken connections, and memory that stays flat."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from dicom_support import ct_slice, file_bytes, open_store
from digital_twins import InputError, NotFoundError
from digital_twins.clinical_integration import ClinicalConnector
from digital_twins.dicom import (
    AsyncDicomWebClient,
    DicomStore,
    DicomWebClient,
    DicomWebError,
    Progress,
    Stored,
)
from digital_twins.dicom._multipart import PartSplitter
from large_object import store_large_object
from web_client import web_client

TESTS = Path(__file__).parents[1]
STUDY, SERIES = "1.2.3.1", "1.2.3.1.1"
Served = tuple[DicomStore, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with web_client(tmp_path_factory.mktemp("node")) as (store, http):
        store.ingest_many(file_bytes(ct_slice(n, size=256)) for n in range(1, 11))
        yield store, str(http.base_url).rstrip("/")


@contextmanager
def cutting_proxy(base: str, limits: list[int]) -> Iterator[str]:
    """Forward to ``base``; the n-th connection is reset after ``limits[n]`` bytes of the answer."""
    target = urlsplit(base)
    listener = socket.create_server(("127.0.0.1", 0))
    left = iter(limits)

    def serve() -> None:
        while True:
            try:
                client, _address = listener.accept()
            except OSError:
                return
            budget = next(left, 1 << 40)
            with client, socket.create_connection((target.hostname or "", target.port or 0)) as server:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += client.recv(65536)
                server.sendall(request.replace(b"Connection: keep-alive", b"Connection: close"))
                while budget > 0 and (data := server.recv(min(65536, budget))):
                    client.sendall(data)
                    budget -= len(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{target.path}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_files_are_exact_and_progress_is_told(served: Served, tmp_path: Path) -> None:
    store, base = served
    told: list[Progress] = []
    with DicomWebClient(base) as client:
        study = client.download_study(STUDY, tmp_path / "study", progress=told.append)
        assert len(client.download_study(STUDY, tmp_path / "series", series_uid=SERIES)) == 10
        with pytest.raises(NotFoundError):
            client.download_study("9.9", tmp_path / "none")
    assert [path.name for path in study.paths] == [f"{SERIES}.{n}.dcm" for n in range(1, 11)]
    assert [path.read_bytes() for path in study.paths] == [store.read(f"{SERIES}.{n}") for n in range(1, 11)]
    assert study[3].InstanceNumber == 4
    assert [ds.InstanceNumber for ds in study[8:]] == [9, 10]
    assert (told[-1].instances, told[-1].done_bytes) == (10, told[-1].total_bytes)
    assert list((tmp_path / "study").glob(".*")) == []


def test_connection_that_breaks_is_taken_up_where_it_broke(served: Served, tmp_path: Path) -> None:
    store, base = served
    told: list[Progress] = []
    with cutting_proxy(base, [200_000, 300_000, 10]) as cut, DicomWebClient(cut) as client:
        study = client.download_study(STUDY, tmp_path, progress=told.append)
    assert [path.read_bytes() for path in study.paths] == [store.read(f"{SERIES}.{n}") for n in range(1, 11)]
    steps = [b.done_bytes - a.done_bytes for a, b in pairwise(told)]
    assert min(steps) > 0, "nothing was sent twice"


def test_asynchronous_and_giving_up(served: Served, tmp_path: Path) -> None:
    store, base = served

    async def work(url: str) -> int:
        async with AsyncDicomWebClient(url, retries=2) as client:
            return len(await client.download_study(STUDY, tmp_path))

    with cutting_proxy(base, [400_000]) as cut:
        assert asyncio.run(work(cut)) == 10
    with cutting_proxy(base, [10] * 20) as cut, pytest.raises(DicomWebError, match="could not be reached"):
        asyncio.run(work(cut))
    assert (tmp_path / f"{SERIES}.3.dcm").read_bytes() == store.read(f"{SERIES}.3")


def test_files_are_sent_without_being_loaded(served: Served, tmp_path: Path) -> None:
    store, base = served
    path = tmp_path / "one.dcm"
    path.write_bytes(file_bytes(ct_slice(1, patient="F", study="66", series="66.1")))
    with DicomWebClient(base) as client:
        client.store([path])
    assert store.read("1.2.3.66.1.1")[-100:] == path.read_bytes()[-100:]


def test_connector_downloads_into_files(served: Served) -> None:
    connector = ClinicalConnector(served[1], "http://127.0.0.1:9/fhir")
    study = connector.download_study(STUDY)
    folder = study.paths[0].parent
    assert [ds.InstanceNumber for ds in study] == list(range(1, 11))
    assert folder.is_dir()
    del study
    assert not folder.exists()


@pytest.mark.parametrize("size", [1, 3, 7, 50, 10_000])
def test_splitter_finds_parts_however_they_arrive(size: int) -> None:
    bodies = [b"", b"\r\n--cu", b"a\r\n\r\nb", bytes(100)]
    whole = (
        b"preamble" + b"".join(b"\r\n--cut\r\nName: x\r\n\r\n" + body for body in bodies) + b"\r\n--cut--\r\n"
    )
    splitter = PartSplitter("multipart/related; boundary=cut")
    found: list[bytes] = []
    for start in range(0, len(whole), size):
        for piece in splitter.feed(whole[start : start + size]):
            if isinstance(piece, dict):
                assert piece == {"name": "x"}
                found.append(b"")
            elif piece is not None:
                found[-1] += piece
    splitter.finish()
    assert found == bodies
    with pytest.raises(InputError):
        PartSplitter("multipart/related; boundary=cut").finish()


_RETRIEVE = """
import resource, sys
from pathlib import Path
from digital_twins.dicom import DicomWebClient
with DicomWebClient(sys.argv[1]) as client:
    client.search_studies()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    study = client.download_study(sys.argv[2], Path(sys.argv[3]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, study.paths[0].stat().st_size)
"""


def retrieve_frames(base: str, large: Stored, frames: int) -> None:
    """All frames in one request, and the last one alone."""
    url = f"{base}/studies/{large.study_uid}/series/{large.series_uid}/instances/{large.sop_uid}/frames"
    with httpx.stream("GET", f"{url}/" + ",".join(map(str, range(1, frames + 1)))) as answer:
        assert answer.status_code == 200
        assert sum(len(chunk) for chunk in answer.iter_raw()) > frames * 2**19
    last = httpx.get(f"{url}/{frames}", headers={"Accept": "application/octet-stream"})
    assert last.content == bytes(2**19)


def peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def test_memory_stays_flat_over_one_large_object(tmp_path: Path, full: bool) -> None:
    frames = 4096 if full else 512  # 2 GiB, 256 MiB
    with open_store(tmp_path / "node") as store:
        store.ingest(file_bytes(ct_slice(1)))
        large = store_large_object(store, frames)
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, str(TESTS / "dicomweb_node.py"), str(tmp_path / "node")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as node:
        try:
            assert node.stdout is not None
            base = f"http://127.0.0.1:{int(node.stdout.readline())}/dicom-web"
            httpx.get(f"{base}/studies/{STUDY}").raise_for_status()
            before = peak_kb(node.pid)
            command = [sys.executable, "-c", _RETRIEVE, base, large.study_uid, str(tmp_path / "got")]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            grown_kb, size = map(int, done.stdout.split())
            retrieve_frames(base, large, frames)
            assert size == large.size_bytes
            assert grown_kb < 50_000, "the client's memory"
            assert peak_kb(node.pid) - before < 50_000, "the node's memory"
        finally:
            node.terminate()

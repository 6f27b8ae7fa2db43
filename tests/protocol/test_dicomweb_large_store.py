"""Large DICOM files by STOW-RS go to the disk while they arrive; what is refused leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dicom_support import ENCRYPTED, ct_slice, file_bytes, open_store
from digital_twins import StorageError, dicom
from digital_twins.dicom._part10 import split_file
from digital_twins.storage import Spool
from web_client import web_client

TESTS = Path(__file__).parents[1]
MB = 2**20
HEADERS = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=cut'}
PART = b"--cut\r\nContent-Type: application/dicom\r\n\r\n"
pytestmark = pytest.mark.timeout(1800)  # at full counts, on a busy machine


def head_of(megabytes: int) -> bytes:
    """A DICOM file up to its pixels, of which it announces so many megabytes."""
    ds = ct_slice(1, size=1)
    ds.Rows, ds.Columns, ds.NumberOfFrames = 1024, 512, megabytes
    ds.PixelData = b"\0\0"
    return file_bytes(ds)[:-6] + (megabytes * MB).to_bytes(4, "little")


def pixels(megabytes: int) -> Iterator[bytes]:
    for number in range(megabytes):
        yield number.to_bytes(8, "little") * (MB // 8)


def body_of(megabytes: int, *, end: bytes = b"\r\n--cut--\r\n") -> Iterator[bytes]:
    yield PART + head_of(megabytes)
    yield from pixels(megabytes)
    yield end


def peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def files_under(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "blobs").rglob("*") if path.is_file() and path.name != "lock")


def test_memory_stays_flat_over_one_large_file(tmp_path: Path, full: bool) -> None:
    megabytes = 2048 if full else 160
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, str(TESTS / "dicomweb_node.py"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as node:
        try:
            assert node.stdout is not None
            studies = f"http://127.0.0.1:{int(node.stdout.readline())}/dicom-web/studies"
            small = PART + file_bytes(ct_slice(2)) + b"\r\n--cut--\r\n"
            httpx.post(studies, content=small, headers=HEADERS).raise_for_status()
            before = peak_kb(node.pid)
            answer = httpx.post(studies, content=body_of(megabytes), headers=HEADERS, timeout=900)
            assert answer.status_code == 200, answer.text
            assert peak_kb(node.pid) - before < 50_000
        finally:
            node.terminate()
    with open_store(tmp_path) as store:
        (instance,) = [i for i in store.instances("1.2.3.1") if i.frames > 1]
        assert (instance.pixel_length, instance.frames) == (megabytes * MB, megabytes)
        kept, sent = hashlib.sha256(), hashlib.sha256()
        with store.file(instance).open() as file:
            file.seek(int(instance.pixel_offset or 0))
            while piece := file.read(4 * MB):
                kept.update(piece)
        for piece in pixels(megabytes):
            sent.update(piece)
        assert kept.digest() == sent.digest()
        store.blobs.verify(instance.digest)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[dicom.DicomStore, httpx.Client]]:
    with web_client(tmp_path) as served:
        yield served


def test_a_large_file_is_kept_as_a_small_one_is(tmp_path: Path) -> None:
    file = b"".join((head_of(8), *pixels(8)))
    with web_client(tmp_path / "a") as (store, client):
        together = PART + file + b"\r\n" + PART + file_bytes(ct_slice(2)) + b"\r\n--cut--\r\n"
        answer = client.post("studies", content=together, headers=HEADERS)
        assert len(answer.json()["00081199"]["Value"]) == 2
        alone = client.post("studies", content=file, headers={"Content-Type": "application/dicom"})
        assert alone.status_code == 200
        large = store.read("1.2.3.1.1.1")
    with open_store(tmp_path / "b") as other:
        other.ingest(file)
        assert other.read("1.2.3.1.1.1") == large
    assert large[split_file(large).dataset_offset :] == file[split_file(file).dataset_offset :]


def test_what_is_refused_leaves_no_file(
    served: tuple[dicom.DicomStore, httpx.Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, client = served

    def reason(path: str, content: Any) -> int:
        answer = client.post(path, content=content, headers=HEADERS)
        assert answer.status_code == 409
        (failure,) = answer.json()["00081198"]["Value"]
        return int(failure["00081197"]["Value"][0])

    assert reason("studies/1.2.9", body_of(8)) == 0xA900  # another study than the URL names
    assert reason("studies", PART + bytes(8 * MB) + b"\r\n--cut--\r\n") == 0xC000
    short = body_of(8)
    cut_off = b"".join(piece for number, piece in enumerate(short) if number != 3)
    assert reason("studies", cut_off) == 0xC000
    assert client.post("studies", content=body_of(8, end=b""), headers=HEADERS).status_code == 400

    def break_off() -> Iterator[bytes]:
        yield PART + head_of(64)
        yield from pixels(32)
        raise ConnectionError

    with contextlib.suppress(ConnectionError, httpx.HTTPError):
        client.post("studies", content=break_off(), headers=HEADERS)

    def no_room(*_: object) -> None:
        raise StorageError("The disk is full.", "No space left.", "Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "write", no_room)
        assert reason("studies", body_of(8)) == 0xA700
    assert client.get("studies").status_code == 204
    assert files_under(tmp_path) == []
    assert client.post("studies", content=body_of(8), headers=HEADERS).status_code == 200
    assert len(files_under(tmp_path)) == 1
    assert ENCRYPTED or store.instance("1.2.3.1.1.1").size_bytes == files_under(tmp_path)[0].stat().st_size

"""Large objects go to disk while they arrive, and many small ones leave nothing behind: memory stays flat."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage

from dicom_support import RawPeer, ct_slice, file_bytes, listening, open_store
from digital_twins import StorageError, dicom
from digital_twins.dicom import _dimse, _pdu
from digital_twins.dicom._dimse import Tag
from digital_twins.dicom._part10 import split_file

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(1800)  # at full counts, on a busy machine
MB = 2**20


@contextmanager
def node_process(folder: Path) -> Iterator[tuple[int, int]]:
    """Port and process id of a node in a process of its own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])}
    script = str(TESTS / "protocol" / "dicom_kill_node.py")
    process = subprocess.Popen(
        [sys.executable, script, str(folder)], stdout=subprocess.PIPE, text=True, env=env
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _memory_mb(pid: int, what: str = "RssAnon") -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def _multiframe(frames: int) -> tuple[bytes, str]:
    """Data set without its pixel value, whose header announces ``frames`` MB."""
    ds = ct_slice(1, size=1)
    ds.Rows, ds.Columns, ds.NumberOfFrames = 1024, 512, frames
    ds.PixelData = b"\0\0"
    whole = file_bytes(ds)
    data = whole[split_file(whole).dataset_offset : -2]
    return data[:-4] + (frames * MB).to_bytes(4, "little"), str(ds.SOPInstanceUID)


def _stream(peer: RawPeer, head: bytes, uid: str, *, pieces: int) -> tuple[_dimse.Command, str]:
    """C-STORE of a data set that is made while it is sent; the answer and the SHA-256 of the data set."""
    command = {
        Tag.AFFECTED_SOP_CLASS: CTImageStorage,
        Tag.COMMAND_FIELD: 1,
        Tag.MESSAGE_ID: 7,
        Tag.DATASET_TYPE: 1,
        Tag.AFFECTED_SOP_INSTANCE: uid,
    }
    digest = hashlib.sha256(head)
    for pdu in _pdu.encode_data(1, _dimse.encode_command(command), command=True, max_pdu_bytes=0):
        peer.socket.sendall(pdu)

    def send(part: bytes, *, last: bool) -> None:
        peer.socket.sendall(
            _pdu.HEADER.pack(4, len(part) + 6)
            + _pdu.PDV_HEADER.pack(len(part) + 2, 1, 2 if last else 0)
            + part
        )

    send(head, last=False)
    for number in range(pieces):
        piece = number.to_bytes(8, "little") * (MB // 16 // 8)
        for part in range(16):
            digest.update(piece)
            send(piece, last=number == pieces - 1 and part == 15)
    kind, body = peer.read_pdu()
    assert kind == 4
    return _dimse.decode_command(body[6:]), digest.hexdigest()


def test_memory_is_flat_over_one_large_object(tmp_path: Path, full: bool) -> None:
    size_mb = 2048 if full else 160
    with node_process(tmp_path) as (port, pid):
        peer = RawPeer(port, CTImageStorage, "1.2.840.10008.1.2.1")
        small = file_bytes(ct_slice(9, study="2", series="2.1"))
        dataset = small[split_file(small).dataset_offset :]
        assert peer.store(dataset, split_file(small).sop_instance_uid)[Tag.STATUS] == 0
        before = _memory_mb(pid)
        head, uid = _multiframe(size_mb)
        answer, sent = _stream(peer, head, uid, pieces=size_mb)
        after = _memory_mb(pid)
        peer.close()
    assert answer[Tag.STATUS] == 0, answer
    assert after - before < 50, (before, after)
    with open_store(tmp_path, encrypted=False) as store:
        instance = store.instance(uid)
        assert instance.size_bytes == len(head) + size_mb * MB + instance.dataset_offset
        assert (instance.pixel_length, instance.frames) == (size_mb * MB, size_mb)
        kept = hashlib.sha256()
        with store.path(instance).open("rb") as file:
            file.seek(instance.dataset_offset)
            while piece := file.read(4 * MB):
                kept.update(piece)
        assert kept.hexdigest() == sent
        store.blobs.verify(instance.digest)


def test_memory_is_flat_over_many_objects(tmp_path: Path, full: bool) -> None:
    count = 10_000 if full else 400
    with node_process(tmp_path) as (port, pid):
        peer = RawPeer(port, CTImageStorage, "1.2.840.10008.1.2.1")

        def send(numbers: range) -> None:
            for number in numbers:
                data = template.replace(b"1.2.3.9.9.99999", f"1.2.3.9.9.{number:05}".encode())
                assert peer.store(data, f"1.2.3.9.9.{number:05}")[Tag.STATUS] == 0

        whole = file_bytes(ct_slice(99999, study="9", series="9.9", size=64))
        template = whole[split_file(whole).dataset_offset :]
        send(range(100))
        before = _memory_mb(pid)
        send(range(100, count))
        after = _memory_mb(pid)
        peer.close()
    assert after - before < 50, (before, after)


def test_an_object_beyond_the_limit_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    limits = dicom.Limits(max_object_bytes=24 * MB)
    head, uid = _multiframe(32)
    with open_store(tmp_path) as store, listening(store, limits=limits) as node:
        peer = RawPeer(node.port, CTImageStorage, "1.2.840.10008.1.2.1")
        answer, _ = _stream(peer, head, uid, pieces=32)
        assert answer[Tag.STATUS] == 0xA700
        cut, _ = _stream(peer, head, uid, pieces=20)
        assert cut[Tag.STATUS] == 0xC000
        peer.close()
        assert node.buffered_bytes == 0
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file() and p.stat().st_size > MB] == []


def test_a_connection_that_breaks_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    import time

    head, uid = _multiframe(64)
    with open_store(tmp_path) as store, listening(store) as node:
        peer = RawPeer(node.port, CTImageStorage, "1.2.840.10008.1.2.1")
        command = {0x0002: str(CTImageStorage), 0x0100: 1, 0x0110: 8, 0x0800: 1, 0x1000: uid}
        cut, _ = _stream(peer, head, uid, pieces=30)  # announced as last: the walk finds it cut off
        assert cut[Tag.STATUS] == 0xC000
        # The same again, but the connection ends with 30 MB of it sent and half a PDU to come.
        for pdu in _pdu.encode_data(1, _dimse.encode_command(command), command=True, max_pdu_bytes=0):
            peer.socket.sendall(pdu)
        for _ in range(480):
            peer.socket.sendall(_pdu.HEADER.pack(4, 65542) + _pdu.PDV_HEADER.pack(65538, 1, 0) + bytes(65536))
        peer.socket.sendall(_pdu.HEADER.pack(4, 10))
        peer.socket.close()
        deadline = time.monotonic() + 120
        while (node.associations or _large(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _large(tmp_path) == []
        assert node.buffered_bytes == 0


def _large(folder: Path) -> list[Path]:
    return [p for p in (folder / "blobs").rglob("*") if p.is_file() and p.stat().st_size > MB]


def test_a_full_disk_while_an_object_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, uid = _multiframe(32)
    with open_store(tmp_path) as store, listening(store) as node:
        peer = RawPeer(node.port, CTImageStorage, "1.2.840.10008.1.2.1")

        def full(*_: object) -> None:
            raise StorageError("The bytes could not be stored.", "No space left on device.", "Free space.")

        from digital_twins.storage import Spool

        with monkeypatch.context() as patch:
            patch.setattr(Spool, "write", full)
            answer, _ = _stream(peer, head, uid, pieces=32)
        assert answer[Tag.STATUS] == 0xA700
        assert "No space" in str(answer[Tag.ERROR_COMMENT])
        assert _stream(peer, head, uid, pieces=32)[0][Tag.STATUS] == 0
        peer.close()

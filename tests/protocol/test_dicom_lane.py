"""Objects that follow each other get a thread of their own; what else comes is answered all the same."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from pathlib import Path

import pytest

from dicom_support import RawPeer, audited, ct_slice, file_bytes, listening, open_store
from digital_twins import dicom
from digital_twins.dicom import _channel, _dimse, _pdu
from digital_twins.dicom._dimse import Tag
from digital_twins.dicom._part10 import Part10, split_file

RELEASE = b"\x05\x00\x00\x00\x00\x04" + bytes(4)


class Lanes:
    """Counts the lanes that were entered, and tells when one has ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        run = _channel.Lane.run

        def watched(lane: _channel.Lane) -> _channel.Rest:
            self.entered.release()
            try:
                return run(lane)
            finally:
                self.ended.release()

        monkeypatch.setattr(_channel.Lane, "run", watched)


def _message(part: Part10, data: bytes, uid: str, number: int) -> bytes:
    command = {
        Tag.AFFECTED_SOP_CLASS: part.sop_class_uid,
        Tag.COMMAND_FIELD: 1,
        Tag.MESSAGE_ID: number,
        Tag.DATASET_TYPE: 1,
        Tag.AFFECTED_SOP_INSTANCE: uid,
    }
    return _pdus(_dimse.encode_command(command), command=True) + _pdus(data, command=False)


def _pdus(data: bytes, *, command: bool) -> bytes:
    return b"".join(_pdu.encode_data(1, data, command=command, max_pdu_bytes=16384))


def _objects(count: int) -> tuple[Part10, list[tuple[str, bytes]]]:
    found = []
    for number in range(1, count + 1):
        whole = file_bytes(ct_slice(number))
        part = split_file(whole)
        found.append((part.sop_instance_uid, whole[part.dataset_offset :]))
    return part, found


def _answer(peer: RawPeer) -> tuple[int, int]:
    """Message ID and status of the next answer."""
    kind, body = peer.read_pdu()
    assert kind == 4
    command = _dimse.decode_command(body[6:])
    return int(command[Tag.RESPONDED_MESSAGE_ID]), int(command[Tag.STATUS])


def _wait_for_none(node: dicom.Listener) -> None:
    deadline = time.monotonic() + 60
    while node.associations and time.monotonic() < deadline:
        time.sleep(0.01)
    assert node.associations == 0


def test_a_burst_is_answered_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = Lanes(monkeypatch)
    part, objects = _objects(6)
    seen: list[str] = []
    limits = dicom.Limits(artim_s=300.0)  # the end of the connection is noticed, and not waited for
    with (
        open_store(tmp_path) as store,
        listening(store, limits=limits, on_stored=lambda stored: seen.append(stored.sop_uid)) as node,
    ):
        peer = RawPeer(node.port, part.sop_class_uid, part.transfer_syntax)
        assert peer.store(objects[0][1], objects[0][0])[Tag.STATUS] == 0
        assert lanes.entered.acquire(timeout=60)
        burst = [_message(part, data, uid, number) for number, (uid, data) in enumerate(objects[1:], 2)]
        burst.insert(2, _message(part, b"no data set", "1.2.3.9", 50))
        echo = {Tag.AFFECTED_SOP_CLASS: part.sop_class_uid, Tag.COMMAND_FIELD: 0x30}
        echo |= {Tag.MESSAGE_ID: 60, Tag.DATASET_TYPE: _dimse.NO_DATASET}
        burst.insert(5, _pdus(_dimse.encode_command(echo), command=True))
        peer.socket.sendall(b"".join(burst) + RELEASE)
        answers = [_answer(peer) for _ in burst]
        assert answers == [(2, 0), (3, 0), (50, 0xC000), (4, 0), (5, 0), (60, 0x0122), (6, 0)]
        assert peer.read_pdu()[0] == 6
        assert sorted(seen) == sorted(uid for uid, _ in objects)
        peer.socket.close()
        _wait_for_none(node)
        assert node.buffered_bytes == 0
        for uid, data in objects:
            assert store.read(uid).endswith(data)
        outcomes = [event["outcome"] for event in audited(store) if event["kind"] == "dicom.store"]
    assert outcomes.count("refused") == 1
    assert len(outcomes) == 7


def test_a_slow_peer_is_given_back_within_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = Lanes(monkeypatch)
    part, objects = _objects(3)
    with open_store(tmp_path) as store, listening(store) as node:
        peer = RawPeer(node.port, part.sop_class_uid, part.transfer_syntax)
        assert peer.store(objects[0][1], objects[0][0])[Tag.STATUS] == 0
        whole = b"".join(_message(part, data, uid, number) for number, (uid, data) in enumerate(objects[1:]))
        third = len(whole) // 3
        for begin in (0, third, 2 * third):
            if begin:
                assert lanes.ended.acquire(timeout=60)
            peer.socket.sendall(whole[begin : begin + third if begin < 2 * third else len(whole)])
        assert [_answer(peer), _answer(peer)] == [(0, 0), (1, 0)]
        peer.close()
        for uid, data in objects:
            assert store.read(uid).endswith(data)


def test_nonsense_after_an_object_ends_the_association(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = Lanes(monkeypatch)
    part, objects = _objects(2)
    with open_store(tmp_path) as store, listening(store) as node:
        peer = RawPeer(node.port, part.sop_class_uid, part.transfer_syntax)
        assert peer.store(objects[0][1], objects[0][0])[Tag.STATUS] == 0
        assert lanes.entered.acquire(timeout=60)
        peer.socket.sendall(_message(part, objects[1][1], objects[1][0], 2) + b"\x04\x00\xff\xff\xff\xff")
        assert _answer(peer) == (2, 0)
        assert peer.read_pdu()[0] == 7
        _wait_for_none(node)
        peer.socket.close()
        assert len(store.instances("1.2.3.1")) == 2


def _in_pairs(data: bytes) -> bytes:
    """The same data set, two values in each PDU."""
    pdus = []
    for begin in range(0, len(data), 2000):
        values = [data[begin : begin + 1000], data[begin + 1000 : begin + 2000]]
        last = 2 if begin + 2000 >= len(data) else 0
        body = b"".join(
            _pdu.PDV_HEADER.pack(len(value) + 2, 1, last if number else 0) + value
            for number, value in enumerate(values)
        )
        pdus.append(_pdu.HEADER.pack(4, len(body)) + body)
    return b"".join(pdus)


@pytest.mark.parametrize("layout", ["pieces", "pairs", "tiny", "large"])
def test_every_layout_of_an_object_is_stored_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """Cut anywhere; several values in a PDU; PDUs shorter than the next header; outgrowing the memory."""
    lanes = Lanes(monkeypatch)
    monkeypatch.setattr(_channel, "PATIENCE_S", 5.0)
    rng = random.Random(4)
    part, objects = _objects(3)
    whole = file_bytes(ct_slice(4, size=1100 if layout == "large" else 64))
    last = split_file(whole)
    objects.append((last.sop_instance_uid, whole[last.dataset_offset :]))
    with open_store(tmp_path) as store, listening(store) as node:
        peer = RawPeer(node.port, part.sop_class_uid, part.transfer_syntax)
        assert peer.store(objects[0][1], objects[0][0])[Tag.STATUS] == 0
        assert lanes.entered.acquire(timeout=60)
        for number, (uid, data) in enumerate(objects[1:]):
            sent = _message(part, data, uid, number)
            if layout == "pairs":
                sent = sent.replace(_pdus(data, command=False), _in_pairs(data))
            elif layout == "tiny":
                small = b"".join(_pdu.encode_data(1, data, command=False, max_pdu_bytes=11))
                sent = sent.replace(_pdus(data, command=False), small)
            while sent:
                count = rng.randint(1, 40000) if layout == "pieces" else len(sent)
                peer.socket.sendall(sent[:count])
                sent = sent[count:]
            assert _answer(peer) == (number, 0)
        assert not lanes.ended.acquire(blocking=False)
        peer.close()
        for uid, data in objects:
            assert store.read(uid).endswith(data)
            store.blobs.verify(store.instance(uid).digest)


@pytest.mark.parametrize("end", ["abort", "close", "context"])
def test_an_association_that_ends_within_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    lanes = Lanes(monkeypatch)
    part, objects = _objects(2)
    with open_store(tmp_path) as store, listening(store) as node:
        peer = RawPeer(node.port, part.sop_class_uid, part.transfer_syntax)
        assert peer.store(objects[0][1], objects[0][0])[Tag.STATUS] == 0
        assert lanes.entered.acquire(timeout=60)
        whole = _message(part, objects[1][1], objects[1][0], 2)
        first = whole[: len(whole) - len(_pdus(objects[1][1], command=False))]
        begun = next(_pdu.encode_data(1, objects[1][1], command=False, max_pdu_bytes=5000))
        peer.socket.sendall(first + begun)
        if end == "abort":
            peer.socket.sendall(_pdu.encode_abort(0, _pdu.AbortReason.NOT_SPECIFIED))
        elif end == "context":
            peer.socket.sendall(_pdu.HEADER.pack(4, 10) + _pdu.PDV_HEADER.pack(6, 3, 0) + bytes(4))
            assert peer.read_pdu()[0] == 7
        else:
            peer.socket.close()
        _wait_for_none(node)
        peer.socket.close()
        assert [each.sop_uid for each in store.instances("1.2.3.1")] == [objects[0][0]]
        assert node.buffered_bytes == 0


def test_the_port_closes_while_a_lane_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = Lanes(monkeypatch)
    monkeypatch.setattr(_channel, "PATIENCE_S", 2.0)
    part, objects = _objects(1)
    with open_store(tmp_path) as store:
        with listening(store) as node:
            peer = RawPeer(node.port, part.sop_class_uid, part.transfer_syntax)
            assert peer.store(objects[0][1], objects[0][0])[Tag.STATUS] == 0
            assert lanes.entered.acquire(timeout=60)
        assert lanes.ended.acquire(timeout=60)
        assert peer.read_pdu()[0] == 7
        with contextlib.suppress(ConnectionError):
            assert peer.socket.recv(1) == b""
        peer.socket.close()

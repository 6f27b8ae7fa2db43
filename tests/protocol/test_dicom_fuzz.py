"""Hostile bytes: no parser of PDU, DIMSE or Part 10 lets an unforeseen exception out.

With TWIN_TEST_FULL=1 each test runs 200 times as many examples (more than ten minutes together).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydicom.uid import CTImageStorage

import dicom_corpus
from dicom_support import LoopThread, RawPeer, ct_slice, file_bytes, listening, open_store
from digital_twins import DigitalTwinError, dicom
from digital_twins.dicom import _dimse, _pdu
from digital_twins.dicom._contexts import AcceptedContext, transfer_syntaxes
from digital_twins.dicom._framing import Assembler, Budget, Framer
from digital_twins.dicom._header import ObjectRefusedError, read_header
from digital_twins.dicom._identifier import read_dataset
from digital_twins.dicom._part10 import split_file
from digital_twins.dicom._walk import LayoutError

FULL = 200 if os.environ.get("TWIN_TEST_FULL") == "1" else 1
pytestmark = pytest.mark.timeout(1800)
EXPLICIT = "1.2.840.10008.1.2.1"


def _examples(count: int) -> settings:
    return settings(
        max_examples=count * FULL, deadline=None, suppress_health_check=[*HealthCheck], derandomize=FULL == 1
    )


REQUEST = _pdu.encode_associate(
    _pdu.AssociateRequest(
        "TWIN",
        "FUZZ",
        tuple(
            _pdu.ProposedContext(2 * n + 1, CTImageStorage, (EXPLICIT, "1.2.840.10008.1.2")) for n in range(3)
        ),
        16384,
        "1.2.3",
        "FUZZ_1",
        (_pdu.RoleSelection(CTImageStorage, scu=True, scp=True),),
        _pdu.UserIdentity(2, response_requested=True, primary=b"user", secondary=b"passcode"),
        extended=(_pdu.ExtendedNegotiation("1.2.840.10008.5.1.4.1.2.2.1", b"\1\1\1\0\0"),),
    )
)
ACCEPT = _pdu.encode_accept(
    _pdu.AssociateAccept(
        "TWIN", "FUZZ", (_pdu.ContextResult(1, 0, EXPLICIT),), 16384, "1.2.3", "FUZZ_1", (), (), b"answer"
    )
)
COMMAND = _dimse.encode_command(
    {
        _dimse.Tag.AFFECTED_SOP_CLASS: str(CTImageStorage),
        _dimse.Tag.COMMAND_FIELD: 1,
        _dimse.Tag.MESSAGE_ID: 7,
        _dimse.Tag.DATASET_TYPE: 1,
        _dimse.Tag.AFFECTED_SOP_INSTANCE: "1.2.3.1.1.1",
        _dimse.Tag.MOVE_DESTINATION: "DEST",
    }
)
FILE = file_bytes(ct_slice(1, size=4))
DATASET = FILE[split_file(FILE).dataset_offset :]


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with some of them changed, cut, doubled or inserted."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 6))):
        if not data:
            break
        place = draw(st.integers(0, len(data) - 1))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            data[place] = draw(st.integers(0, 255))
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            data[place:place] = draw(st.binary(max_size=16))
        elif kind == 3:
            data[place : place + 4] = draw(
                st.sampled_from([b"\xff\xff\xff\xff", bytes(4), b"\xfe\xff\0\xe0"])
            )
        else:
            data[place:place] = data[place : place + 40]
    return bytes(data)


@_examples(150)
@given(mutated(REQUEST[6:]), mutated(ACCEPT[6:]), st.binary(max_size=8))
def test_association_pdus(request: bytes, accept: bytes, reject: bytes) -> None:
    for decode, data in (
        (_pdu.decode_associate, request),
        (_pdu.decode_accept, accept),
        (_pdu.decode_reject, reject),
    ):
        with contextlib.suppress(_pdu.PduError):
            decode(data)


@_examples(200)
@given(st.one_of(st.binary(max_size=200), mutated(COMMAND)))
def test_command_sets(data: bytes) -> None:
    with contextlib.suppress(_dimse.DimseError):
        command = _dimse.decode_command(data)
        _dimse.decode_command(_dimse.encode_command(command))


@_examples(150)
@given(st.lists(mutated(REQUEST + ACCEPT + b"".join(
    _pdu.encode_data(1, COMMAND, command=True, max_pdu_bytes=64)
) + b"".join(_pdu.encode_data(1, DATASET, command=False, max_pdu_bytes=256))), max_size=2))  # fmt: skip
def test_streams_stay_within_their_memory(chunks: list[bytes]) -> None:
    framer, budget = Framer(16384), Budget(2**20)
    assembler = Assembler({1: AcceptedContext(1, CTImageStorage, EXPLICIT)}, 4096, budget)
    with contextlib.suppress(_pdu.PduError, _dimse.DimseError):
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                room = framer.buffer()
                count = min(len(room), len(rest))
                room[:count] = rest[:count]
                rest = rest[count:]
                for kind, body in framer.received(count):
                    if kind is _pdu.PduType.P_DATA_TF:
                        for message in assembler.add(body):
                            assembler.recycle(message)
    assembler.drop()
    assert budget.used_bytes == 0


@_examples(200)
@given(mutated(FILE), st.sampled_from(sorted(transfer_syntaxes())))
def test_files_and_data_sets(data: bytes, syntax: str) -> None:
    with contextlib.suppress(LayoutError):
        split_file(data)
    with contextlib.suppress(ObjectRefusedError):
        read_header(data[-len(DATASET) :], syntax)


@_examples(60)
@given(mutated(DATASET), st.booleans())
def test_identifiers(data: bytes, implicit: bool) -> None:
    with contextlib.suppress(DigitalTwinError):
        read_dataset(data, implicit=implicit)


CORPUS = dicom_corpus.kept()


def test_the_kept_corpus() -> None:
    assert {name for name, _ in CORPUS} == set(dicom_corpus.PARSERS)
    for name, data in CORPUS:
        dicom_corpus.run(name, data)


@_examples(80)
@given(st.data())
def test_mutants_of_the_kept_corpus(draw: st.DataObject) -> None:
    name, data = draw.draw(st.sampled_from(CORPUS))
    dicom_corpus.run(name, draw.draw(mutated(data)))


@pytest.mark.parametrize("associated", [False, True])
def test_a_port_under_fire_answers_the_next_caller(tmp_path: Path, associated: bool) -> None:
    stream = b"".join(
        [
            *_pdu.encode_data(1, COMMAND, command=True, max_pdu_bytes=64),
            *_pdu.encode_data(1, DATASET, command=False, max_pdu_bytes=256),
        ]
    )
    # A request that a busy machine sends late must not be cut off where it is not what is tried.
    limits = dicom.Limits(artim_s=20 if associated else 0.8, idle_s=0.8)
    with open_store(tmp_path) as store, listening(store, limits=limits) as node:

        @_examples(25)
        @given(mutated(stream if associated else REQUEST + stream))
        def fire(data: bytes) -> None:
            if associated:
                peer = RawPeer(node.port, CTImageStorage, EXPLICIT)
                connection = peer.socket
            else:
                connection = socket.create_connection(("127.0.0.1", node.port), timeout=10)
            with connection, contextlib.suppress(OSError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

        fire()
        dicom.echo(dicom.Remote("127.0.0.1", node.port))
        deadline = time.monotonic() + 120
        while (node.associations or node.half_open) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (node.associations, node.half_open, node.buffered_bytes) == (0, 0, 0)


def test_our_client_survives_a_hostile_server(tmp_path: Path) -> None:
    import asyncio

    answers = iter(
        [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\x02\x00\xff\xff\xff\xff" + bytes(100),
            ACCEPT[:40],
            ACCEPT + b"\x04\x00\xff\xff\xff\xff",
            ACCEPT + b"\x04\x00\x00\x00\x00\x0a" + bytes(10),
            ACCEPT + b"\x07\x00\x00\x00\x00\x04" + bytes(4),
            b"\x03\x00\x00\x00\x00\x04\x00\x01\x01\x07",
            b"",
        ]
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(next(answers))
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()

    async def closed(server: asyncio.Server) -> None:
        server.close()

    thread = LoopThread()
    server = thread.run(asyncio.start_server(serve, "127.0.0.1", 0))
    remote = dicom.Remote("127.0.0.1", server.sockets[0].getsockname()[1], timeout_s=2)
    try:
        for _ in range(8):
            with pytest.raises(dicom.DimseFailedError):
                dicom.echo(remote)
    finally:
        thread.run(closed(server))  # asyncio's servers are closed in their own thread only
        thread.close()


def test_five_hundred_idle_connections_cost_nothing(tmp_path: Path) -> None:
    import resource

    limits = dicom.Limits(artim_s=60, max_half_open=512)
    with open_store(tmp_path) as store, listening(store, limits=limits) as node:
        dicom.echo(dicom.Remote("127.0.0.1", node.port))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2048)), hard))
        before = _anonymous_mb()
        with contextlib.ExitStack() as stack:
            for number in range(500):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", node.port)))
                if number % 2:
                    connection.sendall(REQUEST[: number % 60 + 1])  # half a request, then silence
            deadline = time.monotonic() + 120
            while node.half_open < 500 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert node.half_open == 500
            assert _anonymous_mb() - before < 30
            dicom.echo(dicom.Remote("127.0.0.1", node.port))
        while node.half_open and time.monotonic() < deadline:
            time.sleep(0.02)
        assert node.half_open == 0


def test_a_slow_association_is_cut_off(tmp_path: Path) -> None:
    limits = dicom.Limits(idle_s=2.0)
    with open_store(tmp_path) as store, listening(store, limits=limits) as node:
        peer = RawPeer(node.port, CTImageStorage, EXPLICIT)
        peer.socket.sendall(b"\x04\x00\x00\x00\x01\x00")  # 256 bytes announced, none sent
        assert peer.read_pdu()[0] == 7
        peer.socket.close()
        dicom.echo(dicom.Remote("127.0.0.1", node.port))


def _anonymous_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024

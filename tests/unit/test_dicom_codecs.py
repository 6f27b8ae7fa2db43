"""PDU, DIMSE, walker and multipart codecs: round trips, and foreign bytes that must not pass the boundary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from dicom_support import ct_slice, file_bytes
from digital_twins import InputError
from digital_twins.dicom import _contexts, _dimse, _framing, _pdu
from digital_twins.dicom._header import ObjectRefusedError, read_header
from digital_twins.dicom._multipart import MultipartReader
from digital_twins.dicom._part10 import file_header, split_file
from digital_twins.dicom._text import normal_date, normal_time
from digital_twins.dicom._walk import LayoutError

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = _pdu.AssociateRequest(
    "TWIN",
    "CT1",
    (
        _pdu.ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),
        _pdu.ProposedContext(3, "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2")),
        _pdu.ProposedContext(5, "1.2.3", ("1.2.840.10008.1.2",)),
    ),
    16384,
    "1.2.3.4",
    "VERSION",
    (_pdu.RoleSelection("1.2.840.10008.5.1.4.1.1.2", scu=True, scp=False),),
    _pdu.UserIdentity(2, True, b"name", b"word"),
)
SLICE = file_bytes(ct_slice(1, size=8))
DATASET = SLICE[split_file(SLICE).dataset_offset :]
SYNTAX = "1.2.840.10008.1.2.1"


def test_associate_round_trip() -> None:
    assert _pdu.decode_associate(_pdu.encode_associate(REQUEST)[6:]) == REQUEST
    assert "word" not in repr(REQUEST)


def test_negotiation_takes_the_first_known_syntax() -> None:
    answers, accepted = _contexts.negotiate(REQUEST.contexts)
    assert [a.result for a in answers] == [0, 0, 3]
    assert accepted[3].transfer_syntax == "1.2.840.10008.1.2.4.90"
    accept = _pdu.AssociateAccept("TWIN", "CT1", answers, 131072, "1.2.3", "V")
    assert _pdu.decode_accept(_pdu.encode_accept(accept)[6:]) == accept
    assert len(_contexts.storage_classes()) > 150
    odd = _pdu.ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2.4.90",))
    assert _contexts.negotiate([odd])[0][0].result == 4


def test_pynetdicom_reads_our_accept() -> None:
    from pynetdicom.pdu import A_ASSOCIATE_AC

    answers, _ = _contexts.negotiate(REQUEST.contexts)
    theirs = A_ASSOCIATE_AC()
    theirs.decode(_pdu.encode_accept(_pdu.AssociateAccept("TWIN", "CT1", answers, 131072, "1.2.3", "V")))
    assert [c.result for c in theirs.presentation_context] == [0, 0, 3]


def test_command_round_trip() -> None:
    command = {
        _dimse.Tag.COMMAND_FIELD: 1,
        _dimse.Tag.MESSAGE_ID: 3,
        _dimse.Tag.DATASET_TYPE: 1,
        _dimse.Tag.AFFECTED_SOP_CLASS: "1.2.3",
        _dimse.Tag.ERROR_COMMENT: "x" * 64,
    }
    assert _dimse.decode_command(_dimse.encode_command(command)) == command
    long = _dimse.decode_command(_dimse.encode_command({**command, _dimse.Tag.ERROR_COMMENT: "y" * 99}))
    assert long[_dimse.Tag.ERROR_COMMENT] == "y" * 64


def _feed(framer: _framing.Framer, data: bytes, step: int) -> list[tuple[int, bytes]]:
    found = []
    while data:
        room = framer.buffer()
        piece = data[: min(step, len(room))]
        room[: len(piece)] = piece
        data = data[len(piece) :]
        found += [(int(kind), bytes(body)) for kind, body in framer.received(len(piece))]
    return found


@given(st.lists(st.binary(max_size=5000), max_size=5), st.integers(1, 9000), st.integers(20, 2000))
@settings(max_examples=60, deadline=None)
def test_messages_survive_any_fragmentation(payloads: list[bytes], step: int, max_pdu: int) -> None:
    command = _dimse.encode_command({_dimse.Tag.COMMAND_FIELD: 1, _dimse.Tag.DATASET_TYPE: 1})
    stream = b""
    for payload in payloads:
        stream += b"".join(_pdu.encode_data(1, command, command=True, max_pdu_bytes=max_pdu))
        stream += b"".join(_pdu.encode_data(1, payload, command=False, max_pdu_bytes=max_pdu))
    context = _contexts.AcceptedContext(1, "1.2", "1.2")
    assembler = _framing.Assembler({1: context}, 10**6, _framing.Budget(10**6))
    got = []
    for kind, body in _feed(_framing.Framer(max_pdu), stream, step):
        assert kind == 4
        got += [bytes(m.dataset) for m in assembler.add(memoryview(body))]
    assert got == payloads


def _outcome(read: Callable[[bytes], object], data: bytes, allowed: type[Exception]) -> str:
    """Whether the data were read or refused; anything else that is raised fails the test."""
    try:
        read(data)
    except allowed:
        return "refused"
    return "read"


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_random_bytes_raise_only_the_boundary_errors(data: bytes) -> None:
    for read, allowed in (
        (_pdu.decode_associate, _pdu.PduError),
        (_pdu.decode_accept, _pdu.PduError),
        (lambda d: list(_pdu.pdvs(memoryview(d))), _pdu.PduError),
        (_dimse.decode_command, _dimse.DimseError),
        (split_file, LayoutError),
        (lambda d: read_header(d, SYNTAX), ObjectRefusedError),
        (lambda d: read_header(d, "1.2.840.10008.1.2"), ObjectRefusedError),
        (lambda d: read_header(d, "1.2.840.10008.1.2.2"), ObjectRefusedError),
        (lambda d: read_header(d, "1.2.840.10008.1.2.1.99"), ObjectRefusedError),
    ):
        assert _outcome(read, data, allowed) in {"read", "refused"}
    framer = _framing.Framer(1000)
    assert _outcome(lambda d: _feed(framer, d, 7), data, _pdu.PduError) in {"read", "refused"}


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_input_raises_only_the_boundary_errors(draw: st.DataObject) -> None:
    base = draw.draw(st.sampled_from([_pdu.encode_associate(REQUEST)[6:], DATASET, SLICE]))
    data = bytearray(base)
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    cut = bytes(data[: draw.draw(st.integers(1, len(data)))])
    for read, allowed in (
        (_pdu.decode_associate, _pdu.PduError),
        (split_file, LayoutError),
        (lambda d: read_header(d, SYNTAX), ObjectRefusedError),
    ):
        assert _outcome(read, cut, allowed) in {"read", "refused"}


@pytest.mark.parametrize("cut", range(1, 60))
def test_every_truncation_is_noticed(cut: int) -> None:
    with pytest.raises(ObjectRefusedError):
        read_header(DATASET[:-cut], SYNTAX)


def test_a_declared_length_reserves_nothing() -> None:
    framer = _framing.Framer(131072)
    _feed(framer, b"\x04\x00\x00\x02\x00\x00" + bytes(100), 200)
    assert len(framer.buffer()) < 5000
    with pytest.raises(_pdu.PduError, match="declares"):
        _feed(_framing.Framer(131072), b"\x04\x00\xff\xff\xff\xff", 6)
    with pytest.raises(_pdu.PduError, match="no DICOM PDU"):
        _feed(_framing.Framer(131072), b"G", 1)


def test_our_file_header_is_read_by_pydicom(tmp_path: Path) -> None:
    from pydicom import dcmread

    path = tmp_path / "x.dcm"
    path.write_bytes(file_header("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1.1.1", SYNTAX) + DATASET)
    ds = dcmread(path)
    assert ds.file_meta.TransferSyntaxUID == SYNTAX
    assert ds.PixelData == ct_slice(1, size=8).PixelData


@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_multipart_in_any_pieces(bodies: list[bytes], step: int) -> None:
    raw = b"".join(b"--B0UND\r\nContent-Type: a/b\r\n\r\n" + body + b"\r\n" for body in bodies) + b"--B0UND--"
    if any(b"--B0UND" in body for body in bodies):
        return
    reader = MultipartReader('multipart/related; boundary="B0UND"', max_part_bytes=1000)
    parts = [part for i in range(0, len(raw), step) for part in reader.feed(raw[i : i + step])]
    reader.finish()
    assert [part.body for part in parts] == bodies
    assert all(part.headers == {"content-type": "a/b"} for part in parts)


def test_multipart_is_bounded() -> None:
    reader = MultipartReader("multipart/related; boundary=x", max_part_bytes=1000)
    with pytest.raises(InputError, match="longer"):
        reader.feed(b"--x\r\n\r\n" + bytes(100_000))


def test_old_dates_and_times() -> None:
    assert normal_date("2020.01.31") == "20200131"
    assert normal_date("tomorrow") == ""
    assert normal_time("10:15:30") == "101530"
    assert normal_time("101530.5") == "101530.5"

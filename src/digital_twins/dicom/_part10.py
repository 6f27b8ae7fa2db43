"""DICOM files (PS3.10): our own header before received bytes, and the parts of a foreign file."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct, error

from digital_twins.dicom._contexts import DEFLATED
from digital_twins.dicom._limits import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from digital_twins.dicom._walk import LayoutError

_PREAMBLE = bytes(128) + b"DICM"
_SHORT = Struct("<HH2sH")
_LONG = Struct("<HH2sHI")
_META_LENGTH = Struct("<I")
_MAX_INFLATED_RATIO = 1024


@dataclass(frozen=True, slots=True)
class Part10:
    """The parts of a DICOM file: what its meta information says, and where the data set starts."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    dataset_offset: int


def file_header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> bytes:
    """Return preamble and file meta information; the same for the same three UIDs."""
    before, after = _shared_elements(sop_class_uid, transfer_syntax)
    body = before + _element(0x0003, b"UI", sop_instance_uid) + after
    return _PREAMBLE + _SHORT.pack(2, 0, b"UL", 4) + _META_LENGTH.pack(len(body)) + body


@lru_cache(maxsize=256)
def _shared_elements(sop_class_uid: str, transfer_syntax: str) -> tuple[bytes, bytes]:
    """Return what stands before and after the UID of the object."""
    before = _LONG.pack(2, 1, b"OB", 0, 2) + b"\0\1" + _element(0x0002, b"UI", sop_class_uid)
    after = (
        _element(0x0010, b"UI", transfer_syntax)
        + _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID)
        + _element(0x0013, b"SH", IMPLEMENTATION_VERSION)
    )
    return before, after


def _element(element: int, vr: bytes, text: str) -> bytes:
    raw = text.encode("ascii", "replace")[:64]
    if len(raw) % 2:
        raw += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(2, element, vr, len(raw)) + raw


def split_file(data: bytes | bytearray | memoryview) -> Part10:
    """Read preamble and file meta information of a DICOM file.

    Raises
    ------
    LayoutError
        Not a DICOM file, or its meta information is cut off or names no transfer syntax.
    """
    if bytes(data[128:132]) != b"DICM":
        raise LayoutError("not a DICOM file: the letters DICM are missing at byte 128")
    position, end, found = 132, len(data), {0x0002: "", 0x0003: "", 0x0010: ""}
    try:
        while position + 8 <= end:
            group, element, vr, length = _SHORT.unpack_from(data, position)
            if group != 2:
                break
            position += 8
            if vr in {b"OB", b"UN", b"UT", b"SQ"}:
                length = _META_LENGTH.unpack_from(data, position)[0]
                position += 4
            if length > end - position:
                raise LayoutError("cut off inside the file meta information")
            if element in found:
                found[element] = bytes(data[position : position + length]).decode("ascii").strip(" \0")
            position += length
    except (error, UnicodeDecodeError):
        raise LayoutError("the file meta information cannot be read") from None
    if not found[0x0010]:
        raise LayoutError("the file meta information names no transfer syntax")
    return Part10(found[0x0002], found[0x0003], found[0x0010], position)


def inflate(data: bytes | bytearray | memoryview, transfer_syntax: str) -> bytes | bytearray | memoryview:
    """Return the data set that a deflated transfer syntax hides, other data as they are.

    Raises
    ------
    LayoutError
        The deflated stream is broken, cut off, or expands more than a thousandfold.
    """
    if transfer_syntax not in DEFLATED:
        return data
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = stream.decompress(data, _MAX_INFLATED_RATIO * max(len(data), 1))
    except zlib.error:
        raise LayoutError("the deflated data set is broken") from None
    if not stream.eof:
        raise LayoutError("the deflated data set is cut off or expands too far")
    return plain

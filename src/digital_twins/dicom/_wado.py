"""WADO-RS (PS3.18 section 10.4): whole objects, frames and bulk data out of the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError, InputError, NotFoundError
from digital_twins.dicom._contexts import EXPLICIT_LE, NATIVE
from digital_twins.dicom._multipart import media_type, new_boundary
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from digital_twins.dicom._store import DicomStore, Instance

CHUNK_BYTES = 2**20
OCTETS = "application/octet-stream"


class NotAcceptableError(DigitalTwinError):
    """None of the media types that the client accepts can be given (HTTP 406)."""

    http_status = 406


@dataclass(frozen=True, slots=True)
class Accepted:
    """One media range of an Accept header.

    Attributes
    ----------
    part_type
        Media type of the parts (for multipart) or of the body.
    transfer_syntax
        '*' when the client takes any.
    """

    multipart: bool
    part_type: str
    transfer_syntax: str


def parse_accept(header: str) -> list[Accepted]:
    """Read an Accept header in its order; nothing means everything."""
    found: list[Accepted] = []
    for item in _split(header or "*/*"):
        name, parameters = media_type(item)
        syntax = parameters.get("transfer-syntax", "")
        if name in {"multipart/related", "*/*", "multipart/*"}:
            part_type = parameters.get("type", "*/*").lower()
            syntax = syntax or ("*" if part_type == "*/*" else "")
            found.append(Accepted(multipart=True, part_type=part_type, transfer_syntax=syntax))
        else:
            found.append(Accepted(multipart=False, part_type=name, transfer_syntax=syntax))
    return found


def _split(header: str) -> Iterator[str]:
    """Split at commas outside quotes."""
    start, quoted = 0, False
    for position, letter in enumerate(header):
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            yield header[start:position]
            start = position + 1
    yield header[start:]


def etag(instances: Sequence[Instance], kind: str) -> str:
    """Return an entity tag that changes when any of the objects does."""
    digest = hashlib.sha256("".join(i.digest for i in instances).encode()).hexdigest()[:32]
    return f'"{kind}-{digest}"'


@dataclass(frozen=True, slots=True)
class FilePart:
    """A stored DICOM file as a part of an answer."""

    head: bytes
    path: Path
    size_bytes: int


class ObjectStream:
    """DICOM files as a multipart/related body of known length that is read from disk as it is sent."""

    def __init__(self, store: DicomStore, instances: Sequence[Instance]) -> None:
        self._boundary = new_boundary()
        self._parts = [
            FilePart(
                f"--{self._boundary}\r\nContent-Type: application/dicom;"
                f" transfer-syntax={i.transfer_syntax}\r\n\r\n".encode(),
                store.path(i),
                i.size_bytes,
            )
            for i in instances
        ]
        self._tail = f"--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        """The header of the whole body."""
        return f'multipart/related; type="application/dicom"; boundary={self._boundary}'

    @property
    def content_length(self) -> int:
        """Bytes of the whole body."""
        return sum(len(p.head) + p.size_bytes + 2 for p in self._parts) + len(self._tail)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces of about 1 MiB."""
        from anyio.to_thread import run_sync

        for part in self._parts:
            if part.size_bytes <= CHUNK_BYTES:
                yield b"".join((part.head, await run_sync(part.path.read_bytes), b"\r\n"))
                continue
            yield part.head
            with part.path.open("rb") as file:
                while chunk := await run_sync(file.read, CHUNK_BYTES):
                    yield chunk
            yield b"\r\n"
        yield self._tail


_FRAME_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """How frames are given: as they are stored, or decoded to Explicit VR Little Endian."""

    media_type: str
    transfer_syntax: str
    decoded: bool


def choose_frame_format(instance: Instance, accepted: Sequence[Accepted]) -> FrameFormat:
    """Pick the first media range that can be served (PS3.18 section 8.7.3.3).

    Raises
    ------
    NotAcceptableError
        The client takes neither the stored compression nor decoded bytes.
    """
    stored = instance.transfer_syntax
    native = stored in NATIVE
    own_type = OCTETS if native else _FRAME_TYPES.get(stored, OCTETS)
    for item in accepted:
        octets = item.part_type == OCTETS
        as_stored = item.transfer_syntax in {"*", stored} or (not item.transfer_syntax and own_type != OCTETS)
        if as_stored and item.part_type in {"*/*", own_type}:
            return FrameFormat(own_type, EXPLICIT_LE if native else stored, decoded=False)
        if octets and item.transfer_syntax in {"*", stored} and not native:
            return FrameFormat(OCTETS, stored, decoded=False)
        if octets and item.transfer_syntax in {"", EXPLICIT_LE}:
            return FrameFormat(OCTETS, EXPLICIT_LE, decoded=not native)
    raise NotAcceptableError(
        "The frames cannot be given in the accepted form.",
        "They are stored in another compression, and only decoding to octet-stream is offered.",
        'Accept multipart/related; type="application/octet-stream"; transfer-syntax=*.',
    )


def read_frames(
    store: DicomStore, instance: Instance, numbers: Sequence[int], chosen: FrameFormat
) -> list[bytes]:
    """Return frames by their numbers from 1.

    Raises
    ------
    NotFoundError
        The object has no pixel data or not so many frames.
    """
    if not instance.rows or any(not 1 <= n <= instance.frames for n in numbers):
        raise NotFoundError(
            "The frame is not stored here.",
            "The object has fewer frames, or no pixels.",
            "Ask for frames from 1 to NumberOfFrames.",
        )
    if chosen.decoded or (instance.pixel_offset is None):
        return [_decoded_frame(store, instance, n - 1) for n in numbers]
    with store.path(instance).open("rb") as file:
        if instance.pixel_length is None:
            from pydicom.encaps import get_frame

            frames = []
            for number in numbers:
                file.seek(instance.pixel_offset)
                frames.append(get_frame(file, number - 1, number_of_frames=instance.frames))
            return frames
        if instance.bits_allocated < 8 or instance.transfer_syntax.endswith(".2.2"):
            return [_decoded_frame(store, instance, n - 1) for n in numbers]
        plane = instance.rows * instance.columns * instance.bits_allocated // 8
        size = plane * max(instance.pixel_length // (plane * instance.frames), 1)
        parts = []
        for number in numbers:
            file.seek(instance.pixel_offset + (number - 1) * size)
            parts.append(file.read(size))
        return parts


def _decoded_frame(store: DicomStore, instance: Instance, index: int) -> bytes:
    """Decode one frame to little-endian bytes, one-bit frames packed again (PS3.5 section 8.1.1)."""
    import numpy
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    try:
        with quiet_pydicom():
            source: Any = store.path(instance)
            if instance.pixel_offset is None:
                source = dcmread(source)
            array = pixel_array(source, index=index, raw=True)
    except Exception as error:  # noqa: BLE001  (edge: codecs raise many kinds on foreign pixel data)
        raise NotAcceptableError(
            "The frame cannot be decoded.",
            f"The decoder raised {type(error).__name__}.",
            "Ask for the frame as it is stored: transfer-syntax=*.",
        ) from None
    if instance.bits_allocated == 1:
        return bytes(numpy.packbits(array.ravel(), bitorder="little"))
    return bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def read_bulk(store: DicomStore, instance: Instance, tag: str) -> bytes:
    """Return the value of one top-level binary element; raises InputError or NotFoundError."""
    if len(tag) != 8 or not all(letter in "0123456789ABCDEFabcdef" for letter in tag):
        raise InputError(
            "The bulk data reference cannot be used.",
            "It is no tag of eight hexadecimal digits.",
            "Take the BulkDataURI from the metadata.",
        )
    from pydicom import dcmread

    with quiet_pydicom():
        value: Any = dcmread(store.path(instance)).get(int(tag, 16))
    if value is None or not isinstance(value.value, bytes):
        raise NotFoundError(
            "The bulk data are not stored here.",
            "The object has no such binary element.",
            "Take the BulkDataURI from the metadata.",
        )
    return value.value

"""WADO-RS (PS3.18 section 10.4): whole objects and bulk data out of the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, NotFoundError
from digital_twins.dicom._accept import NotAcceptableError
from digital_twins.dicom._body import Body, Slice
from digital_twins.dicom._contexts import EXPLICIT_BE, EXPLICIT_LE, UNCOMPRESSED
from digital_twins.dicom._dataset_file import load, readable
from digital_twins.dicom._frames import frame_segments
from digital_twins.dicom._recode import TARGETS, recode
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from digital_twins.dicom._accept import Accepted
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Instance

PIXEL_DATA = "7FE00010"
PIXELS = frozenset({PIXEL_DATA, "7FE00008", "7FE00009"})


def etag(instances: Sequence[Instance], kind: str) -> str:
    """Return an entity tag that changes when any of the objects does."""
    digest = hashlib.sha256("".join(i.digest for i in instances).encode()).hexdigest()[:32]
    return f'"{kind}-{digest}"'


@dataclass(frozen=True, slots=True)
class ObjectFormat:
    """How objects are given.

    Attributes
    ----------
    transfer_syntax
        None: each as it is stored.
    """

    multipart: bool
    transfer_syntax: str | None


def choose_object_format(instances: Sequence[Instance], accepted: Sequence[Accepted]) -> ObjectFormat:
    """Pick the first media range that can be served; one that names no transfer syntax means Explicit VR LE.

    Raises
    ------
    NotAcceptableError
        No media range is application/dicom, or none of the transfer syntaxes named can be made.
    """
    for item in accepted:
        if item.part_type not in {"*/*", "application/dicom", "application/*"}:
            continue
        wanted = item.transfer_syntax or EXPLICIT_LE
        multipart = item.multipart or len(instances) > 1
        if wanted == "*" or all(i.transfer_syntax == wanted for i in instances):
            return ObjectFormat(multipart, None)
        if wanted in TARGETS:
            return ObjectFormat(multipart, wanted)
    raise NotAcceptableError(
        "The objects cannot be given in the accepted form.",
        "They are given as application/dicom, as stored or losslessly transcoded.",
        'Accept multipart/related; type="application/dicom"; transfer-syntax=*.',
    )


def objects_body(store: DicomStore, instances: Sequence[Instance], boundary: str) -> Body:
    """Return DICOM files as they are stored as one multipart/related body."""
    segments: list[bytes | Slice] = []
    for instance in instances:
        segments += [
            part_head(boundary, "application/dicom", instance.transfer_syntax),
            Slice(store.file(instance), 0, instance.size_bytes),
            b"\r\n",
        ]
    return Body([*segments, f"--{boundary}--\r\n".encode()])


def part_head(boundary: str, kind: str, transfer_syntax: str = "", location: str = "") -> bytes:
    """Return what stands before the body of a part."""
    syntax = f"; transfer-syntax={transfer_syntax}" if transfer_syntax else ""
    place = f"Content-Location: {location}\r\n" if location else ""
    return f"--{boundary}\r\nContent-Type: {kind}{syntax}\r\n{place}\r\n".encode()


async def transcoded_parts(
    store: DicomStore, instances: Sequence[Instance], syntax: str, boundary: str
) -> AsyncIterator[bytes]:
    """Yield the parts of a multipart/related body in another transfer syntax, one object in memory at a time.

    An object that cannot be transcoded ends the body before its closing boundary: the status was sent.
    """
    from anyio.to_thread import run_sync

    for instance in instances:
        file = await run_sync(object_file, store, instance, syntax)
        yield part_head(boundary, "application/dicom", given_syntax(instance, syntax))
        yield file
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def given_syntax(instance: Instance, syntax: str) -> str:
    """Return the transfer syntax in which an object comes when ``syntax`` is asked for."""
    if syntax == instance.transfer_syntax:
        return syntax
    has_pixels = instance.pixel_offset is not None or instance.rows > 0
    return syntax if has_pixels or syntax in UNCOMPRESSED else EXPLICIT_LE


def object_file(store: DicomStore, instance: Instance, syntax: str | None) -> bytes:
    """Return one DICOM file, in another transfer syntax when one is named and differs."""
    file = store.file(instance)
    if syntax in {None, instance.transfer_syntax}:
        return file.read_bytes()
    with readable(file) as source:
        return recode(source, str(syntax))


def bulk_value(store: DicomStore, instance: Instance, tag: str) -> Body:
    """Return the value of one top-level binary element; raises InputError or NotFoundError."""
    if len(tag) != 8 or not all(letter in "0123456789ABCDEFabcdef" for letter in tag):
        raise InputError(
            "The bulk data reference cannot be used.",
            "It is no tag of eight hexadecimal digits.",
            "Take the BulkDataURI from the metadata.",
        )
    if (
        tag.upper() in PIXELS
        and instance.pixel_length is not None
        and instance.pixel_offset is not None
        and instance.transfer_syntax != EXPLICIT_BE
    ):
        return Body([Slice(store.file(instance), instance.pixel_offset, instance.pixel_length)])
    if tag.upper() == PIXEL_DATA and instance.transfer_syntax == EXPLICIT_BE:
        return Body(frame_segments(store, instance, range(1, instance.frames + 1), decoded=True))
    with quiet_pydicom():
        value: Any = load(store.file(instance)).get(int(tag, 16))
    if value is None or not isinstance(value.value, bytes):
        raise NotFoundError(
            "The bulk data are not stored here.",
            "The object has no such binary element.",
            "Take the BulkDataURI from the metadata.",
        )
    return Body([value.value])

"""Frames of stored objects (PS3.18 section 10.4.1.1.6): as they are stored, or decoded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING

from digital_twins._errors import NotFoundError
from digital_twins.dicom._accept import NotAcceptableError
from digital_twins.dicom._body import Slice
from digital_twins.dicom._contexts import EXPLICIT_BE, EXPLICIT_LE, NATIVE
from digital_twins.dicom._dataset_file import load, readable
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.dicom._accept import Accepted
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Instance
    from digital_twins.storage import BlobFile

OCTETS = "application/octet-stream"
_JPEG, _JPEG_LS, _JPEG_2000, _HTJ2K = "image/jpeg", "image/jls", "image/jp2", "image/jphc"
_TYPES = {
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.90": _JPEG_2000,
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.201": _HTJ2K,
    "1.2.840.10008.1.2.4.202": _HTJ2K,
    "1.2.840.10008.1.2.4.203": _HTJ2K,
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
_ITEM = Struct("<HHI")
_ITEM_TAG, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """How frames are given: as they are stored, or decoded to Explicit VR Little Endian.

    Attributes
    ----------
    multipart
        Whether the media range that was chosen wants its parts in multipart/related.
    """

    media_type: str
    transfer_syntax: str
    decoded: bool
    multipart: bool


def choose_frame_format(instance: Instance, accepted: Sequence[Accepted]) -> FrameFormat:
    """Pick the first media range that can be served (PS3.18 section 8.7.3.3).

    Raises
    ------
    NotAcceptableError
        The client takes neither the stored compression nor decoded bytes.
    """
    stored = instance.transfer_syntax
    native = stored in NATIVE
    own_type = OCTETS if native else _TYPES.get(stored, OCTETS)
    for item in accepted:
        octets = item.part_type == OCTETS
        as_stored = item.transfer_syntax in {"*", stored} or (not item.transfer_syntax and own_type != OCTETS)
        if as_stored and item.part_type in {"*/*", own_type}:
            syntax = EXPLICIT_LE if native else stored
            return FrameFormat(own_type, syntax, decoded=False, multipart=item.multipart)
        if octets and item.transfer_syntax in {"*", stored} and not native:
            return FrameFormat(OCTETS, stored, decoded=False, multipart=item.multipart)
        if octets and item.transfer_syntax in {"", EXPLICIT_LE}:
            return FrameFormat(OCTETS, EXPLICIT_LE, decoded=not native, multipart=item.multipart)
    raise NotAcceptableError(
        "The frames cannot be given in the accepted form.",
        "They are stored in another compression, and only decoding to octet-stream is offered.",
        'Accept multipart/related; type="application/octet-stream"; transfer-syntax=*.',
    )


def frame_segments(
    store: DicomStore, instance: Instance, numbers: Sequence[int], *, decoded: bool
) -> list[bytes | Slice]:
    """Return frames by their numbers from 1: slices of the file where that is possible, else bytes.

    Raises
    ------
    NotFoundError
        The object has no pixel data or not so many frames.
    NotAcceptableError
        A frame cannot be decoded.
    """
    if not instance.rows or any(not 1 <= n <= instance.frames for n in numbers):
        raise NotFoundError(
            "The frame is not stored here.",
            "The object has fewer frames, or no pixels.",
            "Ask for frames from 1 to NumberOfFrames.",
        )
    file, offset = store.file(instance), instance.pixel_offset
    if decoded or offset is None:
        return [decoded_frame(store, instance, n - 1) for n in numbers]
    if instance.pixel_length is None:
        table = fragment_table(file, offset)
        if len(table) == instance.frames:
            return [Slice(file, *table[n - 1]) for n in numbers]
        return _gathered(file, offset, instance.frames, numbers)
    bits = instance.rows * instance.columns * instance.bits_allocated
    if bits % 8 or instance.transfer_syntax == EXPLICIT_BE:
        return [decoded_frame(store, instance, n - 1) for n in numbers]
    size = bits // 8 * max(instance.pixel_length // (bits // 8 * instance.frames), 1)
    return [Slice(file, offset + (n - 1) * size, size) for n in numbers]


@lru_cache(maxsize=128)
def fragment_table(file: BlobFile, offset: int) -> tuple[tuple[int, int], ...]:
    """Return offset and length of every fragment of encapsulated pixel data (PS3.5 section A.4).

    Remembered, as the files never change: a viewer asks for the frames of a long cine one by one.
    """
    found: list[tuple[int, int]] = []
    with file.open() as stream:
        stream.seek(offset)
        while len(head := stream.read(8)) == 8:
            group, element, length = _ITEM.unpack(head)
            if (group, element) != _ITEM_TAG:
                break
            found.append((stream.tell(), length))
            stream.seek(length, 1)
    return tuple(found[1:])  # the first item is the basic offset table


def _gathered(file: BlobFile, offset: int, frames: int, numbers: Sequence[int]) -> list[bytes | Slice]:
    """Frames of several fragments each."""
    from pydicom.encaps import get_frame

    gathered: list[bytes | Slice] = []
    with file.open() as stream:
        for number in numbers:
            stream.seek(offset)
            gathered.append(get_frame(stream, number - 1, number_of_frames=frames))
    return gathered


def decoded_frame(store: DicomStore, instance: Instance, index: int) -> bytes:
    """Decode one frame to little-endian bytes, one-bit frames packed again (PS3.5 section 8.1.1).

    Raises
    ------
    NotAcceptableError
        No decoder can read it.
    """
    import numpy
    from pydicom.pixels.utils import pixel_array

    try:
        with quiet_pydicom():
            if instance.pixel_offset is None:
                array = pixel_array(load(store.file(instance)), index=index, raw=True)
            else:
                with readable(store.file(instance)) as source:
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

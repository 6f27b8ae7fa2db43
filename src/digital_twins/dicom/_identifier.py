"""Identifiers of queries and retrievals, and attribute lists of N services: bytes to data sets and back."""

from __future__ import annotations

from copy import deepcopy
from io import BytesIO
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

UTF_8 = "ISO_IR 192"
_MAX_BYTES = 2**22
_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ASCII = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
"""First terms that stand for the default repertoire, which has no letters with marks."""


def read_dataset(data: bytes | memoryview, *, implicit: bool) -> Dataset:
    """Decode a data set that came with a command, its text included.

    Raises
    ------
    InputError
        The bytes are no data set in the negotiated transfer syntax, or more than 4 MiB.
    """
    from pydicom.filereader import read_dataset as read

    if len(data) > _MAX_BYTES:
        raise _unreadable(f"It has {len(data)} bytes.")
    try:
        with quiet_pydicom():
            dataset = read(BytesIO(bytes(data)), implicit, True)  # noqa: FBT003  (pydicom's signature)
            dataset.decode()
            for element in dataset:
                str(element.value)
    except Exception as error:  # noqa: BLE001  (edge: pydicom raises many kinds on foreign bytes)
        raise _unreadable(f"pydicom raised {type(error).__name__}.") from None
    return dataset


def write_dataset(dataset: Dataset, *, implicit: bool, character_set: Sequence[str] = (UTF_8,)) -> bytes:
    """Encode a data set in the character set of the peer, or in UTF-8 where that cannot hold its text.

    Parameters
    ----------
    character_set
        The terms of Specific Character Set that the peer used; empty: it named none.
    """
    wanted = [*character_set] if any(character_set) else [""]
    if wanted != [UTF_8] and not (wanted[0] in _ASCII and _has_latin_1(dataset)):
        # A copy, because pydicom's names remember the bytes of their first encoding.
        attempt = deepcopy(dataset)
        if any(wanted):
            attempt.SpecificCharacterSet = wanted if len(wanted) > 1 else wanted[0]
        encoded = _encode(attempt, implicit=implicit)
        if encoded is not None and _same_text(dataset, encoded, implicit=implicit):
            return encoded
    dataset.SpecificCharacterSet = UTF_8
    encoded = _encode(dataset, implicit=implicit)
    if encoded is None:
        raise _unreadable("Its text cannot be written in UTF-8.")
    return encoded


def character_set(dataset: Dataset) -> tuple[str, ...]:
    """Return the terms of Specific Character Set, () when there is none."""
    value = dataset.get("SpecificCharacterSet", "") or ""
    return (value,) if isinstance(value, str) and value else tuple(value)


def _encode(dataset: Dataset, *, implicit: bool) -> bytes | None:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset as write

    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    try:
        with quiet_pydicom():
            write(buffer, dataset)
    except (UnicodeError, LookupError, ValueError):
        return None
    return bytes(buffer.getvalue())


def _has_latin_1(dataset: Dataset) -> bool:
    """Whether text has letters that pydicom would write as Latin-1 where only ASCII is agreed on."""
    return any(
        any("\x80" <= letter <= "\xff" for letter in str(element.value))
        for element in dataset.iterall()
        if element.VR in _TEXT
    )


def _same_text(dataset: Dataset, encoded: bytes, *, implicit: bool) -> bool:
    """Whether nothing was lost: pydicom writes '?' for what a character set does not have."""
    try:
        again = read_dataset(encoded, implicit=implicit)
    except InputError:
        return False
    return all(
        str(element.value).rstrip("=^ ") == str(again[element.tag].value).rstrip("=^ ")
        for element in dataset
        if element.VR in {*_TEXT, "SQ"} and element.tag in again
    )


def _unreadable(why: str) -> InputError:
    return InputError(
        "The data set of the request cannot be read.",
        why,
        "Send a data set in the negotiated transfer syntax and a character set of PS3.3 section C.12.1.1.2.",
    )

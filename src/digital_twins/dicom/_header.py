"""What the index needs of an arriving object, read from its raw elements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.dicom._attributes import SPECIFIC_CHARACTER_SET, Level, ingested, wanted_tags
from digital_twins.dicom._contexts import DEFLATED, EXPLICIT_BE, IMPLICIT_LE
from digital_twins.dicom._dimse import Status
from digital_twins.dicom._part10 import inflate
from digital_twins.dicom._text import (
    decode_text,
    name_groups,
    name_key,
    normal_date,
    normal_time,
    python_encodings,
)
from digital_twins.dicom._walk import HeadTooShortError, LayoutError, walk

if TYPE_CHECKING:
    from digital_twins.dicom._walk import Layout

Row = dict[str, str | int | None]
Family = tuple[str, str, str, str]
_UID = re.compile(r"[0-9][0-9.]{0,63}")
_INTEGER = re.compile(r"[+-]?\d{1,10}")
_TEXT = frozenset({"LO", "SH", "PN"})
_MAX_TEXT = 1024
_SHARED = (Level.PATIENT, Level.STUDY, Level.SERIES)


class ObjectRefusedError(InputError):
    """An object cannot be stored.

    Parameters
    ----------
    why
        The reason, without patient data; the first 64 characters travel as the DIMSE error comment.
    status
        The C-STORE status of PS3.4 table B.2-1.
    """

    def __init__(self, why: str, *, status: int = Status.CANNOT_UNDERSTAND, fix: str = "") -> None:
        super().__init__(
            "The object was refused.", why, fix or "Repair the object at its source and resend it."
        )
        self.status = status


@dataclass(frozen=True, slots=True)
class Header:
    """Index values of one object.

    Attributes
    ----------
    rows
        Column to value for each level.
    pixel_offset, pixel_length
        Position of the pixel data value inside the data set as `digital_twins.dicom._walk.Layout` has it.
    """

    rows: dict[Level, Row]
    transfer_syntax: str
    pixel_offset: int | None
    pixel_length: int | None

    @property
    def sop_uid(self) -> str:
        """SOP Instance UID."""
        return str(self.rows[Level.INSTANCE]["sop_uid"])

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""
        return str(self.rows[Level.INSTANCE]["sop_class_uid"])

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.rows[Level.SERIES]["series_uid"])

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return str(self.rows[Level.STUDY]["study_uid"])

    @property
    def family(self) -> Family:
        """Patient, issuer, study and series: what decides whether the object contradicts stored ones."""
        return self.patient_id, str(self.rows[Level.PATIENT]["issuer"]), self.study_uid, self.series_uid

    @property
    def patient_id(self) -> str:
        """PatientID, '' when the object has none."""
        return str(self.rows[Level.PATIENT]["patient_id"])


def read_header(
    dataset: bytes | bytearray | memoryview, transfer_syntax: str, *, size_bytes: int | None = None
) -> Header:
    """Check the framing of a whole data set and read its index values.

    Parameters
    ----------
    size_bytes
        Length of the data set when only its beginning is given.

    Raises
    ------
    HeadTooShortError
        The beginning is not enough.
    ObjectRefusedError
        Truncated, not in the stated transfer syntax, or without a UID that identifies it.
    """
    if size_bytes is not None and transfer_syntax in DEFLATED:
        raise HeadTooShortError
    try:
        plain = inflate(dataset, transfer_syntax)
        layout = walk(
            plain,
            implicit=transfer_syntax == IMPLICIT_LE,
            big_endian=transfer_syntax == EXPLICIT_BE,
            wanted=wanted_tags(),
            size=size_bytes,
        )
    except LayoutError as error:
        raise ObjectRefusedError(f"data set: {error}") from None
    charset = layout.values.get(SPECIFIC_CHARACTER_SET, b"")
    big_endian = transfer_syntax == EXPLICIT_BE
    shared = _shared_rows(_raw_values(_SHARED, layout), charset, big_endian=big_endian)
    own = _raw_values((Level.INSTANCE,), layout)
    rows = {
        **{level: dict(row) for level, row in zip(_SHARED, shared, strict=True)},
        Level.INSTANCE: _row(Level.INSTANCE, own, charset, big_endian=big_endian),
    }
    _check_uids(rows[Level.INSTANCE], ("sop_uid", "sop_class_uid"))
    hidden = transfer_syntax in DEFLATED
    return Header(
        rows,
        transfer_syntax,
        None if hidden else layout.pixel_offset,
        None if hidden else layout.pixel_length,
    )


def _raw_values(levels: tuple[Level, ...], layout: Layout) -> tuple[bytes, ...]:
    get = layout.values.get
    return tuple([get(tag, b"") for tag in _tags(levels)])


@cache
def _tags(levels: tuple[Level, ...]) -> tuple[int, ...]:
    return tuple(attribute.tag for level in levels for attribute in ingested(level))


@lru_cache(maxsize=64)
def _shared_rows(raw_values: tuple[bytes, ...], charset: bytes, *, big_endian: bool) -> tuple[Row, ...]:
    """Return the rows that the objects of a series have in common: worked out once for all of them."""
    rest = iter(raw_values)
    rows = tuple(
        _row(level, tuple(islice(rest, len(ingested(level)))), charset, big_endian=big_endian)
        for level in _SHARED
    )
    _check_uids(rows[Level.STUDY], ("study_uid",))
    _check_uids(rows[Level.SERIES], ("series_uid",))
    return rows


def _check_uids(row: Row, columns: tuple[str, ...]) -> None:
    for column in columns:
        if not _UID.fullmatch(str(row[column])):
            raise ObjectRefusedError(f"{column} is missing or no UID", status=Status.DOES_NOT_MATCH)


def _row(level: Level, raw_values: tuple[bytes, ...], charset: bytes, *, big_endian: bool) -> Row:
    encodings = python_encodings(charset)
    row: Row = {}
    for (column, vr), raw in zip(_columns(level), raw_values, strict=True):
        if vr == "UI":
            row[column] = raw.decode("ascii", "replace").strip(" \0")[:_MAX_TEXT]
        elif vr in _TEXT:
            row[column] = decode_text(raw, encodings)[:_MAX_TEXT] if raw else ""
        else:
            row[column] = _value(vr, raw, big_endian=big_endian)
        if vr == "PN":
            groups = name_groups(str(row[column]))
            for kind, group in zip(("alphabetic", "ideographic", "phonetic"), groups, strict=True):
                row[f"{column}_{kind}"] = name_key(group)
    return row


@cache
def _columns(level: Level) -> tuple[tuple[str, str], ...]:
    """Return column and VR of each attribute that an object brings."""
    return tuple((attribute.sql, attribute.vr) for attribute in ingested(level))


@lru_cache(maxsize=2048)
def _value(vr: str, raw: bytes, *, big_endian: bool) -> str | int | None:
    """Return a number, date, time or code: the objects of a series have most of these in common."""
    if vr == "US":
        return int.from_bytes(raw[:2], "big" if big_endian else "little") if len(raw) >= 2 else None
    if not raw:
        return None if vr == "IS" else ""
    text = raw.decode("ascii", "replace").strip(" \0")
    if vr == "IS":
        match = _INTEGER.fullmatch(text.split("\\", maxsplit=1)[0].strip())
        return int(match[0]) if match else None
    if vr == "DA":
        return normal_date(text)
    return normal_time(text) if vr == "TM" else text[:_MAX_TEXT]

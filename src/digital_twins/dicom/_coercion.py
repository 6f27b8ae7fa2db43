"""Coercion rules: attributes that are changed in objects as they arrive or before they are sent on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.dicom._attributes import Level
from digital_twins.dicom._contexts import DEFLATED, EXPLICIT_BE, IMPLICIT_LE
from digital_twins.dicom._dataset_file import load
from digital_twins.dicom._header import ObjectRefusedError
from digital_twins.dicom._part10 import inflate
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydicom.dataset import Dataset

    from digital_twins.dicom._header import Header
    from digital_twins.dicom._store import DicomStore

RECEIVE, FORWARD = "receive", "forward"
COERCE = "*coerce"
"""Stands in the queue for an object that only coercion rules change before it is sent."""
_FIXED = frozenset(
    {
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SpecificCharacterSet",
        "OriginalAttributesSequence",
    }
)
_TEXT = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UT"})
_HEADER_BYTES = {True: 8, False: 12}
"""Bytes of an element header before pixel data: implicit VR, and explicit VR of OB or OW."""


@dataclass(frozen=True, slots=True)
class Coercion:
    """One coercion rule; conditions that are empty hold for everything.

    Attributes
    ----------
    when
        ``"receive"``: before the object is stored; ``"forward"``: before it is sent to a destination.
    calling
        AE titles (or HTTP agents) that the object came from.
    destinations
        AE titles that it is sent to, for ``"forward"``.
    modalities
        Modality codes.
    set
        Keyword to the value that the attribute gets; it is added when it is missing.
    remove
        Keywords of attributes that go.
    prefix
        Keyword to the text put before the value, unless the value is empty or begins with it already.
    """

    when: str = RECEIVE
    calling: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    set: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    prefix: Mapping[str, str] = field(default_factory=dict)

    def fits(self, header: Header, source: str, destination: str = "") -> bool:
        """Whether the rule is for an object from a source (and, when forwarding, for a destination)."""
        modality = str(header.rows[Level.SERIES]["modality"])
        return (
            (self.when == FORWARD) == bool(destination)
            and (not self.calling or source.rpartition("@")[2] in self.calling)
            and (not self.destinations or destination in self.destinations)
            and (not self.modalities or modality in self.modalities)
        )


def check_coercions(rules: Sequence[Coercion]) -> None:
    """Refuse rules that could not be followed.

    Raises
    ------
    InputError
        An attribute that is unknown, is no text or number, or names the object (its UIDs); a value that its
        representation does not allow; destinations in a rule for what is received.
    """
    for number, rule in enumerate(rules, 1):
        if rule.when not in {RECEIVE, FORWARD}:
            raise _unusable(number, f"'{rule.when}' is neither '{RECEIVE}' nor '{FORWARD}'.")
        if rule.when == RECEIVE and rule.destinations:
            raise _unusable(number, "Only a rule with when = 'forward' has destinations.")
        if not (rule.set or rule.remove or rule.prefix):
            raise _unusable(number, "It changes nothing.")
        for keyword in (*rule.set, *rule.remove, *rule.prefix):
            _check_keyword(number, keyword)
        for keyword, value in rule.set.items():
            _check_value(number, keyword, value)


def coerce_received(
    rules: Sequence[Coercion], store: DicomStore, *, system: str
) -> Callable[[Header, bytes | bytearray | memoryview, str], bytes | None]:
    """Return what `DicomStore.coerce` calls for each arriving object; None means byte for byte.

    Parameters
    ----------
    system
        Our AE title, for ModifyingSystem.
    """
    receiving = [rule for rule in rules if rule.when == RECEIVE]

    def coerce(header: Header, dataset: bytes | bytearray | memoryview, source: str) -> bytes | None:
        fitting = [rule for rule in receiving if rule.fits(header, source)]
        if not fitting:
            return None
        return coerced(header, dataset, fitting, source=source, system=system, at=_known(store, header))

    return coerce


def coerced(
    header: Header,
    dataset: bytes | bytearray | memoryview,
    rules: Sequence[Coercion],
    *,
    source: str,
    system: str,
    at: datetime | None = None,
) -> bytes | None:
    """Return an encoded data set after rules, or None when they change nothing.

    The old values go into an item of OriginalAttributesSequence (PS3.3 section C.12.1.1.9). What stands
    before the pixel data is written anew; the pixel data and what follows them stay as they are.

    Parameters
    ----------
    header
        What `read_header` found in ``dataset``.
    source
        Who sent the object, for SourceOfPreviousValues.
    system
        Our AE title.
    at
        When the change is made; now by default. The same time gives the same bytes.

    Raises
    ------
    ObjectRefusedError
        The data set cannot be written again with the changes.
    """
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset as write

    syntax = header.transfer_syntax
    implicit, big = syntax == IMPLICIT_LE, syntax == EXPLICIT_BE
    plain = memoryview(inflate(dataset, syntax))
    end = len(plain)
    if header.pixel_offset is not None and syntax not in DEFLATED:
        end = header.pixel_offset - _HEADER_BYTES[implicit]
    with quiet_pydicom():
        try:
            read = _read(plain[:end], implicit=implicit, big=big)
            if not _apply(read, rules, source=source, system=system, at=at or datetime.now(tz=UTC)):
                return None
            buffer: Any = DicomBytesIO()
            buffer.is_little_endian, buffer.is_implicit_VR = not big, implicit
            write(buffer, read)
        except (ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
            raise ObjectRefusedError(
                f"a coercion rule could not be applied ({type(error).__name__})",
                fix="Repair the object at its source, or narrow the rule in [[dicom_coercions]].",
            ) from None
    made = b"".join((buffer.getvalue(), plain[end:]))
    return _deflated(made) if syntax in DEFLATED else made


def _apply(dataset: Dataset, rules: Sequence[Coercion], *, source: str, system: str, at: datetime) -> bool:
    """Change a data set and note the old values; False when nothing changed."""
    from pydicom.dataset import Dataset

    before = Dataset()
    for rule in rules:
        wanted: list[tuple[str, str | None]] = [(keyword, None) for keyword in rule.remove]
        wanted += rule.set.items()
        for keyword, text in rule.prefix.items():
            value = str(dataset.get(keyword) or "")
            if value and not value.startswith(text):
                wanted.append((keyword, text + value))
        for keyword, new in wanted:
            there = keyword in dataset
            if new == (_text(dataset.get(keyword)) if there else None):
                continue
            if keyword not in before:
                # What was absent stands there empty.
                setattr(before, keyword, dataset[keyword].value if there else None)
            _change(dataset, keyword, new)
    if not before:
        return False
    item = Dataset()
    item.SourceOfPreviousValues = source.rpartition("@")[2][:64]
    item.AttributeModificationDateTime = at.strftime("%Y%m%d%H%M%S.%f+0000")
    item.ModifyingSystem = system
    item.ReasonForTheAttributeModification = "COERCE"
    item.ModifiedAttributesSequence = [before]
    items = [*(dataset.get("OriginalAttributesSequence") or []), item]
    dataset.OriginalAttributesSequence = items
    return True


def _change(dataset: Dataset, keyword: str, new: str | None) -> None:
    if new is None:
        delattr(dataset, keyword)
        return
    if not new.isascii() and not _can_write(dataset, new):
        dataset.decode()
        dataset.SpecificCharacterSet = "ISO_IR 192"
    setattr(dataset, keyword, new.split("\\") if "\\" in new else new)


def _can_write(dataset: Dataset, text: str) -> bool:
    from pydicom.charset import convert_encodings, encode_string

    try:
        encode_string(text, convert_encodings(dataset.get("SpecificCharacterSet")))
    except (UnicodeEncodeError, LookupError):
        return False
    return dataset.get("SpecificCharacterSet") is not None


def _read(plain: memoryview, *, implicit: bool, big: bool) -> Dataset:
    from pydicom.filereader import read_dataset

    return read_dataset(BytesIO(plain), implicit, not big)


def _text(value: object) -> str:
    from pydicom.multival import MultiValue

    return (
        "\\".join(map(str, value))
        if isinstance(value, MultiValue)
        else str(value if value is not None else "")
    )


def _deflated(data: bytes) -> bytes:
    import zlib

    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(data) + packer.flush()
    return packed + b"\0" * (len(packed) % 2)


def source_of(store: DicomStore, sop_uid: str) -> str:
    """Return who sent a stored object, '' when it is not in the index."""
    with store.database.read() as connection:
        rows: Any = connection.execute(
            "SELECT source FROM dicom_instance WHERE sop_uid = ?", (sop_uid,)
        ).fetchall()
    return str(rows[0][0]) if rows else ""


def _known(store: DicomStore, header: Header) -> datetime | None:
    """Return when the stored object was changed: sent again, it then becomes the same bytes again."""
    from digital_twins.dicom._store import select_instances

    found = select_instances(store, " WHERE i.sop_uid = ?", (header.sop_uid,))
    if not found:
        return None
    with quiet_pydicom():
        stored = load(store.file(found[0]), specific_tags=["OriginalAttributesSequence"])
        items = stored.get("OriginalAttributesSequence") or []
        text = str(items[-1].get("AttributeModificationDateTime") or "") if items else ""
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S.%f%z").astimezone(UTC)
    except ValueError:
        return None


def _check_keyword(number: int, keyword: str) -> None:
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None or tag < 0x00080000:
        raise _unusable(number, f"'{keyword}' is no attribute of data sets.")
    if keyword in _FIXED:
        raise _unusable(number, f"'{keyword}' names the object or says how to read it.")
    if dictionary_VR(tag) not in _TEXT:
        raise _unusable(number, f"'{keyword}' is neither text nor a number in text.")


def _check_value(number: int, keyword: str, value: str) -> None:
    from pydicom import config
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import DataElement

    tag = tag_for_keyword(keyword)
    assert tag is not None
    try:
        DataElement(tag, dictionary_VR(tag), value.split("\\"), validation_mode=config.RAISE)
    except (ValueError, TypeError):
        raise _unusable(
            number, f"The value for '{keyword}' does not follow its value representation."
        ) from None


def _unusable(number: int, why: str) -> InputError:
    return InputError(
        f"Coercion rule {number} cannot be used.", why, "Correct it in [[dicom_coercions]] of twin.toml."
    )

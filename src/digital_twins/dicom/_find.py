"""C-FIND of the Query/Retrieve classes (PS3.4 section C.4.1): identifier to query, matches to identifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.dicom._attributes import NUMBERS, Level, by_keyword
from digital_twins.dicom._contexts import PATIENT_ROOTS
from digital_twins.dicom._dataset_file import load
from digital_twins.dicom._dimse import Status
from digital_twins.dicom._identifier import character_set, read_dataset, write_dataset
from digital_twins.dicom._query import Query, find_all, supported
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import Dataset

    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._query import Match
    from digital_twins.dicom._setup import Peer
    from digital_twins.dicom._store import DicomStore

LEVELS = {"PATIENT": Level.PATIENT, "STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.INSTANCE}
_CONTROL = frozenset({"SpecificCharacterSet", "QueryRetrieveLevel", "TimezoneOffsetFromUTC"})
_OURS = frozenset({"RetrieveAETitle", "InstanceAvailability"})
_BATCH = 50
_NOT_RETURNED = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
UNIQUE = {
    Level.PATIENT: ("PatientID",),
    Level.STUDY: ("StudyInstanceUID",),
    Level.SERIES: ("StudyInstanceUID", "SeriesInstanceUID"),
    Level.INSTANCE: ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}
_ANY_INSTANCE = {
    Level.PATIENT: ("p.patient_id = ?", "PatientID"),
    Level.STUDY: ("s.study_uid = ?", "StudyInstanceUID"),
    Level.SERIES: ("e.series_uid = ?", "SeriesInstanceUID"),
    Level.INSTANCE: ("i.sop_uid = ?", "SOPInstanceUID"),
}


def level_of(identifier: Dataset, model: str) -> tuple[str, Level]:
    """Return the query/retrieve level of an identifier; raises InputError where the model has no such."""
    name = str(identifier.get("QueryRetrieveLevel", "") or "").strip()
    if name not in LEVELS or (name == "PATIENT" and model not in PATIENT_ROOTS):
        raise InputError(
            "Query/Retrieve level is missing or wrong.",
            "This information model has no such level.",
            "Set (0008,0052) to PATIENT (patient root only), STUDY, SERIES or IMAGE.",
        )
    return name, LEVELS[name]


def text_of(value: object) -> str:
    """Return a matching value as DICOM writes it, '' for sequences."""
    from pydicom.multival import MultiValue
    from pydicom.sequence import Sequence

    if value is None or isinstance(value, Sequence):
        return ""
    return "\\".join(str(v) for v in value) if isinstance(value, MultiValue) else str(value)


class Search:
    """A C-FIND identifier turned into a query, and matches turned into identifiers."""

    def __init__(self, store: DicomStore, message: Message, peer: Peer) -> None:
        context = message.context
        self._store = store
        self._implicit = context.transfer_syntax == "1.2.840.10008.1.2"
        self._identifier = read_dataset(message.dataset, implicit=self._implicit)
        self._level_name, level = level_of(self._identifier, context.abstract_syntax)
        self._character_set = character_set(self._identifier)
        values = {each.keyword: text_of(each.value) for each in self._identifier if each.keyword}
        self._keywords = frozenset(values) - _CONTROL
        matched = supported(level)
        computed = frozenset(
            k for k in self._keywords if k in by_keyword() and by_keyword()[k].level <= level
        )
        self.query = Query(
            level,
            {k: v for k, v in values.items() if k in matched and v},
            computed,
            fuzzy_names=peer.fuzzy_names,
            combined_times=peer.combined_times,
        )
        # FF01 says that a key was not matched upon; one that was only asked for was answered all the same.
        unmatched = {k for k, v in values.items() if v} - matched - computed - _OURS - _CONTROL
        self.pending = Status.PENDING_OPTIONAL_KEYS if unmatched else Status.PENDING
        self._from_file = frozenset(
            int(each.tag)
            for each in self._identifier
            if each.keyword in self._keywords - _OURS
            and each.keyword not in by_keyword()
            and each.VR not in _NOT_RETURNED
        )

    def answers(self, ae_title: str) -> Iterator[list[bytes]]:
        """Yield encoded identifiers in batches."""
        batch: list[bytes] = []
        for match in find_all(self._store.database, self.query):
            batch.append(self._encode(match, ae_title))
            if len(batch) >= _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _encode(self, match: Match, ae_title: str) -> bytes:
        from pydicom.dataset import Dataset

        with quiet_pydicom():
            answer = Dataset()
            answer.QueryRetrieveLevel = self._level_name
            answer.RetrieveAETitle = ae_title
            if "InstanceAvailability" in self._keywords:
                answer.InstanceAvailability = "ONLINE"
            # Unique keys of the level and those above it come even when they were not asked for.
            for keyword in (self._keywords & by_keyword().keys()) | {*UNIQUE[self.query.level]}:
                setattr(answer, keyword, _dicom_value(keyword, match.get(keyword)))
        if self._from_file:
            self._add_from_file(answer, match)
        return write_dataset(answer, implicit=self._implicit, character_set=self._character_set)

    def _add_from_file(self, answer: Dataset, match: Match) -> None:
        """Take what the index does not hold, sequences too, from the first object of the entity."""
        from pydicom.dataelem import DataElement

        from digital_twins.dicom._store import select_instances

        where, keyword = _ANY_INSTANCE[self.query.level]
        found = select_instances(self._store, f" WHERE {where} ORDER BY i.id LIMIT 1", (str(match[keyword]),))
        stored: Dataset | None = None
        if found:
            with quiet_pydicom():
                stored = load(
                    self._store.file(found[0]), stop_before_pixels=True, specific_tags=[*self._from_file]
                )
                stored.decode()
        for tag in self._from_file:
            asked = self._identifier[tag]
            value: Any = [] if asked.VR == "SQ" else None
            if stored is not None and tag in stored and stored[tag].VR == asked.VR:
                value = stored[tag].value
            answer[tag] = DataElement(tag, asked.VR, value)


def _dicom_value(keyword: str, value: str | int | None) -> object:
    if value is None:
        return None
    if by_keyword()[keyword].vr in NUMBERS:
        return int(value)
    text = str(value)
    return text.split("\\") if "\\" in text else text

"""Every element of an object, at every depth: by the standard's table, and beyond the table by its VR."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_keyword, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from digital_twins.governance.deidentification._codes import clean_code
from digital_twins.governance.deidentification._dates import new_date, new_date_time, new_time
from digital_twins.governance.deidentification._policy import SAFE_PRIVATE, Action
from digital_twins.governance.deidentification._private import keep_safe_private
from digital_twins.governance.deidentification._table import profile_table
from digital_twins.governance.deidentification._word_list import word_list
from digital_twins.governance.deidentification._words import REMOVED, clean_text, is_plain_term

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

    from digital_twins.governance.deidentification._identity import DeidentificationKey
    from digital_twins.governance.deidentification._policy import Policy

_NUMBERS = frozenset(["US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT", "OF", "OD", "OL", "OV"])
_TEXTS = frozenset(["LO", "SH", "LT", "ST", "UT", "UC"])
_OCTETS = frozenset(["OB", "OW", "UN"])
_TIMES = frozenset(["DA", "TM", "DT"])
_ONE_VALUE = frozenset(["LT", "ST", "UT"])
_LIMITS = {"SH": 16, "LO": 64}
_DUMMIES = {"AE": "REMOVED", "UR": "urn:removed"}
# Dummies that are terms which the attribute's module allows.
_DUMMY_TERMS = {"ApprovalStatus": "UNAPPROVED"}
_NUMERIC = re.compile(r"[\s\d.eE+\\-]*")
_LONG_NUMBER = re.compile(r"\d{5,}")
_AGE = re.compile(r"(\d{3})([DWMY])")
_OLDEST_YEARS = 89
_OCTETS_THAT_STAY = frozenset(tag_for_keyword(keyword) for keyword in word_list("octets"))
_DOCUMENT, _MIME_TYPE, _TEXT_VALUE = 0x00420011, 0x00420012, 0x0040A160
_CODE_MEANING = 0x00080104
_CHARACTER_SET = 0x00080005
# Code value, scheme, meaning, long code value, URN code value: judged together.
_CODE_PARTS = frozenset({0x00080100, 0x00080102, 0x00080104, 0x00080119, 0x00080120})
_DUMMY_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


@dataclass(slots=True)
class Cleaner:
    """Cleans the elements of one object.

    Parameters
    ----------
    policy
        Profile and options.
    key
        Where new UIDs and codes come from.
    pseudonym
        The patient's new number and name.
    shift_days
        By how many days dates move.
    known
        Words of the patient's identifiers, lower case.
    actions
        Action by tag for what the table names, from :func:`table_actions`.
    """

    policy: Policy
    key: DeidentificationKey
    pseudonym: str
    shift_days: int
    known: frozenset[str]
    actions: dict[int, Action] = field(repr=False)

    def clean(self, dataset: Dataset) -> None:
        """Change a dataset in place, and the items of its sequences, however deep."""
        is_code = _CODE_MEANING in dataset
        if is_code:
            clean_code(dataset, self.key, self.known)
        keeps_private = SAFE_PRIVATE in self.policy.keep
        if keeps_private:
            keep_safe_private(dataset, self._value)
        for tag in list(dataset.keys()):
            group = tag.group
            if 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF or tag.element == 0:
                del dataset[tag]
            elif group & 1:
                if not keeps_private:
                    del dataset[tag]
            elif not (is_code and tag in _CODE_PARTS):
                self._element(dataset, tag)

    def _element(self, dataset: Dataset, tag: BaseTag) -> None:
        action = self.actions.get(tag)
        if action is Action.KEEP:
            return
        if action is Action.REMOVE:
            del dataset[tag]
            return
        vr = _vr(dataset, tag)
        if vr is None:
            del dataset[tag]
        elif vr == "SQ":
            self._sequence(dataset, tag)
        elif tag == _CHARACTER_SET:
            _character_set(dataset, tag)
        elif action is Action.EMPTY:
            value = self.pseudonym if dictionary_keyword(tag) in {"PatientID", "PatientName"} else None
            dataset[tag] = DataElement(tag, vr, value)
        elif action is Action.DUMMY:
            self._dummy(dataset, tag, vr)
        else:
            self._by_vr(dataset, tag, vr)

    def _sequence(self, dataset: Dataset, tag: BaseTag) -> None:
        items = dataset[tag].value
        if not isinstance(items, Sequence):
            del dataset[tag]
            return
        for item in items:
            self.clean(item)

    def _dummy(self, dataset: Dataset, tag: BaseTag, vr: str) -> None:
        """Put a value of the right form where the profile asks for a dummy."""
        if tag == _DOCUMENT:
            pdf = str(dataset.get(_MIME_TYPE, DataElement(_MIME_TYPE, "LO", "")).value) == "application/pdf"
            dataset[tag] = DataElement(tag, vr, _DUMMY_PDF + b"\0" if pdf else b"  ")
        elif vr == "PN" or dictionary_keyword(tag) == "PatientID":
            dataset[tag] = DataElement(tag, vr, self.pseudonym)
        elif vr in _TEXTS and tag == _TEXT_VALUE:
            self._by_vr(dataset, tag, vr)
        elif vr == "CS":
            dataset[tag] = DataElement(tag, vr, _DUMMY_TERMS.get(dictionary_keyword(tag), REMOVED))
        elif vr in _TEXTS or vr == "AE":
            dataset[tag] = DataElement(tag, vr, REMOVED)
        elif vr in _OCTETS:
            dataset[tag] = DataElement(tag, vr, b"\0\0")
        else:
            self._by_vr(dataset, tag, vr)

    def _by_vr(self, dataset: Dataset, tag: BaseTag, vr: str) -> None:
        if vr in _NUMBERS:
            return
        if vr in _OCTETS:
            if tag not in _OCTETS_THAT_STAY:
                del dataset[tag]
            return
        text = _text(dataset, tag)
        if text is None:
            del dataset[tag]
            return
        fresh = self._value(vr, text)
        if fresh != text:
            dataset[tag] = DataElement(tag, vr, fresh)

    def _value(self, vr: str, text: str) -> str:
        """Return what stays of a value that is text; several values stay parted by backslashes."""
        if vr in _TIMES:
            return self._time(vr, text)
        if vr in {"DS", "IS"}:
            return text if _NUMERIC.fullmatch(text) and not self._names_somebody(text) else ""
        if vr == "AS":
            return _age(text)
        if vr in {"AE", "UR"}:
            return _DUMMIES[vr]
        parts = [text] if vr in _ONE_VALUE else text.split("\\")
        return "\\".join(self._part(vr, part) for part in parts)

    def _time(self, vr: str, text: str) -> str:
        if vr == "TM":
            return new_time(text, self.policy.dates)
        change = new_date if vr == "DA" else new_date_time
        return change(text, self.policy.dates, self.shift_days)

    def _part(self, vr: str, part: str) -> str:
        """Return what stays of one of several values."""
        if not part.strip("\0 "):
            return ""
        if vr == "UI":
            return part if "uids" in self.policy.keep else self.key.uid(part)
        if vr == "CS":
            return part if is_plain_term(part) else REMOVED
        if vr == "PN":
            return self.pseudonym
        return clean_text(part, self.known)[: _LIMITS.get(vr)]

    def _names_somebody(self, text: str) -> bool:
        return any(number in self.known for number in _LONG_NUMBER.findall(text))


def table_actions(policy: Policy) -> dict[int, Action]:
    """Return the action for every tag that the table names, under a policy."""
    return {tag: policy.action(rule) for tag, rule in profile_table().rules.items()}


def _vr(dataset: Dataset, tag: BaseTag) -> str | None:
    """Return the VR, by the dictionary where the object has none; None for an unknown attribute."""
    element = dataset.get_item(tag)
    try:
        listed = dictionary_VR(tag)
    except KeyError:
        return None
    vr = getattr(element, "VR", None)
    if vr is None or vr == "UN":
        vr = listed
    if " or " in vr:
        vr = dataset[tag].VR
    return vr if " or " not in vr else vr.split(" ")[-1]


def _text(dataset: Dataset, tag: BaseTag) -> str | None:
    """Return a value as text; plain bytes of the default repertoire are read without a detour."""
    element: object = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        raw = element.value
        if raw is None:
            return ""
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii").rstrip("\0 ")
    try:
        value = dataset[tag].value
    except (ValueError, NotImplementedError, TypeError, LookupError):
        return None
    if value is None:
        return ""
    if isinstance(value, MultiValue):
        return "\\".join(str(each) for each in value)
    return str(value)


def _character_set(dataset: Dataset, tag: BaseTag) -> None:
    """Keep defined terms (PS3.3, C.12.1.1.2) whatever digits they hold; all else is no character set."""
    terms = (_text(dataset, tag) or "").split("\\")
    if not all(term.strip() in python_encoding for term in terms):
        del dataset[tag]


def _age(text: str) -> str:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        return ""
    return "090Y" if match[2] == "Y" and int(match[1]) > _OLDEST_YEARS else match[0]

"""Which words of a text may stay: those of DICOM's own dictionaries, and small measures."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from digital_twins.governance.deidentification._concepts import concept_meanings
from digital_twins.governance.deidentification._word_list import word_list

if TYPE_CHECKING:
    from collections.abc import Collection

REMOVED = "REMOVED"
_TOKEN = re.compile(r"[^\W_]+(?:\.\d+)?", re.UNICODE)
_WORD = re.compile(r"[a-z]{2,}")
_MEASURE = re.compile(
    r"(?:\d{1,3}(?:\.\d{1,3})?(?:mm|cm|um|ms|s|min|h|kv|kvp|ma|mas|gy|cgy|t|ml|mg|kg|deg|hu|bq|mbq|hz|mhz|d|w)?|[a-z]|[a-z]{1,2}\d{1,2}[a-z]?)"
)
# Dates, telephone numbers, clock times, ids with signs in them, addresses of mail and web, ages over 89.
_WHOLE = re.compile(
    r"\S+@\S+|\b(?:https?|ftp)://\S+|\bwww\.\S+|\d+(?:[/:-]\d+)+|\d+(?:\.\d+){2,}|\+\d[\d\s().-]{5,}\d"
    r"|(?:\d+[\s.()-]+){2,}\d+|\b(?:9\d|1[0-4]\d)[\s-]*(?:y|yo|yrs?|years?)\b"
)
_VERSION = re.compile(r"[vV]?\d{1,3}(?:\.\d{1,3}){1,3}")
# Words of the dictionaries that are common given or family names too.
_NAMES = word_list("names")
_MAKERS = word_list("additional")


@cache
def vocabulary() -> frozenset[str]:
    """Return the words of DICOM's attribute names, UID names and coded concepts, as pydicom carries them."""
    from pydicom._dicom_dict import DicomDictionary
    from pydicom._uid_dict import UID_dictionary

    words: set[str] = set(_MAKERS)
    for entry in DicomDictionary.values():
        words.update(_WORD.findall(entry[2].lower()))
    for entry in UID_dictionary.values():
        words.update(_WORD.findall(entry[0].lower()))
    for meanings in concept_meanings().values():
        for meaning in meanings:
            words.update(_WORD.findall(meaning.lower()))
    return frozenset(words - _NAMES)


def clean_text(text: str, known: Collection[str]) -> str:
    """Return a text with every word removed that is not one of DICOM's, or that is known of the patient.

    Parameters
    ----------
    text
        Free text.
    known
        Words of the patient's identifiers, lower case; they go even where a dictionary has them.
    """
    removed = False

    def judge(match: re.Match[str]) -> str:
        nonlocal removed
        if _may_stay(match.group()) and match.group().lower() not in known:
            return match.group()
        removed = True
        return ""

    version = _VERSION.fullmatch(text.strip())
    if version and text.strip().lower() not in known:
        return text.strip()
    whole = _WHOLE.sub(" ", text)
    kept = _TOKEN.sub(judge, whole)
    if not removed and whole == text:
        return text
    return " ".join(re.sub(r"[^\w\s.,;:+/()%-]", " ", kept).split()).strip(" .,;:+/()%-_") or REMOVED


@lru_cache(maxsize=65_536)
def _may_stay(token: str) -> bool:
    lower = token.lower()
    return lower in vocabulary() or _MEASURE.fullmatch(lower) is not None


# Defined and enumerated terms of PS3.3 that are no words of the dictionaries.
_TERMS = word_list("terms")


def is_plain_term(value: str) -> bool:
    """Tell whether a coded string (VR CS) is made of DICOM's words alone, e.g. ``DERIVED``."""
    tokens = _TOKEN.findall(value.replace("_", " "))
    return all(_may_stay(token) or token.lower() in _TERMS for token in tokens)

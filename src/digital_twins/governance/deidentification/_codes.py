"""Coded concepts: a code of a standard vocabulary keeps its meaning; any other may be somebody's note."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from digital_twins.governance.deidentification._concepts import concept_meanings
from digital_twins.governance.deidentification._word_list import word_list
from digital_twins.governance.deidentification._words import clean_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydicom.dataset import Dataset

    from digital_twins.governance.deidentification._identity import DeidentificationKey

_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
_LOCAL_SCHEME = "99DEID"
_LOINC = re.compile(r"(\d{1,5})-(\d)")
_SCTID = re.compile(r"\d{3,15}[01]0\d")
_LONG_NUMBER = re.compile(r"\d{3}")
_VERHOEFF_PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_UNIT = re.compile(r"[A-Za-z%']+|\[[a-zA-Z_]+\]|\{[a-z ]+\}")
_UNITS = word_list("units")


def clean_code(item: Dataset, key: DeidentificationKey, known: Collection[str]) -> None:
    """Keep a code that can be checked, with its vocabulary's meaning; put a keyed one in place of any other.

    Equal local codes become equal codes of scheme 99DEID, so that groups stay groups.

    Parameters
    ----------
    item
        Item of a code sequence (PS3.3, 8.8: Code Sequence Macro); changed in place.
    key
        Where new codes come from.
    known
        Words of the patient's identifiers, lower case.
    """
    name = next((each for each in _VALUES if each in item), None)
    value = str(item.get(name, "")) if name else ""
    scheme = str(item.get("CodingSchemeDesignator", ""))
    meaning = str(item.get("CodeMeaning", ""))
    standard = concept_meanings().get((scheme, value))
    if standard is not None:
        item.CodeMeaning = (
            meaning
            if meaning.casefold() in {each.casefold() for each in standard}
            # Every character set has the letters of ASCII; it may lack those of 'µV'.
            else min((each for each in standard if each.isascii()), key=len, default=value)[:64]
        )
    elif _has_check_digit(scheme, value) and value.lower() not in known:
        item.CodeMeaning = clean_text(meaning, known)[:64]
    else:
        _make_local(item, key.code(scheme, value), clean_text(meaning, known))


def _make_local(item: Dataset, code: str, meaning: str) -> None:
    for each in _VALUES:
        if each in item:
            delattr(item, each)
    item.CodeValue = code
    item.CodingSchemeDesignator = _LOCAL_SCHEME
    item.CodeMeaning = meaning[:64]


def _has_check_digit(scheme: str, value: str) -> bool:
    """Tell whether a code is no chance: LOINC's modulus 10, SNOMED CT's Verhoeff digit, UCUM's grammar."""
    if scheme == "LN":
        match = _LOINC.fullmatch(value)
        return match is not None and _luhn(match[1]) == int(match[2])
    if scheme == "SCT":
        return _SCTID.fullmatch(value) is not None and _verhoeff(value)
    if scheme == "UCUM":
        known_units = all(part.lower() in _UNITS for part in _UNIT.findall(value))
        return known_units and _LONG_NUMBER.search(value) is None
    return False


def _luhn(digits: str) -> int:
    """Return the check digit that LOINC puts behind the hyphen."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 if place % 2 else 2)
        total += number - 9 if number > 9 else number
    return -total % 10


def _verhoeff(digits: str) -> bool:
    """Tell whether the last digit is Verhoeff's check digit (SNOMED CT identifiers end with it)."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit)
        for _ in range(place % 8):
            number = _VERHOEFF_PERMUTATION[number]
        check = _dihedral(check, number)
    return check == 0


def _dihedral(left: int, right: int) -> int:
    """Multiply in the dihedral group of order 10."""
    turn = (left - right if left >= 5 else left + right) % 5
    return turn + 5 * ((left >= 5) != (right >= 5))

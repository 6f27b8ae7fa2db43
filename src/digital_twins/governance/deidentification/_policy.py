"""What a de-identification shall do: the Basic Profile, its options, and how they stand in the object."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from digital_twins.governance.deidentification._table import Rule

SAFE_PRIVATE = "safe_private"
KEEPABLE = {
    "device": "113109",
    "institution": "113112",
    "patient_characteristics": "113108",
    "uids": "113110",
    "descriptors": "113105",
    SAFE_PRIVATE: "113111",
}
CLEAN_PIXELS = ("113101", "Clean Pixel Data Option")
"""Code of CID 7050 for objects whose burned-in text was searched and covered."""
_MEANINGS = {
    "113100": "Basic Application Confidentiality Profile",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}


class Dates(StrEnum):
    """What becomes of dates: shifted by the patient's own number of days, removed, or kept."""

    SHIFT = "shift"
    REMOVE = "remove"
    KEEP = "keep"


class Action(StrEnum):
    """What is done to one attribute."""

    REMOVE = "remove"
    EMPTY = "empty"
    DUMMY = "dummy"
    UID = "uid"
    CLEAN = "clean"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Policy:
    """Basic Profile of PS3.15 Annex E with options.

    Parameters
    ----------
    dates
        Shifted dates keep the intervals between all dates of a patient. They are not Safe Harbor of the HIPAA
        Privacy Rule (45 CFR 164.514(b)(2): years only): they need expert determination or a limited data set.
    keep
        Options: any of ``device``, ``institution``, ``patient_characteristics``, ``uids``, ``descriptors``
        (free text whose words are all of DICOM's own dictionaries) and ``safe_private`` (private attributes
        of Table E.3.10-1 whose values pass the rules of their VR; all others go).

    Raises
    ------
    InputError
        An option has another name.
    """

    dates: Dates = Dates.SHIFT
    keep: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = sorted(self.keep - set(KEEPABLE))
        if unknown:
            raise InputError(
                f"There is no option '{unknown[0]}' of the profile.",
                "It is not one that this program knows.",
                f"Choose from: {', '.join(sorted(KEEPABLE))}.",
            )

    @property
    def method_codes(self) -> list[tuple[str, str]]:
        """Codes and meanings of CID 7050 for DeidentificationMethodCodeSequence, e.g. (113100, DCM)."""
        codes = ["113100", "113104"]
        codes += {Dates.SHIFT: ["113107"], Dates.KEEP: ["113106"], Dates.REMOVE: []}[self.dates]
        codes += [KEEPABLE[each] for each in self.keep]
        return [(code, _MEANINGS[code]) for code in sorted(set(codes))]

    def action(self, rule: Rule) -> Action:
        """Return what the profile with these options does to an attribute of the table."""
        chosen = set(self.keep) | {"structured_content"}
        if self.dates is Dates.SHIFT:
            chosen.add("modified_dates")
        elif self.dates is Dates.KEEP:
            chosen.add("full_dates")
        found = {action for option, action in rule.options.items() if option in chosen}
        if "K" in found:
            return Action.KEEP
        if "C" in found:
            return Action.CLEAN
        return _BASIC[rule.basic]


# Where the table lets the attribute's type decide, the choice is the one that keeps every object valid.
_BASIC = {
    "X": Action.REMOVE,
    "Z": Action.EMPTY,
    "D": Action.DUMMY,
    "U": Action.UID,
    "X/Z": Action.EMPTY,
    "X/D": Action.DUMMY,
    "Z/D": Action.DUMMY,
    "X/Z/D": Action.DUMMY,
    "X/Z/U*": Action.UID,
}

"""What an identifier looks like in free text: expressions, and what stands in its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins.governance.deidentification._places import zip3

if TYPE_CHECKING:
    from collections.abc import Callable

OLDEST_YEARS = 89
_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Januar|Februar|März|Mai|Juni|Juli|Oktober|Dezember)\b\.?"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH_NUMBER = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_NO_UNIT = r"(?!\d|[.,]\d|\s*(?:mg|mcg|g|kg|ml|mL|mm|cm|m|Gy|cGy|%|IU|units?|days?|weeks?|times|x)\b)"
_TIME = r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
_STATE = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT"
    r"|V[AT]|W[AIVY])"
)
_ONES = r"(?:[ -](?:and )?(?:one|two|three|four|five|six|seven|eight|nine))?"
_TENS = rf"(?:ninety|one hundred|a hundred|hundred){_ONES}"


@dataclass(frozen=True, slots=True)
class Rule:
    """An expression, the label of what it finds, and the text in its place where that is not the label."""

    label: str
    pattern: re.Pattern[str]
    instead: Callable[[re.Match[str], bool], str] | None = None


def oldest_year() -> int:
    """Return the first year of birth that does not tell of an age over 89."""
    return datetime.now(UTC).year - OLDEST_YEARS


def _year(match: re.Match[str], years: bool) -> str:
    year = match.groupdict().get("year")
    return year if years and year and int(year) >= oldest_year() else "[DATE]"


def _dates() -> list[Rule]:
    forms = [
        rf"\b{_YEAR}[-/.]{_MONTH_NUMBER}[-/.]{_DAY}(?!\d){_TIME}",
        rf"\b{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{{6}})?\b",
        rf"(?<![\d.]){_DAY}([-/.])\s?{_MONTH_NUMBER}\1\s?(?:{_YEAR}|\d\d)(?![\d.]\d|\d){_TIME}",
        rf"(?<![\d.]){_MONTH_NUMBER}([-/.]){_DAY}\1(?:{_YEAR}|\d\d)(?![\d.]\d|\d){_TIME}",
        rf"\b{_DAY}(?:st|nd|rd|th|\.)?[ -](?:of )?{_MONTH}(?:,?[ -]{_YEAR})?",
        rf"\b{_MONTH}[ -]{_DAY}(?:st|nd|rd|th)?\b{_NO_UNIT}(?:,? {_YEAR})?",
        rf"\b{_MONTH},? (?:of )?{_YEAR}\b",
        rf"(?<![\d/.]){_MONTH_NUMBER}/{_YEAR}\b",
        rf"(?<=\b[Oo]n ){_MONTH_NUMBER}/{_DAY}(?![\d/])",
        r"(?:(?<=[Ii]n )|(?<=[Ss]ince )|(?<=[Ll]ast )|(?<=[Uu]ntil )|(?<=[Ee]arly )|(?<=[Ll]ate ))" + _MONTH,
        rf"(?<![\d.])(?P<year>19[0-4]\d)\b{_NO_UNIT}",
    ]
    return [Rule("DATE", re.compile(form), _year) for form in forms]


def _old_age(match: re.Match[str], _years: bool) -> str:
    return match[0].replace(match["age"], "90+", 1)


def _zip(match: re.Match[str], _years: bool) -> str:
    return match[0].replace(match["zip"], zip3(match["zip"]), 1)


def _town(match: re.Match[str], _years: bool) -> str:
    return f"[ADDRESS], {match['state']} {zip3(match['zip'])}"


_AGE = r"(?P<age>9\d|1[0-4]\d)"
_LABELS = (
    r"(?:MRN|SSN|SIN|NHS|IBAN|VIN|ID|[Aa]ccount|[Aa]cct|[Mm]edical [Rr]ecord|[Rr]ecord"
    r"|[Pp]olicy|[Mm]ember|[Ll]icen[cs]e|[Pp]late|[Ss]erial|[Aa]ccession|[Cc]ase|[Cc]hart|[Mm]edicare|[Mm]edicaid"
    r"|[Ii]nsurance|[Cc]ertificate|[Ee]ncounter"
    r"|[Pp]assport|[Bb]eneficiary|[Ss]pecimen|[Dd]evice|S/N)"
)
RULES = [
    Rule("EMAIL", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]+)+")),
    Rule("URL", re.compile(r"\b(?:https?|ftp)://\S+[\w/]|\bwww\.\S+[\w/]")),
    Rule("IP", re.compile(r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b")),
    Rule("IP", re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){3,7}(?::|[0-9A-Fa-f]{1,4})[0-9A-Fa-f:]*")),
    Rule("ID", re.compile(r"\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b")),
    Rule("ID", re.compile(r"\b\d{3}[- ]\d{2}[- ]\d{4}\b")),
    Rule(
        "ID",
        re.compile(
            rf"\b{_LABELS}(?: ?(?:[Nn]umber|[Nn]o\.?|[Nn]r\.?|#|ID))?(?: is)?[ :#]{{1,3}}"
            r"(?=[A-Z0-9/-]{0,30}\d)(?P<number>[A-Z0-9][A-Z0-9/-]{3,})"
        ),
    ),
    *_dates(),
    Rule("PHONE", re.compile(r"\+\d(?:[ ().-]{0,2}\d){7,}")),
    Rule(
        "PHONE",
        re.compile(
            r"(?<![\w.-])(?:1[ .-])?\(?\d{3}\)?[ ./-]{1,2}\d{3}[ .-]\d{4}(?:\s?(?:x|ext\.?)\s?\d+)?\b"
        ),
    ),
    Rule(
        "PHONE",
        re.compile(
            r"(?<=[Tt]el)(?:\.|ephone)?:? ?[(+]?\d(?:[ ()/.-]{0,2}\d){5,}|"
            r"\b(?:[Pp]hone|[Ff]ax|[Pp]ager|[Cc]ell|[Mm]obile)\.?:? ?[(+]?\d(?:[ ()/.-]{0,2}\d){4,}"
        ),
    ),
    Rule("ID", re.compile(r"(?<![\w.])(?!NCT\d{8}\b)[A-Z]{1,4}-?\d{5,}(?:-\d+)*\b")),
    Rule("ID", re.compile(r"(?<![\w.,])\d{7,}\b(?!\s*(?:copies|cells|IU|/))")),
    Rule("ID", re.compile(r"\b\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{3,4}\b")),
    Rule("ID", re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")),
    Rule("AGE", re.compile(rf"\b{_AGE}[ -]*(?:years?|yrs?|y/?o|y|[MF])\b"), _old_age),
    Rule("AGE", re.compile(rf"\b[Aa]ged?(?: of)?:? {_AGE}\b"), _old_age),
    Rule("AGE", re.compile(rf"\b(?P<age>{_TENS})(?=[ -]years?[ -])", re.IGNORECASE), _old_age),
    Rule(
        "ADDRESS",
        re.compile(rf"\b(?:[A-Z][a-z]+ )?[A-Z][a-z]+, (?P<state>{_STATE}),? (?P<zip>\d{{5}}(?:-\d{{4}})?)\b"),
        _town,
    ),
    Rule(
        "ZIP",
        re.compile(rf"\b(?:{_STATE}|ZIP(?: code)?:?|[Zz]ip(?: code)?:?) (?P<zip>\d{{5}}(?:-\d{{4}})?)\b"),
        _zip,
    ),
    Rule(
        "ADDRESS",
        re.compile(
            r"\b\d{1,5}[A-Za-z]? (?:[NSEW]\.? )?(?:[A-Z][a-z]+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln"
            r"|Drive|Dr|Boulevard|Blvd|Court|Ct|Way|Place|Pl|Square|Terrace|Highway|Parkway)\b\.?"
            r"(?:,? (?:Apt|Unit|Suite|Apartment)\.? ?\w+)?"
        ),
    ),
    Rule("ADDRESS", re.compile(r"\b[A-ZÄÖÜ]\w+(?:straße|strasse|str\.|weg|allee|platz|gasse) \d+[a-z]?\b")),
    Rule("ADDRESS", re.compile(r"\bP\.? ?O\.? Box \d+\b")),
]
_NAME = (
    r"(?:[A-Z]\.? ?)?(?:(?:van|von|de|der|den|da|di|la|le|dos|del|al|bin) ){0,2}"
    r"[A-ZÀ-Ý][\w'’]*[a-zà-ÿ][\w'’-]*"
)
_NAMES = rf"(?P<name>{_NAME}(?:,? (?:[A-Z]\. )?{_NAME}){{0,2}})"
# A name of somebody whom no record holds: after a title, a relation, or a label that asks for a name.
TITLED = re.compile(
    r"\b(?:Drs?|Mrs?|Ms|Miss|Mister|Prof|Professor|Doctor|Herr|Frau|Nurse|Sr|Sra|Mme)\b\.? "
    r"(?:Dr\.? |med\.? )*" + _NAMES
)
RELATED = re.compile(
    r"\b(?:[Dd]aughter|[Ss]on|[Ww]ife|[Hh]usband|[Mm]other|[Ff]ather|[Bb]rother|[Ss]ister|[Pp]artner|[Ss]pouse"
    r"|[Ff]riend|[Nn]eighbou?r|[Cc]aregiver|[Aa]unt|[Uu]ncle|[Cc]ousin|[Nn]iece|[Nn]ephew|[Gg]uardian)"
    r"(?:-in-law)?(?:,| named| is called|:)? " + _NAMES
)
LABELLED = re.compile(
    r"\b(?:[Nn]ame|[Pp]atient|[Pp]t|[Aa]ttending|[Ss]urgeon|[Rr]eferr(?:er|ing physician)|[Rr]adiologist"
    r"|[Nn]ext of kin|[Cc]ontact): " + _NAMES
)
SIGNED = re.compile(
    r"\b(?:[Ss]igned|[Dd]ictated|[Rr]eviewed|[Rr]eferred|[Ss]een|[Rr]ead|[Rr]eported|[Vv]erified|[Aa]pproved)"
    r" by " + _NAMES
)

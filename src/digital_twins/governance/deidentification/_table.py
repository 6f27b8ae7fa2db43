"""DICOM PS3.15 Table E.1-1 as data: what the Basic Profile and its options do to each attribute."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_FILE = "ps3_15_table_e_1_1.csv"
_EDITION_LINE = "# DICOM PS3.15 "


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table.

    Parameters
    ----------
    basic
        Action of the Basic Profile: ``X`` remove, ``Z`` empty or dummy, ``D`` dummy, ``U`` new UID, or
        several of them parted by ``/`` where the type of the attribute in its object decides.
    options
        Action under each option that names the attribute: ``K`` keep or ``C`` clean.
    """

    basic: str
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class ProfileTable:
    """The whole table.

    Parameters
    ----------
    edition
        Edition of the standard, e.g. ``"2024e"``.
    rules
        Rule of each attribute, by tag.
    """

    edition: str
    rules: dict[int, Rule]


@cache
def profile_table() -> ProfileTable:
    """Read the table that the package carries; the four rows that are patterns of tags are code elsewhere."""
    text = files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    rules = {}
    for row in csv.DictReader(rest.splitlines()):
        if "x" not in row["tag"] and row["tag"] != "private":
            options = dict(each.split("=") for each in row["options"].split())
            rules[int(row["tag"], 16)] = Rule(row["basic"], options)
    return ProfileTable(first.removeprefix(_EDITION_LINE).split(",")[0], rules)

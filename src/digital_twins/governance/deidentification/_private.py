"""Private attributes that the standard lists as safe: PS3.15 Table E.3.10-1."""

from __future__ import annotations

import csv
import struct
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from pydicom.dataelem import DataElement
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

_FILE = "ps3_15_table_e_3_10_1.csv"
_NUMBERS = {"FL": "f", "FD": "d", "US": "H", "SS": "h", "UL": "I", "SL": "i"}
_LEAST_WORD = 3


@cache
def safe_private() -> Mapping[tuple[int, int, str], str]:
    """Return the VR of each listed attribute by group, last two digits of the element, and creator.

    The list is that of PS3.15 2020 without sequences, bytes and free text, whose values nobody can judge.
    """
    _, _, rows = files(__package__).joinpath(_FILE).read_text(encoding="utf-8").partition("\n")
    return {
        (int(row["group"], 16), int(row["element"], 16), row["creator"]): row["vr"]
        for row in csv.DictReader(rows.splitlines())
    }


def keep_safe_private(dataset: Dataset, judged: Callable[[str, str], str]) -> None:
    """Remove every private element of a dataset but the listed ones, and the creators of blocks left empty.

    The list vouches for the attribute and not for what a sender wrote into it: text has to pass the rules of
    its VR, and numbers have to be stored as such and not as letters (which costs one float in fifty).

    Parameters
    ----------
    dataset
        Changed in place; the items of sequences are not looked at.
    judged
        Returns what may stay of a value, from its VR and the value as text.
    """
    private = [tag for tag in dataset.keys() if tag.group & 1]  # noqa: SIM118  (pydicom iterates over elements)
    blocks = set()
    for tag in private:
        if tag.is_private_creator:
            continue
        fresh = _fresh(dataset, tag, judged)
        if fresh is None:
            del dataset[tag]
        else:
            dataset[tag] = fresh
            blocks.add((tag.group, tag.element >> 8))
    for tag in private:
        if tag.is_private_creator and (tag.group, tag.element) not in blocks:
            del dataset[tag]


def _fresh(dataset: Dataset, tag: BaseTag, judged: Callable[[str, str], str]) -> DataElement | None:
    """Return what stays of a private element."""
    try:
        creator = str(dataset[tag.group, tag.element >> 8].value).strip()
        vr = safe_private().get((tag.group, tag.element & 0xFF, creator))
        if vr is None:
            return None
        element = dataset[tag]
        if vr in _NUMBERS:
            return None if vr != element.VR or _spells_text(element.value, _NUMBERS[vr]) else element
        value = element.value
        if isinstance(value, bytes):  # of unknown VR, as in a file whose elements do not state it
            value = value.decode("ascii").rstrip("\0 ")
    except (BytesLengthException, struct.error, ValueError, NotImplementedError, TypeError, LookupError):
        return None
    text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
    stays = judged(vr, text)
    return DataElement(tag, vr, stays) if stays.strip("\\ ") else None


def _spells_text(value: object, letter: str) -> bool:
    """Tell whether the bytes of numbers are printable: text in a file that does not state its VRs."""
    values = value if isinstance(value, MultiValue) else [value]
    content = struct.pack(f"<{len(values)}{letter}", *values).strip(b"\0 ")
    return len(content) >= _LEAST_WORD and content.isascii() and content.decode("ascii").isprintable()

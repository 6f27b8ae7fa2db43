"""Attribute matching on data sets (PS3.4 section C.2.2.2): what the worklist answers with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.dicom._text import has_wildcard, name_groups, name_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

_RANGES = frozenset({"DA", "DT", "TM"})
_TEXT = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT"})
_SHAPES = {
    "DA": r"\d{8}",
    "TM": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
    "DT": r"\d{4}(\d{2}(\d{2}(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?",
}


def matches(asked: Dataset, stored: Dataset) -> bool:
    """Whether a stored data set satisfies every matching key; an empty key matches all.

    Raises
    ------
    InputError
        A date or time of the request is malformed.
    """
    return all(
        _matches_element(element, stored)
        for element in asked
        if element.keyword not in {"SpecificCharacterSet", "QueryRetrieveLevel", "TimezoneOffsetFromUTC"}
    )


def returned(asked: Dataset, stored: Dataset) -> Dataset:
    """Return the asked attributes with the stored values; what is not stored comes back empty."""
    from pydicom.dataset import Dataset

    answer = Dataset()
    for element in asked:
        if element.keyword in {"SpecificCharacterSet", "QueryRetrieveLevel"} or element.tag.element == 0:
            continue
        found = stored.get(element.tag)
        if element.VR == "SQ":
            items = list(found.value) if found is not None else []
            if element.value:
                items = [returned(element.value[0], item) for item in items]
            answer.add_new(element.tag, "SQ", items)
        else:
            answer.add_new(element.tag, element.VR, found.value if found is not None else None)
    return answer


def _matches_element(asked: DataElement, stored: Dataset) -> bool:
    found = stored.get(asked.tag)
    if asked.VR == "SQ":
        if not asked.value or not len(asked.value[0]):
            return True
        items = list(found.value) if found is not None else []
        wanted = asked.value[0]
        return any(matches(wanted, item) for item in items) or (not items and _is_universal(wanted))
    values = _values(asked.value)
    if all(value in {"", "*"} for value in values):
        return True
    test = _test(asked.VR)
    return any(test(value, one) for value in values for one in (_values(found.value) if found else []))


def _is_universal(asked: Dataset) -> bool:
    return all(
        all(_is_universal(item) for item in element.value)
        if element.VR == "SQ"
        else all(value in {"", "*"} for value in _values(element.value))
        for element in asked
    )


def _values(value: Any) -> Sequence[str]:
    from pydicom.multival import MultiValue

    if value is None:
        return [""]
    return [str(each).strip(" \0") for each in (value if isinstance(value, MultiValue | list) else [value])]


def _test(vr: str) -> Callable[[str, str], bool]:
    if vr == "PN":
        return _name
    if vr in _RANGES:
        return lambda asked, stored: _in_range(vr, asked, stored)
    if vr in _TEXT:
        return _like
    return lambda asked, stored: asked == stored


def _like(asked: str, stored: str) -> bool:
    if not has_wildcard(asked):
        return asked == stored
    pattern = re.escape(asked).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, stored, re.DOTALL) is not None


def _name(asked: str, stored: str) -> bool:
    groups = [name_key(group) for group in name_groups(stored)]
    if "=" not in asked:
        return any(_like(name_key(asked.rstrip("^ ")), group) for group in groups)
    keys = [name_key(group) for group in name_groups(asked)]
    return all(key in {"", "*"} or _like(key, group) for key, group in zip(keys, groups, strict=True))


def _in_range(vr: str, asked: str, stored: str) -> bool:
    shape = _SHAPES[vr]
    parts = re.fullmatch(rf"(?P<low>{shape})?\s*(?P<dash>-)?\s*(?P<high>{shape})?", asked.replace(":", ""))
    if parts is None or not (parts["low"] or parts["high"]):
        raise InputError(
            "A date or time of the query cannot be used.",
            f"It does not follow the rules of its value representation {vr}.",
            "Write dates as YYYYMMDD, times as HHMMSS, ranges with a hyphen.",
        )
    if not stored:
        return False
    low = parts["low"] or ""
    high = (parts["high"] or "") if parts["dash"] else low
    moment = _padded(vr, stored, "0")
    return (not low or moment >= _padded(vr, low, "0")) and (not high or moment <= _padded(vr, high, "9"))


def _padded(vr: str, value: str, digit: str) -> str:
    """Write a date or time at full precision, so that text order is the order of time."""
    if vr == "DA":
        return value.replace(".", "")
    digits = re.sub(r"[+-]\d{4}$", "", value).replace(":", "").replace(".", "")
    return digits.ljust(20 if vr == "DT" else 12, digit)

"""DICOM matching (PS3.4 section C.2.2.2) on objects in the DICOM JSON model, through sequences."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING, Any

from digital_twins.dicom._text import has_wildcard, name_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MOMENTS = frozenset({"DA", "DT", "TM"})


def matches(model: Mapping[str, Any], path: Sequence[str], condition: str) -> bool:
    """Whether any value at the path satisfies a matching value.

    Parameters
    ----------
    path
        Tags of eight hexadecimal digits: sequences, and an element in their items.
    condition
        As DICOM writes it: wildcards, ``a-b`` ranges of dates and times, values separated by a backslash.
    """
    wanted = [part.strip(" \0") for part in condition.split("\\")]
    if all(part in {"", "*"} for part in wanted):
        return True
    return any(_one(vr, value, part) for vr, value in _values(model, path) for part in wanted)


def _values(model: Mapping[str, Any], path: Sequence[str]) -> Iterator[tuple[str, str]]:
    element = model.get(path[0])
    if not isinstance(element, dict):
        return
    for value in element.get("Value") or []:
        if len(path) > 1 and isinstance(value, dict):
            yield from _values(value, path[1:])
        elif isinstance(value, dict):
            for group in value.values():
                yield "PN", str(group)
        elif len(path) == 1:
            yield str(element.get("vr", "")), str(value)


def _one(vr: str, value: str, condition: str) -> bool:
    if vr == "PN":
        value, condition = name_key(value), name_key(condition.rstrip("^ "))
    elif vr in _MOMENTS and "-" in condition[1:]:
        return _in_range(value, condition)
    elif vr in _MOMENTS:
        return value.startswith(condition)
    if vr != "UI" and has_wildcard(condition):
        return re.fullmatch(translate(condition.replace("[", "[[]")), value) is not None
    return value == condition


def _in_range(value: str, condition: str) -> bool:
    low, _dash, high = condition.partition("-")
    return (not low or value >= low) and (not high or value[: len(high)] <= high)

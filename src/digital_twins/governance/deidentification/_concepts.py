"""The coded concepts of DICOM PS3.16, as pydicom carries them."""

from __future__ import annotations

from functools import cache
from typing import cast


@cache
def concept_meanings() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the meanings of every code, by scheme and code; retired SNOMED codes stand under scheme SRT.

    A code has several where its vocabulary has a preferred and a fully specified name.
    """
    from pydicom.sr._concepts_dict import concepts
    from pydicom.sr._snomed_dict import mapping

    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for scheme, entries in cast("_Tables", concepts).items():
        for codes in entries.values():
            for code, (meaning, _) in codes.items():
                found[scheme, code] = (*found.get((scheme, code), ()), meaning)
    for old, new in mapping["SRT"].items():
        if ("SCT", new) in found:
            found["SRT", old] = found["SCT", new]
    return found


# Meaning and context groups, by scheme, keyword and code.
_Tables = dict[str, dict[str, dict[str, tuple[str, list[int]]]]]

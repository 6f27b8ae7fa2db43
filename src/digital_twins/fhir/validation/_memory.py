"""Coded values that are met again: what there was to say of them is said without looking at them anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.fhir._coded import coding_key, concept_key
from digital_twins.fhir._outcome import Issue
from digital_twins.fhir.validation._doubt import path_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.fhir._coded import Key
    from digital_twins.fhir.validation._doubt import At, Check, Pass

_MOST_KEPT = 8192


KEYS: dict[str, Callable[[dict[str, Any]], Key | None]] = {
    "Coding": coding_key,
    "CodeableConcept": concept_key,
}


def remembered(steps: list[Check], key_of: Callable[[dict[str, Any]], Key | None]) -> Check:
    """Return the check of all the steps that keeps, by key, the issues that they gave.

    The steps must judge by the value alone. What they doubt is not kept.
    """
    kept: dict[Key, list[Issue]] = {}

    def check(value: Any, at: At, run: Pass) -> None:
        key = key_of(value)
        found = None if key is None else kept.get(key)
        if found is not None:
            for issue in found:
                run.issues.append(
                    Issue(issue.code, issue.text, f"{path_of(at)}{issue.location}", issue.severity)
                )
            return
        before = len(run.issues)
        for step in steps:
            step(value, at, run)
        if key is not None and len(kept) < _MOST_KEPT:
            place = len(path_of(at))
            kept[key] = [
                Issue(i.code, i.text, (i.location or "")[place:], i.severity) for i in run.issues[before:]
            ]

    return check

"""ADT into what is stored: what a message does not state is kept, what it states as null is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from digital_twins.hl7v2._message import Message, Segment

    Find = Callable[[str, str], Mapping[str, Any] | None]

_PID_ELEMENTS = {
    5: ("name",),
    7: ("birthDate",),
    8: ("gender",),
    11: ("address",),
    13: ("telecom",),
    14: ("telecom",),
    16: ("maritalStatus",),
    29: ("deceasedDateTime",),
    30: ("deceasedBoolean",),
}
_CHOICE = ({"deceasedDateTime", "deceasedBoolean"},)
_KEYED = {"identifier", "link"}
_MERGED = {"Patient", "Encounter"}
_SERVER = {"meta", "id"}


def null_elements(pid: Segment) -> frozenset[str]:
    """Return the elements of Patient that a PID states as null (two quotes, HL7 v2.5.1 section 2.5.3)."""
    return frozenset(
        element
        for number, elements in _PID_ELEMENTS.items()
        if pid.raw(number) == '""'
        for element in elements
    )


def merged_bundle(bundle: Mapping[str, Any], message: Message, find: Find) -> dict[str, Any]:
    """Return the transaction with each Patient and Encounter merged into the one that is stored.

    A merged entry carries ``ifMatch`` of the version that it was merged into, so that a change in between
    makes the transaction fail (412) instead of being overwritten; the caller then merges again.

    Parameters
    ----------
    bundle
        As `bundle_of` returns it for an ADT message.
    message
        The message, for what it states as null.
    find
        ``find("Patient", "identifier=...")`` returns the stored resource, None when there is none.
    """
    removed = _nulls_by_identifier(message)
    entries = []
    for entry in bundle["entry"]:
        request, resource = entry["request"], entry["resource"]
        kind, _, query = str(request["url"]).partition("?")
        stored = find(kind, query) if request["method"] == "PUT" and kind in _MERGED and query else None
        if stored is None:
            entries.append(entry)
            continue
        value = dict(parse_qsl(query)).get("identifier", "").rpartition("|")[2]
        result = merge_resource(stored, resource, removed.get(value, frozenset()))
        match = f'W/"{stored["meta"]["versionId"]}"'
        entries.append({**entry, "resource": result, "request": {**request, "ifMatch": match}})
    return {**bundle, "entry": entries}


def _nulls_by_identifier(message: Message) -> dict[str, frozenset[str]]:
    found = {}
    for pid in message.segments("PID"):
        nulls = null_elements(pid)
        if nulls and pid.value(3):
            found[pid.value(3)] = nulls
    return found


def merge_resource(
    stored: Mapping[str, Any], stated: Mapping[str, Any], removed: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return the stored resource with what is stated in place of what was, and the removed elements gone.

    Identifiers and links are joined; the places of an Encounter become a history; of a period the end that
    is not stated is kept. Everything else that is stated replaces its element as a whole.
    """
    result = {name: value for name, value in stored.items() if name not in removed}
    for name, value in stated.items():
        if name in _SERVER:
            continue
        for group in _CHOICE:
            if name in group:
                for other in group - {name}:
                    result.pop(other, None)
        if name in _KEYED:
            result[name] = _joined(result.get(name, ()), value)
        elif name == "location" and stated.get("resourceType") == "Encounter":
            result[name] = _places(result.get(name, ()), value)
        elif name == "period":
            result[name] = {**result.get(name, {}), **value}
        else:
            result[name] = value
    if stated.get("resourceType") == "Encounter" and stated.get("status") == "in-progress":
        period = {k: v for k, v in result.get("period", {}).items() if k != "end"}
        result["period"] = period or None
    return {name: value for name, value in result.items() if value is not None}


def _joined(stored: Sequence[dict[str, Any]], stated: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is stated, then what was stored under other keys."""
    keys = [_key(each) for each in stated]
    return [*stated, *(each for each in stored if _key(each) not in keys)]


def _key(item: Mapping[str, Any]) -> tuple[Any, ...]:
    if "other" in item:
        return item["other"].get("reference"), item.get("type")
    return item.get("system"), item.get("value")


def _places(stored: Sequence[dict[str, Any]], stated: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the places with the stated one active and last; those before are completed."""
    shown = [each.get("location", {}).get("display") for each in stated]
    before = [
        {**each, "status": "completed"}
        for each in stored
        if not (each.get("status") == "active" and each.get("location", {}).get("display") in shown)
    ]
    return [*before, *stated]

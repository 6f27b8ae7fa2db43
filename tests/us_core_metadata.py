"""Inferno's US Core 7 metadata, and what it says about a resource, read without the code under test."""

from __future__ import annotations

import tarfile
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Resource = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML whose Ruby types are read as plain data."""


def _plain(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)  # type: ignore[arg-type]


_Loader.add_multi_constructor("", _plain)


def groups(archive: Path) -> list[dict[str, Any]]:
    """The metadata of each profile that has searches."""
    found = []
    with tarfile.open(archive) as files:
        for member in sorted(files.getmembers(), key=lambda m: m.name):
            stream = files.extractfile(member) if member.name.endswith(".yml") else None
            group = yaml.load(stream, _Loader) if stream else {}
            if ":search_definitions" in group:
                found.append(group)
    return found


def values(node: Any, path: str) -> Iterator[Any]:
    """The values at a dotted path; an element of a choice is named by its stem."""
    if isinstance(node, list):
        for item in node:
            yield from values(item, path)
        return
    if not path:
        yield node
        return
    if not isinstance(node, dict):
        return
    head, _, rest = path.partition(".")
    head = head.removesuffix("[x]")
    for name, child in node.items():
        if name == head or (name.startswith(head) and name[len(head) : len(head) + 1].isupper()):
            yield from values(child, rest)


def span(text: str) -> tuple[datetime, datetime]:
    """A FHIR date as a half-open span."""
    if len(text) == 4:
        return _day(int(text), 1, 1), _day(int(text) + 1, 1, 1)
    if len(text) == 7:
        first = _day(int(text[:4]), int(text[5:]), 1)
        return first, first + timedelta(days=monthrange(first.year, first.month)[1])
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if len(text) == 10:
        return moment, moment + timedelta(days=1)
    return moment, moment + (timedelta(seconds=1) if "." not in text else timedelta(milliseconds=1))


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def _spans(value: Any) -> Iterator[tuple[datetime, datetime]]:
    if isinstance(value, str):
        yield span(value)
    elif isinstance(value, dict) and ("start" in value or "end" in value):
        low = span(value["start"])[0] if "start" in value else datetime.min.replace(tzinfo=UTC)
        high = span(value["end"])[1] if "end" in value else datetime.max.replace(tzinfo=UTC)
        yield low, high


def date_matches(value: Any, text: str) -> bool:
    """Whether a date or Period meets a search value with its prefix (R4 search 3.1.1.4.5)."""
    prefix, body = (text[:2], text[2:]) if text[:2].isalpha() else ("eq", text)
    low, high = span(body)
    for first, last in _spans(value):
        if {
            "eq": low <= first and last <= high,
            "gt": last > high,
            "lt": first < low,
            "ge": last > low,
            "le": first < high,
        }[prefix]:
            return True
    return False


def search_values(kind: str, value: Any) -> Iterator[str]:
    """The search values that a found element gives: for tokens with and without the system."""
    if kind == "Reference":
        yield value["reference"]
        yield value["reference"].rpartition("/")[2]
    elif kind in {"CodeableConcept", "Coding"}:
        for coding in value.get("coding", [value] if kind == "Coding" else []):
            if "code" in coding:
                yield coding["code"]
                yield f"{coding.get('system', '')}|{coding['code']}"
    elif kind == "Identifier":
        yield value["value"]
        yield f"{value.get('system', '')}|{value['value']}"
    elif kind == "HumanName":
        yield value["family"] if "family" in value else value["text"]
    elif kind == "Address":
        yield value.get("city") or value["text"]
    elif isinstance(value, dict):
        yield from (value[end] for end in ("start", "end") if end in value)
    else:
        yield str(value)


def matches(kind: str, value: Any, text: str) -> bool:
    """Whether a found element meets a search value, by the rules of its kind."""
    if kind in {"date", "dateTime", "instant", "Period"}:
        return date_matches(value, text)
    if kind == "Reference":
        return text in {value.get("reference"), value.get("reference", "").rpartition("/")[2]}
    if kind in {"CodeableConcept", "Coding", "Identifier"}:
        return text in set(search_values(kind, value))
    if kind in {"HumanName", "Address"}:
        parts = [p for v in value.values() for p in (v if isinstance(v, list) else [v]) if isinstance(p, str)]
        return any(part.casefold().startswith(text.casefold()) for part in parts)
    if kind == "string":
        return str(value).casefold().startswith(text.casefold())
    return str(value) == text


def has_must_support(resource: Resource, element: dict[str, Any]) -> bool:
    """Whether a resource has an element (with its fixed value) of the must-support list."""
    found = [v for v in values(resource, element[":path"]) if v not in (None, {}, [])]
    fixed = element.get(":fixed_value")
    return bool(found) if fixed is None else fixed in found


def has_extension(resource: Resource, extension: dict[str, Any]) -> bool:
    """Whether a resource has a must-support extension, also beside a primitive."""
    path: str = extension[":path"]
    holder, _, _ = path.rpartition("extension")
    *above, last = holder.rstrip(".").split(".")
    places = [path, ".".join([*above, f"_{last}", "extension"])] if last else [path]
    return any(v.get("url") == extension[":url"] for place in places for v in values(resource, place))

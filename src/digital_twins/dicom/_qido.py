"""QIDO-RS (PS3.18 section 10.6): search parameters to a query, matches to DICOM JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins._errors import InputError
from digital_twins.dicom._attributes import ATTRIBUTES, NUMBERS, Level, by_keyword
from digital_twins.dicom._json import BASE_MARK, metadata
from digital_twins.dicom._query import REQUEST_COLUMNS, Query, find, supported
from digital_twins.dicom._series_requests import read_requests, request_key, requests_of
from digital_twins.dicom._text import name_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from digital_twins.dicom._query import Match
    from digital_twins.dicom._store import DicomStore

MAX_RESULTS = 5000
_EMPTY = '""'
_SWITCHES = frozenset({"fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
_GENERAL = frozenset({"accept", "charset"})
"""Parameters of every resource (PS3.18 section 8.3.3); answers are always in UTF-8."""
_SERIES_UID, _REQUESTS, _REQUEST_IDS = "0020000E", "00400275", ("00400009", "00401001")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")


@dataclass(slots=True)
class Search:
    """A QIDO-RS request: what to match, what to return, and which parameters were ignored."""

    query: Query
    extra_tags: frozenset[str] = frozenset()
    everything: bool = False
    limit: int = MAX_RESULTS
    offset: int = 0
    ignored: list[str] = field(default_factory=list)


def parse_search(level: Level, path: Mapping[str, str], parameters: Iterable[tuple[str, str]]) -> Search:
    """Read the parameters of a search.

    Parameters
    ----------
    path
        Keyword to UID for the resources that the URL names.
    parameters
        The query string's names and values in their order.

    Raises
    ------
    InputError
        An unknown attribute, a malformed number, or a value that its attribute cannot have.
    """
    search = Search(Query(level))
    matchable = supported(level) | (REQUEST_COLUMNS.keys() if level >= Level.SERIES else frozenset())
    conditions: dict[str, str] = dict(path)
    fields: set[str] = set()
    switches: set[str] = set()
    for name, value in parameters:
        if name == "includefield":
            fields.update(item.strip() for item in value.split(",") if item.strip())
        elif name in {"limit", "offset"}:
            if not re.fullmatch(r"\d{1,9}", value):
                raise _bad(f"'{name}' is no whole number")
            setattr(search, name, int(value))
        elif name in _SWITCHES:
            if _is_on(name, value):
                switches.add(name)
        elif name not in _GENERAL:
            keyword = _keyword(name)
            if keyword in matchable:
                _ask(conditions, keyword, value)
            else:
                search.ignored.append(name)
    search.limit = min(search.limit, MAX_RESULTS)
    search.everything = "all" in fields
    # What is asked for inside a sequence comes with the whole of it.
    named = {_keyword(item).split(".")[0] for item in fields - {"all"}}
    search.extra_tags = frozenset(_tag(keyword) for keyword in named if keyword not in by_keyword())
    computed = {a.keyword for a in ATTRIBUTES if a.computed and (a.default or search.everything)} | named
    if "emptyvaluematching" not in switches:
        conditions = {key: "" if value == _EMPTY else value for key, value in conditions.items()}
    search.query = Query(level, conditions, frozenset(computed), fuzzy_names="fuzzymatching" in switches)
    return search


def _is_on(name: str, value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise _bad(f"'{name}' is true or false")
    return value.lower() == "true"


def _ask(conditions: dict[str, str], keyword: str, value: str) -> None:
    """Add a matching key; neither the resource nor another parameter may ask for another value of it."""
    attribute = by_keyword().get(keyword)
    wanted = value.replace(",", "\\") if attribute is not None and attribute.vr == "UI" else value
    if conditions.setdefault(keyword, wanted) != wanted:
        raise _bad(f"{keyword} is asked for with two values")


def run_search(store: DicomStore, search: Search) -> tuple[list[dict[str, Any]], bool]:
    """Return matches as DICOM JSON objects whose URLs start with the mark for the DICOMweb root.

    The second value says whether there are further matches behind the limit.
    """
    level = search.query.level
    if REQUEST_COLUMNS.keys() & search.query.conditions.keys():
        read_requests(store)
    shown = [
        a
        for a in ATTRIBUTES
        if a.level <= level and (a.default or search.everything or a.keyword in search.query.returning)
    ]
    tags = [(f"{a.tag:08X}", a.keyword, a.vr) for a in shown]
    answers: list[dict[str, Any]] = []
    matches = find(store.database, search.query, limit=search.limit + 1, offset=search.offset)
    for match in matches[: search.limit]:
        model: dict[str, Any] = {tag: element(vr, match[keyword]) for tag, keyword, vr in tags}
        model["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
        model["00081190"] = {"vr": "UR", "Value": [_url(level, match)]}
        model["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
        if search.extra_tags or (search.everything and level is Level.INSTANCE):
            _add_from_object(store, search, match, model)
        answers.append(model)
    if level is Level.SERIES:
        _add_requests(store, answers)
    return answers, len(matches) > search.limit


def _add_requests(store: DicomStore, answers: Sequence[dict[str, Any]]) -> None:
    """Say which requests a series answers; PS3.18 table 10.6.3-4 wants it wherever it is known."""
    found = requests_of(store, [model[_SERIES_UID]["Value"][0] for model in answers])
    for model in answers:
        ids = found.get(model[_SERIES_UID]["Value"][0])
        if ids and _REQUESTS not in model:
            items = [
                {tag: element("SH", text) for tag, text in zip(_REQUEST_IDS, pair, strict=True)}
                for pair in ids
            ]
            model[_REQUESTS] = {"vr": "SQ", "Value": items}


def element(vr: str, value: str | int | None) -> dict[str, Any]:
    """Return one JSON element; empty values have no Value member (PS3.18 section F.2.5)."""
    if value is None or value == "":
        return {"vr": vr}
    if vr in NUMBERS:
        return {"vr": vr, "Value": [int(value)]}
    values = str(value).split("\\")
    if vr != "PN":
        return {"vr": vr, "Value": values}
    names = ("Alphabetic", "Ideographic", "Phonetic")
    groups = [
        {name: group for name, group in zip(names, name_groups(one), strict=True) if group} for one in values
    ]
    return {"vr": vr, "Value": groups}


def _add_from_object(store: DicomStore, search: Search, match: Match, model: dict[str, Any]) -> None:
    """Take attributes that are not indexed from the (first) object of the match."""
    series = match.get("SeriesInstanceUID")
    instances = (
        [store.instance(str(match["SOPInstanceUID"]))]
        if "SOPInstanceUID" in match
        else store.instances(str(match["StudyInstanceUID"]), None if series is None else str(series))[:1]
    )
    found: dict[str, Any] = orjson.loads(metadata(store, instances)[0])
    for tag, value in found.items():
        if tag not in model and (tag in search.extra_tags or search.everything) and tag != "7FE00010":
            model[tag] = value


def _url(level: Level, match: Match) -> str:
    url = f"{BASE_MARK.decode()}/studies/{match['StudyInstanceUID']}"
    if level >= Level.SERIES:
        url += f"/series/{match['SeriesInstanceUID']}"
    return url + (f"/instances/{match['SOPInstanceUID']}" if level is Level.INSTANCE else "")


def _keyword(name: str) -> str:
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    if _TAG.fullmatch(name):
        keyword = keyword_for_tag(int(name, 16))
        return keyword or name.upper()
    if "." in name:
        for part in name.split("."):
            _keyword(part)
        return request_key(name) or name
    if tag_for_keyword(name) is None:
        raise _bad("a parameter is neither a DICOM keyword nor a tag")
    return name


def _tag(keyword: str) -> str:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    return keyword if tag is None else f"{tag:08X}"


def _bad(why: str) -> InputError:
    return InputError(
        "The search cannot be run.",
        why[0].upper() + why[1:] + ".",
        "See PS3.18 section 10.6.1.2 for the parameters.",
    )

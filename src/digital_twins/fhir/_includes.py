"""``_include`` and ``_revinclude``: resources that come along with those that a search found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from digital_twins.fhir._definitions import SearchParameter, definitions
from digital_twins.fhir._hits import Hit, bodies
from digital_twins.fhir._package_search import targets_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from digital_twins.fhir._hits import Executes
    from digital_twins.fhir._package_search import Extra

MAX_INCLUDED = 5000
MAX_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Include:
    """Follow ``parameters`` of ``source`` from it to ``target``, or the other way when ``reverse``.

    ``again`` follows them from included resources too (``:iterate``).
    """

    parameters: tuple[SearchParameter, ...]
    source: str
    target: str | None
    reverse: bool
    again: bool


def include_of(
    kind: str, text: str, *, reverse: bool, again: bool, extra: Extra | None = None
) -> Include | None:
    """Return what ``Type:parameter:target``, ``Type:*`` or ``*`` asks for; None when it names nothing known.

    Parameters
    ----------
    kind
        The type that is searched.
    text
        Value of the parameter.
    reverse
        For ``_revinclude``.
    again
        For ``:iterate``.
    extra
        Search parameters of packages.
    """
    every: Mapping[str, Mapping[str, SearchParameter]] = definitions().parameters
    if extra:
        every = {name: {**known, **extra.get(name, {})} for name, known in every.items()}
    source, _, rest = text.partition(":")
    code, _, target = rest.partition(":")
    if text == "*":
        sources = sorted(every) if reverse else [kind]
        code, source = "*", "*" if reverse else kind
    elif source in every and code and (not target or target in every):
        sources = [source]
    else:
        return None
    found = [
        p
        for name in sources
        for c, p in sorted(every[name].items())
        if p.kind == "reference" and code in {c, "*"} and (code == c or p.stored)
    ]
    if not found or (not reverse and not again and source != kind):
        return None
    return Include(tuple(found), source, target or None, reverse, again)


def add_included(cursor: Executes, includes: Sequence[Include], hits: list[Hit]) -> None:
    """Append what the includes bring to the hits, each resource once, at most 5,000.

    Parameters
    ----------
    cursor
        Reads the store.
    includes
        What to follow.
    hits
        The matches; grows.
    """
    seen = {hit.rid for hit in hits}
    matches = len(hits)
    fresh: Sequence[Hit] = list(hits)
    for round_ in range(MAX_ROUNDS):
        asked = [include for include in includes if include.again or round_ == 0]
        rids: dict[int, None] = {}
        for include in asked:
            find = _reverse if include.reverse else _forward
            rids.update((rid, None) for rid in find(cursor, include, fresh) if rid not in seen)
        room = MAX_INCLUDED - (len(hits) - matches)
        fresh = bodies(cursor, list(rids)[:room], "include")
        if not fresh:
            return
        seen.update(hit.rid for hit in fresh)
        hits.extend(fresh)


def _forward(cursor: Executes, include: Include, hits: Iterable[Hit]) -> list[int]:
    found: list[int] = []
    for hit in hits:
        if hit.type != include.source:
            continue
        resource = orjson.loads(hit.body)
        for parameter in include.parameters:
            for target in targets_of(resource, parameter):
                kind, _, name = target.rpartition("/")
                if include.target and kind != include.target:
                    continue
                text = "SELECT rid FROM fhir_resource WHERE type=? AND id=? AND deleted=0"
                found.extend(row[0] for row in cursor.execute(text, (kind, name)))
    return found


def _reverse(cursor: Executes, include: Include, hits: Iterable[Hit]) -> list[int]:
    numbers = sorted({number for parameter in include.parameters for number in parameter.numbers})
    marks = ",".join("?" * len(numbers))
    text = f"SELECT rid FROM fhir_reference WHERE param IN ({marks}) AND target=? LIMIT ?"  # noqa: S608  (question marks only)  # nosec B608
    found: list[int] = []
    for hit in hits:
        if include.target in {None, hit.type}:
            rows = cursor.execute(text, (*numbers, f"{hit.type}/{hit.id}", MAX_INCLUDED))
            found.extend(row[0] for row in rows)
    return found

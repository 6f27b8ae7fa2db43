"""``:above`` and ``:below`` on references: up and down what is part of what, and versions of canonicals.

FHIR R4 search, sections 3.1.1.4.11 (references) and 3.1.1.4.12 (hierarchies).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from digital_twins.fhir._conditions import LAST_CHARACTER, rows_of
from digital_twins.fhir._definitions import SearchParameter, definitions
from digital_twins.fhir._outcome import FhirError, bad_request
from digital_twins.fhir._validate import ID

if TYPE_CHECKING:
    from digital_twins.fhir._conditions import Test, Value

_PART_OF = ("partof", "part-of")


@cache
def _parents() -> dict[str, SearchParameter]:
    """Return resource type -> the parameter that names what a resource of it is part of."""
    found = {}
    for kind, parameters in definitions().parameters.items():
        for code in _PART_OF:
            parameter = parameters.get(code)
            if parameter is not None and kind in parameter.targets:
                found[kind] = parameter
    return found


def hierarchy_test(parameter: SearchParameter, value: str, modifier: str) -> Test:
    """Return the test of a reference with ``:above`` or ``:below``.

    Parameters
    ----------
    parameter
        A reference parameter.
    value
        ``Type/id`` or an id: the place in the hierarchy (``partOf``) where the search begins, itself among
        the results. A canonical URL, with ``:below`` only: any version, or behind ``|`` those of a version.
    modifier
        ``"above"`` or ``"below"``.

    Raises
    ------
    FhirError
        400 where the types of the reference are in no hierarchy, or the value cannot be read.
    """
    if ":" in value:
        return _versions(parameter, value, modifier)
    kind, _, name = value.rpartition("/")
    kinds = [kind] if kind else [k for k in parameter.targets if k in _parents()]
    if not ID.fullmatch(name) or not kinds or any(k not in _parents() for k in kinds):
        raise _refused(parameter, modifier)
    parts: list[str] = []
    arguments: list[Value] = []
    for each in kinds:
        text, more = (_above if modifier == "above" else _below)(each, name)
        parts.append(text)
        arguments.extend(more)
    return rows_of(parameter, "fhir_reference", f"({' OR '.join(parts)})", arguments)


def _refused(parameter: SearchParameter, modifier: str) -> FhirError:
    return bad_request(
        f"'{parameter.code}:{modifier}' needs a reference to a type with partOf, or a canonical URL.",
        code="value",
    )


def _versions(parameter: SearchParameter, value: str, modifier: str) -> Test:
    if modifier == "above":
        raise _refused(parameter, modifier)
    if "|" not in value:  # every version has a row without it
        return rows_of(parameter, "fhir_reference", "target=?", (value,))
    bounds = (value, f"{value}.", f"{value}.{LAST_CHARACTER}")
    return rows_of(parameter, "fhir_reference", "(target=? OR (target>=? AND target<?))", bounds)


def _begin(kind: str, name: str) -> tuple[str, list[Value]]:
    """The place itself, which may be named without being stored."""
    return (
        "(target=? OR target IN (WITH RECURSIVE tree(place) AS (SELECT r.type||'/'||r.id "
        "FROM fhir_resource r WHERE r.type=? AND r.id=? AND r.deleted=0 UNION ",
        [f"{kind}/{name}", kind, name],
    )


def _below(kind: str, name: str) -> tuple[str, list[Value]]:
    begin, arguments = _begin(kind, name)
    text = (
        f"{begin}SELECT r.type||'/'||r.id FROM tree JOIN fhir_reference x ON x.target=tree.place "  # noqa: S608  (our own text)  # nosec B608
        "JOIN fhir_resource r ON r.rid=x.rid WHERE x.param=? AND r.type=? AND r.deleted=0) "
        "SELECT place FROM tree))"
    )
    return text, [*arguments, _parents()[kind].number, kind]


def _above(kind: str, name: str) -> tuple[str, list[Value]]:
    begin, arguments = _begin(kind, name)
    text = (
        f"{begin}SELECT x.target FROM tree JOIN fhir_resource r ON r.type=? AND r.deleted=0 "  # noqa: S608  (our own text)  # nosec B608
        f"AND r.id=substr(tree.place,{len(kind) + 2}) JOIN fhir_reference x ON x.rid=r.rid WHERE x.param=?) "
        "SELECT place FROM tree))"
    )
    return text, [*arguments, kind, _parents()[kind].number]

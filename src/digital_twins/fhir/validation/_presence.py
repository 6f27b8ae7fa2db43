"""Invariants in a form that runs on plain JSON: derived from their FHIRPath, or written by hand and compared.

Rules about which elements are there (``a.exists() or b.empty()``) are translated. A few rules that every
resource has are written by hand, kept by the text of their expression: those say that a rule holds for
certain, or nothing. Of all others it is found out which elements must be there before they can fail. Tests
compare each with FHIRPath.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import FhirPathError
from digital_twins.fhir.fhirpath._fhir_functions import narrative_ok
from digital_twins.fhir.fhirpath._parse import parse
from digital_twins.fhir.fhirpath._types import ancestors, children_of
from digital_twins.fhir.fhirpath._values import Node

if TYPE_CHECKING:
    from digital_twins.fhir.fhirpath import Expression
    from digital_twins.fhir.fhirpath._parse import Ast
    from digital_twins.fhir.validation._doubt import Pass

_CONDITION = "http://terminology.hl7.org/CodeSystem/condition"
Test = Callable[[Any], bool]
Certain = Callable[[Any, "Pass"], bool]
_LOGIC: dict[str, Callable[[Test, Test], Test]] = {
    "and": lambda a, b: lambda value: a(value) and b(value),
    "or": lambda a, b: lambda value: a(value) or b(value),
    "implies": lambda a, b: lambda value: not a(value) or b(value),
    "xor": lambda a, b: lambda value: a(value) is not b(value),
}
_FOCUSED = frozenset(
    {"exists", "empty", "not", "hasValue", "all", "where", "select", "count", "first", "last"}
)
_OF_ITEMS = frozenset({"where", "select", "all", "exists", "empty", "not", "trace"})
_PURE = _FOCUSED | {
    "startsWith",
    "substring",
    "matches",
    "allFalse",
    "allTrue",
    "single",
    "length",
    "distinct",
}


def presence_test(expression: str, kind: str) -> Test | None:
    """Translate an expression that only asks which elements of a ``kind`` are there; None where it asks more.

    The test takes the JSON object.
    """
    return EXACT.get(expression) or _translated(parse(expression), kind)


def _translated(tree: Ast, kind: str) -> Test | None:
    if tree.kind == "binary" and tree.value in _LOGIC:
        left, right = (_translated(part, kind) for part in tree.parts)
        return _LOGIC[tree.value](left, right) if left is not None and right is not None else None
    if tree.kind != "dot" or tree.parts[1].kind != "call" or tree.parts[1].parts:
        return None
    subject, asked = tree.parts[0], tree.parts[1].value
    if asked == "not":
        inner = _translated(subject, kind)
        return None if inner is None else lambda value: not inner(value)
    if asked not in {"exists", "empty"} or subject.kind != "name":
        return None
    names = _json_names(kind, str(subject.value))
    if not names:
        return None
    if asked == "exists":
        return lambda value: not names.isdisjoint(value)
    return names.isdisjoint


def certain_test(expression: str, kind: str) -> Certain | None:
    """Translate the parts of a disjunction that only ask what is there; true means that the rule holds."""
    found = _certain(parse(expression), kind)
    if found is None:
        return None
    test = found

    def certain(value: Any, _run: Pass) -> bool:
        return test(value)

    return certain


def _certain(tree: Ast, kind: str) -> Test | None:
    if tree.kind != "binary" or tree.value not in {"or", "implies"}:
        return _translated(tree, kind)
    left, right = tree.parts
    first = _certain(left, kind) if tree.value == "or" else _denied(left, kind)
    second = _certain(right, kind)
    if first is None or second is None:
        return first or second
    return lambda value: first(value) or second(value)


def _denied(tree: Ast, kind: str) -> Test | None:
    test = _translated(tree, kind)
    return None if test is None else lambda value: not test(value)


def _json_names(kind: str, name: str) -> frozenset[str]:
    rows = children_of(kind).get(name, ())
    return frozenset(n for json_name, _ in rows for n in (json_name, f"_{json_name}"))


def silent_without(expression: Expression, kind: str) -> frozenset[str] | None:
    """Return JSON names such that the rule holds on each object of a ``kind`` that has none of them.

    None where that cannot be told: then the rule is evaluated on every object.
    """
    named: set[str] = set()
    if not _collect(parse(expression.text), named) or not named.isdisjoint(ancestors(kind)):
        return None  # a path may begin with the type itself: then it is not about one element
    try:
        holds = expression.holds(Node({}, kind), root=Node({}, kind))
    except FhirPathError:
        return None
    return frozenset().union(*(_json_names(kind, name) for name in named)) if holds else None


def _collect(tree: Ast, named: set[str]) -> bool:
    """Gather the elements with which paths begin; False when an expression looks at more than these.

    Where the first element of a path is missing, nothing behind it is asked: neither its parts nor the
    conditions of ``where`` and its like, which are asked of each item.
    """
    if tree.kind == "dot":
        behind = tree.parts[1]
        if behind.kind == "name" or (behind.kind == "call" and behind.value in _OF_ITEMS):
            return _collect(tree.parts[0], named)
    if tree.kind in {"special", "index"} or (tree.kind == "call" and tree.value not in _PURE):
        return tree.kind == "special" and tree.value == "$this" and bool(named)
    if tree.kind == "name":
        named.add(str(tree.value))
    found = [_collect(part, named) for part in tree.parts]
    return all(found)


def _narrative(value: Any, _run: Pass) -> bool:
    return isinstance(value, str) and narrative_ok(value)


def _has_narrative(value: Any) -> bool:
    text = value.get("text")
    return isinstance(text, dict) and ("div" in text or "_div" in text)


def _contained_plain(value: Any, _run: Pass) -> bool:
    return not any("contained" in inner for inner in value.get("contained", ()))


def _contained_unversioned(value: Any, _run: Pass) -> bool:
    metas = [inner.get("meta", {}) for inner in value.get("contained", ())]
    return not any("ersionId" in name or "lastUpdated" in name for meta in metas for name in meta)


def _contained_unlabelled(value: Any, _run: Pass) -> bool:
    return not any("security" in inner.get("meta", {}) for inner in value.get("contained", ()))


def _contained_used(value: Any, run: Pass) -> bool:
    """dom-3, asked after the elements: their references were met, those of contained resources too."""
    return all(
        isinstance(each.get("id"), str) and f"#{each['id']}" in run.inside for each in value["contained"]
    )


def _reference_inside(value: Any, run: Pass) -> bool:
    text = value.get("reference")
    if not isinstance(text, str) or text[:1] != "#":
        return "_reference" not in value
    return any(inner.get("id") == text[1:] for inner in run.root.get("contained", ()))


def _period_in_order(value: Any, _run: Pass) -> bool:
    start, end = value.get("start"), value.get("end")
    if start is None or end is None:
        return True
    return len(start) == len(end) and start[19:] == end[19:] and start <= end


def _value_and_component(value: Any, _run: Pass) -> bool:
    return "component" not in value or not any(name[:5] == "value" for name in value)


def _in_error_or_stated(value: Any, _run: Pass) -> bool:
    """con-5: a status beside a verification that is not entered-in-error."""
    codings = value.get("verificationStatus", {}).get("coding", ())
    return all(coding.get("code") != "entered-in-error" for coding in codings)


def _over(value: Any, _run: Pass) -> bool:
    """con-4: what has abated is inactive, resolved or in remission."""
    wanted, system = (
        {"resolved", "remission", "inactive"},
        "http://terminology.hl7.org/CodeSystem/condition-clinical",
    )
    codings = value.get("clinicalStatus", {}).get("coding", ())
    if not any(name[:9] == "abatement" for name in value):
        return True
    return any(coding.get("system") == system and coding.get("code") in wanted for coding in codings)


_CONTAINED_USED = (
    "contained.where((('#'+id in (%resource.descendants().reference | "
    "%resource.descendants().ofType(canonical) | %resource.descendants().ofType(uri) | "
    "%resource.descendants().ofType(url))) or descendants().where(reference = '#').exists() or "
    "descendants().where(as(canonical) = '#').exists() or descendants().where(as(canonical) = '#').exists())"
    ".not()).trace('unmatched', id).empty()"
)
_OBS_7 = "value.empty() or component.code.where(coding.intersect(%resource.code.coding).exists()).empty()"
EXACT: dict[str, Test] = {"text.`div`.exists()": _has_narrative}
BY_HAND: dict[str, Certain] = {
    "htmlChecks()": _narrative,
    "contained.contained.empty()": _contained_plain,
    "contained.meta.versionId.empty() and contained.meta.lastUpdated.empty()": _contained_unversioned,
    "contained.meta.security.empty()": _contained_unlabelled,
    _CONTAINED_USED: _contained_used,
    "reference.startsWith('#').not() or (reference.substring(1).trace('url') in "
    "%rootResource.contained.id.trace('ids'))": _reference_inside,
    "start.hasValue().not() or end.hasValue().not() or (start <= end)": _period_in_order,
    _OBS_7: _value_and_component,
    f"verificationStatus.coding.where(system='{_CONDITION}-ver-status' and code='entered-in-error').empty() "
    "or clinicalStatus.empty()": _in_error_or_stated,
    f"abatement.empty() or clinicalStatus.coding.where(system='{_CONDITION}-clinical' and "
    "(code='resolved' or code='remission' or code='inactive')).exists()": _over,
}

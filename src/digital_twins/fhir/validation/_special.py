"""Quick checks of codings, references and extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath._types import resource_types
from digital_twins.fhir.fhirpath._values import Node
from digital_twins.fhir.validation._context import allowed_at
from digital_twins.fhir.validation._doubt import Doubt, path_of
from digital_twins.fhir.validation._leaves import LONG
from digital_twins.fhir.validation._references import TARGET, local_id, reference_issue

if TYPE_CHECKING:
    from digital_twins.fhir.validation._doubt import At, Check, Pass
    from digital_twins.fhir.validation._validator import Validator

_MOST_KEPT = 50_000
_SAID = "The code is not in the value set of the {} binding."


def binding_check(validator: Validator, kind: str, strength: str, value_set: str) -> list[Check]:
    """Return the check of a coded element; its answers are kept by system and code."""
    if kind not in {"Coding", "CodeableConcept", "Quantity"}:
        return []
    kept: dict[tuple[Any, Any], bool] = {}

    def member(coding: Any) -> bool:
        """Whether a coding is not known to be outside of the value set."""
        key = (coding.get("system"), coding["code"])
        found = kept.get(key)
        if found is None:
            found = validator.terminology.contains(value_set, key[0], str(key[1])) is not False
            if len(kept) < _MOST_KEPT:
                kept[key] = found
        return found

    severity = "error" if strength == "required" else "warning"

    def check(value: Any, at: At, run: Pass) -> None:
        if kind == "CodeableConcept":
            codings = value.get("coding")
            if not codings:
                if strength == "required":
                    raise Doubt
                return
            inside = any(member(coding) for coding in codings if "code" in coding)
        else:
            inside = member(value) if "code" in value else kind == "Quantity"
        if not inside:
            run.say("code-invalid", _SAID.format(strength), at, severity)

    return [check]


def coding_check(validator: Validator) -> Check:
    """Return the check of a coding's system, code and display."""

    def check(value: Any, at: At, run: Pass) -> None:
        found = validator.coding_issue(value)
        if found is None:
            return
        part, text = found
        run.say("code-invalid", text, (at, part, None, "Coding"), validator.coding_severity(value, part))

    return check


def _heads(targets: list[str]) -> frozenset[str]:
    """Return the resource types that a reference may name; all of them where that is not limited."""
    allowed = {url.removeprefix(TARGET) for url in targets}
    bases = {name for name in allowed if name in resource_types() or name == "Resource"}
    if not targets or len(bases) < len(allowed) or "Resource" in bases:
        return resource_types()
    return frozenset(bases)


def reference_check(targets: list[str]) -> Check:
    """Return the check of a Reference with the profiles that its target may have."""
    heads = _heads(targets)

    def check(value: Any, _at: At, run: Pass) -> None:
        text = value.get("reference")
        if text is None:
            return
        head, _, tail = text.partition("/")
        if head in heads and local_id(tail) and "type" not in value:
            return
        if run.resolve is None and text[:9] == "urn:uuid:":
            return
        if text[0] == "#":
            if text != "#" and text[1:] not in contained_ids(run):
                raise Doubt
            run.inside.add(text)
            return
        if reference_issue(Node(value, "Reference"), targets, run.resolve) is not None:
            raise Doubt

    return check


def plain_reference(targets: list[str], general: Check) -> Check:
    """Return a check that lets the References pass which are most common, and holds others against all rules.

    Most are ``Type/id`` or ``urn:uuid:``, alone or with a display; ref-1 speaks of none of them.
    """
    heads = _heads(targets)

    def check(value: Any, at: At, run: Pass) -> None:
        text, size = value.get("reference"), len(value)
        if type(text) is str and len(text) < LONG and (size == 1 or (size == 2 and _displayed(value))):
            if text[:9] == "urn:uuid:" and run.resolve is None:
                return
            head, _, tail = text.partition("/")
            if head in heads and local_id(tail):
                return
        general(value, at, run)

    return check


def _displayed(value: dict[str, Any]) -> bool:
    text = value.get("display")
    return type(text) is str and 0 < len(text) < LONG and not text.isspace()


def contained_ids(run: Pass) -> list[Any]:
    """Return the ids of the resources within the root."""
    return [inner.get("id") for inner in run.root.get("contained", ())]


def extension_check(validator: Validator) -> Check:
    """Return the check of an extension: a value or parts, a known definition, a fitting place."""

    def check(value: Any, at: At, run: Pass) -> None:
        has_value = any(name[:5] == "value" for name in value)
        if has_value is ("extension" in value):
            raise Doubt
        url = value["url"]
        if ":" not in url:
            return
        if validator.profile(url) is None:
            run.say(
                "extension",
                "The definition of an extension is not known.",
                at,
                validator.extension_severity(url),
            )
            return
        if not allowed_at(validator.definitions.structure(url) or {}, _node_at(at, value), path_of(at)):
            raise Doubt
        run.plans.by_profile(url)(value, at, run)

    return check


def _node_at(at: At, value: Any) -> Node:
    """Return a node with the types of what is around it, as the contexts of extensions ask for them."""
    chain: list[Any] = []
    here: Any = at
    while here is not None:
        chain.append(here[3])
        here = here[0]
    parent: Node | None = None
    for kind in reversed(chain):
        parent = Node(None, kind, None, parent)
    return Node(value, "Extension", None, parent)

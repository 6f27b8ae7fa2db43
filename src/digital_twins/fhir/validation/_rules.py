"""A StructureDefinition as a tree of rules, built once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import Expression, FhirPathError, compile_expression
from digital_twins.fhir.fhirpath._types import resource_types

if TYPE_CHECKING:
    from collections.abc import Mapping


_QUE_12 = "enableWhen.count() > {} implies enableBehavior.exists()"
_CORRECTED = (
    (_QUE_12.format(2), _QUE_12.format(1)),  # R4 says 2 where its own text means "more than one"
    ("%resource.descendants().as(", "%resource.descendants().ofType("),  # dom-3: as() takes one item only
)


@dataclass(frozen=True, slots=True)
class TypeRef:
    """A permitted type with the profiles it must conform to, and those of a reference's target."""

    code: str
    profiles: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """An invariant: its key, ``error`` or ``warning``, and the compiled expression."""

    key: str
    severity: str
    expression: Expression


@dataclass(slots=True)
class Slicing:
    """How the items of an element are told apart."""

    discriminators: tuple[tuple[str, str], ...]
    closed: bool
    ordered: bool


@dataclass(slots=True)
class Rule:
    """What one element of a profile asks.

    ``names`` are its JSON names with the type of each (several for a choice); ``high`` is None for ``*``.
    ``by_json`` leads from the JSON names of the children to their rules and types, ``needed`` are those that
    must be there, and ``repeats`` says whether the base type lets the element repeat, once it was asked.
    """

    path: str
    name: str
    low: int
    high: int | None
    slice_name: str | None = None
    types: tuple[TypeRef, ...] = ()
    names: dict[str, TypeRef] = field(default_factory=dict)
    fixed: Any = None
    pattern: Any = None
    binding: tuple[str, str] | None = None
    constraints: tuple[Constraint, ...] = ()
    content_of: str | None = None
    slicing: Slicing | None = None
    slices: list[Rule] = field(default_factory=list)
    children: dict[str, Rule] = field(default_factory=dict)
    by_json: dict[str, tuple[Rule, str]] = field(default_factory=dict)
    needed: tuple[Rule, ...] = ()
    repeats: bool | None = None
    max_length: int | None = None
    bounds: tuple[Any, Any] = (None, None)

    @property
    def is_choice(self) -> bool:
        """Whether it is written as ``name[x]``."""
        return self.path.endswith("[x]")


@dataclass(slots=True)
class Profile:
    """A compiled StructureDefinition."""

    url: str
    type: str
    kind: str
    abstract: bool
    root: Rule
    by_path: dict[str, Rule]


def compiled_profile(structure: Mapping[str, Any]) -> Profile:
    """Compile a reduced StructureDefinition."""
    by_id: dict[str, Rule] = {}
    root: Rule | None = None
    for element in structure["elements"]:
        rule = _rule(element)
        by_id[element["id"]] = rule
        head, _, last = element["id"].rpartition(".")
        if root is None:
            root = rule
        elif ":" in last and rule.slice_name:
            base = by_id.get(f"{head}.{last.partition(':')[0]}" if head else last.partition(":")[0])
            if base is not None:
                base.slices.append(rule)
        elif head in by_id:
            by_id[head].children[rule.name] = rule
    if root is None:
        raise ValueError("a structure has no element")
    for rule in by_id.values():
        for child in rule.children.values():
            rule.by_json.update({name: (child, _kind(child, ref)) for name, ref in child.names.items()})
        rule.needed = tuple(c for c in rule.children.values() if c.low or any(s.low for s in c.slices))
    by_path = {rule.path: rule for key, rule in reversed(by_id.items()) if ":" not in key}
    kind, base_type = str(structure.get("kind")), str(structure.get("type"))
    return Profile(structure["url"], base_type, kind, bool(structure.get("abstract")), root, by_path)


def _kind(rule: Rule, ref: TypeRef) -> str:
    """Return the FHIRPath type of an element's values."""
    if rule.content_of is not None:
        return rule.content_of
    if ref.code in {"BackboneElement", "Element"}:
        return rule.path
    if rule.name == "id" and rule.path.count(".") == 1 and rule.path.partition(".")[0] in resource_types():
        return "id"  # R4 types it as a string by an erratum
    return "string" if ref.code.startswith("http://hl7.org/fhirpath/System.") else ref.code


def _rule(element: Mapping[str, Any]) -> Rule:
    path = element["path"]
    name = path.rpartition(".")[2].removesuffix("[x]")
    types = tuple(
        TypeRef(t.get("code", ""), tuple(t.get("profile", ())), tuple(t.get("targetProfile", ())))
        for t in element.get("type", ())
    )
    values = {
        key: value for key, value in element.items() if key.startswith(("fixed", "pattern", "min", "max"))
    }
    return Rule(
        path=path,
        name=name,
        low=element.get("min", 0),
        high=None if element.get("max", "*") == "*" else int(element["max"]),
        slice_name=element.get("sliceName"),
        types=types,
        names=_json_names(path, name, types),
        fixed=_valued(values, "fixed"),
        pattern=_valued(values, "pattern"),
        binding=tuple(element["binding"]) if "binding" in element else None,
        constraints=tuple(_constraints(element)),
        content_of=element["contentReference"].rpartition("#")[2] if "contentReference" in element else None,
        slicing=_slicing(element.get("slicing")),
        max_length=element.get("maxLength"),
        bounds=(_valued(values, "minValue"), _valued(values, "maxValue")),
    )


def _json_names(path: str, name: str, types: tuple[TypeRef, ...]) -> dict[str, TypeRef]:
    if not path.endswith("[x]"):
        return {name: types[0] if types else TypeRef("")}
    return {name + ref.code[:1].upper() + ref.code[1:]: ref for ref in types}


def _valued(values: Mapping[str, Any], prefix: str) -> Any:
    return next(
        (v for k, v in values.items() if k.startswith(prefix) and k[len(prefix) :][:1].isupper()), None
    )


def _constraints(element: Mapping[str, Any]) -> list[Constraint]:
    found = []
    for key, severity, text in element.get("constraint", ()):
        try:
            found.append(Constraint(key, severity, compile_expression(corrected(text))))
        except FhirPathError:
            continue  # a rule in a dialect that is not FHIRPath N1 cannot be checked
    return found


def corrected(expression: str) -> str:
    """Return an invariant as it is meant, where R4 published it with a slip."""
    for wrong, right in _CORRECTED:
        expression = expression.replace(wrong, right)
    return expression


def _slicing(given: Mapping[str, Any] | None) -> Slicing | None:
    if given is None:
        return None
    pairs = tuple((d["type"], d["path"]) for d in given.get("discriminator", ()))
    return Slicing(pairs, given.get("rules") == "closed", bool(given.get("ordered")))

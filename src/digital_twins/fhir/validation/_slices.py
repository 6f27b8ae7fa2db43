"""Which slice an item belongs to (FHIR R4, profiling, section 5.1.0.14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import FhirPathError, compile_expression
from digital_twins.fhir.fhirpath._values import Node
from digital_twins.fhir.validation._values import equal_json, matches_pattern

if TYPE_CHECKING:
    from digital_twins.fhir.validation._rules import Rule
    from digital_twins.fhir.validation._validator import Validator

_MISSING = object()


def slice_of(validator: Validator, rule: Rule, node: Node) -> Rule | None:
    """Return the slice of a rule that an item matches, or None."""
    slicing = rule.slicing
    if slicing is None:
        return None
    for candidate in rule.slices:
        if slicing.discriminators:
            if all(_matches(validator, candidate, node, kind, path) for kind, path in slicing.discriminators):
                return candidate
        elif rule.is_choice and candidate.types and node.type in {ref.code for ref in candidate.types}:
            return candidate
    return None


def _matches(validator: Validator, candidate: Rule, node: Node, kind: str, path: str) -> bool:
    try:
        found = _follow(validator, node, path)
    except FhirPathError:
        return False
    if kind == "type":
        return _matches_type(validator, candidate, path, found)
    if kind == "profile":
        return _matches_profile(validator, candidate, path, found)
    target = rule_at(validator, candidate, path)
    if kind == "exists":
        wanted = target is not None and target.high != 0
        return bool(found) == wanted
    return _matches_value(validator, candidate, path, found)


def _follow(validator: Validator, node: Node, path: str) -> list[Any]:
    if path == "$this":
        return [node]
    return compile_expression(path).nodes([node], environment=validator.environment)


def _matches_type(validator: Validator, candidate: Rule, path: str, found: list[Any]) -> bool:
    target = rule_at(validator, candidate, path)
    codes = {ref.code for ref in target.types} if target is not None else set()
    return bool(found) and all(isinstance(item, Node) and item.type in codes for item in found)


def _matches_profile(validator: Validator, candidate: Rule, path: str, found: list[Any]) -> bool:
    target = rule_at(validator, candidate, path.replace(".resolve()", "").replace("resolve()", "$this"))
    if target is None:
        return False
    urls = [url for ref in target.types for url in (ref.targets if "resolve()" in path else ref.profiles)]
    return any(validator.conforms(item, url) for item in found for url in urls)


def _matches_value(validator: Validator, candidate: Rule, path: str, found: list[Any]) -> bool:
    expected, fixed = expected_at(validator, candidate, path)
    values = [item.value if isinstance(item, Node) else item for item in found]
    if expected is not _MISSING:
        compare = equal_json if fixed else matches_pattern
        return any(compare(value, expected) for value in values)
    target = rule_at(validator, candidate, path)
    if target is not None and target.binding is not None and target.binding[0] == "required":
        return any(validator.coded_in(value, target.binding[1]) is True for value in values)
    if target is not None and target.high == 0:
        return not values
    return False


def rule_at(validator: Validator, rule: Rule, path: str) -> Rule | None:
    """Return the rule at a discriminator's path below a slice, through profiles of data types."""
    at: Rule | None = rule
    for step in _steps(path):
        if at is None:
            return None
        if step.startswith("extension("):
            at = _extension_slice(at, step)
            continue
        if step in {"resolve()", "$this"} or step.startswith("ofType("):
            continue
        at = at.children.get(step) or _in_type(validator, at, step)
    return at


def _in_type(validator: Validator, rule: Rule, step: str) -> Rule | None:
    for ref in rule.types:
        for url in (*ref.profiles, f"http://hl7.org/fhir/StructureDefinition/{ref.code}"):
            profile = validator.profile(url)
            if profile is not None and step in profile.root.children:
                return profile.root.children[step]
    return None


def _extension_slice(rule: Rule, step: str) -> Rule | None:
    url = step.removeprefix("extension(").rstrip(")").strip("'\"")
    base = rule.children.get("extension")
    for candidate in base.slices if base is not None else ():
        if any(url in ref.profiles for ref in candidate.types):
            return candidate
    return None


def expected_at(validator: Validator, rule: Rule, path: str) -> tuple[Any, bool]:
    """Return the value that a slice fixes (or its pattern) at a path, and whether it is fixed."""
    steps = [s for s in _steps(path) if s != "$this"]
    at: Rule | None = rule
    for index in range(len(steps) + 1):
        if at is None:
            break
        for value, fixed in ((at.fixed, True), (at.pattern, False)):
            if value is not None:
                inner = _inside(value, steps[index:])
                if inner is not _MISSING:
                    return inner, fixed
        if index < len(steps):
            at = rule_at(validator, at, steps[index])
            if at is not None and at.slices and at.fixed is None and at.pattern is None:
                required = [s for s in at.slices if s.low > 0]
                at = required[0] if len(required) == 1 else at
    return _MISSING, False


def _inside(value: Any, steps: list[str]) -> Any:
    for step in steps:
        if isinstance(value, list):
            value = value[0] if value else _MISSING
        if not isinstance(value, dict) or step not in value:
            return _MISSING
        value = value[step]
    return value[0] if isinstance(value, list) and len(value) == 1 and steps else value


def _steps(path: str) -> list[str]:
    """Split a discriminator's path at the dots outside of brackets."""
    found, depth, part = [], 0, ""
    for letter in path:
        depth += (letter == "(") - (letter == ")")
        if letter == "." and depth == 0:
            found.append(part)
            part = ""
        else:
            part += letter
    return [*found, part] if part else found

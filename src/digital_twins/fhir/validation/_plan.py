"""Plans: what the rules of one type ask, as closures over JSON values."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath._types import PRIMITIVES, resource_types
from digital_twins.fhir.validation._definitions import BASE
from digital_twins.fhir.validation._doubt import At, Check, Doubt, Pass, doubtful
from digital_twins.fhir.validation._invariants import Guarded, invariant_check, is_local
from digital_twins.fhir.validation._leaves import Test, leaf_check
from digital_twins.fhir.validation._memory import KEYS, remembered
from digital_twins.fhir.validation._special import (
    binding_check,
    coding_check,
    extension_check,
    plain_reference,
    reference_check,
)
from digital_twins.fhir.validation._values import equal_json, matches_pattern

if TYPE_CHECKING:
    from digital_twins.fhir.validation._rules import Profile, Rule, TypeRef
    from digital_twins.fhir.validation._validator import Validator

Row = tuple[int, "Test | None", Check, "tuple[int, int] | None"]
"""The bit of an element, its test if it is plain, else its check, and how many there may be if it repeats."""
Rules = tuple[list[Guarded], list[Check]]
_NO_LIMIT = sys.maxsize


class Plans:
    """The plans of one validator."""

    def __init__(self, validator: Validator) -> None:
        self.validator = validator
        self._objects: dict[int, Check] = {}
        self._types: dict[str, Check] = {}

    def resource(self, value: Any, at: At, run: Pass) -> None:
        """Check a resource by its base type."""
        self.by_profile(BASE + value["resourceType"])(value, at, run)

    def by_profile(self, url: str) -> Check:
        """Return the check of a profile: its elements, then its invariants."""
        made = self._types.get(url)
        if made is None:
            profile = self.validator.profile(url)
            made = doubtful if profile is None else self._object(profile.root, profile, profile.type)
            self._types[url] = made
        return made

    def _object(  # noqa: C901  (one loop for each object of each resource: calls would cost more than they clear)
        self, rule: Rule, profile: Profile, kind: str
    ) -> Check:
        """Return the check of an object: its members, then its invariants.

        It is made when it is first used, as types contain each other. A name that the type does not have
        raises KeyError, which `Quick` takes for a doubt.
        """
        is_resource = kind in resource_types()
        made: tuple[dict[str, Row], int, Rules] | None = None

        def check(value: Any, at: At, run: Pass) -> None:  # noqa: C901, PLR0912  (as above)
            nonlocal made
            if type(value) is not dict or (
                len(value) < 2 and not is_resource and (not value or "id" in value)
            ):
                raise Doubt
            if made is None:
                made = self._rows(rule, profile, kind)
            table, needed, (guarded, always) = made
            seen = 0
            for name, item in value.items():
                bit, test, each, many = table[name]
                if seen & bit:
                    raise Doubt  # two forms of one choice
                seen |= bit
                if test is not None:
                    if not test(item):
                        raise Doubt
                elif many is None:
                    each(item, (at, name, None, kind), run)
                else:
                    if type(item) is not list or not many[0] <= len(item) <= many[1]:
                        raise Doubt
                    for index, one in enumerate(item):
                        each(one, (at, name, index, kind), run)
            if seen & needed != needed:
                raise Doubt
            for holds, say in guarded:
                if not holds(value):
                    say(value, at, run)
            for say in always:
                say(value, at, run)

        return check

    def _rows(self, rule: Rule, profile: Profile, kind: str) -> tuple[dict[str, Row], int, Rules]:
        """Return what is known of each JSON name, the bits of what must be there, and the invariants."""
        needed, bit = 0, 1
        rows: dict[str, Row] = {}
        if kind in resource_types():
            rows["resourceType"] = (bit, _true, doubtful, None)
        for child in rule.children.values():
            bit <<= 1
            if any(child is one for one in rule.needed):
                needed |= bit
            repeats = self.validator.repeats(child, kind)
            many = (max(child.low, 1), _NO_LIMIT if child.high is None else child.high) if repeats else None
            for name, ref in child.names.items():
                if child.high == 0:
                    continue  # absent from the table: doubtful when there
                own = rule.by_json[name][1]
                if child.slices:  # its check takes the whole list
                    rows[name] = (bit, None, self._sliced(child, ref, profile) if repeats else doubtful, None)
                else:
                    test = None if repeats else self._plain(child, own)
                    rows[name] = (bit, test, self._element(child, ref, profile, own), many)
        return rows, needed, self._rules(rule, kind)

    def _element(self, rule: Rule, ref: TypeRef, profile: Profile, kind: str) -> Check:
        if rule.bounds != (None, None):
            return doubtful
        if kind in PRIMITIVES:
            return self._leaf(rule, kind)
        steps = self._fixed(rule)
        if rule.binding is not None and rule.binding[0] in {"required", "extensible"}:
            steps += binding_check(self.validator, kind, *rule.binding)
        if rule.content_of is not None:
            target = profile.by_path.get(rule.content_of)
            if target is None:
                return doubtful
            steps += [self._content(target, profile), *self._invariants(rule, kind)]
        elif ref.code == "Resource" or ref.code in resource_types():
            return _contained if rule.name == "contained" else doubtful
        else:
            steps += self._typed(rule, ref, profile, kind)
        if kind in KEYS and not rule.children and is_local(rule.constraints):
            return remembered(steps, KEYS[kind])
        return _in_turn(steps)

    def _content(self, target: Rule, profile: Profile) -> Check:
        made = self._objects.get(id(target))
        if made is None:
            made = self._objects[id(target)] = self._object(target, profile, target.path)
        return made

    def _typed(self, rule: Rule, ref: TypeRef, profile: Profile, kind: str) -> list[Check]:
        steps: list[Check] = []
        if rule.children:
            steps.append(self._object(rule, profile, kind))
        else:
            if not rule.slice_name:
                steps.append(self.by_profile(BASE + ref.code))
            steps += self._invariants(rule, kind)
        known = [url for url in ref.profiles if self.validator.profile(url) is not None]
        if known and len(known) == len(ref.profiles):
            steps.append(self.by_profile(known[0]) if len(known) == 1 else doubtful)
        if ref.code == "Reference":
            steps.append(reference_check(list(ref.targets)))
            if not known and not rule.children and not rule.constraints:
                return [plain_reference(list(ref.targets), _in_turn(steps))]
        elif ref.code == "Extension":
            steps.append(extension_check(self.validator))
        elif ref.code == "Coding":
            steps.append(coding_check(self.validator))
        return steps

    def _plain(self, rule: Rule, kind: str) -> Test | None:
        """Return the test of a primitive of which nothing else is asked."""
        simple = rule.fixed is None and rule.pattern is None and rule.max_length is None
        simple = simple and rule.bounds == (None, None)
        if kind not in PRIMITIVES or not simple or rule.constraints:
            return None
        strength, value_set = rule.binding or ("", None)
        if strength == "extensible":
            return None
        return leaf_check(self.validator, kind, value_set if strength == "required" else None)

    def _leaf(self, rule: Rule, kind: str) -> Check:
        bound = rule.binding if rule.binding is not None and rule.binding[0] == "required" else None
        if rule.binding is not None and rule.binding[0] == "extensible":
            return doubtful
        test = leaf_check(self.validator, kind, bound[1] if bound else None)
        steps, longest = [*self._fixed(rule), *self._invariants(rule, kind)], rule.max_length

        def check(value: Any, at: At, run: Pass) -> None:
            if not test(value) or (longest is not None and len(value) > longest):
                raise Doubt
            for step in steps:
                step(value, at, run)

        return check

    @staticmethod
    def _fixed(rule: Rule) -> list[Check]:
        def check(value: Any, _at: At, _run: Pass) -> None:
            if rule.fixed is not None and not equal_json(value, rule.fixed):
                raise Doubt
            if rule.pattern is not None and not matches_pattern(value, rule.pattern):
                raise Doubt

        return [check] if rule.fixed is not None or rule.pattern is not None else []

    def _sliced(self, rule: Rule, ref: TypeRef, profile: Profile) -> Check:
        """Return the check of extensions sliced by their URL; any other slicing is for the full walk."""
        slicing, parts = rule.slicing, {self._slice_url(part): part for part in rule.slices}
        by_url = slicing is not None and slicing.discriminators == (("value", "url"),)
        if not by_url or ref.code != "Extension" or None in parts or len(parts) < len(rule.slices):
            return doubtful
        base = self._element(rule, ref, profile, ref.code)
        checks = {
            url: self._element(part, part.types[0], profile, "Extension") for url, part in parts.items()
        }
        limits = [(url, part.low, part.high) for url, part in parts.items()]
        closed = slicing is not None and slicing.closed

        def check(value: Any, at: At, run: Pass) -> None:
            if type(value) is not list or len(value) < max(rule.low, 1):
                raise Doubt
            urls = [each["url"] for each in value]
            if any(
                not low <= urls.count(url) <= (len(urls) if high is None else high)
                for url, low, high in limits
            ):
                raise Doubt
            if (rule.high is not None and len(urls) > rule.high) or (
                closed and not checks.keys() >= set(urls)
            ):
                raise Doubt
            for index, each in enumerate(value):
                place = (at[0], at[1], index, at[3])
                base(each, place, run)
                part = checks.get(urls[index])
                if part is not None:
                    part(each, place, run)

        return check

    def _slice_url(self, part: Rule) -> Any:
        own = part.children.get("url")
        if own is None and part.types and part.types[0].profiles:
            found = self.validator.profile(part.types[0].profiles[0])
            own = found.root.children.get("url") if found is not None else None
        return None if own is None else own.fixed

    def _rules(self, rule: Rule, kind: str) -> Rules:
        """Return the invariants of an object that a test of the object alone can settle, and the others."""
        made = [invariant_check(constraint, kind) for constraint in rule.constraints]
        return [each for each in made if isinstance(each, tuple)], [
            e for e in made if not isinstance(e, tuple)
        ]

    def _invariants(self, rule: Rule, kind: str) -> list[Check]:
        """Return the invariants of an element that has others by its type."""
        guarded, always = self._rules(rule, kind)
        return [*(_unless(*each) for each in guarded), *always]


def _true(_value: Any) -> bool:
    return True


def _unless(holds: Test, say: Check) -> Check:
    def check(value: Any, at: At, run: Pass) -> None:
        if not holds(value):
            say(value, at, run)

    return check


def _in_turn(steps: list[Check]) -> Check:
    if len(steps) == 1:
        return steps[0]

    def check(value: Any, at: At, run: Pass) -> None:
        for step in steps:
            step(value, at, run)

    return check


def _contained(value: Any, at: At, run: Pass) -> None:
    """Check a contained resource: it is the resource of its own rules, within the root of the other."""
    if "profile" in value.get("meta", ()):
        raise Doubt  # what it claims is looked up by the full walk
    outer, run.resource = run.resource, value
    run.plans.resource(value, at, run)
    run.resource = outer

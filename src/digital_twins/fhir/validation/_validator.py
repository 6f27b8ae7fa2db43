"""The validator: a resource against the R4 definitions and the profiles that it claims or is given."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._outcome import Issue
from digital_twins.fhir.fhirpath import Environment, FhirPathError
from digital_twins.fhir.fhirpath._types import PRIMITIVES, ancestors, resource_types
from digital_twins.fhir.fhirpath._values import Node, node_of
from digital_twins.fhir.validation._context import allowed_at
from digital_twins.fhir.validation._definitions import BASE, DefinitionSet
from digital_twins.fhir.validation._quick import UNKNOWN_PROFILE, Quick
from digital_twins.fhir.validation._references import reference_issue, resolver
from digital_twins.fhir.validation._rules import Profile, Rule, TypeRef, compiled_profile
from digital_twins.fhir.validation._slices import slice_of
from digital_twins.fhir.validation._terminology import Terminology
from digital_twins.fhir.validation._types import issues_of_type
from digital_twins.fhir.validation._values import (
    equal_json,
    matches_pattern,
    out_of_bounds,
    primitive_problem,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODED = {"code", "Coding", "CodeableConcept", "Quantity", "string", "uri"}
_ELEMENT_NAMES = {"id", "extension"}
_MOST_ISSUES = 500
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_DISPLAY = "The display is not the one that the code system gives."
_ELSEWHERE = re.compile(r"http://hl7\.org/fhir/(StructureDefinition|tools|\d\.\d)/")

Items = list[tuple[Node, str]]


@dataclass(slots=True)
class _Run:
    """One validation: what was found, and where in which resource it stands."""

    issues: list[Issue]
    environment: Environment
    resource: Node
    root: Node
    open_profiles: tuple[str, ...] = ()
    quiet: bool = False
    seen: set[tuple[str, str]] = field(default_factory=set)

    def add(self, code: str, text: str, path: str, severity: str = "error") -> None:
        if len(self.issues) < _MOST_ISSUES and (path, text) not in self.seen:
            self.seen.add((path, text))
            self.issues.append(Issue(code, text, path, severity))

    @property
    def failed(self) -> bool:
        """Whether an error was found."""
        return any(issue.severity == "error" for issue in self.issues)


class Validator:
    """Validates resources against base R4 and profiles.

    Parameters
    ----------
    definitions
        Profiles, code systems and value sets; those of R4 by default.
    unknown_extensions
        Severity of an extension whose definition is not at hand: ``"information"`` or ``"error"``. Extensions
        in the space of FHIR itself (later versions, the extensions package) are never more than that.
    wrong_displays
        Severity of a coding whose display is not that of its code system: ``"warning"`` or ``"error"``.
    newer_codes
        Severity of a code that R4's copy of a code system of terminology.hl7.org does not have: those grow
        without FHIR (``"warning"`` or ``"error"``). A required binding is not touched by it.
    """

    def __init__(
        self,
        definitions: DefinitionSet | None = None,
        *,
        unknown_extensions: str = "information",
        wrong_displays: str = "warning",
        newer_codes: str = "warning",
    ) -> None:
        self.definitions = definitions or DefinitionSet()
        self.terminology = Terminology(self.definitions)
        self.environment = Environment(member_of=self.coded_in, conforms_to=self._conforms_json)
        self.unknown_extensions = unknown_extensions
        self.wrong_displays = wrong_displays
        self.newer_codes = newer_codes
        self._profiles: dict[str, Profile | None] = {}
        self._quick = Quick(self)

    def validate(self, resource: dict[str, Any], *, profiles: Sequence[str] = ()) -> list[Issue]:
        """Return what is wrong with a resource; errors, warnings and information.

        Parameters
        ----------
        resource
            The resource as JSON.
        profiles
            Canonical URLs that it must conform to, besides those in ``meta.profile``.
        """
        said = None if profiles else self._quick.alone(resource)
        if said is not None:
            return said
        kind = resource.get("resourceType")
        if kind not in resource_types():
            return [Issue("structure", "The resource type is missing or not one of R4.", None)]
        root = node_of(resource, kind)
        environment = Environment(
            resolve=resolver(resource), member_of=self.coded_in, conforms_to=self._conforms_json
        )
        run = _Run([], environment, root, root)
        self._resource(root, str(kind), run, profiles)
        return run.issues

    def accepts(self, resource: Any) -> bool:
        """Whether a resource was found to have no error, the quick way; false may mean only: look closer."""
        return self._quick.alone(resource) is not None

    def profile(self, url: str) -> Profile | None:
        """Return the compiled profile of a canonical URL, or None where it is not at hand."""
        if url not in self._profiles:
            structure = self.definitions.structure(url)
            self._profiles[url] = None if structure is None else compiled_profile(structure)
        return self._profiles[url]

    def conforms(self, item: Any, url: str) -> bool:
        """Whether an item has no error against a profile."""
        profile = self.profile(url)
        if profile is None or not isinstance(item, Node) or profile.type not in ancestors(item.type):
            return False
        run = _Run([], self.environment, item, item)
        self._against(item, profile, item.type, run)
        return not any(issue.severity == "error" for issue in run.issues)

    def coded_in(self, value: Any, value_set: str) -> bool | None:
        """Whether a code, Coding or CodeableConcept is in a value set; None where that cannot be told."""
        if isinstance(value, str):
            return self.terminology.contains(value_set, None, value)
        if not isinstance(value, dict):
            return None
        codings = value.get("coding") if "coding" in value or "text" in value else [value]
        answers = [
            self.terminology.contains(value_set, coding.get("system"), str(coding["code"]))
            for coding in (codings if isinstance(codings, list) else ())
            if isinstance(coding, dict)
            and "code" in coding
            and isinstance(coding.get("system"), str | None)  # of another shape: said by its type
        ]
        return True if True in answers else None if None in answers else False

    def _conforms_json(self, value: Any, url: str) -> bool | None:
        if self.profile(url) is None:
            return None
        return self.conforms(node_of(value, "Resource"), url)

    def _resource(self, node: Node, path: str, run: _Run, profiles: Sequence[str] = ()) -> None:
        base = self.profile(BASE + node.type)
        if base is None:
            run.add("structure", "The resource type is not one of R4.", path)
            return
        alone = run.root is node
        resolve = run.environment.resolve if run.root.type == "Bundle" or path != node.type else None
        said = self._quick.issues(node.value, path, resolve, self.environment) if alone else None
        if said is None:
            self._against(node, base, path, run)
        for issue in said or ():
            run.add(issue.code, issue.text, issue.location or path, issue.severity)
        meta = node.value.get("meta")
        claimed = meta.get("profile", ()) if isinstance(meta, dict) else ()
        said_to = [url for url in claimed if isinstance(url, str)] if isinstance(claimed, list) else []
        for url in dict.fromkeys([*profiles, *said_to]):
            profile = self.profile(url)
            if profile is None:
                run.add("not-found", UNKNOWN_PROFILE, f"{path}.meta", "warning")
            elif profile.url != base.url:
                self._against(node, profile, path, run)
        for issue in issues_of_type(self, node.value, path, sound=not run.failed):
            run.add(issue.code, issue.text, issue.location or path, issue.severity)

    def _against(self, node: Node, profile: Profile, path: str, run: _Run) -> None:
        if profile.type not in ancestors(node.type):
            run.add("structure", f"A profile of {profile.type} cannot hold for this type.", path)
            return
        self._complex(node, profile.root, profile, path, run)
        self._constraints(node, profile.root, path, run)

    def _complex(self, node: Node, rule: Rule, profile: Profile, path: str, run: _Run) -> None:
        """Check the children of a complex element by the rules of ``rule``."""
        value = node.value
        if not isinstance(value, dict):
            run.add("structure", "An object was expected here.", path)
            return
        if node.type != "Element" and node.type not in resource_types() and value.keys() <= {"id"}:
            run.add("invariant", "An element must have a value or children (ele-1).", path)
        groups: dict[int, tuple[Rule, Items]] = {}
        for name in value:
            self._property(node, name, rule, path, (groups, run))
        for child, items in groups.values():
            self._items(child, items, profile, (path, run))
        for child in rule.needed:
            if id(child) not in groups:
                self._items(child, [], profile, (path, run))

    def _property(self, node: Node, name: str, rule: Rule, path: str, found: Any) -> None:
        """Sort the values of one JSON name under the rule that governs them."""
        groups, run = found
        bare = name.removeprefix("_")
        known = rule.by_json.get(bare)
        if known is None:
            if name != "resourceType":
                where = f"{path}.{name}"[:200]
                run.add("structure", "An element has a name that its type does not have.", where)
            return
        if name != bare and bare in node.value:
            return
        child, kind = known
        value, extra = node.value.get(bare), node.value.get(f"_{bare}")
        repeated = child.repeats if child.repeats is not None else self.repeats(child, node.type)
        label = f"{path}.{bare}"
        if isinstance(value, list) != repeated and value is not None:
            wanted = "An array" if repeated else "A single value"
            run.add("structure", f"{wanted} was expected here.", label)
            return
        rows = groups.setdefault(id(child), (child, []))[1]
        if extra is None and not repeated:
            rows.append((node_of(value, kind, None, node), label))
            return
        if value == [] or extra == []:
            run.add("structure", "An array is never empty.", label)
        values = (value or []) if repeated else [value]
        extras = extra if isinstance(extra, list) else [extra]
        for index in range(max(len(values), len(extras) if extra is not None else 0)):
            item = values[index] if index < len(values) else None
            more = extras[index] if index < len(extras) else None
            at = f"{label}[{index}]" if repeated else label
            if item is None and more is None:
                run.add("structure", "A null has no place here.", at)
            else:
                rows.append((node_of(item, kind, more, node), at))

    def repeats(self, child: Rule, owner: str) -> bool:
        """Whether the base type lets an element repeat: that decides its JSON form, not a profile."""
        base = self.profile(BASE + child.path.partition(".")[0])
        origin = base.by_path.get(child.path) if base is not None else None
        if origin is None:
            owning = self.profile(BASE + owner)
            origin = owning.root.children.get(child.name) if owning is not None else None
        high = child.high if origin is None else origin.high
        child.repeats = high is None or high > 1
        return child.repeats

    def _items(self, rule: Rule, items: Items, profile: Profile, where: tuple[str, _Run]) -> None:
        path, run = where
        label = f"{path}.{rule.name}"
        if len(items) < rule.low:
            run.add("required", f"At least {rule.low} of this element must be there.", label)
        if rule.high is not None and len(items) > rule.high:
            run.add("structure", f"At most {rule.high} of this element may be there.", label)
        counts: dict[int, int] = {}
        for node, at in items:
            self._item(node, rule, profile, at, run)
            if not rule.slices:
                continue
            chosen = slice_of(self, rule, node)
            if chosen is not None:
                counts[id(chosen)] = counts.get(id(chosen), 0) + 1
                self._item(node, chosen, profile, at, run)
            elif rule.slicing is not None and rule.slicing.closed:
                run.add("structure", "The item matches no slice, and the slicing is closed.", at)
        for part in rule.slices:
            count = counts.get(id(part), 0)
            if count < part.low:
                run.add("required", f"At least {part.low} of slice '{part.slice_name}' must be there.", label)
            if part.high is not None and count > part.high:
                run.add("structure", f"At most {part.high} of slice '{part.slice_name}' may be there.", label)

    def _item(self, node: Node, rule: Rule, profile: Profile, path: str, run: _Run) -> None:
        self._fixed(node, rule, path, run)
        if rule.binding is not None:
            self._binding(node, rule, path, run)
        if node.type in PRIMITIVES:
            self._primitive(node, rule, path, run)
        elif rule.content_of is not None:
            target = profile.by_path.get(rule.content_of)
            if target is not None:
                self._complex(node, target, profile, path, run)
                self._constraints(node, target, path, run)
        elif rule.children:
            self._complex(node, rule, profile, path, run)
        self._constraints(node, rule, path, run)
        if node.type not in PRIMITIVES and rule.content_of is None:
            self._by_type(node, rule, path, run)

    def _by_type(self, node: Node, rule: Rule, path: str, run: _Run) -> None:
        """Check by the definition of the type, and by the profiles that the rule asks for."""
        if node.type in resource_types():
            self._resource(node, path, self._inside(node, path, run))
            return
        if not isinstance(node.value, dict):
            run.add("structure", "An object was expected here.", path)
            return
        base = self.profile(BASE + node.type)
        if base is not None and not rule.slice_name:
            if rule.children:
                self._constraints(node, base.root, path, run)
            else:
                self._against(node, base, path, run)
        refs = [ref for ref in rule.types if ref.code == node.type] or list(rule.types)
        self._type_profiles(node, refs, path, run)
        if node.type == "Reference":
            problem = reference_issue(
                node, [url for ref in refs for url in ref.targets], run.environment.resolve
            )
            if problem is not None:
                run.add("structure", problem, path)
        elif node.type == "Extension":
            self._extension(node, path, run)
        elif node.type == "Coding":
            self._coding(node, path, run)

    @staticmethod
    def _inside(node: Node, path: str, run: _Run) -> _Run:
        """Return the run for a resource within another: only a contained one keeps its root."""
        root = [run.root if ".contained[" in path else node]
        variables = {**run.environment.variables, "rootResource": root}
        return replace(
            run, resource=node, root=root[0], environment=replace(run.environment, variables=variables)
        )

    def _type_profiles(self, node: Node, refs: list[TypeRef], path: str, run: _Run) -> None:
        urls = [url for ref in refs for url in ref.profiles]
        known = [p for url in urls if (p := self.profile(url)) is not None]
        if not known or len(known) < len(urls):
            return
        if len(known) == 1:
            if known[0].url not in run.open_profiles:
                inner = replace(run, open_profiles=(*run.open_profiles, known[0].url))
                self._against(node, known[0], path, inner)
        elif not any(self.conforms(node, p.url) for p in known):
            run.add("structure", "The element conforms to none of the profiles that are allowed here.", path)

    def _extension(self, node: Node, path: str, run: _Run) -> None:
        url = node.value.get("url")
        if not isinstance(url, str):
            return
        if "value" not in {name[:5] for name in node.value} and "extension" not in node.value:
            run.add("invariant", "An extension has a value or extensions (ext-1).", path)
        if any(name.startswith("value") for name in node.value) and "extension" in node.value:
            run.add("invariant", "An extension has a value or extensions, not both (ext-1).", path)
        if ":" not in url:
            return  # a part of a complex extension
        profile = self.profile(url)
        if profile is None:
            run.add(
                "extension",
                "The definition of an extension is not known.",
                path,
                self.extension_severity(url),
            )
            return
        if not allowed_at(self.definitions.structure(url) or {}, node, path):
            run.add("extension", "An extension is not meant for this element.", path)
        if url not in run.open_profiles:
            self._against(node, profile, path, replace(run, open_profiles=(*run.open_profiles, url)))

    def _coding(self, node: Node, path: str, run: _Run) -> None:
        found = self.coding_issue(node.value)
        if found is not None:
            run.add(
                "code-invalid", found[1], f"{path}.{found[0]}", self.coding_severity(node.value, found[0])
            )

    def coding_issue(self, value: Any) -> tuple[str, str] | None:
        """Say which part of a Coding is wrong, and why; None where nothing is known to be."""
        system, code = value.get("system"), value.get("code")
        if not isinstance(system, str):
            return None
        if ":" not in system:
            return "system", "The system of a coding is no absolute URI."
        if "/ValueSet/" in system and self.definitions.value_set(system) is not None:
            return "system", "The system of a coding is a value set, not a code system."
        if (self.definitions.code_system(system) or {}).get("supplement"):
            return "system", "The system of a coding is a supplement of a code system."
        if not isinstance(code, str):
            return None
        if self.terminology.known(system, code) is False:
            return "code", "The code is not in its code system."
        display = value.get("display")
        if isinstance(display, str) and not self.terminology.displayed(system, code, display):
            return "display", _DISPLAY
        return None

    def coding_severity(self, value: Any, part: str) -> str:
        """Return how serious a wrong part of a Coding is."""
        if part == "display":
            return self.wrong_displays
        newer = part == "code" and str(value.get("system")).startswith(_TERMINOLOGY)
        return self.newer_codes if newer else "error"

    def extension_severity(self, url: str) -> str:
        """Return how serious it is that an extension's definition is not at hand."""
        return "information" if _ELSEWHERE.match(url) else self.unknown_extensions

    def _fixed(self, node: Node, rule: Rule, path: str, run: _Run) -> None:
        if rule.fixed is not None and not equal_json(node.value, rule.fixed):
            run.add("value", "The value is not the one that the profile fixes.", path)
        if rule.pattern is not None and not matches_pattern(node.value, rule.pattern):
            run.add("value", "The value does not match the pattern of the profile.", path)
        if rule.bounds != (None, None) and out_of_bounds(node, rule.bounds):
            run.add("value", "The value is beyond the bounds that the profile sets.", path)

    def _binding(self, node: Node, rule: Rule, path: str, run: _Run) -> None:
        strength, value_set = rule.binding or ("", "")
        if strength not in {"required", "extensible"} or node.type not in _CODED:
            return
        value = node.value
        if node.type == "Quantity":
            value = (
                {k: value.get(k) for k in ("system", "code")}
                if isinstance(value, dict) and "code" in value
                else None
            )
        if value is None:
            return
        if node.type == "CodeableConcept" and isinstance(value, dict) and not value.get("coding"):
            if strength == "required":
                run.add("code-invalid", "A code of the required value set is missing.", path)
            return
        if self.coded_in(value, value_set) is False:
            severity = "error" if strength == "required" else "warning"
            run.add(
                "code-invalid", f"The code is not in the value set of the {strength} binding.", path, severity
            )

    def _primitive(self, node: Node, rule: Rule, path: str, run: _Run) -> None:
        if node.extra is not None:
            if isinstance(node.extra, dict):
                inside = node_of(node.extra, "Element", None, node.parent)
                element = self.profile(BASE + "Element")
                if element is not None:
                    self._complex(inside, element.root, element, path, run)
            else:
                run.add("structure", "An object with id or extensions was expected here.", path)
        if node.value is None:
            return
        problem = primitive_problem(node.type, node.value)
        if problem is not None:
            run.add("value", problem, path)
        elif (
            rule.max_length is not None and isinstance(node.value, str) and len(node.value) > rule.max_length
        ):
            run.add("value", f"The value is longer than {rule.max_length} characters.", path)

    def _constraints(self, node: Node, rule: Rule, path: str, run: _Run) -> None:
        if not rule.constraints or (node.type in PRIMITIVES and node.value is None):
            return
        bare = node.type not in resource_types() or "contained" not in (node.value or ())
        for constraint in rule.constraints:
            if bare and constraint.key in {"dom-2", "dom-3", "dom-4", "dom-5"}:
                continue
            try:
                holds = constraint.expression.holds(node, root=run.resource, environment=run.environment)
            except FhirPathError:
                continue
            if not holds:
                severity = "error" if constraint.severity == "error" else "warning"
                run.add("invariant", f"The rule {constraint.key} does not hold.", path, severity)

"""Examples of US Core 7.0.0 with one rule of their profile broken: each is refused, at the right place."""

from __future__ import annotations

import copy
import json
import random
import re
import tarfile
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from digital_twins.fhir._definitions import definitions as tables
from digital_twins.fhir.validation import DefinitionSet, Validator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
IN_DEFAULT_RUN, AT_LEAST = 60, 500


class Mutant(NamedTuple):
    """A document with one broken rule, and where the break is."""

    rule: str
    where: str
    document: dict[str, Any]


class Spot(NamedTuple):
    """An element of a document: what holds it, its JSON name, its path, and its index in a list."""

    holder: dict[str, Any]
    name: str
    path: str

    @property
    def value(self) -> Any:
        found = self.holder[self.name]
        return found[0] if isinstance(found, list) else found

    @property
    def place(self) -> str:
        return f"{self.path}[0]" if isinstance(self.holder[self.name], list) else self.path

    def put(self, value: Any) -> None:
        if isinstance(self.holder[self.name], list):
            self.holder[self.name][0] = value
        else:
            self.holder[self.name] = value


def spot(document: dict[str, Any], path: str) -> Spot | None:
    """Find the first element at the path of a definition."""
    kind, *steps = path.split(".")
    holder, at = document, kind
    for number, step in enumerate(steps):
        stem = step.removesuffix("[x]")
        names = [n for n in holder if n == stem or (step != stem and re.match(stem + "[A-Z]", n))]
        if not names:
            return None
        if number == len(steps) - 1:
            return Spot(holder, names[0], f"{at}.{names[0]}")
        value = holder[names[0]]
        at = f"{at}.{names[0]}" + ("[0]" if isinstance(value, list) else "")
        holder = value[0] if isinstance(value, list) else value
        if not isinstance(holder, dict):
            return None
    return None


def mutants(document: dict[str, Any], elements: list[dict[str, Any]]) -> Iterator[Mutant]:
    for element in elements:
        for rule, broken in BREAKS.items():
            if ":" in element["id"] and rule != "slice":
                continue
            changed = copy.deepcopy(document)
            found = spot(changed, element["path"]) if "." in element["path"] else None
            where = broken(element, found) if found is not None else None
            if where is not None and changed != document:
                yield Mutant(rule, where, changed)


def dropped(element: dict[str, Any], at: Spot) -> str | None:
    if not element.get("min") or element["path"].count(".") > 2:
        return None
    values = at.holder.pop(at.name)
    at.holder.pop(f"_{at.name}", None)
    if not at.holder or at.holder.keys() <= {"id"} or (isinstance(values, list) and len(values) > 1):
        at.holder["extension"] = [{"url": "http://hl7.org/fhir/tools/none", "valueString": "kept"}]
    return at.path.removesuffix(at.name) + element["path"].rpartition(".")[2].removesuffix("[x]")


def exceeded(element: dict[str, Any], at: Spot) -> str | None:
    values = at.holder[at.name]
    if element.get("max") in {None, "*"}:
        return None
    if isinstance(values, list):
        at.holder[at.name] = values + [copy.deepcopy(values[0]) for _ in range(int(element["max"]))]
    else:
        at.holder[at.name] = [values, copy.deepcopy(values)]
    return at.path


def unbound(element: dict[str, Any], at: Spot) -> str | None:
    if element.get("binding", [""])[0] != "required":
        return None
    if isinstance(at.value, str):
        at.put("no-such-code")
        return at.place
    if isinstance(at.value, dict) and at.value.get("coding"):
        system = at.value["coding"][0].get("system", "")
        at.put({"coding": [{"system": f"{system}-other", "code": "no-such-code"}]})
        return at.place
    return None


def unfixed(element: dict[str, Any], at: Spot) -> str | None:
    if not any(name.startswith(("fixed", "pattern")) for name in element):
        return None
    value = at.value
    if isinstance(value, dict) and "coding" in value:
        at.put({"coding": [{"system": "http://example.org/other", "code": "other"}]})
    elif isinstance(value, str):
        at.put("http://example.org/other")
    else:
        return None
    return at.place


def unsliced(element: dict[str, Any], at: Spot) -> str | None:
    """Remove what a required slice of codings or categories looks for."""
    if "sliceName" not in element or not element.get("min") or element["path"].count(".") != 1:
        return None
    at.holder[at.name] = [{"coding": [{"system": "http://example.org/other", "code": "other"}]}]
    return at.path if isinstance(at.value, dict) and element["type"][0]["code"] == "CodeableConcept" else None


def misdirected(element: dict[str, Any], at: Spot) -> str | None:
    targets = [t for each in element.get("type", ()) for t in each.get("targetProfile", ())]
    if not targets or any(t.endswith("/Resource") for t in targets):
        return None
    if not isinstance(at.value, dict) or "reference" not in at.value:
        return None
    at.put({"reference": "VerificationResult/1"})
    return at.place


def mistyped(element: dict[str, Any], at: Spot) -> str | None:
    value = at.value
    wrong = {"yes": 1} if isinstance(value, str | int | float) else "text"
    if element["path"].rpartition(".")[2] in {"id", "resourceType"}:
        return None
    at.put(wrong)
    return at.place


BREAKS = {
    "required": dropped, "cardinality": exceeded, "binding": unbound, "fixed": unfixed, "slice": unsliced,
    "reference": misdirected, "type": mistyped,
}  # fmt: skip


@pytest.mark.timeout(1800)  # the full run makes every mutant
def test_mutants_of_us_core_are_refused_at_the_right_place(shared_data: Path, full: bool) -> None:
    package = shared_data / "fhir" / "us-core" / "us_core_700.tgz"
    definitions = DefinitionSet.from_packages([package])
    validator, made = Validator(definitions), list(_all_mutants(package, definitions))
    by_rule = {rule: [m for m in made if m.rule == rule] for rule in BREAKS}
    assert len(made) >= AT_LEAST
    assert all(len(found) >= 5 for found in by_rule.values()), {r: len(f) for r, f in by_rule.items()}
    generator = random.Random(11)
    share = -(-(len(made) if full else IN_DEFAULT_RUN) // len(BREAKS))
    chosen = [m for found in by_rule.values() for m in generator.sample(found, min(share, len(found)))]
    assert len(chosen) >= min(len(made), IN_DEFAULT_RUN - 5)
    counts = {rule: sum(m.rule == rule for m in chosen) for rule in BREAKS}
    print(f"mutants: {len(made)} made, {len(chosen)} run, by rule {counts}")  # noqa: T201  (what the test reports)
    assert not full or len(chosen) >= AT_LEAST
    for mutant in chosen:
        errors = [i for i in validator.validate(mutant.document) if i.severity == "error"]
        places = {issue.location for issue in errors}
        assert mutant.where in places, (mutant.rule, mutant.where, places)


def _all_mutants(package: Path, definitions: DefinitionSet) -> Iterator[Mutant]:
    with tarfile.open(package) as archive:
        for member in archive.getmembers():
            if "/example" not in member.name or not member.name.endswith(".json"):
                continue
            file = archive.extractfile(member)
            document = json.load(file) if file is not None else {}
            urls = [u for u in document.get("meta", {}).get("profile", ()) if u.startswith(CORE)]
            structure = definitions.structure(urls[0]) if urls else None
            if structure is not None and document["resourceType"] in tables().types:
                yield from mutants(document, structure["elements"])

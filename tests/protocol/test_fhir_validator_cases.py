"""All official JSON cases whose packages are at hand, and the quick plans against the full walk."""

from __future__ import annotations

import itertools
import json
import random
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from digital_twins.fhir import resource_from_xml, structural_issues
from digital_twins.fhir.fhirpath import FhirPathError, compile_expression
from digital_twins.fhir.fhirpath._values import Node
from digital_twins.fhir.validation import DefinitionSet, Validator, package_resources
from digital_twins.fhir.validation._doubt import Pass
from digital_twins.fhir.validation._presence import BY_HAND, certain_test, presence_test, silent_without
from digital_twins.fhir.validation._quick import Quick
from digital_twins.fhir.validation._rules import corrected

if TYPE_CHECKING:
    from pathlib import Path

NEEDS_CODES = {  # errors that only a code system outside of R4's definitions can tell
    "vs-bad-code": "SNOMED CT", "vs-bad-props": "SNOMED CT", "obs-temp-code2": "SNOMED CT",
    "q-ca-implicit": "SNOMED CT", "cvx": "CVX", "shc-cvx": "CVX", "sdoh-type-slice": "LOINC",
    "cm": "a value set of ch-ig",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(shared_data: Path) -> dict[str, bytes]:
    with tarfile.open(shared_data / "fhir" / "validator-r4-cases.tar.xz") as archive:
        return {
            member.name.removeprefix("validator-r4/"): file.read()
            for member in archive.getmembers()
            if member.isfile() and (file := archive.extractfile(member)) is not None
        }


def loaded(files: dict[str, bytes], name: str) -> Any:
    return resource_from_xml(files[name]) if name.endswith(".xml") else json.loads(files[name])


def lent(files: dict[str, bytes], names: list[str]) -> list[Any]:
    found = []
    for name in names:
        try:
            document = loaded(files, name)
        except (KeyError, ValueError):
            continue  # a supporting file of another kind, e.g. a certificate
        found.append(document)
        found += [e["resource"] for e in document.get("entry", ()) if "resource" in e]
    return found


def packaged(
    files: dict[str, bytes], names: list[str], us_core: Path, folder: Path
) -> list[dict[str, Any]] | None:
    """The resources of packages and of those that they depend on; None where one is not at hand."""
    found: list[dict[str, Any]] = []
    for name in names:
        if name == "hl7.fhir.us.core#8.0.0":
            path = us_core
        elif name in files:
            path = folder / "package.tgz"
            path.write_bytes(files[name])
        else:
            return None
        with tarfile.open(path) as archive:
            manifest = archive.extractfile("package/package.json")
            needs = json.load(manifest).get("dependencies", {}) if manifest is not None else {}
        resources = package_resources(path)
        beside = name.rpartition("/")[0]
        own = [f"{beside}/{need}#{version}.tgz" for need, version in needs.items()]
        found += packaged(files, [each for each in own if each in files], us_core, folder) or []
        found += resources
    return found


def outcome(
    files: dict[str, bytes], case: dict[str, Any], step: str, lent_by_packages: list[dict[str, Any]]
) -> bool | None:
    """Whether the validator finds an error; None where the profile cannot be built."""
    names = [*case.get("supporting", ()), *case.get("profiles", ())]
    profiles = []
    if step == "profile":
        names += [*case["profile"].get("supporting", ()), case["profile"]["source"]]
        source = case["profile"]["source"]
        profiles = [loaded(files, source)["url"] if source in files else source]
    try:
        document = loaded(files, case["file"])
    except ValueError:
        return True  # no JSON
    definitions = DefinitionSet([*lent_by_packages, *lent(files, names)])
    if any(definitions.structure(url) is None for url in profiles):
        return None
    validator = Validator(
        definitions, unknown_extensions="error", wrong_displays="error", newer_codes="error"
    )
    return any(issue.severity == "error" for issue in validator.validate(document, profiles=profiles))


def test_all_official_json_cases_at_hand(files: dict[str, bytes], shared_data: Path, tmp_path: Path) -> None:
    us_core = shared_data / "fhir" / "us-core" / "us_core_800.tgz"
    cases = [case for case in loaded(files, "manifest.json")["test-cases"] if case["file"].endswith(".json")]
    out = {"not in use upstream": 0, "packages": 0, "JSON5": 0, "code systems": 0, "profile not buildable": 0}
    counts = dict.fromkeys(itertools.product(("base", "profile"), (True, False), (True, False)), 0)
    for case in cases:
        for step in {"base", "profile"} & case["expected"].keys():
            expected = case["expected"][step]["errors"] > 0
            if case.get("use-test") is False:
                out["not in use upstream"] += 1
            elif (package := packaged(files, case.get("packages", []), us_core, tmp_path)) is None:
                out["packages"] += 1
            elif case.get("allow-comments"):
                out["JSON5"] += 1
            elif case["name"] in NEEDS_CODES:
                out["code systems"] += 1
            elif (found := outcome(files, case, step, package)) is None:
                out["profile not buildable"] += 1
            else:
                counts[step, found, expected] += 1
    hits, false, missed, clear = (
        sum(counts[step, found, expected] for step in ("base", "profile"))
        for found, expected in ((True, True), (True, False), (False, True), (False, False))
    )
    run = hits + false + missed + clear
    print(  # noqa: T201  (the counts are what the test reports)
        f"run {run}, agree {hits + clear}, sensitivity {hits}/{hits + missed}, "
        f"specificity {clear}/{clear + false}, not run {out}"
    )
    assert run >= 309
    assert hits + clear >= 0.85 * run
    assert hits >= 0.85 * (hits + missed)
    assert clear >= 0.85 * (clear + false)


def test_quick_plans_say_what_the_full_walk_says(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    validator = Validator()
    names = [n for n in sorted(files) if n.endswith(".json") and not n.startswith("outcomes")]
    documents = []
    for name in names if full else names[::6]:
        try:
            document = json.loads(files[name])
        except ValueError:
            continue
        if isinstance(document, dict) and "resourceType" in document:
            documents.append(document)
    quick = [_said(validator, document) for document in documents]
    accepted = [document for document in documents if validator.accepts(document)]
    assert len(accepted) > 20
    assert all(structural_issues(document) == [] for document in accepted)
    monkeypatch.setattr(Quick, "issues", lambda *_: None)
    monkeypatch.setattr(Quick, "alone", lambda *_: None)
    assert quick == [_said(validator, document) for document in documents]
    assert len(documents) > 50


def _said(validator: Validator, document: dict[str, Any]) -> list[tuple[str, str, str]]:
    return sorted({(i.severity, i.location or "", i.text) for i in validator.validate(document)})


TERMS = "http://terminology.hl7.org/CodeSystem"
HAND_MADE = {
    "Reference": ["reference", ["#a", "#b", "Patient/1"]],
    "Period": ["start", ["2020", "2021-01-01", "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"], "end",
               ["2019", "2021-01-01", "2019-01-01T00:00:00Z", "2021-01-01T00:00:00Z"]],
    "Observation": ["valueString", ["x"], "component", [[{"code": {"coding": [{"code": "c"}]}}]],
                    "contained", [[{"resourceType": "Patient", "id": "a"}],
                                  [{"resourceType": "Patient", "id": "a", "meta": {"versionId": "1"}}],
                                  [{"resourceType": "Patient", "id": "b", "meta": {"security": [{}]}}]],
                    "subject", [{"reference": "#a"}], "text", [{"div": "x"}, {}]],
    "Condition": ["abatementString", ["x"],
                  "clinicalStatus", [
                      {"coding": [{"system": f"{TERMS}/condition-clinical", "code": code}]}
                      for code in ("active", "resolved")],
                  "verificationStatus", [
                      {"coding": [{"system": f"{TERMS}/condition-ver-status", "code": code}]}
                      for code in ("entered-in-error", "confirmed")]],
}  # fmt: skip


@pytest.mark.parametrize("kind", HAND_MADE)
def test_invariants_by_hand_never_pass_what_fhirpath_refuses(kind: str) -> None:
    names, values = HAND_MADE[kind][::2], HAND_MADE[kind][1::2]
    root = {"resourceType": "Observation", "contained": [{"resourceType": "Patient", "id": "a"}],
            "code": {"coding": [{"code": "c"}]}}  # fmt: skip
    decided = 0
    for choice in itertools.product(*([None, *options] for options in values)):
        value = {name: one for name, one in zip(names, choice, strict=True) if one is not None}
        around = {"resourceType": kind, **value} if kind in {"Observation", "Condition"} else root
        run = Pass(around, around, None, Validator().environment, None)  # type: ignore[arg-type]
        for text, test in BY_HAND.items():
            if text == "htmlChecks()" or not _about(text, kind):
                continue
            holds = compile_expression(text).holds(
                Node(value, kind), root=Node(around, around["resourceType"])
            )
            decided += 1
            assert holds or not test(value, run), (text, value)
    assert decided > 3


def _about(text: str, kind: str) -> bool:
    words = {"Reference": "%rootResource", "Period": "start.hasValue", "Condition": "clinicalStatus"}
    word = words.get(kind)
    return word in text if word else not any(other in text for other in words.values())


def test_derived_forms_agree_with_fhirpath_on_every_base_invariant() -> None:
    definitions, generator = DefinitionSet(), random.Random(5)
    exact = guarded = 0
    for kind in (
        "Patient",
        "Observation",
        "Timing",
        "ContactPoint",
        "Attachment",
        "Quantity",
        "Ratio",
        "Range",
    ):
        structure = definitions.type_structure(kind)
        assert structure is not None
        for element in structure["elements"]:
            path = element["path"] if "." in element["path"] else kind
            for _, _, published in element.get("constraint", ()):
                text = corrected(published)
                expression = compile_expression(text)
                test, names = presence_test(text, path), silent_without(expression, path)
                certain = certain_test(text, path)
                exact, guarded = exact + (test is not None), guarded + (names is not None)
                for value in _random_objects(path, generator):
                    try:
                        holds = expression.holds(Node(value, path), root=Node(value, path))
                    except FhirPathError:
                        continue  # compared values of two kinds, which no valid object has
                    assert test is None or test(value) is holds, (text, value)
                    run: Any = None
                    assert certain is None or holds or not certain(value, run), (text, value)
                    assert names is None or not names.isdisjoint(value) or holds, (text, value)
    assert exact > 10
    assert guarded > 10


def _random_objects(path: str, generator: random.Random) -> list[dict[str, Any]]:
    rows = [(name, kind) for options in Node({}, path).names().values() for name, kind in options]
    made = []
    for _ in range(40):
        chosen = generator.sample(rows, min(len(rows), generator.randrange(1, 8))) if rows else []
        made.append({name: _any_value(kind, generator) for name, kind in chosen})
    return made


def _any_value(kind: str, generator: random.Random) -> Any:
    if kind in {"decimal", "integer", "positiveInt", "unsignedInt"}:
        return generator.choice([-1, 0, 1, 2])
    if kind == "boolean":
        return generator.choice([True, False])
    return generator.choice(["a", "#b", "2020"]) if kind[0].islower() else {"id": "x"}

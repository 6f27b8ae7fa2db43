"""Every search of Inferno's US Core 7 metadata over the package's examples, checked by another reading."""

from __future__ import annotations

import json
import tarfile
from itertools import product
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins.fhir import PackageParameters
from digital_twins.fhir.validation import add_package
from fhir_support import open_store, serve
from us_core_metadata import groups, has_extension, has_must_support, matches, search_values, values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from us_core_metadata import Resource

PROFILE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
INVENTED: list[Resource] = [
    {
        "resourceType": "PractitionerRole",
        "id": "invented-role",
        "meta": {"profile": [f"{PROFILE}practitionerrole"]},
        "practitioner": {"reference": "Practitioner/practitioner-1"},
        "specialty": [{"coding": [{"system": "http://nucc.org/provider-taxonomy", "code": "207R00000X"}]}],
    },
    {
        "resourceType": "Encounter",
        "id": "invented-encounter",
        "meta": {"profile": [f"{PROFILE}encounter"]},
        "identifier": [{"system": "urn:example:visit", "value": "V-1"}],
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "type": [{"coding": [{"system": "http://snomed.info/sct", "code": "185349003"}]}],
        "subject": {"reference": "Patient/example"},
        "period": {"start": "2020-03-01T10:00:00Z", "end": "2020-03-01T11:00:00Z"},
    },
]
"""For the searches that no example of the package serves."""
COMPARATORS = ("", "gt", "ge", "lt", "le")


@pytest.fixture(scope="module")
def examples(shared_data: Path) -> list[Resource]:
    with tarfile.open(shared_data / "fhir" / "us-core" / "us_core_700.tgz") as package:
        names = [m for m in package.getmembers() if "/example" in m.name and m.name.endswith(".json")]
        found = [json.load(stream) for m in names if (stream := package.extractfile(m))]
    return [*(r for r in found if "resourceType" in r and "id" in r), *INVENTED]


@pytest.fixture(scope="module")
def client(
    examples: list[Resource], tmp_path_factory: pytest.TempPathFactory, shared_data: Path
) -> Iterator[httpx.Client]:
    """A server that held the examples before the package with its search parameters came."""
    folder = tmp_path_factory.mktemp("us-core")
    with open_store(folder) as store, serve(store) as base:
        entries = [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
            for r in examples
        ]
        store.transaction({"resourceType": "Bundle", "type": "transaction", "entry": entries})
        add_package(shared_data / "fhir" / "us-core" / "us_core_700.tgz", folder / "packages")
        PackageParameters(folder / "packages", store.database).reindex()
        with httpx.Client(base_url=base.removesuffix("/fhir"), timeout=60) as made:
            yield made


@pytest.fixture(scope="module")
def metadata(shared_data: Path) -> list[dict[str, Any]]:
    return groups(shared_data / "fhir" / "inferno-us-core-v7.tar.xz")


def conforming(group: dict[str, Any], examples: list[Resource]) -> list[Resource]:
    """The examples that claim the profile."""
    urls = {group[":profile_url"], f"{group[':profile_url']}|{group[':profile_version']}"}
    return [
        r
        for r in examples
        if r["resourceType"] == group[":resource"] and urls & set(r.get("meta", {}).get("profile", ()))
    ]


def found(resource: Resource, definition: dict[str, Any]) -> list[Any]:
    return [v for path in definition[":paths"] for v in values(resource, path)]


def meets(resource: Resource, definition: dict[str, Any], text: str) -> bool:
    kind = definition[":type"]
    return any(
        matches(kind, value, part) for value in found(resource, definition) for part in text.split(",")
    )


def asked(resource: Resource, definition: dict[str, Any]) -> list[str]:
    """The values to search for, from one resource: each date also with the comparators."""
    texts: list[str] = []
    for value in found(resource, definition):
        kind = definition[":type"]
        for text in search_values(kind, value):
            dated = kind in {"date", "dateTime", "instant", "Period"}
            texts.extend(f"{prefix}{text}" for prefix in (COMPARATORS if dated else ("",)))
    return list(dict.fromkeys(texts))


def everything(client: httpx.Client, url: str, params: list[tuple[str, str]]) -> list[Resource]:
    page = client.get(url, params=params, headers={"prefer": "handling=strict"})
    assert page.status_code == 200, (url, params, page.text)
    return [e["resource"] for e in page.json().get("entry", ())]


def searches(group: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for search in group[":searches"]:
        yield search[":expectation"], search[":names"]


def test_every_search_finds_what_the_metadata_says(
    client: httpx.Client, examples: list[Resource], metadata: list[dict[str, Any]], full: bool
) -> None:
    done: dict[str, int] = {"SHALL": 0, "SHOULD": 0}
    without: set[tuple[str, ...]] = set()
    for group in metadata:
        kind, definitions = group[":resource"], group[":search_definitions"]
        of_type = [r for r in examples if r["resourceType"] == kind]
        for expectation, names in searches(group):
            ran = False
            known = [n for n in names if n != "_lastUpdated"]
            told = [[asked(r, definitions[f":{n}"]) for n in known] for r in conforming(group, examples)]
            for choices in [c for c in told if all(c)][: None if full else 2]:
                for texts in list(product(*choices))[: None if full else 6]:
                    params = list(zip(known, texts, strict=True))
                    if "_lastUpdated" in names:
                        params.append(("_lastUpdated", "ge2020-01-01"))
                    got = everything(client, f"/fhir/{kind}", [*params, ("_count", "1000")])
                    wanted = {
                        r["id"]
                        for r in of_type
                        if all(meets(r, definitions[f":{n}"], t) for n, t in zip(known, texts, strict=True))
                    }
                    assert {r["id"] for r in got} == wanted, (kind, params)
                    ran = True
            done[expectation] += ran
            if not ran:
                without.add((kind, expectation, *names))
    assert {kind for kind, *_ in without} == {"CarePlan", "Condition"}  # no example has what they ask for
    assert done == {"SHALL": 131, "SHOULD": 145}


def test_read_vread_history_and_must_support(
    client: httpx.Client, examples: list[Resource], metadata: list[dict[str, Any]]
) -> None:
    elements = extensions = 0
    for group in metadata:
        own = conforming(group, examples)
        got = []
        for resource in own:
            place = f"/fhir/{resource['resourceType']}/{resource['id']}"
            read = client.get(place).json()
            assert client.get(f"{place}/_history/{read['meta']['versionId']}").json() == read
            assert client.get(f"{place}/_history").json()["entry"][0]["resource"] == read
            assert {**read, "meta": {}} == {**resource, "meta": {}}
            got.append(read)
        for element in group[":must_supports"][":elements"]:
            here = any(has_must_support(r, element) for r in got)
            assert here == any(has_must_support(r, element) for r in own)
            elements += here
        for extension in group[":must_supports"][":extensions"]:
            here = any(has_extension(r, extension) for r in got)
            assert here == any(has_extension(r, extension) for r in own)
            extensions += here
    assert (elements, extensions) == (438, 7)


def references(node: Any) -> set[str]:
    """Every relative reference in a resource."""
    return {v for path in ("reference",) for v in _walk(node, path) if isinstance(v, str)}


def _walk(node: Any, name: str) -> Iterator[Any]:
    for value in node if isinstance(node, list) else node.values() if isinstance(node, dict) else ():
        yield from _walk(value, name)
    if isinstance(node, dict) and name in node:
        yield node[name]


def test_includes_of_the_metadata(
    client: httpx.Client, examples: list[Resource], metadata: list[dict[str, Any]]
) -> None:
    brought = 0
    for group in metadata:
        kind = group[":resource"]
        of_type = [r for r in examples if r["resourceType"] == kind]
        named = set().union(*(references(r) for r in of_type))
        known = {f"{r['resourceType']}/{r['id']}": r for r in examples}
        for name in group.get(":include_params", ()):
            page = everything(client, f"/fhir/{kind}", [("_include", name), ("_count", "1000")])
            got = {f"{r['resourceType']}/{r['id']}" for r in page} - {f"{kind}/{r['id']}" for r in of_type}
            assert got <= named & known.keys()
            brought += len(got)
        for name in group.get(":revincludes", ()):
            page = everything(client, f"/fhir/{kind}", [("_revinclude", name), ("_count", "1000")])
            own = {f"{kind}/{r['id']}" for r in of_type}
            source = name.partition(":")[0]
            wanted = {
                r["id"] for r in examples if r["resourceType"] == source and references(r.get("target")) & own
            }
            assert {r["id"] for r in page if r["resourceType"] == source} >= wanted
            brought += len(wanted)
    assert brought >= 7

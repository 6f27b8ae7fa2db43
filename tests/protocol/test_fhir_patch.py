"""JSON Patch and FHIRPath Patch: the official cases, and PATCH over HTTP."""

from __future__ import annotations

import json
import re
import tarfile
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins.fhir import FhirError, fhirpath_patch, json_patch, merge_patch, resource_from_xml
from fhir_support import open_store, patient, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON = {"content-type": "application/fhir+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}


def member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as files:
        stream = files.extractfile(name)
        assert stream is not None
        return stream.read()


def even(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource with its narrative's white space evened out: the cases write it in two ways."""
    if "text" not in resource:
        return resource
    return {
        **resource,
        "text": {**resource["text"], "div": "".join(unescape(resource["text"]["div"]).split())},
    }


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> Path:
    return shared_data / "fhir" / "fhir-test-cases-r4.tar.xz"


def test_official_json_patch_cases(cases: Path) -> None:
    found = json.loads(member(cases, "r4/patch/json-patch-tests.json"))
    for case in found:
        if "error" in case:
            with pytest.raises(FhirError):
                json_patch(case["doc"], case["patch"])
        else:
            assert json_patch(case["doc"], case["patch"]) == case["expected"], case["comment"]
    assert len(found) == 16


def test_official_fhirpath_patch_cases(cases: Path) -> None:
    text = member(cases, "r4/patch/fhir-patch-tests.xml").decode().replace("\r\n", "\n")
    found = re.findall(r'<case name="([^"]+)".*?>(.*?)</case>', text, re.DOTALL)

    def part(case: str, name: str) -> dict[str, Any] | None:
        inner = re.search(rf"<{name}>(.*)</{name}>", case, re.DOTALL)
        return resource_from_xml(inner[1].strip().encode()) if inner else None

    for name, case in found:
        before, patch, after = part(case, "input"), part(case, "diff"), part(case, "output")
        assert before is not None
        if after is None:
            with pytest.raises(FhirError):
                fhirpath_patch(before, patch)
        else:
            assert even(fhirpath_patch(before, patch)) == even(after), name
    assert len(found) == 33


def test_a_patch_leaves_its_input_alone_and_does_all_or_nothing() -> None:
    before = {"a": [1, 2], "b": {"c": 1}}
    with pytest.raises(FhirError):
        json_patch(before, [{"op": "remove", "path": "/a/0"}, {"op": "test", "path": "/b/c", "value": True}])
    assert before == {"a": [1, 2], "b": {"c": 1}}


def test_choices_change_their_type() -> None:
    resource = {"resourceType": "Observation", "valueString": "x"}
    part = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Observation.value"},
        {"name": "value", "valueInteger": 5},
    ]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
    assert fhirpath_patch(resource, patch) == {"resourceType": "Observation", "valueInteger": 5}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        open_store(tmp_path_factory.mktemp("patch")) as store,
        serve(store) as base,
        httpx.Client(base_url=base, timeout=30) as client,
    ):
        yield client


def test_patch_over_http(http: httpx.Client) -> None:
    http.put("/Patient/p", json=patient(id="p"), headers=JSON)
    change = [{"op": "replace", "path": "/gender", "value": "male"}]
    done = http.patch("/Patient/p", json=change, headers={**JSON_PATCH, "if-match": 'W/"1"'})
    assert (done.status_code, done.json()["gender"], done.headers["etag"]) == (200, "male", 'W/"2"')
    assert http.get("/Patient?gender=male").json()["entry"][0]["resource"]["id"] == "p"
    late = http.patch("/Patient/p", json=change, headers={**JSON_PATCH, "if-match": 'W/"1"'})
    assert late.status_code == 412
    part = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.birthDate"}]
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
    done = http.patch("/Patient?identifier=12345678", json=parameters, headers=JSON)
    assert (done.status_code, "birthDate" in done.json()) == (200, False)
    merge = {"content-type": "application/merge-patch+json"}
    done = http.patch("/Patient/p", json={"gender": None, "active": True}, headers=merge)
    assert ("gender" in done.json(), done.json()["active"]) == (False, True)
    assert http.patch("/Patient?identifier=nobody", json=change, headers=JSON_PATCH).status_code == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ([{"op": "replace", "path": "/id", "value": "q"}], 422),
        ([{"op": "replace", "path": "/resourceType", "value": "Group"}], 422),
        ([{"op": "replace", "path": "", "value": 5}], 422),
        ([{"op": "add", "path": "/colour", "value": "red"}], 422),
        ([{"op": "test", "path": "/gender", "value": "unheard"}], 422),
        ([{"op": "remove", "path": "/name/9"}], 422),
        ([{"op": "remove", "path": "name"}], 400),
        ([{"op": "fly", "path": "/name"}], 400),
        ({"op": "remove", "path": "/name"}, 400),
        (5, 400),
        ([{"op": "remove"}] * 2000, 400),
    ],
)
def test_bad_patches_change_nothing(http: httpx.Client, change: Any, status: int) -> None:
    http.put("/Patient/x", json=patient(id="x"), headers=JSON)
    before = http.get("/Patient/x").headers["etag"]
    answer = http.patch("/Patient/x", json=change, headers=JSON_PATCH)
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")
    assert http.get("/Patient/x").headers["etag"] == before


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_cases_of_rfc_7396_appendix_a(document: Any, patch: Any, expected: Any) -> None:
    assert merge_patch(document, patch) == expected

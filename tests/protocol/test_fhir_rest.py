"""The REST interface in a real server: status codes, headers, OperationOutcomes, bad input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins.fhir import FhirStore, structural_issues
from fhir_support import observation, open_store, patient, post, serve, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = {"content-type": "application/fhir+json"}


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, database_backend: str
) -> Iterator[tuple[FhirStore, str]]:
    with open_store(tmp_path_factory.mktemp("fhir")) as store, serve(store) as base:
        yield store, base


@pytest.fixture(scope="module")
def http(served: tuple[FhirStore, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served[1], timeout=30) as client:
        yield client


def outcome_code(answer: httpx.Response) -> str:
    body = answer.json()
    assert body["resourceType"] == "OperationOutcome"
    assert structural_issues(body) == []
    assert answer.headers["content-type"].startswith("application/fhir+json")
    return str(body["issue"][0]["code"])


def test_life_of_a_resource(http: httpx.Client) -> None:
    made = http.post("/Patient", json=patient(), headers=JSON)
    assert made.status_code == 201
    assert made.headers["etag"] == 'W/"1"'
    assert made.headers["location"].endswith(f"/fhir/Patient/{made.json()['id']}/_history/1")
    place = f"/Patient/{made.json()['id']}"
    got = http.get(place)
    assert got.json() == made.json()
    assert got.headers["last-modified"].endswith("GMT")
    assert http.get(place, headers={"if-none-match": 'W/"1"'}).status_code == 304
    changed = http.put(place, json={**got.json(), "active": True}, headers={**JSON, "if-match": 'W/"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, 'W/"2"')
    late = http.put(place, json=got.json(), headers={**JSON, "if-match": 'W/"1"'})
    assert (late.status_code, outcome_code(late)) == (412, "conflict")
    assert http.get(f"{place}/_history/1").json() == got.json()
    history = http.get(f"{place}/_history").json()
    assert [e["response"]["etag"] for e in history["entry"]] == ['W/"2"', 'W/"1"']
    assert structural_issues(history) == []
    assert http.delete(place).status_code == 204
    assert http.delete(place).status_code == 204
    dead = http.get(place)
    assert (dead.status_code, outcome_code(dead)) == (410, "deleted")


def test_preferences(http: httpx.Client) -> None:
    minimal = http.post("/Patient", json=patient(), headers={**JSON, "prefer": "return=minimal"})
    assert (minimal.status_code, minimal.content) == (201, b"")
    told = http.post("/Patient", json=patient(), headers={**JSON, "prefer": "return=OperationOutcome"})
    assert told.json()["resourceType"] == "OperationOutcome"
    strict = http.get("/Patient?nothing=1", headers={"prefer": "handling=strict"})
    assert (strict.status_code, outcome_code(strict)) == (400, "not-supported")
    lenient = http.get("/Patient?nothing=1&_count=1").json()
    assert lenient["entry"][-1]["search"]["mode"] == "outcome"
    once = {**JSON, "if-none-exist": "identifier=only-one"}
    body = patient(identifier=[{"value": "only-one"}])
    assert [http.post("/Patient", json=body, headers=once).status_code for _ in range(2)] == [201, 200]


BAD: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "/Patient", {"content": b"{", "headers": JSON}, 400),
    ("POST", "/Patient", {"content": b"[]", "headers": JSON}, 400),
    ("POST", "/Patient", {"content": b"\xff\xfe", "headers": JSON}, 400),
    ("POST", "/Patient", {"content": b"null", "headers": JSON}, 400),
    ("POST", "/Patient", {"content": b'{"a":' * 500 + b"1" + b"}" * 500, "headers": JSON}, 400),
    ("POST", "/Patient", {"content": b" " * (33 * 2**20), "headers": JSON}, 413),
    ("POST", "/Patient", {"json": {"resourceType": "Observation"}, "headers": JSON}, 400),
    ("POST", "/Patient", {"json": {"resourceType": "Patient", "colour": 1}, "headers": JSON}, 422),
    (
        "POST",
        "/Patient",
        {"content": b"<Patient/>", "headers": {"content-type": "application/fhir+xml"}},
        415,
    ),
    ("GET", "/Patient/none", {}, 404),
    ("GET", "/Patient/none/_history", {}, 404),
    ("GET", "/Patient/a%20b", {}, 404),
    ("GET", "/Nonsense", {}, 404),
    ("GET", "/Nonsense/1", {}, 404),
    ("GET", "/Patient/1/2/3/4", {}, 404),
    ("GET", "/Patient?birthdate=soon", {}, 400),
    ("GET", "/Patient?_cursor=%27", {}, 400),
    ("GET", "/Patient?_format=xml", {}, 406),
    ("GET", "/Patient", {"headers": {"accept": "application/fhir+xml"}}, 406),
    ("PATCH", "/Patient/1/_history", {"json": [], "headers": JSON}, 405),
    ("PATCH", "/Patient/1", {"json": 5, "headers": {"content-type": "text/plain"}}, 415),
    ("PATCH", "/Patient/1", {"json": [], "headers": JSON}, 404),
    ("PUT", "/Patient", {"json": {}, "headers": JSON}, 400),
    ("DELETE", "/Patient", {}, 400),
    ("DELETE", "/Patient?nothing=1", {}, 400),
    ("PUT", "/Patient/other", {"json": patient(id="x"), "headers": JSON}, 400),
    ("PUT", "/Patient/x", {"json": patient(id="x"), "headers": {**JSON, "if-match": "soon"}}, 400),
    ("POST", "", {"json": patient(), "headers": JSON}, 400),
    ("POST", "/", {"json": {"resourceType": "Bundle", "type": "collection"}, "headers": JSON}, 400),
    (
        "POST",
        "",
        {"json": transaction({"request": {"method": "TRACE", "url": "Patient/1"}}), "headers": JSON},
        400,
    ),
    ("POST", "", {"json": transaction({"resource": patient()}), "headers": JSON}, 400),
    (
        "POST",
        "/Patient/_search",
        {"content": b"\xff", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        400,
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "options", "status"), BAD, ids=[f"{m}{p}-{n}" for n, (m, p, _, _) in enumerate(BAD)]
)
def test_bad_input_gets_an_outcome(
    http: httpx.Client,
    served: tuple[FhirStore, str],
    method: str,
    path: str,
    options: dict[str, Any],
    status: int,
) -> None:
    answer = http.request(method, served[1] + path, **options)
    assert answer.status_code == status
    outcome_code(answer)
    assert http.get("/metadata").status_code == 200


def test_search_pages_by_get_and_post(http: httpx.Client) -> None:
    body = transaction(*(post(observation("Patient/many", "29463-7", n)) for n in range(7)))
    for place in ("", "/"):
        assert http.post(place, json=body, headers=JSON).status_code == 200
    seen: list[str] = []
    url: str | None = f"{http.base_url}Observation?patient=many&_count=3"
    while url:
        page = http.get(url).json()
        assert "total" not in page
        assert structural_issues(page) == []
        seen += [e["resource"]["id"] for e in page["entry"]]
        url = next((x["url"] for x in page["link"] if x["relation"] == "next"), None)
    assert len(seen) == len(set(seen)) == 14
    form = http.post("/Observation/_search", data={"patient": "many", "_total": "accurate"}).json()
    assert form["total"] == 14
    small = http.get("/Observation?patient=many&_elements=status&_count=1").json()["entry"][0]["resource"]
    assert set(small) == {"resourceType", "id", "meta", "status", "code"}
    assert http.get("/Observation?patient=many&_summary=count").json()["total"] == 14


def test_capability_statement_says_what_runs(http: httpx.Client) -> None:
    statement = http.get("/metadata").json()
    assert structural_issues(statement) == []
    assert statement["fhirVersion"] == "4.0.1"
    rest = statement["rest"][0]
    assert len(rest["resource"]) == 147
    person = next(r for r in rest["resource"] if r["type"] == "Patient")
    for parameter in person["searchParam"]:
        value = {"date": "2020", "reference": "Practitioner/1"}.get(parameter["type"], "1")
        answer = http.get(
            "/Patient", params={parameter["name"]: value}, headers={"prefer": "handling=strict"}
        )
        assert answer.status_code == 200, parameter


def test_concurrent_writers_of_one_resource_get_distinct_versions(http: httpx.Client) -> None:
    place = "/Patient/shared"
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: http.put(place, json=patient(id="shared"), headers=JSON), range(40))
        )
    assert sorted(int(a.headers["etag"][3:-1]) for a in answers) == list(range(1, 41))
    assert len(http.get(f"{place}/_history").json()["entry"]) == 40

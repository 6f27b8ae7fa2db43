"""The REST interface in a real server: status codes, headers, OperationOutcomes, bad input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins.fhir import FhirStore, resource_from_xml, resource_to_xml, structural_issues
from fhir_support import observation, open_store, patient, post, serve, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = {"content-type": "application/fhir+json"}
FILTER = "_id pr true"


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
        400,
    ),
    (
        "POST",
        "/Patient",
        {
            "content": b'<!DOCTYPE a [<!ENTITY b "c">]><Patient xmlns="http://hl7.org/fhir"/>',
            "headers": {"content-type": "application/fhir+xml"},
        },
        400,
    ),
    ("POST", "/Patient", {"content": b"a", "headers": {"content-type": "text/turtle"}}, 415),
    ("GET", "/Patient/none", {}, 404),
    ("GET", "/Patient/none/_history", {}, 404),
    ("GET", "/Patient/a%20b", {}, 404),
    ("GET", "/Nonsense", {}, 404),
    ("GET", "/Nonsense/1", {}, 404),
    ("GET", "/Patient/1/2/3/4", {}, 404),
    ("GET", "/Patient?birthdate=soon", {}, 400),
    ("GET", "/Patient?_cursor=%27", {}, 400),
    ("GET", "/Patient?_format=ttl", {}, 406),
    ("GET", "/Patient", {"headers": {"accept": "text/turtle"}}, 406),
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
    values = {"date": "2020", "reference": "Practitioner/1", "special": "52.5|13.4"}
    for kind in ("Patient", "Location"):
        named = next(r for r in rest["resource"] if r["type"] == kind)
        for parameter in named["searchParam"]:
            value = FILTER if parameter["name"] == "_filter" else values.get(parameter["type"], "1")
            answer = http.get(
                f"/{kind}", params={parameter["name"]: value}, headers={"prefer": "handling=strict"}
            )
            assert answer.status_code == 200, parameter
    assert {"code": "search-system"} in rest["interaction"]
    for parameter in rest["searchParam"]:
        value = {"_filter": FILTER, "_type": "Patient"}.get(
            parameter["name"], values.get(parameter["type"], "1")
        )
        answer = http.get("", params={parameter["name"]: value}, headers={"prefer": "handling=strict"})
        assert answer.status_code == 200, parameter


FHIR_XML = "application/fhir+xml"


def test_xml_goes_in_and_out(http: httpx.Client) -> None:
    sent = patient(id="xml", extension=[{"url": "urn:x", "valueDecimal": 1.5}])
    body = resource_to_xml(sent)
    made = http.put("/Patient/xml", content=body, headers={"content-type": FHIR_XML, "accept": FHIR_XML})
    assert (made.status_code, made.headers["content-type"]) == (201, "application/fhir+xml; charset=utf-8")
    assert http.put("/Patient/xml", json=sent, headers=JSON).json()["extension"] == sent["extension"]
    for options in (
        {"params": {"_format": "xml"}},
        {"headers": {"accept": FHIR_XML}},
        {"headers": {"accept": "application/xml"}},
        {"headers": {"accept": "application/fhir+json;q=0.5, application/fhir+xml"}},
        {"params": {"_format": "application/fhir xml"}, "headers": {"accept": "application/fhir+json"}},
    ):
        answer = http.get("/Patient/xml", **options)
        assert answer.headers["etag"] == 'W/"2"'
        assert resource_from_xml(answer.content) == http.get("/Patient/xml").json()
    for accept in ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/*"):
        answer = http.get("/Patient/xml", headers={"accept": accept})
        assert answer.headers["content-type"].startswith("application/fhir+json")
    bundle = transaction(post(patient()), post(observation("Patient/xml", "1", 2)))
    done = http.post("", content=resource_to_xml(bundle), headers={"content-type": FHIR_XML})
    assert [e["response"]["status"][:3] for e in done.json()["entry"]] == ["201", "201"]
    asked = {"_id": "xml", "_format": "xml", "_count": "1"}
    for path in ("/Patient", "/Patient/xml/_history", "/metadata"):
        assert structural_issues(resource_from_xml(http.get(path, params=asked).content)) == []
    for path, status in (("/Patient/unknown", 404), ("/Patient?birthdate=x", 400), ("/Patient/1/2/3/4", 404)):
        refused = http.get(path, headers={"accept": FHIR_XML})
        assert refused.status_code == status
        assert resource_from_xml(refused.content)["resourceType"] == "OperationOutcome"
    bad = b'<Patient xmlns="http://hl7.org/fhir"><gender value="male"/><gender value="female"/></Patient>'
    assert http.post("/Patient", content=bad, headers={"content-type": FHIR_XML}).status_code == 422
    assert http.get("/metadata").json()["format"] == [
        *("application/fhir+json", "json", "application/fhir+xml", "xml")
    ]


def test_search_over_several_types_by_get_and_post(http: httpx.Client) -> None:
    for n in range(4):
        http.put(f"/Patient/across{n}", json=patient(id=f"across{n}"), headers=JSON)
        http.put(f"/Location/across{n}", json={"resourceType": "Location", "id": f"across{n}"}, headers=JSON)
    names = ",".join(f"across{n}" for n in range(4))
    for place in ("", "/"):
        seen: list[str] = []
        url: str | None = (
            f"{str(http.base_url).rstrip('/')}{place}?_type=Location,Patient&_id={names}&_count=3"
        )
        while url:
            page = http.get(url).json()
            assert structural_issues(page) == []
            seen += [e["fullUrl"].partition("/fhir/")[2] for e in page["entry"]]
            url = next((x["url"] for x in page["link"] if x["relation"] == "next"), None)
        assert sorted(seen) == sorted(f"{k}/across{n}" for k in ("Location", "Patient") for n in range(4))
    form = http.post("/_search", data={"_type": "Location", "_id": names, "_total": "accurate"}).json()
    assert form["total"] == 4
    mixed = http.get("", params={"_type": "Location,Patient", "_id": names, "gender": "male"}).json()
    assert [e["search"]["mode"] for e in mixed["entry"]] == ["match"] * 8 + ["outcome"]
    strict = http.get("", params={"_type": "Patient", "status": "x"}, headers={"prefer": "handling=strict"})
    assert (strict.status_code, outcome_code(strict)) == (400, "not-supported")
    cut = http.get("", params={"_type": "Patient", "_id": "across1", "_summary": "true"}).json()
    assert cut["entry"][0]["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_concurrent_writers_of_one_resource_get_distinct_versions(http: httpx.Client) -> None:
    place = "/Patient/shared"
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: http.put(place, json=patient(id="shared"), headers=JSON), range(40))
        )
    assert sorted(int(a.headers["etag"][3:-1]) for a in answers) == list(range(1, 41))
    assert len(http.get(f"{place}/_history").json()["entry"]) == 40

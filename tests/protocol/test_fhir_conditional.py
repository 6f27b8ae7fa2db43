"""Conditional interactions, histories with paging and times, and Patient/$everything, over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins.fhir import structural_issues
from fhir_support import observation, open_store, patient, post, serve, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCTOR = "urn:uuid:11111111-1111-4111-8111-111111111111"
JSON = {"content-type": "application/fhir+json"}


@pytest.fixture
def http(tmp_path: Any) -> Iterator[httpx.Client]:
    with open_store(tmp_path) as store, serve(store) as base, httpx.Client(base_url=base, timeout=30) as made:
        yield made


def numbered(value: str, **more: Any) -> dict[str, Any]:
    return patient(identifier=[{"system": "urn:n", "value": value}], **more)


def entries_of(http: httpx.Client, place: str) -> list[dict[str, Any]]:
    """The entries of every page."""
    url: str | None = f"{str(http.base_url).rstrip('/')}{place}"
    found: list[dict[str, Any]] = []
    while url:
        page = http.get(url).json()
        assert structural_issues(page) == []
        found += page.get("entry", [])
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return found


def test_conditional_read(http: httpx.Client) -> None:
    made = http.put("/Patient/p", json=patient(id="p"), headers=JSON)
    place, modified = "/Patient/p", made.headers["last-modified"]
    for headers, status in (
        ({"if-none-match": 'W/"1"'}, 304),
        ({"if-none-match": '"1"'}, 304),
        ({"if-none-match": 'W/"7", W/"1"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": 'W/"2"'}, 200),
        ({"if-modified-since": modified}, 304),
        ({"if-modified-since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 200),
        ({"if-modified-since": "soon"}, 200),
        ({"if-none-match": 'W/"2"', "if-modified-since": modified}, 200),
    ):
        assert http.get(place, headers=headers).status_code == status, headers


def test_conditional_update(http: httpx.Client) -> None:
    def put(value: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        return http.put(f"/Patient?identifier=urn:n|{value}", json=body, headers={**JSON, **headers})

    first = put("1", numbered("1"))
    assert first.status_code == 201
    second = put("1", numbered("1", active=True))
    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])
    assert put("2", numbered("2", id="two")).json()["id"] == "two"
    assert put("2", numbered("2", id="other")).status_code == 400
    assert put("3", numbered("3", id="two")).status_code == 409
    assert put("2", numbered("2"), **{"if-match": 'W/"9"'}).status_code == 412
    http.post("/Patient", json=numbered("2"), headers=JSON)
    assert put("2", numbered("2")).status_code == 412
    assert http.put("/Patient?nothing=1", json=numbered("2"), headers=JSON).status_code == 400


def test_conditional_delete_takes_one_or_with_consent_several(http: httpx.Client, tmp_path: Any) -> None:
    for value in ("1", "1", "2"):
        http.post("/Patient", json=numbered(value), headers=JSON)
    assert http.delete("/Patient?identifier=urn:n|9").status_code == 204
    assert http.delete("/Patient?identifier=urn:n|1").status_code == 412
    assert http.delete("/Patient?identifier=urn:n|2").status_code == 204
    assert http.get("/Patient?_summary=count").json()["total"] == 2
    with open_store(tmp_path / "several") as store, serve(store, conditional_delete="multiple") as base:
        for _ in range(3):
            store.create(numbered("1"))
        store.create(numbered("2"))
        assert httpx.delete(f"{base}/Patient?identifier=urn:n|1").status_code == 204
        assert store.count("Patient") == 1
        assert (
            httpx.get(f"{base}/metadata").json()["rest"][0]["resource"][0]["conditionalDelete"] == "multiple"
        )


def test_histories_in_pages(http: httpx.Client) -> None:
    for number in range(6):
        http.put("/Patient/p", json=patient(id="p", active=bool(number % 2)), headers=JSON)
        http.put(
            f"/Observation/o{number}", json=observation("Patient/p", "1", 1.0, id=f"o{number}"), headers=JSON
        )
    http.delete("/Observation/o0")
    for place, count in (("/_history", 13), ("/Patient/_history", 6), ("/Observation/_history", 7)):
        seen = [(e["fullUrl"], e["response"]["etag"]) for e in entries_of(http, f"{place}?_count=4")]
        assert len(seen) == len(set(seen)) == count
    moments = [e["response"]["lastModified"] for e in entries_of(http, "/_history")]
    assert moments == sorted(moments, reverse=True)
    newest = http.get("/Observation/_history").json()["entry"][0]
    assert (newest["request"]["method"], "resource" in newest) == ("DELETE", False)


def test_history_by_time(http: httpx.Client) -> None:
    http.put("/Patient/p", json=patient(id="p", active=True), headers=JSON)
    http.put("/Patient/q", json=patient(id="q"), headers=JSON)
    first = http.get("/Patient/q").json()["meta"]["lastUpdated"]
    deadline = time.monotonic() + 120
    while http.put("/Patient/p", json=patient(id="p"), headers=JSON).json()["meta"]["lastUpdated"] == first:
        assert time.monotonic() < deadline
    second = http.get("/Patient/p").json()["meta"]["lastUpdated"]
    since = http.get("/Patient/_history", params={"_since": second}).json()["entry"]
    assert all(e["resource"]["meta"]["lastUpdated"] >= second for e in since)
    at = http.get("/Patient/_history", params={"_at": first}).json()["entry"]
    assert {e["resource"]["id"] for e in at} == {"p", "q"}
    then = http.get("/Patient/p/_history", params={"_at": first}).json()["entry"]
    assert [e["resource"].get("active") for e in then] == [True]
    assert http.get("/Patient/_history?_since=soon").status_code == 400
    assert http.get("/Patient/_history?_count=x").status_code == 400
    assert http.get("/Patient/_history?_cursor=W10").status_code == 400
    strict = http.get("/Patient/_history?name=x", headers={"prefer": "handling=strict"})
    assert strict.status_code == 400


def test_everything_about_a_patient(http: httpx.Client) -> None:
    entries = [
        post(
            {"resourceType": "Practitioner", "name": [{"family": "Okafor"}]},
            "urn:uuid:" + "1" * 8 + "-1111-4111-8111-" + "1" * 12,
        ),
        *(
            post(
                observation(
                    "Patient/p",
                    "1",
                    float(day),
                    effectiveDateTime=f"2024-01-0{day}",
                    performer=[{"reference": DOCTOR}],
                )
            )
            for day in range(1, 8)
        ),
        post(observation("Patient/other", "1", 1.0)),
    ]
    http.post("/", json=transaction(*entries), headers=JSON)
    http.put("/Patient/p", json=patient(id="p"), headers=JSON)
    http.put(
        "/Patient/other",
        json=patient(id="other", link=[{"other": {"reference": "Patient/p"}, "type": "seealso"}]),
        headers=JSON,
    )
    whole = [e["resource"] for e in entries_of(http, "/Patient/p/$everything?_count=3")]
    assert whole[0]["id"] == "p"
    kinds = [r["resourceType"] for r in whole]
    assert (kinds.count("Patient"), kinds.count("Observation"), "Practitioner" in kinds) == (1, 7, True)
    some = http.get("/Patient/p/$everything?start=2024-01-03&end=2024-01-04&_type=Observation").json()
    assert sorted(e["resource"]["effectiveDateTime"] for e in some["entry"]) == ["2024-01-03", "2024-01-04"]
    by_post = http.post(
        "/Patient/p/$everything",
        json={"resourceType": "Parameters", "parameter": [{"name": "_type", "valueCode": "Patient"}]},
        headers=JSON,
    )
    assert len(by_post.json()["entry"]) == 1
    for bad in ("/Patient/none/$everything", "/Observation/1/$everything", "/Patient/p/$nothing"):
        assert http.get(bad).status_code == 404
    for bad in ("start=soon", "_type=Nonsense", "_count=x", "_cursor=x"):
        assert http.get(f"/Patient/p/$everything?{bad}").status_code == 400

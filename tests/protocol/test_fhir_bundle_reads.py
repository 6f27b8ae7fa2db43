"""GET entries of batches and transactions find what requests of their own find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from fhir_support import LOINC, observation, open_store, patient, post, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

FHIR = {"content-type": "application/fhir+json"}
PATHS = (
    "Patient/p1",
    "Patient/p1?_elements=gender",
    "Patient/p1?_summary=text",
    "Patient/p1/_history/1",
    "Patient/p1/_history/1?_summary=true",
    "Patient/p1/_history",
    "Patient/p1/_history?_count=1",
    "Observation/_history?_since=2020-01-01",
    "_history?_count=2",
    "Patient?_count=0",
    "Patient?family=mus&_summary=count",
    "Patient?_count=1&_sort=_lastUpdated&_total=accurate",
    "Patient?family=mus&_elements=birthDate",
    "Observation?_include=Observation:subject&code=1",
    "Observation?code:text=weight",
    "Observation?unknown=1",
    "Observation?subject={base}/Patient/p1",
    "?_type=Patient,Observation&_lastUpdated=gt2020-01-01",
    "Patient/p1/Observation",
    "Patient/p1/*",
    "Patient/p1/$everything",
    "Patient/p1/%24everything?_count=1",
    "{base}/Patient/p1",
)
REFUSED = (
    ("Patient/none", "404", "not-found"),
    ("Patient/gone", "410", "deleted"),
    ("Patient/gone/_history/2", "410", "deleted"),
    ("Patient/p1/_history/9", "404", "not-found"),
    ("Patient/none/_history", "404", "not-found"),
    ("Patient/p1?_summary=count", "400", "value"),
    ("Patient?birthdate=x", "400", "value"),
    ("Patient?_count=x", "400", "value"),
    ("Patient/p_1", "400", "invalid"),
    ("Patient/p1/Practitioner", "404", "not-supported"),
    ("metadata", "400", "not-supported"),
    ("$export", "400", "not-supported"),
    ("Patient/p1/_history/x", "400", "not-supported"),
    ("Foo/1", "400", "not-supported"),
    ("Patient/p1/_history/1/x", "400", "not-supported"),
    ("?", "400", "not-supported"),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with open_store(tmp_path_factory.mktemp("bundle")) as store:
        for name in ("p1", "p2", "gone"):
            store.update(patient(id=name, active=True))
        store.update(patient(id="p1", active=False))
        store.delete("Patient", "gone")
        weight = {"coding": [{"system": LOINC, "code": "1"}], "text": "Body weight"}
        store.create({**observation("Patient/p1", "1", 70.0), "code": weight})
        store.create(observation("Patient/p2", "2", 71.0))
        with serve(store) as url:
            yield url


def entries(base: str, kind: str, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    answer = send(base, kind, *({"request": request} for request in requests))
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entry"]
    return found


def send(base: str, kind: str, *given: dict[str, Any]) -> httpx.Response:
    bundle = {"resourceType": "Bundle", "type": kind, "entry": list(given)}
    return httpx.post(base, json=bundle, headers=FHIR)


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_an_entry_finds_what_a_request_of_its_own_finds(base: str, kind: str) -> None:
    paths = [path.replace("{base}", base) for path in PATHS]
    found = entries(base, kind, *({"method": "GET", "url": path} for path in paths))
    assert len(found) == len(paths)
    for path, entry in zip(paths, found, strict=True):
        own = httpx.get(path if path.startswith("http") else f"{base}/{path}".replace("/?", "?"))
        assert own.status_code == 200, path
        assert entry["response"]["status"] == "200 OK", path
        assert entry["resource"] == own.json(), path
        assert entry["response"].get("etag") == own.headers.get("etag"), path


def test_a_read_is_cut_as_it_asks(base: str) -> None:
    cut = httpx.get(f"{base}/Patient/p1?_elements=gender,name").json()
    assert set(cut) == {"resourceType", "id", "meta", "gender", "name"}
    assert [tag["code"] for tag in cut["meta"]["tag"]] == ["SUBSETTED"]
    assert "birthDate" in httpx.get(f"{base}/Patient/p1?_summary=data").json()
    assert "birthDate" not in httpx.get(f"{base}/Patient/p1/_history/1?_summary=text").json()
    assert "birthDate" in httpx.get(f"{base}/Patient/p1?_summary=false&_format=json").json()
    assert httpx.get(f"{base}/Patient/p1?_summary=count").status_code == 400


def test_the_pages_of_a_search_in_a_batch_go_on(base: str) -> None:
    [first] = entries(base, "batch", {"method": "GET", "url": "Patient?_count=1&_sort=_id"})
    following = next(each["url"] for each in first["resource"]["link"] if each["relation"] == "next")
    [second] = entries(base, "batch", {"method": "GET", "url": following})
    assert [b["resource"]["entry"][0]["resource"]["id"] for b in (first, second)] == ["p1", "p2"]


def test_what_a_bundle_refuses_says_which_entry_it_was(base: str) -> None:
    requests = [{"method": "GET", "url": "Patient/p1"}]
    requests += [{"method": "GET", "url": url} for url, _, _ in REFUSED]
    found = entries(base, "batch", *requests, {"method": "BREW", "url": "Patient"})
    for number, (url, status, code) in enumerate(REFUSED, 1):
        response = found[number]["response"]
        assert response["status"] == status, url
        [issue] = response["outcome"]["issue"]
        assert (issue["code"], issue["expression"]) == (code, [f"Bundle.entry[{number}]"]), url
    last = found[-1]["response"]
    assert last["status"] == "400"
    assert f"Bundle.entry[{len(REFUSED) + 1}]" in last["outcome"]["issue"][0]["expression"][0]
    for url, status, _ in REFUSED:
        answer = send(
            base, "transaction", *({"request": {"method": "GET", "url": u}} for u in ("Patient", url))
        )
        assert str(answer.status_code) == status, url
        assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[1]"], url


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_head_and_a_version_that_the_client_has(base: str, kind: str) -> None:
    same, other, head, search = entries(
        base,
        kind,
        {"method": "GET", "url": "Patient/p1", "ifNoneMatch": 'W/"2"'},
        {"method": "GET", "url": "Patient/p1", "ifNoneMatch": 'W/"1"'},
        {"method": "HEAD", "url": "Patient/p1"},
        {"method": "HEAD", "url": "Patient"},
    )
    assert (same["response"]["status"], "resource" in same) == ("304 Not Modified", False)
    assert same["response"]["etag"] == 'W/"2"'
    assert (other["response"]["status"], other["resource"]["id"]) == ("200 OK", "p1")
    assert [(each["response"]["status"], "resource" in each) for each in (head, search)] == [
        ("200 OK", False)
    ] * 2


def test_a_search_of_a_transaction_sees_what_it_wrote_and_undoes_it_when_it_fails(base: str) -> None:
    writes = [
        post(patient(name=[{"family": "Newcomer"}]), "urn:uuid:6ea0ae44-0000-4000-8000-000000000001"),
        post(observation("urn:uuid:6ea0ae44-0000-4000-8000-000000000001", "3", 1.0)),
    ]
    search = {"request": {"method": "GET", "url": "Observation?patient.family=newcomer&_total=accurate"}}
    missing = {"request": {"method": "GET", "url": "Patient/none"}}
    assert send(base, "transaction", *writes, search, missing).status_code == 404
    assert httpx.get(f"{base}/Patient?family=newcomer&_summary=count").json()["total"] == 0
    answer = send(base, "transaction", search, *writes).json()["entry"]
    assert answer[0]["resource"]["total"] == 1
    assert answer[0]["resource"]["entry"][0]["fullUrl"].startswith(f"{base}/Observation/")
    answer = send(base, "batch", search, *writes[:1]).json()["entry"]
    assert (answer[0]["resource"]["total"], answer[1]["response"]["status"]) == (1, "201 Created")

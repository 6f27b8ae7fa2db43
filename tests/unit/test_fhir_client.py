"""The clients against our routes in this process, and against servers that misbehave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from digital_twins import ConflictError, InputError, NotFoundError
from digital_twins.fhir import AsyncFHIRClient, FHIRClient, FHIRRequestError, FHIRResource
from digital_twins.fhir._twin_report import TWIN_CODE_SYSTEM, corrected_report
from fhir_support import observation, open_store, patient, post, serve, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BASE = "http://fhir.example/R4"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with open_store(tmp_path_factory.mktemp("fhir")) as store, serve(store) as url:
        yield url


@pytest.fixture
def client(base: str) -> Iterator[FHIRClient]:
    with FHIRClient(base_url=base) as opened:
        yield opened


def talking_to(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> FHIRClient:
    made = FHIRClient(base_url=BASE, transport=httpx.MockTransport(answer), **options)
    made._sleep = lambda _: None  # no real waiting in tests
    return made


def test_seed_usage_and_the_corrected_report(client: FHIRClient) -> None:
    client.create("Patient", patient())
    patients = client.search("Patient", {"identifier": "MRN|12345678"})
    assert client.search("ImagingStudy", {"patient": patients[0].id, "modality": "CT,MR"}) == []
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {
            "coding": [{"system": "http://loinc.org", "code": "59776-5", "display": "Digital Twin Analysis"}]
        },
        "subject": {"reference": f"Patient/{patients[0].id}"},
        "conclusion": "Digital twin predicts partial response to treatment",
    }
    given = json.loads(json.dumps(report))
    made = client.create("DiagnosticReport", report)
    assert report == given
    stored = client.read("DiagnosticReport", made.id)
    assert stored.status == "preliminary"
    assert [(c.system, c.code) for c in stored.code.coding] == [(TWIN_CODE_SYSTEM, "digital-twin-analysis")]
    assert stored.conclusion == report["conclusion"]
    assert len(stored.extension) == 2
    assert "AIAST" in [s.code for s in stored.meta.security]
    assert corrected_report(stored)[1] == []


def test_other_reports_pass_unchanged() -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {
            "coding": [
                {"system": "http://loinc.org", "code": "59776-5", "display": "Procedure findings Narrative"}
            ]
        },
    }
    assert corrected_report(report) == (report, [])


def test_reports_inside_a_transaction_are_corrected_too(client: FHIRClient) -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "Digital Twin Analysis"},
    }
    answer = client.transaction(transaction(post(report)))
    kind, name = answer.entry[0].response.location.split("/")[:2]
    assert client.read(kind, name).status == "preliminary"


def test_paging_versions_and_errors(client: FHIRClient) -> None:
    client.transaction(transaction(*(post(observation("Patient/paged", "29463-7", n)) for n in range(5))))
    assert len(client.search("Observation", {"patient": "paged", "_count": "2"})) == 5
    assert len(client.search("Observation", {"patient": "paged", "_count": "2"}, limit=3)) == 3
    made = client.create("Patient", patient())
    changed = client.update({**made, "active": True}, if_match='W/"1"')
    assert changed.meta.versionId == "2"
    with pytest.raises(ConflictError):
        client.update(made, if_match='W/"1"')
    client.delete("Patient", made.id)
    with pytest.raises(NotFoundError):
        client.read("Patient", made.id)
    with pytest.raises(InputError) as error:
        client.create("Patient", patient(gender=3))
    assert "Patient.gender" in error.value.why
    with pytest.raises(InputError):
        client.create("Patient", {"resourceType": "Observation"})
    assert client.capabilities().fhirVersion == "4.0.1"


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(base: str) -> None:
    async with AsyncFHIRClient(base_url=base) as client:
        made = await client.create("Patient", patient())
        assert (await client.read("Patient", made.id)).name[0].family == "Muster"
        found = await client.search("Patient", {"identifier": "12345678", "_count": "1"})
        assert made.id in [p.id for p in found]
        await client.update(made)
        await client.delete("Patient", made.id)
        answer = await client.transaction(transaction(post(patient())))
        assert answer.entry[0].response.status == "201 Created"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_repeats_what_may_be_repeated() -> None:
    calls: list[str] = []

    def flaky(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        if len(calls) < 3:
            return httpx.Response(503, headers={"retry-after": "1"})
        return httpx.Response(200, json={"resourceType": "Patient", "id": "1"})

    assert talking_to(flaky).read("Patient", "1").id == "1"
    assert calls == ["GET"] * 3
    calls.clear()
    with pytest.raises(FHIRRequestError) as error:
        talking_to(flaky).create("Patient", patient())
    assert error.value.status == 503
    assert calls == ["POST"]


def test_errors_name_no_patient() -> None:
    def refuses(request: httpx.Request) -> httpx.Response:
        issue = {
            "severity": "error",
            "code": "value",
            "diagnostics": "Muster 12345678",
            "expression": ["Muster 12345678"],
        }
        return httpx.Response(400, json={"resourceType": "OperationOutcome", "issue": [issue]})

    def breaks(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("12345678", request=request)

    for answer in (refuses, breaks):
        with pytest.raises((InputError, FHIRRequestError)) as error:
            talking_to(answer, retries=1).search("Patient", {"identifier": "12345678", "name": "Muster"})
        assert "12345678" not in str(error.value)
        assert "Muster" not in str(error.value)
        assert error.value.__cause__ is None


def test_does_not_carry_credentials_to_another_host() -> None:
    def tempting(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t"
        link = [{"relation": "next", "url": "http://elsewhere.example/steal"}]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "link": link})

    with pytest.raises(FHIRRequestError):
        talking_to(tempting, auth="t").search("Patient")


def test_credentials_file(tmp_path: Path) -> None:
    place = tmp_path / "token.json"
    place.write_bytes(orjson.dumps({"access_token": "s3cret"}))
    place.chmod(0o644)
    with pytest.raises(InputError) as error:
        FHIRClient(base_url=BASE, credentials_path=place)
    assert "chmod 600" in error.value.fix
    place.chmod(0o600)

    def check(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer s3cret"
        return httpx.Response(200, json={"resourceType": "Patient", "id": "1"})

    assert talking_to(check, credentials_path=place).read("Patient", "1").id == "1"
    for content in (b"{", b"[]", b'{"access_token": ""}'):
        place.write_bytes(content)
        with pytest.raises(InputError):
            FHIRClient(base_url=BASE, credentials_path=place)
    with pytest.raises(InputError):
        FHIRClient(base_url=BASE, credentials_path=tmp_path / "none")
    with pytest.raises(InputError):
        FHIRClient(base_url="ftp://x")


def test_answers_that_are_no_fhir() -> None:
    with pytest.raises(FHIRRequestError):
        talking_to(lambda _: httpx.Response(200, text="<html>")).read("Patient", "1")
    made = talking_to(lambda _: httpx.Response(201, headers={"location": f"{BASE}/Patient/7/_history/1"}))
    assert made.create("Patient", patient()).reference == "Patient/7"


def test_resource_attributes() -> None:
    resource = FHIRResource(patient(id="1"))
    assert resource.name[0].given == ["Élodie"]
    assert resource.reference == "Patient/1"
    assert getattr(resource, "deceasedBoolean", None) is None
    with pytest.raises(AttributeError):
        _ = resource.nothing


def short_of_links(most: int, calls: list[str]) -> Callable[[httpx.Request], httpx.Response]:
    """A server with 45 matches that names no next page and sends at most ``most`` at a time."""

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.query.decode())
        count = min(int(request.url.params.get("_count", "20")), most, 45)
        entries = [{"resource": patient(id=str(n)), "search": {"mode": "match"}} for n in range(count)]
        entries.append({"resource": {"resourceType": "Organization"}, "search": {"mode": "include"}})
        return httpx.Response(
            200, json={"resourceType": "Bundle", "type": "searchset", "total": 45, "entry": entries}
        )

    return answer


def test_a_server_without_next_links_is_asked_for_all_at_once() -> None:
    calls: list[str] = []
    client = talking_to(short_of_links(1000, calls))
    assert len(client.search("Patient", {"active": True, "_count": 10})) == 45 + 1
    assert calls == ["active=true&_count=10", "active=true&_count=45"]


def test_a_search_that_stays_incomplete_is_refused_and_can_be_taken_as_it_is() -> None:
    calls: list[str] = []
    client = talking_to(short_of_links(30, calls))
    with pytest.raises(FHIRRequestError) as error:
        client.search("Patient")
    assert "announces 45 matches, sent 30" in error.value.why
    assert len(client.search("Patient", partial=True)) == 20 + 1
    assert len(client.search("Patient", limit=7)) == 7
    for part in ({"_offset": 20}, {"_total": "estimate"}, {"_summary": "count"}):
        assert len(client.search("Patient", part)) == 21
    assert calls == [
        *["", "_count=45", "", ""],
        *["_offset=20", "_total=estimate", "_summary=count"],
    ]


@pytest.mark.anyio
async def test_the_asynchronous_client_refuses_an_incomplete_search() -> None:
    transport = httpx.MockTransport(short_of_links(30, []))
    async with AsyncFHIRClient(base_url=BASE, transport=transport) as client:
        with pytest.raises(FHIRRequestError):
            await client.search("Patient")
        assert len(await client.search("Patient", partial=True)) == 21

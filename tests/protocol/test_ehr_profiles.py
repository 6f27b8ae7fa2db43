"""EHR profiles against stubs and our own server: the contract that each promises, not the products.

The second half goes through the operations of sections 5 to 7 of the integration document (source 003).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins import InputError, NotFoundError
from digital_twins.dicom import vendor_profile
from digital_twins.fhir import (
    AsyncFHIRClient,
    FHIRClient,
    FHIRRequestError,
    ehr_profile,
    ehr_profile_names,
    imaging_worklist,
    imaging_worklist_async,
)
from fhir_support import open_store, patient, serve, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("cerner", "epic", "generic", "meditech", "veradigm")
PARTS = {"host": "ehr.example.org", "instance": "interconnect", "tenant": "t1"}


def study(name: str, started: str, status: str = "available") -> dict[str, Any]:
    return {
        "resourceType": "ImagingStudy",
        "id": name,
        "status": status,
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:1.2.{name[1:]}"}],
        "subject": {"reference": "Patient/p"},
        "started": started,
        "description": "CT chest",
        "series": [
            {
                "uid": f"1.2.{name[1:]}.1",
                "number": 1,
                "modality": {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"},
                "numberOfInstances": 2,
            }
        ],
        "numberOfSeries": 1,
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with open_store(tmp_path_factory.mktemp("ehr")) as store, serve(store) as address:
        studies = [study(f"s{n}", f"2026-01-{n:02d}T08:00:00Z") for n in range(1, 8)]
        studies.append(study("s9", "2026-02-01T08:00:00Z", "cancelled"))
        entries = [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
            for r in [patient(id="p"), *studies]
        ]
        store.transaction(transaction(*entries))
        yield address


def test_the_profiles_are_there_and_say_that_they_are_untested() -> None:
    assert ehr_profile_names() == NAMES
    for name in NAMES:
        profile = ehr_profile(name)
        assert profile.status == "untested against the product"
        assert profile.base_url(**PARTS).startswith("https://ehr.example.org/")
        assert "{" not in profile.base_url(**PARTS)
        assert set(profile.auth_algorithms) <= {"RS384", "ES384"}
    with pytest.raises(NotFoundError):
        ehr_profile("acme")
    with pytest.raises(InputError, match="tenant"):
        ehr_profile("cerner").base_url(host="x")


def test_scopes_in_the_dialect_of_the_product() -> None:
    assert ehr_profile("cerner").scope("Patient", "read") == "system/Patient.read"
    assert ehr_profile("epic").scope("Patient", "read") == "system/Patient.rs"
    assert ehr_profile("epic").scope("Observation", "write", level="user") == "user/Observation.cud"
    with pytest.raises(InputError):
        ehr_profile("epic").scope("Patient", "admin")


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_of_each_product_gets_what_its_profile_says(name: str) -> None:
    profile = ehr_profile(name)
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        assert str(request.url).startswith(profile.base_url(**PARTS))
        more = {"link": [{"relation": "next", "url": f"{profile.base_url(**PARTS)}?page=2"}]}
        entry = {"resource": study(f"s{len(asked)}", "2026-01-01")}
        page = {"resourceType": "Bundle", "entry": [entry]}
        return httpx.Response(200, json=page | more if len(asked) == 1 else page)

    with FHIRClient(profile.base_url(**PARTS), transport=httpx.MockTransport(answer)) as client:
        found = imaging_worklist(client, profile)
    assert [work.study_uid for work in found] == ["1.2.1", "1.2.2"]
    assert dict(asked[0].url.params) == {"status": "available", "_sort": "-started"}


def test_fetch_patient_with_typed_elements(base: str) -> None:
    with FHIRClient(base) as client:
        found = client.read("Patient", "p")
        assert (found.id, found.name[0].family, found.name[0].given) == ("p", "Muster", ["Élodie"])
        assert (found.identifier[0].value, found.gender, found.birthDate) == ("12345678", "female", "1961-04")
        assert getattr(found, "maritalStatus", None) is None
        with pytest.raises(NotFoundError):
            client.read("Patient", "nobody")


def test_fetch_imaging_study_with_nested_elements(base: str) -> None:
    with FHIRClient(base) as client:
        found = client.read("ImagingStudy", "s1")
        assert (found.numberOfSeries, found.series[0].modality.code) == (1, "CT")
        assert found.subject.reference == "Patient/p"


def test_create_diagnostic_report_returns_its_id(base: str) -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "18748-4"}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2026-01-10",
        "issued": "2026-01-10T08:00:00Z",
        "conclusion": "No change.",
    }
    with FHIRClient(base) as client:
        made = client.create("DiagnosticReport", report)
        assert client.read("DiagnosticReport", made.id).conclusion == "No change."
        with pytest.raises(InputError):
            client.create("DiagnosticReport", {"resourceType": "DiagnosticReport", "status": "nothing"})


def test_the_same_without_blocking(base: str) -> None:
    async def run() -> tuple[str, int]:
        async with AsyncFHIRClient(base) as client:
            found = await client.read("Patient", "p")
            work = await imaging_worklist_async(client, ehr_profile("epic"))
            return str(found.name[0].family), len(work)

    assert asyncio.run(run()) == ("Muster", 7)


def test_the_worklist_of_epic_comes_as_imaging_studies_the_newest_first(base: str) -> None:
    with FHIRClient(base) as client:
        found = imaging_worklist(client, ehr_profile("epic"))
        assert [work.study_uid for work in found] == [f"1.2.{n}" for n in range(7, 0, -1)]
        assert (found[0].modalities, found[0].patient) == (("CT",), "Patient/p")
        assert found[0].source == "ImagingStudy/s7"
        assert len(imaging_worklist(client, limit=3)) == 3


def test_every_request_carries_the_token_and_ge_its_key() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization", ""))
        return httpx.Response(200, json={"resourceType": "Patient", "id": "1"})

    with FHIRClient("http://x/fhir", auth="t0ken", transport=httpx.MockTransport(answer)) as client:
        client.read("Patient", "1")
    assert seen == ["Bearer t0ken"]
    assert vendor_profile("ge").headers("k") == {"X-Api-Key": "k"}


@pytest.mark.parametrize(("status", "method", "tries"), [(429, "POST", 2), (503, "POST", 1), (503, "GET", 2)])
def test_what_is_repeated(status: int, method: str, tries: int) -> None:
    calls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        if len(calls) == 1:
            return httpx.Response(status, headers={"retry-after": "0"})
        return httpx.Response(200, json={"resourceType": "Patient", "id": "1"})

    with FHIRClient("http://x/fhir", transport=httpx.MockTransport(answer)) as client:
        client._sleep = lambda _: None
        if tries == 1:
            with pytest.raises(FHIRRequestError) as refused:
                client.create("Patient", patient())
            assert refused.value.status == status
        elif method == "POST":
            client.create("Patient", patient())
        else:
            client.read("Patient", "1")
    assert len(calls) == tries

"""The store: versions, search, bundles, audit."""

from __future__ import annotations

import base64
import json
import tarfile
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from digital_twins.fhir import FhirError, FhirStore, patient_record
from fhir_support import LOINC, PSEUDONYM, observation, open_store, patient, post, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FhirStore]:
    with open_store(tmp_path) as opened:
        yield opened


def ids(store: FhirStore, kind: str, **params: Any) -> list[str]:
    return [
        hit.id for hit in store.search(kind, {k.replace("__", ":"): v for k, v in params.items()}).matches
    ]


def events(store: FhirStore) -> list[dict[str, Any]]:
    store.close()
    with store.database.read() as connection:
        return [
            json.loads(body) for (body,) in connection.execute("SELECT body FROM audit_outbox ORDER BY seq")
        ]


def status(error: pytest.ExceptionInfo[FhirError]) -> int:
    return error.value.http_status


class TestVersions:
    def test_life_of_a_resource(self, store: FhirStore) -> None:
        first = store.create(patient())
        assert first.version == 1
        assert first.resource["meta"]["versionId"] == "1"
        second = store.update({**first.resource, "active": True}, if_match=first.etag)
        assert (second.id, second.version, second.created) == (first.id, 2, False)
        with pytest.raises(FhirError) as error:
            store.update(first.resource, if_match=first.etag)
        assert status(error) == 412
        store.delete("Patient", first.id)
        with pytest.raises(FhirError) as error:
            store.read("Patient", first.id)
        assert status(error) == 410
        assert store.vread("Patient", first.id, 1).resource == first.resource
        assert [v.version for v in store.history("Patient", first.id)] == [3, 2, 1]
        assert ids(store, "Patient", family="muster") == []
        back = store.update(first.resource)
        assert (back.version, back.created) == (4, True)
        assert ids(store, "Patient", family="muster") == [first.id]
        with pytest.raises(FhirError) as error:
            store.read("Patient", "nobody")
        assert status(error) == 404

    def test_ids_of_the_caller_and_decimals(self, store: FhirStore) -> None:
        raw = orjson.dumps(observation("Patient/1", "1", 0.5, id="w-1")).replace(b"0.5", b"70.10")
        saved = store.update(raw)
        assert (saved.id, saved.created) == ("w-1", True)
        assert b'"value":70.10' in store.read("Observation", "w-1").body
        with pytest.raises(FhirError):
            store.update(patient(id="bad id"))

    def test_an_update_moves_the_index(self, store: FhirStore) -> None:
        saved = store.create(patient())
        store.update({**saved.resource, "gender": "male"})
        assert ids(store, "Patient", gender="female") == []
        assert ids(store, "Patient", gender="male") == [saved.id]
        with store.database.read() as connection:
            (count,) = connection.execute("SELECT count(*) FROM fhir_token").fetchone()  # type: ignore[misc]
        store.update({**saved.resource, "gender": "female"})
        with store.database.read() as connection:
            assert connection.execute("SELECT count(*) FROM fhir_token").fetchone() == (count,)


class TestSearch:
    @pytest.fixture(autouse=True)
    def filled(self, store: FhirStore) -> None:
        store.update(patient(id="p1"))
        store.update(
            patient(
                id="p2",
                name=[{"family": "Musterfrau"}],
                birthDate="1970-05-05",
                gender="male",
                identifier=[{"system": "urn:x", "value": "9"}],
            )
        )
        for day in range(1, 6):
            store.update(
                observation(
                    "Patient/p1",
                    "29463-7",
                    70.0 + day,
                    id=f"w{day}",
                    effectiveDateTime=f"2024-01-0{day}T10:00:00Z",
                )
            )
        store.update(observation("Patient/p2", "8302-2", 170.0, id="h", effectiveDateTime="2024-01"))

    @pytest.mark.parametrize(
        ("kind", "params", "expected"),
        [
            ("Patient", {"family": "muster"}, {"p1", "p2"}),
            ("Patient", {"family:exact": "Muster"}, {"p1"}),
            ("Patient", {"family:contains": "STERF"}, {"p2"}),
            ("Patient", {"given": "elodie"}, {"p1"}),
            ("Patient", {"gender": "female,male"}, {"p1", "p2"}),
            ("Patient", {"gender:not": "female"}, {"p2"}),
            ("Patient", {"gender": "http://hl7.org/fhir/administrative-gender|female"}, {"p1"}),
            ("Patient", {"identifier": "12345678"}, {"p1"}),
            ("Patient", {"identifier": "urn:example:mrn|12345678"}, {"p1"}),
            ("Patient", {"identifier": "MRN|12345678"}, {"p1"}),
            ("Patient", {"identifier": "MR|12345678"}, {"p1"}),
            ("Patient", {"identifier": "SS|12345678"}, set()),
            ("Patient", {"identifier": "urn:other|12345678"}, set()),
            (
                "Patient",
                {"identifier:of-type": "http://terminology.hl7.org/CodeSystem/v2-0203|MR|12345678"},
                {"p1"},
            ),
            ("Patient", {"birthdate": "1961"}, {"p1"}),
            ("Patient", {"birthdate": "1961-04-03"}, set()),
            ("Patient", {"birthdate": "ge1970"}, {"p2"}),
            ("Patient", {"birthdate": ["ge1961-01", "lt1962"]}, {"p1"}),
            ("Patient", {"death-date:missing": "true"}, {"p1", "p2"}),
            ("Patient", {"birthdate:missing": "true"}, set()),
            ("Patient", {"_id": "p2,p1,zz"}, {"p1", "p2"}),
            ("Patient", {"_lastUpdated": "ge2020"}, {"p1", "p2"}),
            ("Patient", {"_lastUpdated": "lt2020"}, set()),
            ("Patient", {"_has:Observation:patient:code": "8302-2"}, {"p2"}),
            ("Patient", {"deceased": "false"}, {"p1", "p2"}),
            ("Observation", {"patient": "p2"}, {"h"}),
            ("Observation", {"subject": "Patient/p2"}, {"h"}),
            ("Observation", {"subject:Patient": "p2"}, {"h"}),
            ("Observation", {"subject": "p2"}, {"h"}),
            ("Observation", {"patient.name": "musterfrau"}, {"h"}),
            ("Observation", {"subject:Patient.gender": "male"}, {"h"}),
            ("Observation", {"patient": "p1", "code": f"{LOINC}|29463-7", "date": "2024-01-03"}, {"w3"}),
            ("Observation", {"patient": "p1", "date": "gt2024-01-03"}, {"w4", "w5"}),
            ("Observation", {"patient": "p1", "date": "sa2024-01-04,eb2024-01-02"}, {"w1", "w5"}),
            ("Observation", {"date": "2024-01"}, {"w1", "w2", "w3", "w4", "w5", "h"}),
            ("Observation", {"date": "2024-01-03"}, {"w3"}),
            ("Observation", {"code": "|29463-7"}, set()),
            ("Observation", {"code": f"{LOINC}|"}, {"w1", "w2", "w3", "w4", "w5", "h"}),
            ("Observation", {"value-quantity": "72"}, {"w2"}),
            ("Observation", {"value-quantity": "gt73||kg"}, {"w4", "w5", "h"}),
            ("Observation", {"value-quantity": "le72|http://unitsofmeasure.org|kg"}, {"w1", "w2"}),
            ("Observation", {"value-quantity": "72||g"}, set()),
            ("Observation", {"value-quantity": "ap170"}, {"h"}),
            ("Observation", {"unheard-of": "1", "patient": "p2"}, {"h"}),
        ],
        ids=lambda x: str(sorted(x) if isinstance(x, set) else x)[:60],
    )
    def test_finds(self, store: FhirStore, kind: str, params: dict[str, Any], expected: set[str]) -> None:
        assert {hit.id for hit in store.search(kind, params).matches} == expected

    @pytest.mark.parametrize(
        "params",
        [
            {"birthdate": "soon"},
            {"gender:exact": "x"},
            {"_count": "-1"},
            {"value-quantity": "x"},
            {"subject": "a b"},
            {"_cursor": "x"},
            {"patient" + ".link:Patient" * 8 + ".name": "x"},
        ],
        ids=lambda x: str(sorted(x) if isinstance(x, set) else x),
    )
    def test_refuses(self, store: FhirStore, params: dict[str, str]) -> None:
        kind = "Patient" if {"birthdate", "gender:exact"} & params.keys() else "Observation"
        with pytest.raises(FhirError) as error:
            store.search(kind, params)
        assert status(error) == 400

    def test_strict_refuses_what_lenient_ignores(self, store: FhirStore) -> None:
        with pytest.raises(FhirError):
            store.search("Patient", {"unheard-of": "1"}, strict=True)

    @pytest.mark.parametrize(
        "sort", ["", "date", "-date", "-value-quantity,date", "_id", "code,-_lastUpdated"]
    )
    def test_pages_are_stable_under_writes(self, store: FhirStore, sort: str) -> None:
        params = {"patient": "p1", "_count": "2", **({"_sort": sort} if sort else {})}
        seen: list[str] = []
        cursor = None
        while True:
            page = store.search("Observation", {**params, **({"_cursor": cursor} if cursor else {})})
            seen += [hit.id for hit in page.hits]
            if cursor is None:
                store.delete("Observation", page.hits[0].id)
                store.create(observation("Patient/p2", "29463-7", 1.0))
            cursor = page.next_cursor
            if cursor is None:
                break
        assert sorted(seen) == ["w1", "w2", "w3", "w4", "w5"]
        if sort in {"date", "-date"}:
            assert seen == sorted(seen, reverse=sort.startswith("-"))

    def test_totals_includes_and_injection(self, store: FhirStore) -> None:
        page = store.search("Observation", {"patient": "p1", "_total": "accurate", "_count": "1"})
        assert (page.total, len(page.hits)) == (5, 1)
        page = store.search("Observation", {"patient": "p1", "_include": "Observation:subject"})
        assert [(h.type, h.mode) for h in page.hits][-1] == ("Patient", "include")
        page = store.search("Patient", {"_id": "p1", "_revinclude": "Observation:subject"})
        assert len(page.hits) == 6
        assert ids(store, "Patient", family="'; DROP TABLE fhir_resource; --") == []
        assert store.count("Patient") == 2
        assert len(store.patient_resources("p1")) == 6


class TestBundles:
    def test_references_between_entries(self, store: FhirStore) -> None:
        bundle = transaction(
            post(observation("urn:uuid:11111111-1111-4111-8111-111111111111", "29463-7", 70.0)),
            post(patient(), "urn:uuid:11111111-1111-4111-8111-111111111111"),
        )
        answer = orjson.loads(store.transaction(bundle))
        assert [e["response"]["status"] for e in answer["entry"]] == ["201 Created"] * 2
        (found,) = store.search("Observation").hits
        person = answer["entry"][1]["response"]["location"].split("/_history")[0]
        assert orjson.loads(found.body)["subject"]["reference"] == person

    def test_one_bad_entry_undoes_all(self, store: FhirStore) -> None:
        before = len(events(store))
        for bad in (
            {"request": {"method": "GET", "url": "Patient/none"}},
            post({"resourceType": "Observation", "status": "final"}),
            post(observation("urn:uuid:22222222-2222-4222-8222-222222222222", "1", 1.0)),
            post(observation("Patient?identifier=unknown", "1", 1.0)),
            {"request": {"method": "PUT", "url": "Patient/x"}, "resource": patient(id="y")},
        ):
            with pytest.raises(FhirError) as error:
                store.transaction(transaction(post(patient()), bad))
            assert any("entry[1]" in str(i.location) for i in error.value.issues)
        assert store.count("Patient") == 0
        assert len(events(store)) == before

    def test_conditional_create(self, store: FhirStore) -> None:
        bundle = transaction(
            post(
                patient(),
                "urn:uuid:11111111-1111-4111-8111-111111111111",
                ifNoneExist="identifier=MR|12345678",
            ),
            post(observation("urn:uuid:11111111-1111-4111-8111-111111111111", "1", 1.0)),
        )
        store.transaction(bundle)
        store.transaction(bundle)
        assert (store.count("Patient"), store.count("Observation")) == (1, 2)
        store.transaction(transaction(post(observation("Patient?identifier=12345678", "1", 1.0))))
        (person,) = store.search("Patient").hits
        assert len(ids(store, "Observation", patient=person.id)) == 3
        assert not store.create(patient(), if_none_exist="identifier=12345678").created
        store.create(patient())
        with pytest.raises(FhirError) as error:
            store.create(patient(), if_none_exist="identifier=12345678")
        assert status(error) == 412

    def test_patch_and_conditional_delete_in_a_bundle(self, store: FhirStore) -> None:
        for name, number in (("a", "1"), ("b", "2"), ("c", "3")):
            store.update(patient(id=name, identifier=[{"system": "urn:n", "value": number}]))
        change = [{"op": "replace", "path": "/gender", "value": "male"}]
        data = base64.b64encode(orjson.dumps(change)).decode()
        binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
        part = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.name"}]
        parameters = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
        bundle = transaction(
            {"resource": binary, "request": {"method": "PATCH", "url": "Patient/a"}},
            {"resource": parameters, "request": {"method": "PATCH", "url": "Patient?identifier=urn:n|2"}},
            {"request": {"method": "DELETE", "url": "Patient?identifier=urn:n|3"}},
            {"request": {"method": "DELETE", "url": "Patient?identifier=urn:n|9"}},
        )
        answer = orjson.loads(store.transaction(bundle))
        assert [e["response"]["status"][:3] for e in answer["entry"]] == ["200", "200", "204", "204"]
        assert store.read("Patient", "a").resource["gender"] == "male"
        assert "name" not in store.read("Patient", "b").resource
        assert store.count("Patient") == 2
        for bad, status_ in (
            ({"resource": binary, "request": {"method": "PATCH", "url": "Patient?identifier=urn:n|9"}}, 404),
            ({"resource": patient(), "request": {"method": "PATCH", "url": "Patient/a"}}, 400),
            ({"request": {"method": "DELETE", "url": "Patient"}}, 400),
            ({"request": {"method": "DELETE", "url": "Patient?gender=female,male"}}, 412),
        ):
            with pytest.raises(FhirError) as error:
                store.transaction(transaction(bad))
            assert status(error) == status_

    def test_batch_entries_stand_alone(self, store: FhirStore) -> None:
        batch = {
            **transaction(
                post(patient()),
                {"request": {"method": "GET", "url": "Patient/none"}},
                {"request": {"method": "GET", "url": "Patient?family=muster"}},
            ),
            "type": "batch",
        }
        answer = orjson.loads(store.transaction(batch))
        assert [e["response"]["status"][:3] for e in answer["entry"]] == ["201", "404", "200"]
        assert answer["entry"][2]["resource"]["type"] == "searchset"


def test_every_interaction_is_audited_without_patient_data(store: FhirStore) -> None:
    saved = store.create(patient())
    store.read("Patient", saved.id)
    store.search("Observation", {"patient": saved.id})
    store.update(saved.resource)
    store.delete("Patient", saved.id)
    store.transaction(transaction(post(patient())))
    found = events(store)
    assert sorted(e["kind"] for e in found) == sorted(
        ["fhir.create", "fhir.read", "fhir.search", "fhir.update", "fhir.delete", "fhir.transaction"]
    )
    assert {e["patient"] for e in found} == {PSEUDONYM}
    assert "Muster" not in json.dumps(found)
    assert "12345678" not in json.dumps(found)


@pytest.fixture(scope="module")
def synthea(shared_data: Path) -> list[bytes]:
    with tarfile.open(shared_data / "fhir" / "synthea-bundles.tar.xz") as archive:
        streams = [archive.extractfile(m) for m in archive if m.name.endswith(".json")]
        return [s.read() for s in streams if s is not None]


def test_synthea_patients_load_and_can_be_found(store: FhirStore, synthea: list[bytes]) -> None:
    expected: dict[str, int] = {}
    for raw in synthea:
        for entry in orjson.loads(raw)["entry"]:
            kind = entry["resource"]["resourceType"]
            expected[kind] = expected.get(kind, 0) + 1
        store.transaction(raw)
    assert sum(expected.values()) == 4671
    assert {kind: store.count(kind) for kind in expected} == expected
    cancer = store.search("Condition", {"code": "http://snomed.info/sct|363406005"}).matches
    assert cancer
    subject = orjson.loads(cancer[0].body)["subject"]["reference"].removeprefix("Patient/")
    record = patient_record(store.patient_resources(subject))
    assert "olon" in (record.diagnosis or "")
    assert record.resource_id == subject
    assert len(record.observations) > 10


def conditional(name: str, **more: object) -> dict[str, object]:
    """A transaction that updates the patient with the number 77, or creates it."""
    resource = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:x", "value": "77"}],
        "name": [{"family": name}],
        **more,
    }
    request = {"method": "PUT", "url": "Patient?identifier=urn%3Ax|77"}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": resource, "request": request}],
    }


def test_conditional_update_in_a_transaction_creates_updates_and_refuses(tmp_path):
    with open_store(tmp_path) as store:
        first = json.loads(store.transaction(conditional("One")))["entry"][0]["response"]
        second = json.loads(store.transaction(conditional("Two")))["entry"][0]["response"]
        assert (first["status"], second["status"]) == ("201 Created", "200 OK")
        (hit,) = store.search("Patient", {"identifier": "urn:x|77"}).hits
        assert json.loads(hit.body)["name"] == [{"family": "Two"}]
        assert json.loads(hit.body)["meta"]["versionId"] == "2"
        with pytest.raises(FhirError) as refusal:
            store.transaction(conditional("Three", id="another"))
        assert refusal.value.http_status == 400
        store.create({"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": "77"}]})
        with pytest.raises(FhirError) as refusal:
            store.transaction(conditional("Four"))
        assert refusal.value.http_status == 412

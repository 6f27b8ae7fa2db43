"""Search parameters that FHIR packages add: indexed on writes, over what is stored, served and announced."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from digital_twins.cli import main
from digital_twins.config import load_settings
from digital_twins.fhir import FhirError, FhirStore, PackageParameters
from digital_twins.fhir.validation import add_package
from digital_twins.server import open_keys, open_services
from fhir_package_support import WARD, on_ward, package, parameter
from fhir_support import observation, open_store, patient, post, serve, transaction

if TYPE_CHECKING:
    from pathlib import Path

RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"


WARDS = [
    parameter("ward", "token", "Patient", f"Patient.extension('{WARD}').value"),
    parameter(
        "deputy",
        "reference",
        "Patient",
        "Patient.contact.extension('http://example.org/deputy').value.where(resolve() is Practitioner)",
        target=["Practitioner"],
    ),
    parameter("weight", "quantity", "Observation", "(Observation.value as Quantity).where(value > 0)"),
    parameter("taken", "date", "Observation", "Observation.effective.ofType(dateTime)"),
    parameter("alias", "string", "Patient", "Patient.name.where(use = 'nickname').text"),
    parameter("gender", "token", "Patient", "Patient.birthDate"),  # R4 has this code: its meaning stays
    parameter("broken", "token", "Patient", "Patient.name.where("),
]


def ids(store: FhirStore, kind: str, **asked: str) -> set[str]:
    return {
        hit.id
        for hit in store.search(kind, {k.replace("_", ":"): v for k, v in asked.items()}, strict=True).matches
    }


def reindexed(store: FhirStore, folder: Path) -> int:
    return PackageParameters(folder / "packages", store.database).reindex()


def test_what_was_stored_before_is_found_once_it_is_indexed(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        east, west = store.create(on_ward("east")).id, store.create(on_ward("west")).id
        with pytest.raises(FhirError, match="not known"):
            ids(store, "Patient", ward="east")
        added = add_package(package(tmp_path / "a.tgz", WARDS), tmp_path / "packages")
        assert added.search_parameters == 5
        late = store.create(on_ward("east")).id
        with pytest.raises(FhirError, match="not known"):  # not before the index is whole
            ids(store, "Patient", ward="east")
        seen: list[tuple[int, int]] = []
        PackageParameters(tmp_path / "packages", store.database).reindex(lambda *at: seen.append(at))
        assert seen == [(3, 3)]
        assert ids(store, "Patient", ward="urn:wards|east") == {east, late}
        assert ids(store, "Patient", ward_not="east") == {west}
        assert reindexed(store, tmp_path) == 0


def test_writes_keep_the_index_of_package_parameters(tmp_path: Path) -> None:
    add_package(package(tmp_path / "a.tgz", WARDS), tmp_path / "packages")
    with open_store(tmp_path) as store:
        reindexed(store, tmp_path)
        one = store.create(on_ward("east"))
        assert ids(store, "Patient", ward="east") == {one.id}
        store.update({**one.resource, **on_ward("west")})
        assert ids(store, "Patient", ward="east") == set()
        assert ids(store, "Patient", ward="west") == {one.id}
        again = store.create(on_ward("west"), if_none_exist="ward=west")
        assert (again.id, again.created) == (one.id, False)
        store.delete("Patient", one.id)
        assert ids(store, "Patient", ward="west") == set()
        rows = store.database.write(lambda c: c.execute("SELECT count(*) FROM fhir_token").fetchone())
        assert rows == (0,)


def test_every_kind_of_parameter_and_where_it_may_stand(tmp_path: Path) -> None:
    add_package(package(tmp_path / "a.tgz", WARDS), tmp_path / "packages")
    with open_store(tmp_path) as store, serve(store) as base:
        reindexed(store, tmp_path)
        doctor = store.create({"resourceType": "Practitioner", "name": [{"family": "Arzt"}]})
        deputy = {"url": "http://example.org/deputy", "valueReference": {"reference": doctor.reference}}
        contact = [{"name": {"text": "X"}, "extension": [deputy]}]
        nick = [{"use": "nickname", "text": "Élo"}, {"use": "official", "text": "Muster"}]
        one = store.create(on_ward("east", contact=contact, name=nick))
        heavy = store.create(observation(one.reference, "29463-7", 80, effectiveDateTime="2026-02-03"))
        store.create(observation(one.reference, "29463-7", 0, effectiveDateTime="2025-02-03"))
        assert ids(store, "Patient", deputy=doctor.reference) == {one.id}
        assert ids(store, "Patient", alias="elo") == {one.id}
        assert ids(store, "Patient", alias="muster") == set()
        assert ids(store, "Patient", gender="female") == {one.id}
        assert ids(store, "Observation", weight="lt90") == {heavy.id}
        assert ids(store, "Observation", taken="ge2026") == {heavy.id}
        assert ids(store, "Observation", **{"patient.ward": "east", "weight": "gt1"}) == {heavy.id}
        page = store.search(
            "Patient", {"ward": "east", "_include": "Patient:deputy", "_sort": "alias"}, strict=True
        )
        assert {hit.type for hit in page.hits} == {"Patient", "Practitioner"}
        page = store.search("Practitioner", {"_has:Patient:deputy:ward": "east"}, strict=True)
        assert [hit.id for hit in page.matches] == [doctor.id]
        bundle = transaction(post(on_ward("east"), ifNoneExist="ward=east"))
        assert json.loads(store.transaction(bundle))["entry"][0]["response"]["status"].startswith("200")
        statement = httpx.get(f"{base}/metadata", timeout=60).json()
        (told,) = [r for r in statement["rest"][0]["resource"] if r["type"] == "Patient"]
        assert {"name": "ward", "type": "token", "definition": WARDS[0]["url"]} in told["searchParam"]
        assert "Patient:deputy" in told["searchInclude"]
        found = httpx.get(f"{base}/Patient?ward=east", headers={"prefer": "handling=strict"}, timeout=60)
        assert found.json()["entry"][0]["resource"]["id"] == one.id


def test_a_parameter_that_changes_is_indexed_anew_and_one_that_goes_leaves_nothing(tmp_path: Path) -> None:
    add_package(package(tmp_path / "a.tgz", WARDS), tmp_path / "packages")
    with open_store(tmp_path) as store:
        reindexed(store, tmp_path)
        one = store.create(on_ward("east", name=[{"family": "Nord"}]))
        changed = [parameter("ward", "string", "Patient", "Patient.name.family")]
        add_package(package(tmp_path / "b.tgz", changed, "2.0.0"), tmp_path / "packages")
        assert reindexed(store, tmp_path) == 1
        assert ids(store, "Patient", ward="nord") == {one.id}  # of two versions the later one counts
        for file in (tmp_path / "packages").glob("*.tgz"):
            file.unlink()
        before = store.database.write(lambda c: c.execute("SELECT count(*) FROM fhir_string").fetchone())
        reindexed(store, tmp_path)
        after = store.database.write(lambda c: c.execute("SELECT count(*) FROM fhir_string").fetchone())
        assert before is not None
        assert after == (int(str(before[0])) - 1,)
        with pytest.raises(FhirError, match="not known"):
            ids(store, "Patient", ward="nord")


def test_an_index_broken_off_goes_on_where_it_stood(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopError

    with open_store(tmp_path) as store:
        bundle = transaction(*(post(on_ward(f"w{n}")) for n in range(450)))
        store.transaction(bundle)
        add_package(package(tmp_path / "a.tgz", WARDS), tmp_path / "packages")
        parameters = PackageParameters(tmp_path / "packages", store.database)
        with pytest.raises(StopError):
            parameters.reindex(stop)
        assert store.package_parameters.keys() == {"Observation"} or not store.package_parameters
        assert parameters.reindex() == 250
        assert len(ids(store, "Patient", ward="w0,w199,w200,w449")) == 4


@pytest.mark.parametrize("version", ["610", "700"])
def test_search_parameters_of_us_core(tmp_path: Path, shared_data: Path, version: str) -> None:
    archive = shared_data / "fhir" / "us-core" / f"us_core_{version}.tgz"
    race = {
        "url": RACE,
        "extension": [
            {
                "url": "ombCategory",
                "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2028-9"},
            },
            {"url": "text", "valueString": "Asian"},
        ],
    }
    asserted = {
        "url": "http://hl7.org/fhir/StructureDefinition/condition-assertedDate",
        "valueDateTime": "2026-03-04",
    }
    with open_store(tmp_path) as store:
        one = store.create(patient(extension=[race]))
        condition = {
            "resourceType": "Condition",
            "subject": {"reference": one.reference},
            "extension": [asserted],
        }
        ill = store.create(condition)
        assert add_package(archive, tmp_path / "packages").search_parameters == 7
        assert reindexed(store, tmp_path) == 2
        assert ids(store, "Condition", **{"asserted-date": "2026-03"}) == {ill.id}
        found = {kind: sorted(known) for kind, known in store.package_parameters.items()}
        assert found == {
            "CareTeam": ["role"],
            "Condition": ["asserted-date"],
            "Encounter": ["discharge-disposition"],
            "Goal": ["description"],
            "Patient": ["ethnicity", "gender-identity", "race"],
        }
        assert ids(store, "Patient", race="2028-9") == {one.id}


def test_the_command_indexes_an_encrypted_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("DATA_DIR", tmp_path / "data"),
        ("ENCRYPTION_AT_REST", "true"),
        ("ENCRYPTION_KEYS", f"local:{tmp_path / 'keys.json'}"),
    ):
        monkeypatch.setenv(f"TWIN_{name}", str(value))
    settings = load_settings()
    services = open_services(settings.data_dir, boot_id="", node="TWIN", keys=open_keys(settings))
    with closing(services):
        services.fhir.create(on_ward("east"))
    assert main(["fhir", "package", "add", str(package(tmp_path / "a.tgz", WARDS)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["indexed"] == 1

"""Columns encrypted on a PostgreSQL server: nothing planted in dump or files, every search as before."""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from dicom_support import ct_slice, file_bytes
from digital_twins import StorageError
from digital_twins.config import Settings
from digital_twins.dicom import Level, Query, Worklist, WorklistItem
from digital_twins.dicom._query import find
from digital_twins.server import encrypt_folder, open_keys, open_services
from digital_twins.server._services import every_migration
from digital_twins.storage import ErasedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from digital_twins.server import Services
    from postgresql_server import PostgresServer

pytestmark = pytest.mark.peers
NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
IN_CLEAR = {
    "auth_assertion, auth_client, auth_code, auth_grant, auth_launch, auth_refresh, auth_session": "sign-in",
    "auth_user": "staff; secrets are digests or sealed",
    "auth_emergency.id, auth_emergency.username": "staff",
    "auth_authenticator, auth_registration": "staff, public keys, challenges",
    "governance_pending, governance_assertion": "staff, hashes, public keys",
    "audit_outbox": "pseudonyms, as the trail has them",
    "governance_signature": "staff, and hashes of what they signed",
    "migration": "schema",
    "fhir_resource.body, fhir_version.body, dicom_json.json": "sealed under the key of the patient",
    "fhir_resource, fhir_version, fhir_reference, fhir_coding.uri, fhir_uri, fhir_feed, fhir_subscription": (
        "types, ids, addresses"
    ),
    "fhir_quantity": "units",
    "fhir_search_parameter": "definitions",
    "dicom_patient.issuer, dicom_patient.namespace, dicom_patient.sex": "no identifier alone",
    "dicom_study, dicom_series, dicom_instance, dicom_arrival, dicom_unlink, dicom_hold": (
        "UIDs, dates, devices, hashes"
    ),
    "dicom_queue, dicom_queue_entry, dicom_queue_study, dicom_commitment, dicom_commitment_object": "UIDs",
    "dicom_availability, dicom_merge, dicom_performed_step, dicom_prefetch, dicom_series_request": "UIDs",
    "dicom_withdrawn, dicom_workitem, dicom_workitem_event, dicom_workitem_global": "UIDs, states",
    "dicom_workitem_subscriber, dicom_worklist": "UIDs, dates, devices",
    "bed_stay, bed_device": "beds and devices",
    "job": "kinds, states, opaque keys, errors without patient data",
    "server_erasure, server_output, server_patient, server_signed_report, server_stale": "opaque keys",
    "server_twin, server_twin_input, twin_version": "opaque keys, hashes",
}
"""Texts that are not encrypted, by table or column, and why; the rest of a table may be protected."""


class Planted:
    """Values of one patient that must stand in no file, all made of one word."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.mrn = f"MRN-{word}-7"
        self.family = f"Fam{word}"
        self.phone = f"+99 {word} 12345"
        self.street = f"{word} Street 77"
        self.note = f"told us {word} things"
        self.accession = f"A{word[:8]}"

    @property
    def needles(self) -> list[bytes]:
        return [self.word.encode(), self.word.lower().encode(), self.word.upper().encode()]

    def resource(self) -> dict[str, Any]:
        return {
            "resourceType": "Patient",
            "id": "p1",
            "identifier": [{"system": "urn:mrn", "value": self.mrn}],
            "name": [{"family": self.family, "given": ["Ada"]}],
            "telecom": [{"system": "phone", "value": self.phone}],
            "address": [{"line": [self.street], "city": f"{self.word}ville"}],
            "text": {
                "status": "generated",
                "div": f"<div xmlns='http://www.w3.org/1999/xhtml'>{self.note}</div>",
            },
        }


@pytest.fixture
def scratch(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of its own on the session's server."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS sealed WITH (FORCE)")
        connection.execute("CREATE DATABASE sealed TEMPLATE template0")
    yield postgres_server.url.replace("/twin?", "/sealed?")
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE sealed WITH (FORCE)")


def settings(folder: Path, url: str, *, encrypted: bool) -> Settings:
    keys = {"encryption_at_rest": True, "encryption_keys": f"local:{folder / 'wrapping.json'}"}
    return Settings(data_dir=folder / "data", database=url, **(keys if encrypted else {}))


@contextmanager
def opened(chosen: Settings) -> Iterator[Services]:
    keys = open_keys(chosen)
    with closing(open_services(chosen.data_dir, boot_id="", server=chosen.database, keys=keys)) as services:
        yield services


def fill(services: Services, planted: Planted) -> None:
    image = ct_slice(1, patient=planted.mrn, study="1", series="1.1", size=8)
    image.PatientName = f"{planted.family}^Ada"
    image.PatientBirthDate = "19620309"
    image.AccessionNumber = planted.accession
    image.StudyDescription = f"CT of {planted.word}"
    image.ReferringPhysicianName = f"Dr{planted.word}^B"
    services.dicom.ingest(file_bytes(image))
    services.fhir.update(planted.resource())
    services.fhir.update({**planted.resource(), "gender": "female"})
    other = {"resourceType": "Patient", "id": "p2", "name": [{"family": "Aaron"}]}
    services.fhir.update(other)
    services.catalogue.patient_key(planted.mrn)
    services.jobs.enqueue("test", {"patient": planted.mrn}, key="job/1")
    services.database.write(lambda cursor: services.beds.move_in(cursor, planted.mrn, "B1", at=NOW))
    item = WorklistItem(
        study_uid="1.2.3.9",
        step_id="S1",
        patient_id=planted.mrn,
        patient_name=f"{planted.family}^Ada",
        modality="CT",
        station_ae_title="CT1",
        start_date="20260301",
        accession_number=planted.accession,
    )
    Worklist(services.dicom).put(item)


def ids(services: Services, **parameters: str) -> list[str]:
    return [hit.id for hit in services.fhir.search("Patient", parameters).hits]


def check(services: Services, planted: Planted) -> None:
    """Equality, beginnings, parts, order, words and phrases, dates: all find what they found in clear."""
    assert ids(services, identifier=f"urn:mrn|{planted.mrn}") == ["p1"]
    assert ids(services, phone=planted.phone) == ["p1"]
    assert ids(services, family=planted.family[:5].lower()) == ["p1"]
    assert ids(services, **{"family:exact": planted.family}) == ["p1"]
    assert ids(services, **{"address:contains": planted.word[3:9].lower()}) == ["p1"]
    assert ids(services, _content=f'"{planted.word} things"') == ["p1"]
    assert ids(services, _text=planted.word) == ["p1"]
    assert ids(services, _sort="family") == ["p2", "p1"]
    assert ids(services, _sort="-family") == ["p1", "p2"]
    (study,) = find(
        services.database,
        Query(
            Level.STUDY,
            {
                "PatientName": f"{planted.family[:4]}*",
                "PatientBirthDate": "19600101-19641231",
                "StudyDescription": "CT of ?*",
                "AccessionNumber": planted.accession,
            },
        ),
        limit=9,
    )
    assert study["PatientID"] == planted.mrn
    fuzzy = Query(Level.PATIENT, {"PatientName": planted.family}, fuzzy_names=True)
    assert [each["PatientID"] for each in find(services.database, fuzzy, limit=9)] == [planted.mrn]
    assert services.beds.patients_in("B1", NOW) == (planted.mrn,)
    assert [entry.patient_id for entry in services.catalogue.patients()] == [planted.mrn]
    assert [each.patient_id for each in Worklist(services.dicom).items()] == [planted.mrn]
    assert services.jobs.get(job_of(services)).payload == {"patient": planted.mrn}


def job_of(services: Services) -> str:
    with services.database.read() as connection:
        (found,) = connection.execute("SELECT job_id FROM job").fetchall()
    return str(found[0])


def in_files(server: PostgresServer, planted: Planted) -> set[str]:
    """Files of the server that hold a planted value."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    found = set()
    for path in server.data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if any(needle in content for needle in planted.needles):
                found.add(path.relative_to(server.data).parts[0])
    return found


def in_dump(server: PostgresServer, planted: Planted) -> bool:
    content = server.dump("sealed")
    return any(needle in content for needle in planted.needles)


def test_no_planted_value_is_in_the_dump_or_in_any_file_and_all_is_found(
    scratch: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    planted = Planted("Zyxplantedqvw")
    with opened(settings(tmp_path, scratch, encrypted=True)) as services:
        fill(services, planted)
        check(services, planted)
        assert not in_dump(postgres_server, planted)
        assert in_files(postgres_server, planted) == set()
        with pytest.raises(StorageError, match=r"encryption_at_rest is off"):
            open_services(tmp_path / "elsewhere", boot_id="", server=scratch)
    (tmp_path / "other").mkdir()
    with (
        pytest.raises(StorageError, match="keys of another data folder"),
        opened(settings(tmp_path / "other", scratch, encrypted=True)),
    ):
        pass


def test_rows_in_clear_are_refused_and_encrypted_in_one_transaction(
    scratch: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    planted = Planted("Wvutplantedpon")
    with opened(settings(tmp_path, scratch, encrypted=False)) as services:
        fill(services, planted)
        check(services, planted)
    assert in_dump(postgres_server, planted)  # the test finds what is there
    assert in_files(postgres_server, planted) >= {"base", "pg_wal"}
    chosen = settings(tmp_path, scratch, encrypted=True)
    with pytest.raises(StorageError, match="twin keys encrypt"), opened(chosen):
        pass
    done = encrypt_folder(chosen)
    assert done.database
    assert not in_dump(postgres_server, planted)
    with opened(chosen) as services:
        check(services, planted)
        assert services.fhir.vread("Patient", "p1", 1).resource["name"][0]["family"] == planted.family
    assert not encrypt_folder(chosen).database


def test_a_dump_from_before_does_not_bring_an_erased_patient_back(
    scratch: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    planted = Planted("Qrsplantedlmn")
    chosen = settings(tmp_path, scratch, encrypted=True)
    with opened(chosen) as services:
        fill(services, planted)
        assert services.keys is not None
        services.keys.destroy([services.keys.tag("fhir:Patient/p1")])
        for version in (1, 2):
            with pytest.raises(ErasedError):
                services.fhir.vread("Patient", "p1", version)
        assert services.fhir.read("Patient", "p2").resource["name"] == [{"family": "Aaron"}]


def test_every_text_of_the_schema_is_protected_or_named_as_clear(scratch: str, tmp_path: Path) -> None:
    with opened(settings(tmp_path, scratch, encrypted=True)):
        named = {each.strip() for group in IN_CLEAR for each in group.split(",")}
        protected = {column for step in every_migration() for column in step.protected}
    with psycopg.connect(scratch) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'twin'"
            " AND data_type IN ('text', 'bytea') AND table_name <> 'sqlite_master'"
        ).fetchall()
    texts = {f"{table}.{column}" for table, column in rows}
    assert protected <= texts
    assert len(protected) > 40
    left = {each for each in texts - protected if not {each, each.split(".")[0]} & named}
    assert left == set()
    known = texts | {each.split(".")[0] for each in texts}
    assert named <= known, "a name of this list is no longer in the schema"

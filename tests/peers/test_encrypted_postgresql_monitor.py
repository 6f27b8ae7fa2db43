"""The monitor's tables on a PostgreSQL server, encrypted by one setting: nothing of a patient in them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from digital_twins import StorageError
from digital_twins.monitoring import MIGRATIONS, open_monitor_database
from monitor_process import NURSE, Served, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from postgresql_server import PostgresServer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(280)]
PATIENT = "ZYXPLANTEDQVW"
IN_CLEAR = {
    "monitor_step.key": "which rule",
    "monitor_step.step, monitor_step.by": "what was done, and the staff's name",
    "monitor_association.kind": "bed or device",
    "monitor_delivery.channel, monitor_delivery.step, monitor_delivery.role": "where a message goes",
    "monitor_delivery.state, monitor_delivery.problem": "what became of it",
    "monitor_identity.ward, monitor_worker.owner, monitor_lease.owner": "random names",
    "monitor_mail.kind, monitor_answer.name": "kinds, random names",
    "monitor_plan.plan": "rules and devices",
    "audit_outbox": "pseudonyms, as the trail has them",
    "migration": "schema",
}
"""Texts that are not encrypted, and why."""


@pytest.fixture
def scratch(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of its own on the session's server."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS ward WITH (FORCE)")
        connection.execute("CREATE DATABASE ward TEMPLATE template0")
    yield postgres_server.url.replace("/twin?", "/ward?")
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE ward WITH (FORCE)")


def environment(folder: Path, url: str, *, encrypted: bool) -> dict[str, str]:
    keys = {"TWIN_ENCRYPTION_AT_REST": "true", "TWIN_ENCRYPTION_KEYS": f"local:{folder / 'wrapping.json'}"}
    return {"TWIN_DATABASE": url, **(keys if encrypted else {})}


def fill(served: Served) -> None:
    """A bed with a patient, readings, and an alert."""
    served.admit("D1", PATIENT)
    reading = {"t": time.time(), "v": {"HR": 61.5}, "e": ["vf"]}
    answer = served.client.post("/readings/D1", json=reading, headers={"Authorization": "Bearer one"})
    answer.raise_for_status()
    until(lambda: "event:vf" in served.alerts())
    number = served.alerts()["event:vf"]["id"]
    served.client.post(f"/alerts/{number}/acknowledge", headers=NURSE).raise_for_status()


def beds(served: Served) -> list[str]:
    found = served.client.get("/patients", headers=NURSE).json()["patients"]
    return [each["patient"] for each in found]


def in_dump(server: PostgresServer) -> bool:
    content = server.dump("ward")
    texts = [PATIENT, PATIENT.encode().hex()]  # bytes are dumped in hexadecimal
    return any(each.encode() in content for each in texts)


def in_files(server: PostgresServer) -> set[str]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    return {
        path.relative_to(server.data).parts[0]
        for path in server.data.rglob("*")
        if path.is_file() and PATIENT.encode() in path.read_bytes()
    }


def test_no_file_of_the_server_holds_a_patient_and_the_ward_goes_on(
    scratch: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    chosen = environment(tmp_path, scratch, encrypted=True)
    first = Served(tmp_path, environment=chosen)
    try:
        fill(first)
    finally:
        first.end()
    assert not in_dump(postgres_server)
    assert in_files(postgres_server) == set()
    with pytest.raises(StorageError, match="encryption_at_rest is off"):
        open_monitor_database(tmp_path / "elsewhere", server=scratch)
    with pytest.raises(StorageError, match="keys of another data folder"):
        open_monitor_database(tmp_path / "elsewhere", server=scratch, key=bytes(32))
    again = Served(tmp_path, environment=chosen)
    try:
        assert beds(again) == [PATIENT]
        assert again.alerts()["event:vf"]["acknowledged_by"] == "N. N."
    finally:
        again.kill()


def test_a_schema_in_clear_is_encrypted_when_it_is_opened_with_a_key(
    scratch: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with open_monitor_database(tmp_path / "data", server=scratch) as database:
        database.write(
            lambda cursor: cursor.execute(
                "INSERT INTO monitor_association(kind, subject, target, since_s) VALUES ('bed', 'B1', ?, 0)",
                (PATIENT,),
            ).fetchall()
        )
        database.write(
            lambda cursor: cursor.execute(
                "INSERT INTO monitor_journal(part, data) VALUES (0, ?)", (PATIENT.encode(),)
            ).fetchall()
        )
    assert in_dump(postgres_server)  # the search finds what is there
    for _ in range(2):
        with open_monitor_database(tmp_path / "data", server=scratch, key=bytes(32)) as database:
            assert not in_dump(postgres_server)
            with database.read() as connection:
                bed = connection.execute("SELECT subject, target FROM monitor_association").fetchall()
                journal = connection.execute("SELECT data FROM monitor_journal").fetchall()
            assert bed == [("B1", PATIENT)]
            assert journal == [(PATIENT.encode(),)]


def test_every_text_of_the_schema_is_protected_or_named_as_clear(scratch: str, tmp_path: Path) -> None:
    open_monitor_database(tmp_path, server=scratch, key=bytes(32)).close()
    named = {each.strip() for group in IN_CLEAR for each in group.split(",")}
    protected = {column for step in MIGRATIONS for column in step.protected}
    with psycopg.connect(scratch) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'monitor'"
            " AND data_type IN ('text', 'bytea') AND table_name <> 'sqlite_master'"
        ).fetchall()
    texts = {f"{table}.{column}" for table, column in rows}
    assert protected <= texts
    assert {each for each in texts - protected if not {each, each.split(".")[0]} & named} == set()
    assert named <= texts | {each.split(".")[0] for each in texts}

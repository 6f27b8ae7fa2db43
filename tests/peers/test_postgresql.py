"""What is PostgreSQL's own: the server's and the clients' death, the audit trail there, a whole node on it.

The rooms' other tests run on it by `both_databases`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from dicom_support import ct_slice, file_bytes
from digital_twins import ConflictError, InputError, NotFoundError, StorageError
from digital_twins.audit import AuditEvent, AuditTrail, export_trail, prove_event, verify_trail
from digital_twins.cli import main
from digital_twins.config import Settings, load_settings
from digital_twins.dicom import Remote, send
from digital_twins.samples import sample_patient
from digital_twins.server import Node, open_keys, open_services
from digital_twins.storage import Database, Migration, RowKeys, server_state
from digital_twins.storage._dialect import schema_sql, statement
from monitor_process import DEVICE, NURSE, Served, until

if TYPE_CHECKING:
    from postgresql_server import PostgresServer

pytestmark = pytest.mark.peers
ROOT = Path(__file__).parents[2]
ERASED = "ZQ-ERASED-7"
TABLE = Migration("test.0001", "CREATE TABLE item(number INTEGER PRIMARY KEY, body TEXT)")


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    """A database of its own on the session's server."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS scratch WITH (FORCE)")
        connection.execute("CREATE DATABASE scratch TEMPLATE template0")
    return postgres_server.url.replace("/twin?", "/scratch?")


def insert(number: int) -> Any:
    return lambda cursor: cursor.execute("INSERT INTO item VALUES (?, ?)", (number, "x")) and number


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT number FROM item ORDER BY number")]


def test_sql_is_translated_outside_of_texts_only() -> None:
    assert (
        statement("SELECT '?' || ?, \"a?\" FROM t WHERE b = ?")
        == "SELECT '?' || $1, \"a?\" FROM t WHERE b = $2"
    )
    assert statement("UPDATE t SET a = ?2 WHERE b = ?1") == "UPDATE t SET a = $2 WHERE b = $1"
    assert (
        statement("INSERT OR IGNORE INTO t VALUES (?)") == "INSERT INTO t VALUES ($1) ON CONFLICT DO NOTHING"
    )
    assert "WITHOUT" not in schema_sql("CREATE TABLE t(a TEXT PRIMARY KEY) WITHOUT ROWID;")


def test_glob_means_the_same_on_both(url: str, tmp_path: Path) -> None:
    texts = ["Mul", "mul", "Mu*l", "Mu?l", "M[l", "a%b", "a_b", "a\\b", "axb", "", "Müller", "日本"]
    patterns = ["*", "M*", "Mu[*]l", "Mu[?]l", "M[[]l", "a%b", "a_b", "a\\b", "a?b", "?ul", "*ü*", "日?"]
    found = []
    for server in ("", url):
        with (
            Database(tmp_path / "glob.db", migrations=[TABLE], server=server) as database,
        ):
            rows = list(enumerate(texts))
            database.write(
                lambda c, rows=rows: c.executemany("INSERT INTO item VALUES (?, ?)", rows) and None
            )
            with database.read() as connection:
                found.append(
                    [
                        connection.execute(
                            "SELECT number FROM item WHERE body GLOB ? ORDER BY number", (pattern,)
                        ).fetchall()
                        for pattern in patterns
                    ]
                )
    assert found[0] == found[1]
    assert found[0][0] == [(n,) for n in range(len(texts))]


WRITE_AND_SAY = """
import sys, threading
from digital_twins.storage import Database, Migration
table = Migration("test.0001", "CREATE TABLE item(number INTEGER PRIMARY KEY, body TEXT)")
database = Database("node.db", migrations=[table], server=sys.argv[1])
def loop(number):
    while True:
        database.write(lambda cursor: cursor.execute("INSERT INTO item VALUES (?, 'x')", (number,)) and None)
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
        number += 4
for offset in range(4):
    threading.Thread(target=loop, args=(int(sys.argv[2]) + offset,)).start()
"""


def writer(url: str, start: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE_AND_SAY, url, str(start)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def test_what_was_acknowledged_survives_kill_9_of_node_and_server(
    url: str, postgres_server: PostgresServer, full: bool
) -> None:
    chance = random.Random(20261125)
    said: list[int] = []
    for number in range(50 if full else 4):
        process = writer(url, number * 10_000_000)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.2))  # the moment of the kill, which is meant to be random
        if number % 2:
            postgres_server.kill()
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        if number % 2:
            postgres_server.start()
        said += [int(line) for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]
        with Database("node.db", server=url) as database:
            assert set(said) <= set(numbers(database))
    assert len(said) >= 4


def test_a_lost_server_is_reported_and_found_again(url: str, postgres_server: PostgresServer) -> None:
    with Database("node.db", migrations=[TABLE], server=url) as database:
        database.write(insert(1))
        assert numbers(database) == [1]
        postgres_server.kill()
        with pytest.raises(StorageError, match="PostgreSQL"):
            database.write(insert(2))
        with pytest.raises(StorageError, match="PostgreSQL"):
            numbers(database)
        postgres_server.start()
        assert database.write(insert(3)) == 3
        assert numbers(database) == [1, 3]


def test_two_processes_write_one_after_the_other(url: str) -> None:
    """Rows of several processes appear in the order of their numbers, as in SQLite: no reader skips one."""
    table = Migration("t", "CREATE TABLE line(id INTEGER PRIMARY KEY AUTOINCREMENT, who INTEGER NOT NULL)")
    seen: list[int] = []
    stop = threading.Event()
    with (
        Database("node.db", migrations=[table], server=url) as one,
        Database("node.db", migrations=[table], server=url) as two,
    ):

        def follow() -> None:
            while not stop.is_set() or len(seen) < 400:
                with one.read() as connection:
                    last = seen[-1] if seen else 0
                    rows = connection.execute("SELECT id FROM line WHERE id > ? ORDER BY id", (last,))
                    seen.extend(row[0] for row in rows)

        def write(database: Database, who: int) -> None:
            for _ in range(200):
                database.write(lambda c: c.execute("INSERT INTO line(who) VALUES (?)", (who,)) and None)

        reader = threading.Thread(target=follow)
        writers = [threading.Thread(target=write, args=pair) for pair in ((one, 1), (two, 2))]
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        reader.join(60)
        with one.read() as connection:
            rows = [row[0] for row in connection.execute("SELECT id FROM line ORDER BY id")]
    assert seen == rows
    assert len(seen) == 400


def test_urls_with_a_password_and_of_others_are_refused() -> None:
    for url in ("postgresql://twin:geheim@localhost/twin", "mysql://localhost/twin"):
        with pytest.raises(InputError) as caught:
            Database("node.db", server=url)
        assert "geheim" not in str(caught.value)
    with pytest.raises(StorageError, match="cannot be reached"):
        Database("node.db", server="postgresql://twin@127.0.0.1:1/twin")


def test_a_text_with_nul_is_refused_and_the_rest_goes_on(url: str) -> None:
    with Database("node.db", migrations=[TABLE], server=url) as database:
        with pytest.raises(InputError, match="NUL"):
            database.write(lambda c: c.execute("INSERT INTO item VALUES (1, ?)", ("a\0b",)) and None)
        assert database.write(insert(2)) == 2
        assert numbers(database) == [2]


def event(number: int) -> AuditEvent:
    return AuditEvent("C", "dicom.store", "success", "SCU", entity=f"1.2.{number}", patient="ab" * 32)


def test_the_audit_trail_is_chained_signed_guarded_and_verified(url: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.sqlite"
    with AuditTrail(path, server=url) as trail:
        writers = [
            threading.Thread(target=lambda n=n: [trail.append([event(n * 100 + k)]) for k in range(70)])
            for n in range(8)
        ]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        assert trail.append([event(0), first := event(1)]) == 2
        assert trail.append([first]) == 0
    assert not path.exists()
    report = verify_trail(path)
    assert report.ok, report.problems
    assert report.events == report.signed_events == 562
    assert prove_event(path, 300).seq == 300
    assert len(list(export_trail(path, after=500))) == 62
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path TO audit")
        for text in ("UPDATE audit_event SET body = ''", "DELETE FROM audit_event", "TRUNCATE audit_event"):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(text)
        connection.execute("ALTER TABLE audit_event DISABLE TRIGGER ALL")
        connection.execute("UPDATE audit_event SET body = replace(body, 'SCU', 'XCU') WHERE seq = 77")
    report = verify_trail(path)
    assert {problem.seq for problem in report.problems if problem.seq} == {77}
    assert sum("trigger" in problem.what for problem in report.problems) == 2
    with pytest.raises(StorageError, match="cannot go on"):
        AuditTrail(path)


def test_a_trail_in_a_file_does_not_go_on_on_a_server(url: str, tmp_path: Path) -> None:
    with AuditTrail(tmp_path / "audit.sqlite") as trail:
        trail.append([event(1)])
    with pytest.raises(StorageError, match="cannot go on"):
        AuditTrail(tmp_path / "audit.sqlite", server=url)
    assert verify_trail(tmp_path / "audit.sqlite").ok


def test_guards_answer_as_in_sqlite(url: str, tmp_path: Path) -> None:
    guarded = Migration(
        "g",
        "CREATE TABLE kept(a INTEGER PRIMARY KEY);"
        "CREATE TRIGGER kept_no_delete BEFORE DELETE ON kept"
        " BEGIN SELECT RAISE(ABORT, 'kept for ever'); END;",
    )
    for server in ("", url):
        with Database(tmp_path / "g.db", migrations=[guarded], server=server) as database:
            database.write(lambda c: c.execute("INSERT INTO kept VALUES (1)") and None)
            with pytest.raises(ConflictError, match="kept for ever"):
                database.write(lambda c: c.execute("DELETE FROM kept") and None)


def test_doctor_names_the_database(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWIN_DATABASE", url)
    monkeypatch.setenv("TWIN_DICOM_PORT", "0")
    monkeypatch.setenv("TWIN_HTTP_PORT", "0")
    main(["doctor", "--json", "--data", str(tmp_path)])
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert "PostgreSQL 1" in found["database"]["found"]
    assert server_state(url).unsafe == ()


@pytest.mark.timeout(280)
def test_a_whole_node_keeps_everything_on_the_server(url: str, tmp_path: Path) -> None:
    sample = sample_patient("lung")
    chosen = Settings(
        data_dir=tmp_path / "data",
        database=url,
        dicom_port=0,
        http_port=0,
        study_stable_seconds=0.5,
        log_level="WARNING",
    )
    with Node(chosen) as node:
        send(Remote("127.0.0.1", node.dicom_port), sample.datasets())
        answer = httpx.post(f"{node.base_url}/fhir", json=sample.fhir_bundle(), timeout=60)
        assert answer.status_code == 200, answer.text
        patient = built(node)
        assert patient["latest_job"]["state"] == "succeeded", patient["latest_job"]["error"]
        reports = httpx.get(f"{node.base_url}/fhir/DiagnosticReport", timeout=60).json()
        assert reports["entry"]
    assert [path.name for path in (tmp_path / "data").rglob("*.sqlite*")] == []
    with Node(chosen) as node:
        twin = httpx.get(f"{node.base_url}/api/twins/{patient['twin_id']}", timeout=60)
        assert twin.status_code == 200, twin.text
        studies = httpx.get(f"{node.base_url}/dicom-web/studies", timeout=60).json()
        assert studies
    report = verify_trail(chosen.audit_file)
    assert report.ok, report.problems
    assert report.events > 10


@pytest.mark.timeout(280)
def test_a_monitor_and_its_trail_on_the_server_outlive_a_kill(url: str, tmp_path: Path) -> None:
    first = Served(tmp_path, environment={"TWIN_DATABASE": url})
    try:
        for kind, subject, target in (("device", "D1", "B1"), ("bed", "B1", "P1")):
            body = {"kind": kind, "subject": subject, "target": target, "since_s": 0}
            first.client.post("/associations", json=body, headers=NURSE).raise_for_status()
        low = {"t": time.time(), "v": {"NIBP_SYS": 65}, "e": ["vf"]}
        first.client.post("/readings/D1", json=low, headers=DEVICE).raise_for_status()
        until(lambda: "event:vf" in first.alerts())
        number = first.alerts()["event:vf"]["id"]
        first.client.post(f"/alerts/{number}/acknowledge", headers=NURSE).raise_for_status()
    finally:
        first.kill()
    second = Served(tmp_path, environment={"TWIN_DATABASE": url})
    trail = tmp_path / "data" / "audit.sqlite"
    try:
        assert second.alerts()["event:vf"]["acknowledged_by"] == "N. N."
        until(lambda: "monitor.alert.acknowledged" in "".join(export_trail(trail)))
    finally:
        second.kill()
    assert verify_trail(trail).ok
    assert [path.name for path in (tmp_path / "data").rglob("*.sqlite")] == []


def built(node: Node) -> dict[str, Any]:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        for patient in httpx.get(f"{node.base_url}/api/patients", timeout=60).json():
            if ((patient.get("latest_job") or {}).get("state")) in {"succeeded", "failed"}:
                found: dict[str, Any] = patient
                return found
        time.sleep(0.2)
    raise AssertionError("no twin was built in time")


def test_a_patient_is_erased_from_the_server(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows go from the server, blobs lose their key; refused before the years are over and under a hold."""
    monkeypatch.chdir(tmp_path)
    keeper = f"local:{tmp_path / 'wrapping.json'}"

    def configured(years: float) -> Settings:
        (tmp_path / "twin.toml").write_text(
            f'data_dir = "data"\ndatabase = "{url}"\nencryption_at_rest = true\n'
            f'encryption_keys = "{keeper}"\nrecord_retention_years = {years}\n'
        )
        return load_settings(config_file=tmp_path / "twin.toml")

    settings = configured(10)
    folder = settings.data_dir
    with closing(open_services(folder, boot_id="", server=url, keys=open_keys(settings))) as services:
        for number, patient in enumerate((ERASED, "P2"), 1):
            image = ct_slice(1, patient=patient, study=str(number), series=f"{number}.1", size=8)
            image.StudyDate = datetime.now(tz=UTC).strftime("%Y%m%d")
            services.dicom.ingest(file_bytes(image))
            person = {"resourceType": "Patient", "id": f"p{number}", "birthDate": "1960-01-01"}
            services.fhir.update({**person, "identifier": [{"system": "urn:mrn", "value": patient}]})
        kept = services.dicom.instance("1.2.3.1.1.1").digest
    erase = ["keys", "erase", "--patient", ERASED, "--reason", "asked for"]
    assert main(erase) == 1
    assert "must be kept until" in capsys.readouterr().err
    configured(0)
    assert main(["dicom", "hold", "1.2.3.1", "--reason", "court"]) == 0
    assert main(erase) == 1
    assert main(["dicom", "release", "1.2.3.1"]) == 0
    assert main(erase) == 0, capsys.readouterr().err
    with closing(open_services(folder, boot_id="", server=url, keys=open_keys(settings))) as services:
        assert not services.blobs.path(kept).exists()
        with pytest.raises(NotFoundError):
            services.dicom.instance("1.2.3.1.1.1")
        assert services.dicom.dataset("1.2.3.2.1.1").PatientID == "P2"
        assert services.fhir.count("Patient") == 1
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('twin', 'audit')"
        ).fetchall()
        rows = [
            (table, str(row))
            for schema, table in tables
            for row in connection.execute(f'SELECT t::text FROM "{schema}"."{table}" t').fetchall()
        ]
    with closing(open_keys(settings)) as keys:
        assert keys is not None
        hidden = {name: RowKeys(keys).hide(name, "patient_id") for name in (ERASED, "P2")}
    assert any(hidden["P2"] in row for _, row in rows)
    for text in (ERASED, hidden[ERASED]):
        assert [table for table, row in rows if text in row] == []
    assert {table for table, row in rows if "1.2.3.1.1.1" in row} <= {"audit_event"}  # UIDs stay in the trail
    assert verify_trail(settings.audit_file).ok

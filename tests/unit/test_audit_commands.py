"""Every command of `twin` that touches a patient writes exactly one event; one that is not listed does not start."""

# ruff: noqa: E501  (a table of commands: one a line)
from __future__ import annotations

import getpass
import io
import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import pytest
import typer
from argon2 import PasswordHasher, profiles

from dicom_support import ct_slice, file_bytes
from digital_twins import InputError, StorageError
from digital_twins.audit import tail_trail
from digital_twins.auth._passwords import totp_code
from digital_twins.cli._events import COMMANDS, FILES, NODE, with_events
from digital_twins.cli._main import build_app, main
from digital_twins.config import Settings
from digital_twins.server import open_keys, open_services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(1800)
PASSWORD = "correct horse battery staple"
GONE = "1.2.3.4.5"
ON_FILES = {
    "build": ("--image", "none.nii", "--mask", "none.nii", "--patient-id", "P1", "--out", "p.twin"),
    "simulate": ("none.twin", "--treatment", "{}", "--horizon", "30"),
    "cite": ("none.twin",),
    "deid": ("incoming", "outgoing"),
    "growth fit": ("volumes.csv", "--patient", "patient", "--time", "time", "--volume", "volume"),
    "dicom store": ("127.0.0.1:9", "none.dcm"),
    "dicom find": ("127.0.0.1:9", "-k", "PatientID=P1"),
    "dicom move": ("127.0.0.1:9", "ELSEWHERE", "-k", "StudyInstanceUID=1.2"),
    "dicom get": ("127.0.0.1:9", "got", "-k", "StudyInstanceUID=1.2"),
    "dicom worklist": ("127.0.0.1:9",),
    "fhir view": ("none.json", "patient.json"),
    "fhir path": ("Patient.id", "patient.json"),
    "fhir validate": ("patient.json",),
    "fhir load": ("patient.json", "--to", "http://127.0.0.1:9/fhir"),
    "hl7 send": ("message.hl7", "--to", "127.0.0.1:9"),
    "hl7 parse": ("message.hl7",),
    "monitor train": ("--train", "none", "--out", "model"),
    "monitor evaluate": ("--train", "none", "--test", "none"),
    "report documents": ("documents",),
    "report verify": ("none.pdf", "--signature", "none.json"),
}
"""Arguments for each command on files or peers; some succeed, most find nothing there."""
SUCCEED = {"deid", "report documents", "fhir path", "fhir validate", "hl7 parse"}
MESSAGE = "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5.1\rPID|1||P1^^^H^MR||Doe^Jane\r"


def leaves(command: Any, before: tuple[str, ...] = ()) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(before)
        return
    for name, each in inner.items():
        yield from leaves(each, (*before, name))


def test_every_command_is_listed():
    assert sorted(leaves(typer.main.get_command(build_app()))) == sorted(COMMANDS)
    assert all(len(why) > 10 for why in COMMANDS.values() if why not in {NODE, FILES})
    assert set(ON_FILES) == {name for name, why in COMMANDS.items() if why == FILES}


def test_a_command_that_is_not_listed_does_not_start():
    app = typer.Typer()
    app.command("new")(lambda: None)
    with pytest.raises(KeyError, match="new"):
        with_events(app)


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Iterator[Settings]:
    """An encrypted data folder with studies of two patients and an image that waits in a queue."""
    made = Settings(
        data_dir=tmp_path / "data", encryption_at_rest=True, encryption_keys=f"local:{tmp_path / 'keys.json'}",
        audit_commands=True, record_retention_years=0,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in (
        "data_dir",
        "encryption_at_rest",
        "encryption_keys",
        "audit_commands",
        "record_retention_years",
    ):
        monkeypatch.setenv(f"TWIN_{name.upper()}", str(getattr(made, name)))
    with closing(open_services(made.data_dir, boot_id="", keys=open_keys(made))) as services:
        services.dicom.ingest(file_bytes(ct_slice(1, size=8)))
        services.dicom.ingest(file_bytes(ct_slice(1, patient="P2", study="2", series="2.1", size=8)))
        services.database.write(
            lambda cursor: cursor.execute("INSERT INTO dicom_queue (destination) VALUES ('PACS')") and None
        )
    cheap = PasswordHasher.from_parameters(profiles.CHEAPEST)
    with patch("digital_twins.auth._passwords._hasher", lambda: cheap):
        yield made


def told(settings: Settings) -> list[tuple[str, str, str]]:
    """Kind, outcome and agent of every event, those in the trail and those on their way to it."""
    with (
        closing(open_services(settings.data_dir, boot_id="", keys=open_keys(settings))) as services,
        services.database.read() as connection,
    ):
        found = connection.execute("SELECT body FROM audit_outbox ORDER BY seq").fetchall()
    rows = [json.loads(str(body)) for (body,) in found]
    kept = (
        [row.event for row in tail_trail(settings.audit_file, n=100_000)]
        if settings.audit_file.exists()
        else []
    )
    return [(e.kind, e.outcome, e.agent) for e in kept] + [
        (e["kind"], e["outcome"], e["agent"]) for e in rows
    ]


def run(capsys: Any, monkeypatch: Any, command: str, *words: str, stdin: str = "") -> tuple[int, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    code = main([*command.split(), *words])
    said = capsys.readouterr()
    assert "nobody has foreseen" not in said.err, said.err
    return code, said.out


def test_each_command_on_files_is_one_event(settings, tmp_path, capsys, monkeypatch):
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "a.dcm").write_bytes(file_bytes(ct_slice(1, size=8)))
    (tmp_path / "patient.json").write_text('{"resourceType": "Patient", "id": "p1"}')
    (tmp_path / "message.hl7").write_text(MESSAGE)
    (tmp_path / "volumes.csv").write_text(
        "patient,time,volume\n" + "".join(f"P1,{d},{10 * 1.01**d}\n" for d in range(0, 80, 10))
    )
    before, wrong = len(told(settings)), []
    for command, words in ON_FILES.items():
        code, _ = run(capsys, monkeypatch, command, *words)
        events = told(settings)[before:]
        before += len(events)
        good = code == 0 and command in SUCCEED
        outcomes = {"success"} if good else {"refused", "failure"}
        if (code == 0) != (command in SUCCEED) or len(events) != 1:
            wrong.append((command, code, events))
            continue
        ((kind, outcome, agent),) = events
        if (
            kind != f"cli.{command.replace(' ', '.')}"
            or outcome not in outcomes
            or getpass.getuser() not in agent
        ):
            wrong.append((command, code, events))
    assert wrong == [], "\n".join(map(str, wrong))


def test_each_command_on_the_node_is_one_event(settings, tmp_path, capsys, monkeypatch):
    note, secret, wrong, done = "", "", [], set()
    before = len(told(settings))
    for command, words, kinds in on_the_node(tmp_path):
        given = f"{PASSWORD}\n" + (f"{totp_code(secret, int(time.time()) // 30)}\n" if secret else "")
        ready = [word.replace("{note}", note) for word in words]
        code, out = run(capsys, monkeypatch, command, *ready, stdin=given)
        if command == "dicom reject":
            note = json.loads(out)["note"]
        if command == "auth user add":
            secret = parse_qs(urlsplit(json.loads(out)["totp"]).query)["secret"][0]
        events = told(settings)[before:]
        before += len(events)
        done.add(command)
        if code or sorted(kind for kind, _, _ in events) != sorted(kinds):
            wrong.append((command, code, events))
    assert wrong == [], "\n".join(map(str, wrong))
    assert done == {name for name, why in COMMANDS.items() if why == NODE} - {"keys encrypt"}


def on_the_node(folder: Path) -> list[tuple[str, tuple[str, ...], list[str]]]:
    """Command, arguments and kinds of its events, in an order that works.

    `keys encrypt` has a test of its own. A rejection note is an object too, and its storage an event of its own; so is the end of the session in which somebody signs.
    """
    (folder / "plan.pdf").write_bytes(b"%PDF-1.7 plan")
    study = "1.2.3.1"
    return [
        ("dicom hold", (study, "--reason", "court"), ["dicom.hold"]),
        ("dicom holds", (), ["cli.dicom.holds"]),
        ("dicom release", (study,), ["dicom.release"]),
        ("dicom retention", ("--dry-run",), ["cli.dicom.retention"]),
        ("dicom reject", (study, "--reason", "113001", "--json"), ["dicom.reject", "dicom.store"]),
        ("dicom restore", ("{note}",), ["dicom.restore"]),
        ("dicom merge", ("P1", "P2"), ["dicom.patient.merge"]),
        ("dicom unmerge", ("1",), ["dicom.patient.unmerge"]),
        ("dicom queue pause", ("PACS",), ["dicom.queue.pause"]),
        ("dicom queue resume", ("PACS",), ["dicom.queue.resume"]),
        ("dicom queue replay", ("PACS",), ["dicom.queue.replay"]),
        ("auth user add", ("anna", "--role", "clinician", "--display", "Dr Anna", "--json"), ["auth.user.add"]),
        ("report sign", ("plan.pdf", "--user", "anna"), ["governance.signature", "auth.sign-out"]),
        ("auth user roles", ("anna", "--role", "physicist"), ["auth.user.roles"]),
        ("auth user password", ("anna",), ["auth.user.password"]),
        ("auth user revoke", ("anna",), ["auth.authenticator.revoke"]),
        ("auth user disable", ("anna",), ["auth.user.disable"]),
        ("auth client add", ("app", "--scope", "system/*.rs", "--secret"), ["auth.client.add"]),
        ("auth client disable", ("app",), ["auth.client.disable"]),
        ("auth rotate", (), ["auth.rotate"]),
        ("keys rotate", (), ["keys.rotate"]),
        ("keys erase", ("--patient", "P2", "--reason", "asked"), ["patient.erase"]),
    ]  # fmt: skip


def test_events_are_wanted_and_there_is_no_trail(tmp_path, capsys, monkeypatch):
    """The command is not run: nothing touches a patient without an event."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWIN_AUDIT_COMMANDS", "true")
    monkeypatch.setenv("TWIN_DATA_DIR", str(tmp_path / "none"))
    (tmp_path / "message.hl7").write_text(MESSAGE)
    assert main(["hl7", "parse", "message.hl7"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "audit_commands is set" in said.err
    assert "No node has run" in said.err


FAILING = {
    "dicom reject": ("9.9.9", "--reason", "113001"),
    "dicom restore": ("9.9.9",),
    "dicom merge": ("NOBODY", "NOBODY-ELSE"),
    "dicom unmerge": ("99",),
    "dicom queue pause": ("NOWHERE",),
    "dicom queue resume": ("NOWHERE",),
    "dicom queue replay": ("NOWHERE",),
    "auth user add": ("anna", "--role", "nobody-has-this-role"),
    "auth user roles": ("nobody", "--role", "clinician"),
    "auth user password": ("nobody",),
    "auth user disable": ("nobody",),
    "auth user revoke": ("nobody",),
    "auth client add": ("app", "--scope", "not-a-scope"),
    "auth client disable": ("nobody",),
    "keys rotate": ("--to", "nowhere:x"),
    "keys erase": ("--patient", "NOBODY", "--reason", "asked"),
    "report sign": ("missing.pdf", "--user", "nobody"),
}
"""Commands on the node's folder with arguments that they refuse before their room writes an event."""
NEVER_REFUSED = {
    "dicom hold",
    "dicom release",
    "dicom holds",
    "dicom retention",
    "auth rotate",
    "keys encrypt",
}
"""They take whatever study is named, or no arguments."""


def test_a_command_on_the_node_that_fails_is_one_event_too(settings, capsys, monkeypatch):
    assert set(FAILING) == {name for name, why in COMMANDS.items() if why == NODE} - NEVER_REFUSED
    before, wrong = len(told(settings)), []
    for command, words in FAILING.items():
        code, _ = run(capsys, monkeypatch, command, *words, stdin=f"{PASSWORD}\n")
        events = told(settings)[before:]
        before += len(events)
        if (code, [event[:2] for event in events]) != (1, [(f"cli.{command.replace(' ', '.')}", "refused")]):
            wrong.append((command, code, events))
    assert wrong == [], "\n".join(map(str, wrong))


BROKEN = {
    "dicom hold": ("digital_twins.dicom.hold_study", ("1.2.3.1", "--reason", "court")),
    "dicom release": ("digital_twins.dicom.release_study", ("1.2.3.1",)),
    "dicom holds": ("digital_twins.dicom.holds", ()),
    "dicom retention": ("digital_twins.dicom.Retention.run", ()),
    "auth rotate": ("digital_twins.auth._keyring.KeyRing.rotate", ()),
    "keys encrypt": ("digital_twins.server.encrypt_folder", ()),
}
"""What does the work of a command that refuses nothing, to be broken, and arguments."""


def test_a_command_on_the_node_whose_work_breaks_is_one_event_too(settings, capsys, monkeypatch):
    assert set(BROKEN) == NEVER_REFUSED

    def broken(*_: Any, **__: Any) -> None:
        raise StorageError("The disk failed.", "It answered with an error.", "Replace it.")

    before, wrong = len(told(settings)), []
    for command, (work, words) in BROKEN.items():
        with monkeypatch.context() as once:
            once.setattr(work, broken)
            code, _ = run(capsys, once, command, *words)
        events = told(settings)[before:]
        before += len(events)
        if (code, [event[:2] for event in events]) != (1, [(f"cli.{command.replace(' ', '.')}", "failure")]):
            wrong.append((command, code, events))
    assert wrong == [], "\n".join(map(str, wrong))


@pytest.mark.parametrize("drained", [False, True])
def test_a_refusal_that_the_room_wrote_itself_is_not_written_twice(settings, capsys, monkeypatch, drained):
    """Also when a running node moved it into the trail meanwhile."""
    from digital_twins.audit import AuditEvent, AuditTrail
    from digital_twins.cli._events import failure_event

    def command() -> None:
        with closing(open_services(settings.data_dir, boot_id="", keys=open_keys(settings))) as services:
            services.audit(AuditEvent("D", "patient.erase", "refused", "cli"))
            if drained:
                with AuditTrail(settings.audit_file) as trail:
                    trail.drain(services.database)
        raise InputError("Refused.", "It is held.", "Release it.")

    before = len(told(settings))
    with pytest.raises(InputError), failure_event("keys erase"):
        command()
    assert [kind for kind, _, _ in told(settings)][before:] == ["patient.erase"]


@pytest.mark.parametrize("error", [StorageError("Full.", "It is full.", "Free it."), KeyboardInterrupt()])
def test_an_event_whose_transaction_broke_does_not_count(settings, error):
    """It was staged and rolled back: the command's own event tells of the failure."""
    from digital_twins.audit import AuditEvent
    from digital_twins.cli._events import failure_event

    before = len(told(settings))
    with closing(open_services(settings.data_dir, boot_id="", keys=open_keys(settings))) as services:

        def work(cursor):
            services.auditor.stage(cursor, AuditEvent("U", "keys.rotate", "success", "cli"))
            raise error

        with pytest.raises(type(error)), failure_event("keys rotate"):
            services.database.write(work)
    assert [event[:2] for event in told(settings)[before:]] == [("cli.keys.rotate", "failure")]


def test_a_folder_that_cannot_be_opened_changes_nothing_of_the_error(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWIN_DATA_DIR", str(tmp_path / "none"))
    assert main(["dicom", "merge", "P1", "P2"]) == 1
    assert "nobody has foreseen" not in capsys.readouterr().err
    assert not (tmp_path / "none").exists()

"""What leaves the monitor: FHIR write-back, nurse call by HL7 v2 and e-mail, retries, record of delivery."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import pytest

from digital_twins import InputError
from digital_twins.audit import Auditor
from digital_twins.fhir import structural_issues
from digital_twins.hl7v2 import HL7Error, Message, start_mllp
from digital_twins.monitoring import (
    AppriseCall,
    Association,
    Channel,
    Courier,
    Delivery,
    FhirWriteBack,
    Hl7Call,
    MonitorService,
    NotDeliveredError,
    WardPart,
    load_thresholds,
)
from fhir_support import open_store, patient, serve
from monitor_process import until

START_S = 1_764_064_500.0


class Ward:
    """One patient, on whose device the test sets values."""

    def __init__(self, folder: Path, *steps: tuple[str, frozenset[str]], chart_s: float = 0.0) -> None:
        self.now_s = START_S
        self.part = WardPart(auditor=Auditor("WARD", b"k" * 32), outgoing=dict(steps), chart_s=chart_s)
        self.service = MonitorService(folder, capacity=2, clock=lambda: self.now_s, part=self.part)
        self.service.associate(Association("device", "D", "ICU/3/1", 0.0))
        self.service.associate(Association("bed", "ICU/3/1", "P7", 0.0))

    def send(self, *events: str, **values: float) -> None:
        self.now_s += 1.0
        sent = {"t": self.now_s - 0.5, "v": values, "e": list(events)}
        assert self.service.take_message("vitals/D", json.dumps(sent).encode())
        self.service.work()

    def acknowledge(self, key: str) -> int:
        book = self.service.monitor.alerts
        number = next(each.id for each in book.open_alerts() if each.key == key)
        book.acknowledge(number, by="N. N.", role="nurse", at_s=self.now_s)
        self.service.save()
        return number

    def courier(self, *channels: Channel) -> Courier:
        return Courier(self.service.database, channels, auditor=self.part.auditor, clock=lambda: self.now_s)

    def states(self) -> list[str]:
        with self.service.database.read() as connection:
            rows = connection.execute("SELECT state FROM monitor_delivery ORDER BY number").fetchall()
        return [str(state) for (state,) in rows]

    def audited(self) -> list[dict[str, Any]]:
        with self.service.database.read() as connection:
            rows = connection.execute("SELECT body FROM audit_outbox ORDER BY seq").fetchall()
        return [json.loads(str(body)) for (body,) in rows]


@pytest.fixture
def opened() -> Iterator[list[Ward]]:
    made: list[Ward] = []
    yield made
    for each in made:
        each.service.close()


@pytest.fixture
def ward(tmp_path: Path, opened: list[Ward]) -> Callable[..., Ward]:
    def make(*channels: type, chart_s: float = 0.0) -> Ward:
        made = Ward(tmp_path / "w", *((each.name, each.steps) for each in channels), chart_s=chart_s)
        opened.append(made)
        return made

    return make


@pytest.fixture
def server(tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        open_store(tmp_path / "fhir") as store,
        serve(store) as base,
        httpx.Client(base_url=base, timeout=60) as client,
    ):
        yield client


def all_of(server: httpx.Client, kind: str) -> list[dict[str, Any]]:
    found = [each["resource"] for each in server.get(f"/{kind}").json().get("entry", [])]
    assert [structural_issues(each) for each in found] == [[]] * len(found)
    return found


def test_alerts_and_readings_are_written_back_to_a_fhir_server(
    ward: Callable[..., Ward], server: httpx.Client
) -> None:
    known = patient(id="p", identifier=[{"system": "urn:n", "value": "P7"}])
    server.put("/Patient/p", json=known).raise_for_status()
    made = ward(FhirWriteBack, chart_s=2.0)
    channel = FhirWriteBack(str(server.base_url), load_thresholds())
    with made.courier(channel):
        made.send(NIBP_SYS=66.0, NIBP_DIA=40.0, HR=88.0)
        until(lambda: set(made.states()) == {"delivered"})
        flags = all_of(server, "Flag")
        assert {each["status"] for each in flags} == {"active"}
        assert {each["subject"]["reference"] for each in flags} == {"Patient/p"}
        number = made.acknowledge("cuff_low")
        until(lambda: set(made.states()) == {"delivered"})
        said = {each["payload"][0]["contentString"]: each for each in all_of(server, "Communication")}
        known_now = next(each for each in said.values() if each["status"] == "completed")
        assert known_now["received"] == "2025-11-25T09:55:01.000Z"
        assert [each["display"] for each in known_now["recipient"]] == ["nurse"]
        for _ in range(3):
            made.send(NIBP_SYS=120.0, NIBP_DIA=80.0, HR=88.0)
        until(lambda: set(made.states()) == {"delivered"})
    states = {each["code"]["text"]: each for each in all_of(server, "Flag")}
    assert len(states) == len(flags)
    assert [each["period"]["end"] for each in states.values() if each["status"] == "inactive"]
    observed = {each["code"]["coding"][0]["code"]: each for each in all_of(server, "Observation")}
    panel = observed["85354-9"]["component"]
    assert [each["code"]["coding"][0]["code"] for each in panel] == ["8480-6", "8462-4"]
    assert observed["8867-4"]["valueQuantity"]["value"] == 88.0
    steps = made.service.store.deliveries(number)
    assert [(step, state, tries) for _, step, state, tries in steps][:3] == [
        ("raised", "delivered", 1), ("told", "delivered", 1), ("acknowledged", "delivered", 1)
    ]  # fmt: skip
    before = {kind: len(all_of(server, kind)) for kind in ("Flag", "Communication", "Observation")}
    with made.service.database.read() as connection:
        body = connection.execute("SELECT body FROM monitor_delivery WHERE step = 'raised'").fetchone()
    alert = json.loads(str(body[0] if body else ""))
    for _ in range(2):  # a repetition makes no second resource
        channel.send(
            Delivery(1, "raised", alert["raised_s"], "", alert, next(iter(flags))["identifier"][0]["value"])
        )
    assert before == {kind: len(all_of(server, kind)) for kind in before}


class Sink:
    """A nurse-call system on MLLP: what it is told, and whether it refuses."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.refuses = ""
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def take(self, message: Message) -> None:
        if self.refuses and self.refuses in message.to_bytes().decode():
            raise HL7Error("Not taken.", "It is refused.", "Send another.", code="207")
        self.told.append(message)

    def open(self, port: int = 0) -> None:
        opening = asyncio.run_coroutine_threadsafe(start_mllp(self.take, port=port), self._loop)
        self.server = opening.result(60)
        self.port = self.server.port

    def shut(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.close(), self._loop).result(60)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.end()


def test_hl7_nurse_call_waits_for_its_receiver_and_tells_the_end(
    ward: Callable[..., Ward], sink: Sink
) -> None:
    sink.open()
    sink.shut()
    made = ward(Hl7Call)
    made.send("vf", HR=90.0)
    with made.courier(Hl7Call(f"mllp://127.0.0.1:{sink.port}")):
        number = next(each.id for each in made.service.monitor.alerts.open_alerts())
        until(lambda: made.service.store.deliveries(number)[0][3] >= 1)
        sink.open(sink.port)
        until(lambda: "waiting" not in made.states())
        made.service.monitor.alerts.end("P7", "event:vf", at_s=made.now_s)
        made.acknowledge("event:vf")
        until(lambda: "waiting" not in made.states())
    sink.shut()
    first, *_, last = sink.told
    assert first.kind == ("ORU", "R40")
    assert {each["OBR-3"] for each in (first, last)} == {str(number)}
    assert (first["PID-3"], first["PV1-3.1"], first["PV1-3.3"]) == ("P7", "ICU", "1")
    texts = [[row.value(5) for row in each.segments("OBX")] for each in (first, last)]
    assert texts[0][1:] == ["start"]
    assert texts[1][1:] == ["end"]
    assert next(iter(first.segments("OBX"))).value(8) == "PH"
    assert made.service.store.deliveries(number)[0][2:] >= ("delivered", 2)
    delivered = [each for each in made.audited() if each["kind"] == "monitor.delivery.delivered"]
    assert len(delivered) == len(sink.told)
    assert "P7" not in json.dumps(made.audited())


def test_what_is_refused_or_too_old_is_recorded_and_stops_nothing(
    ward: Callable[..., Ward], sink: Sink
) -> None:
    sink.open()
    made = ward(Hl7Call)
    made.send("vf", HR=90.0)
    old = next(each.id for each in made.service.monitor.alerts.open_alerts())
    made.now_s += 3700.0
    made.send("vt", HR=90.0)
    sink.refuses = "entricular tachy"
    with made.courier(Hl7Call(f"mllp://127.0.0.1:{sink.port}")):
        until(lambda: "waiting" not in made.states())
        made.send("asystole", HR=90.0)
        until(lambda: "waiting" not in made.states())
    sink.shut()
    assert "failed" in made.states()
    assert made.states()[-1] == "delivered"
    refused = next(each.id for each in made.service.monitor.alerts.open_alerts() if each.key == "event:vt")
    assert ("undelivered", "monitor", "hl7") in [
        (step, by, detail) for step, _, by, detail in made.service.store.steps(refused)
    ]
    assert made.service.store.deliveries(old)[0][1:3] == ("told", "delivered")
    failures = [each for each in made.audited() if each["kind"] == "monitor.delivery.failed"]
    assert {each["outcome"] for each in failures} == {"failure"}


class Deaf:
    """A receiver that never answers."""

    name = "deaf"
    steps = frozenset({"told"})

    def send(self, delivery: Delivery) -> None:
        raise NotDeliveredError("nobody is there")


def test_a_queue_outlives_a_kill_and_gives_up_after_an_hour(tmp_path: Path, opened: list[Ward]) -> None:
    first = Ward(tmp_path, (Deaf.name, Deaf.steps))
    first.send("vf", HR=90.0)
    first.service.database.close()  # as a kill leaves it
    second = Ward(tmp_path, (Deaf.name, Deaf.steps))
    opened.append(second)
    assert second.states() == ["waiting"]
    second.now_s += 3700.0
    with second.courier(Deaf()):
        until(lambda: second.states() == ["failed"])


class Mail:
    """An SMTP server that keeps what it is sent (RFC 5321, just enough)."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(60)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        while line := await reader.readline():
            word = line[:4].upper().strip()
            if word == b"DATA":
                writer.write(b"354 go on\r\n")
                self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
            writer.write(b"221 bye\r\n" if word == b"QUIT" else b"250 sink\r\n")
            if word == b"QUIT":
                break
        await writer.drain()
        writer.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # apprise imports what Python will drop
def test_e_mail_through_apprise_names_the_bed_and_no_patient(
    ward: Callable[..., Ward], tmp_path: Path
) -> None:
    pytest.importorskip("apprise")
    mail = Mail()
    file = tmp_path / "addresses"
    file.write_text(
        f"mailto://127.0.0.1:{mail.port}?from=monitor@hospital.example&to=ward@hospital.example&mode=insecure\n",
        encoding="utf-8",
    )
    made = ward(AppriseCall)
    with made.courier(AppriseCall.of_file(file)):
        made.send("vf", HR=90.0)
        until(lambda: made.states() and set(made.states()) == {"delivered"})
    mail.end()
    found = message_from_bytes(mail.mails[0])
    assert found["To"] == "ward@hospital.example"
    text = str(found.get_payload(decode=False)) + str(found["Subject"])
    assert b"P7" not in mail.mails[0]
    assert "ICU/3/1" in text or b"ICU/3/1" in mail.mails[0]


@pytest.mark.parametrize("url", ["", "mllp://host", "http://127.0.0.1:1", "mllp://:7", "mllp://h:x"])
def test_hl7_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        Hl7Call(url)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # as above
def test_addresses_of_apprise_and_fhir_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        FhirWriteBack("http://hospital.example/fhir", load_thresholds())
    with pytest.raises(InputError):
        AppriseCall.of_file(tmp_path / "missing")
    with pytest.raises(InputError):
        AppriseCall(["nonsense"])

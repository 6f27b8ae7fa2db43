"""Subscriptions against a receiver on this machine: criteria, topics, failures, restarts, foreign hosts."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import Response
from starlette.routing import Route

from digital_twins.audit import OUTBOX_MIGRATIONS
from digital_twins.fhir import MIGRATIONS, FhirStore, structural_issues
from digital_twins.fhir.subscriptions import (
    MIGRATIONS as SUBSCRIPTION,
    NOTIFY,
    Subscriptions,
    allowed_endpoint,
    subscription_routes,
)
from digital_twins.fhir.validation import Validator
from digital_twins.storage import MIGRATIONS as JOBS, Database, JobQueue
from fhir_bulk_support import serve_routes
from fhir_support import observation, patient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request

Running = tuple[FhirStore, JobQueue, Subscriptions]
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
TOPIC = "urn:digital-twins:SubscriptionTopic:patient-data"


@dataclass
class Receiver:
    """Keeps what it gets and answers with the next of its codes, else 200."""

    address: str = ""
    got: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        row = (request.method, request.url.path, dict(request.headers), await request.body())
        self.got.append(row)
        code = self.codes.pop(0) if self.codes else 200
        return Response(status_code=code, headers={"location": "/hook/elsewhere"} if code == 302 else None)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for *_, body in self.got]


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, list[Receiver]]]:
    current: list[Receiver] = []

    async def take(request: Request) -> Response:
        return await current[-1].take(request)

    with serve_routes([Route("/{path:path}", take, methods=["GET", "POST", "PUT"])]) as base:
        yield base, current


@pytest.fixture
def receiver(address: tuple[str, list[Receiver]]) -> Receiver:
    made = Receiver(address[0])
    address[1].append(made)
    return made


@contextmanager
def service(folder: Path, receiver: Receiver, **more: Any) -> Iterator[Running]:
    schema = (*JOBS, *OUTBOX_MIGRATIONS, *MIGRATIONS, *SUBSCRIPTION)
    with Database(folder / "node.db", migrations=schema) as database:
        store, jobs = FhirStore(database), JobQueue(database)
        settings = {
            "allowed": [f"{receiver.address}/hook"],
            "retry_delay_s": 0.0,
        }
        subscriptions = Subscriptions(store, jobs, base_url="http://node/fhir", **{**settings, **more})
        yield store, jobs, subscriptions
        subscriptions.close()
        store.close()


def settle(subscriptions: Subscriptions) -> None:
    """Follow and deliver until nothing is left to do."""
    idle = 0
    while idle < 3:
        idle = 0 if subscriptions.follow() or subscriptions.deliver_one() else idle + 1


def ask(receiver: Receiver, criteria: str = "Observation?code=29463-7", **channel: Any) -> dict[str, Any]:
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {"type": "rest-hook", "endpoint": f"{receiver.address}/hook/a", **channel},
    }


def by_topic(receiver: Receiver, content: str, heartbeat: int = 0) -> dict[str, Any]:
    found = ask(receiver, TOPIC, payload="application/fhir+json")
    found["meta"] = {"profile": [f"{BACKPORT}backport-subscription"]}
    found["_criteria"] = {
        "extension": [
            {"url": f"{BACKPORT}backport-filter-criteria", "valueString": "Observation?code=29463-7"}
        ]
    }
    found["channel"]["_payload"] = {
        "extension": [{"url": f"{BACKPORT}backport-payload-content", "valueCode": content}]
    }
    if heartbeat:
        found["channel"]["extension"] = [
            {"url": f"{BACKPORT}backport-heartbeat-period", "valueUnsignedInt": heartbeat}
        ]
    return found


def values(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        p["name"]: next((v for k, v in p.items() if k.startswith("value")), p.get("part"))
        for p in parameters["parameter"]
    }


def test_a_hook_by_criteria(tmp_path: Path, receiver: Receiver) -> None:
    with service(tmp_path, receiver) as (store, _, subscriptions):
        made = store.create(ask(receiver, header=["X-Key: 1"]))
        settle(subscriptions)
        assert store.read("Subscription", made.id).resource["status"] == "active"
        assert receiver.got == []
        person = store.create(patient())
        store.create(observation(f"Patient/{person.id}", "29463-7", 60.0))
        store.create(observation(f"Patient/{person.id}", "8302-2", 170.0))
        settle(subscriptions)
        ((method, path, headers, body),) = receiver.got
        assert (method, path, headers["x-key"], body) == ("POST", "/hook/a", "1", b"")


def test_a_hook_with_the_resource(tmp_path: Path, receiver: Receiver) -> None:
    with service(tmp_path, receiver) as (store, _, subscriptions):
        store.create(ask(receiver, payload="application/fhir+json"))
        settle(subscriptions)
        made = store.create(observation("Patient/1", "29463-7", 60.0))
        settle(subscriptions)
        ((method, path, headers, body),) = receiver.got
        assert (method, path) == ("PUT", f"/hook/a/Observation/{made.id}")
        assert headers["content-type"] == "application/fhir+json"
        assert body == made.body


@pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
def test_a_topic_from_handshake_to_event(tmp_path: Path, receiver: Receiver, content: str) -> None:
    with service(tmp_path, receiver) as (store, _, subscriptions):
        made = store.create(by_topic(receiver, content))
        settle(subscriptions)
        store.create(observation("Patient/1", "8302-2", 170.0))  # the filter leaves it out
        weight = store.create(observation("Patient/1", "29463-7", 60.0))
        settle(subscriptions)
        handshake, event = receiver.bodies()
        for bundle in (handshake, event):
            assert structural_issues(bundle) == []
            assert [i for i in Validator().validate(bundle) if i.severity == "error"] == []
            assert bundle["type"] == "history"
            assert bundle["entry"][0]["request"]["url"].endswith(f"/Subscription/{made.id}/$status")
        first, second = (values(b["entry"][0]["resource"]) for b in (handshake, event))
        assert (first["type"], first["status"], first["topic"]) == ("handshake", "requested", TOPIC)
        assert (second["type"], second["events-since-subscription-start"]) == ("event-notification", "1")
        parts = {p["name"]: p for p in second["notification-event"]}
        assert parts["event-number"]["valueString"] == "1"
        assert ("focus" in parts) == (content != "empty")
        rest = event["entry"][1:]
        assert len(rest) == (content != "empty")
        if rest:
            assert rest[0]["fullUrl"] == f"http://node/fhir/Observation/{weight.id}"
            assert rest[0].get("resource") == (weight.resource if content == "full-resource" else None)
        with serve_routes(subscription_routes(subscriptions)) as base:
            told = httpx.get(f"{base}/fhir/Subscription/{made.id}/$status").json()
            assert (told["type"], structural_issues(told)) == ("searchset", [])
            assert values(told["entry"][0]["resource"])["type"] == "query-status"
            assert httpx.get(f"{base}/fhir/Subscription/none/$status").status_code == 404


def test_a_heartbeat_when_there_is_nothing_to_tell(tmp_path: Path, receiver: Receiver) -> None:
    with service(tmp_path, receiver) as (store, _, subscriptions):
        store.create(by_topic(receiver, "empty", heartbeat=1))
        settle(subscriptions)
        store.database.write(lambda cursor: cursor.execute("UPDATE fhir_subscription SET told_us=0") and None)
        subscriptions.follow()
        subscriptions.follow()
        kinds = [values(b["entry"][0]["resource"])["type"] for b in receiver.bodies()]
        assert kinds == ["handshake", "heartbeat"]


def test_a_delivery_is_repeated_and_then_given_up(tmp_path: Path, receiver: Receiver) -> None:
    with service(tmp_path, receiver, attempts=3) as (store, jobs, subscriptions):
        made = store.create(ask(receiver))
        settle(subscriptions)
        receiver.codes = [503, 302]
        store.create(observation("Patient/1", "29463-7", 60.0))
        settle(subscriptions)
        assert len(receiver.got) == 3
        assert all(path == "/hook/a" for _, path, *_ in receiver.got)  # the redirect was not followed
        assert store.read("Subscription", made.id).resource["status"] == "active"
        receiver.codes = [500] * 3
        store.create(observation("Patient/1", "29463-7", 61.0))
        settle(subscriptions)
        found = store.read("Subscription", made.id).resource
        assert (found["status"], found["error"]) == ("error", "It answered 500.")
        assert [job.state for job in jobs.list(kind=NOTIFY)] == ["failed", "succeeded"]
        store.update({**found, "status": "requested"})
        settle(subscriptions)
        assert "error" not in store.read("Subscription", made.id).resource


def test_nothing_is_lost_over_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    with service(tmp_path, receiver) as (store, _, subscriptions):
        store.create(ask(receiver))
        settle(subscriptions)
        store.create(observation("Patient/1", "29463-7", 60.0))
        while not subscriptions.follow():
            pass
        store.create(observation("Patient/1", "29463-7", 61.0))  # written, not yet seen
        assert receiver.got == []
    with service(tmp_path, receiver) as (_, _, subscriptions):
        settle(subscriptions)
        assert len(receiver.got) == 2
        settle(subscriptions)
        assert len(receiver.got) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"criteria": "Observation?nothing=1"},
        {"criteria": "urn:unknown:topic"},
        {"criteria": "Nothing?x=1"},
        {"channel": {"type": "email", "endpoint": "mailto:a@b"}},
        {"channel": {"type": "rest-hook", "endpoint": "http://169.254.169.254/latest"}},
        {"channel": {"type": "rest-hook", "header": ["Host: other"]}},
        {"channel": {"type": "rest-hook", "header": ["X: a\r\nY: b"]}},
        {"channel": {"type": "rest-hook", "payload": "text/html"}},
    ],
)
def test_what_cannot_be_served_is_in_error(
    tmp_path: Path, receiver: Receiver, change: dict[str, Any]
) -> None:
    with service(tmp_path, receiver) as (store, _, subscriptions):
        asked = ask(receiver)
        channel = {"endpoint": asked["channel"]["endpoint"], **change.pop("channel", {"type": "rest-hook"})}
        made = store.create({**asked, **change, "channel": channel})
        settle(subscriptions)
        found = store.read("Subscription", made.id).resource
        assert (found["status"], bool(found["error"])) == ("error", True)
        store.update({**found, "status": "active"})  # its author insists: still nobody is called
        store.create(observation("Patient/1", "29463-7", 60.0))
        settle(subscriptions)
        assert receiver.got == [] or "169.254" not in str(change)


@pytest.mark.parametrize(
    ("endpoint", "fits"),
    [
        ("https://ehr.example.org/hooks", True),
        ("https://ehr.example.org:443/hooks/a", True),
        ("https://ehr.example.org/hooksmith", False),
        ("http://ehr.example.org/hooks", False),
        ("https://ehr.example.org:8443/hooks", False),
        ("https://ehr.example.org.evil.test/hooks", False),
        ("https://ehr.example.org@evil.test/hooks", False),
        ("https://user@ehr.example.org/hooks", False),
        ("https://ehr.example.org/hooks/../admin", False),
        ("https://ehr.example.org/hooks/%2e%2e/admin", False),
        ("https://ehr.example.org\\@evil.test/hooks", False),
        ("https://127.0.0.1/hooks", False),
        ("file:///etc/passwd", False),
        ("", False),
        ("https://[::1", False),
    ],
)
def test_only_named_endpoints(endpoint: str, fits: bool) -> None:
    assert allowed_endpoint(endpoint, ["https://ehr.example.org/hooks"]) is fits
    assert not allowed_endpoint(endpoint, [])

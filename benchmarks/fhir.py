"""CPU of the FHIR store and its routes: audited, validated, indexed; no authorisation."""

from __future__ import annotations

import asyncio
import os
import sys
import tarfile
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette

from digital_twins.audit import OUTBOX_MIGRATIONS
from digital_twins.fhir import MIGRATIONS, FhirStore, fhir_routes, structural_issues
from digital_twins.fhir.validation import ResourceValidation, Validator
from digital_twins.storage import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENTS, OBSERVATIONS, ROUNDS, SYNTHEA = 200, 25, 400, 1500
_SHARED = Path(os.environ.get("TWIN_SHARED", Path(__file__).parents[2] / "shared"))

Figure = tuple[str, float, str, float | None]


def _observation(patient: int, number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "laboratory",
                    }
                ]
            }
        ],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": f"code-{number % 10}", "display": "Measure"}],
            "text": "Measure",
        },
        "subject": {"reference": f"Patient/p{patient}"},
        "effectiveDateTime": f"2024-01-{number % 28 + 1:02d}T10:00:00Z",
        "issued": "2024-02-01T10:00:00.000Z",
        "valueQuantity": {
            "value": 1.5 + number,
            "unit": "mg/dL",
            "system": "http://unitsofmeasure.org",
            "code": "mg/dL",
        },
    }


def _patient(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "identifier": [{"system": "urn:example:mrn", "value": f"mrn-{number}"}],
        "name": [{"family": f"Family{number}", "given": ["Given"]}],
        "gender": "female",
        "birthDate": "1961-04-03",
    }


def _bundle(number: int) -> bytes:
    entries = [{"resource": _patient(number), "request": {"method": "PUT", "url": f"Patient/p{number}"}}]
    entries += [
        {"resource": _observation(number, n), "request": {"method": "POST", "url": "Observation"}}
        for n in range(OBSERVATIONS)
    ]
    return orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def _cpu_us(work: Callable[[int], object], rounds: int = ROUNDS) -> float:
    for number in range(20):
        work(number)
    start = time.process_time()
    for number in range(rounds):
        work(number)
    return (time.process_time() - start) / rounds * 1e6


async def _call(app: Starlette, method: str, path: str, query: str = "", body: bytes = b"") -> int:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/fhir+json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)  # type: ignore[arg-type]
    return status


async def _http_cpu_us(
    app: Starlette, requests: list[tuple[str, str, str, bytes]], at_once: int = 16
) -> float:
    """CPU a request with 16 in flight, so that writes share commits as they do under load."""
    waiting = iter(requests)

    async def worker() -> None:
        for request in waiting:
            status = await _call(app, *request)
            if status >= 300:
                sys.exit(f"benchmark request failed with {status}")

    await _call(app, *requests[0])
    start = time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return (time.process_time() - start) / len(requests) * 1e6


def _store_figures(store: FhirStore) -> Iterator[Figure]:
    resources = [_observation(n % PATIENTS, n) for n in range(ROUNDS + 20)]
    yield "validate", _cpu_us(lambda n: structural_issues(resources[n])), "us", None
    raw = [orjson.dumps(r) for r in resources]
    yield "store.create", _cpu_us(lambda n: store.create(raw[n])), "us", None
    yield "store.read", _cpu_us(lambda n: store.read("Patient", f"p{n % PATIENTS}")), "us", None
    search = {"code": "http://loinc.org|code-3"}
    figure = _cpu_us(lambda n: store.search("Observation", {"patient": f"p{n % PATIENTS}", **search}))
    yield "store.search_patient_code", figure, "us", None


def _validation_figures() -> Iterator[Figure]:
    """Base validation with all invariants and bindings, and fhir.resources (R4B models) on the same."""
    resources = _synthea() or [_observation(n, n) for n in range(ROUNDS)] + [
        _patient(n) for n in range(ROUNDS)
    ]
    rounds, validator = len(resources) - 20, Validator()
    for resource in resources:
        validator.validate(resource)  # warm: plans are made for each type when it is first seen
    ours = _cpu_us(lambda n: validator.validate(resources[n]), rounds)
    try:
        models = {kind: _model(kind) for kind in {resource["resourceType"] for resource in resources}}
    except ImportError:
        print("fhir.resources is not installed: its figure is missing", file=sys.stderr)
        yield "validate.full", ours, "us", None
        return
    peer = _cpu_us(lambda n: models[resources[n]["resourceType"]].model_validate(resources[n]), rounds)
    yield "validate.full", ours, "us", ours / peer


def _model(kind: str) -> Any:
    return getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)


def _synthea() -> list[dict[str, Any]]:
    """Return 1,500 Synthea resources of the shared data, or nothing without it."""
    path = _SHARED / "data" / "fhir" / "synthea-bundles.tar.xz"
    found: list[dict[str, Any]] = []
    if path.is_file():
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".json") else None
                found += [e["resource"] for e in orjson.loads(file.read())["entry"]] if file else []
                if len(found) > SYNTHEA:
                    break
    return found[:SYNTHEA]


def _http_figures(store: FhirStore, validation: ResourceValidation) -> Iterator[Figure]:
    app = Starlette(routes=fhir_routes(store, validation=validation))
    body = orjson.dumps(_observation(1, 1))
    code = "code=http%3A%2F%2Floinc.org%7Ccode-3"
    plans = {
        "read": [("GET", f"/fhir/Patient/p{n % PATIENTS}", "", b"") for n in range(ROUNDS)],
        "create": [("POST", "/fhir/Observation", "", body) for _ in range(ROUNDS)],
        "search": [
            ("GET", "/fhir/Observation", f"patient=p{n % PATIENTS}&{code}", b"") for n in range(ROUNDS)
        ],
    }
    for name, requests in plans.items():
        figure = asyncio.run(_http_cpu_us(app, requests))
        yield f"asgi.{name}", figure, "us", None


def figures() -> Iterator[Figure]:
    """Yield (name, value, unit, ratio to the peer); no peer server runs in the same process."""
    with tempfile.TemporaryDirectory() as folder:
        migrations = (*OUTBOX_MIGRATIONS, *MIGRATIONS)
        with Database(Path(folder) / "bench.db", migrations=migrations) as database:
            validation = ResourceValidation()
            store = FhirStore(database, pseudonym=lambda _: "0" * 64, validate=validation.check)
            validation.check(_patient(0))  # reads the definitions, once
            bundles = [_bundle(n) for n in range(PATIENTS)]
            start = time.process_time()
            for bundle in bundles:
                store.transaction(bundle)
            rate = PATIENTS * (OBSERVATIONS + 1) / (time.process_time() - start)
            yield "ingest", rate, "resources/CPU-s", None
            yield from _store_figures(store)
            yield from _validation_figures()
            yield from _http_figures(store, validation)
            store.close()

"""CPU of the FHIR store and its doors: authorised, audited, validated, indexed.

The ``asgi`` figures are requests through everything that stands before the store in the node: Host check and
security headers, the gate with a bearer token (checked once every five seconds, as in the node), routes. CPU
is that of the whole process: threads that write and audit count, and so does the loop that asks.

A neighbour on the machine makes every CPU second do less than it does alone (caches, sibling threads),
never more: each figure is the least of several blocks, and the blocks of what is compared take turns, those
of the peers too. ``reference`` is a fixed piece of JSON work, to tell by how much the machine itself differed
between two runs.

Ratios are to FHIRStarter (PyPI) for read and create, to the in-memory router of Medplum (npm) for ingest and
search, to fhir.resources for validation and to hl7 for HL7 v2, each measured in the same run where
`make peers` has put it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import hl7v2  # the benchmark beside this one
import orjson
from starlette.applications import Starlette

from digital_twins import auth
from digital_twins.audit import OUTBOX_MIGRATIONS, Auditor
from digital_twins.fhir import MIGRATIONS, FhirFirst, FhirStore, fhir_routes, structural_issues
from digital_twins.fhir.validation import ResourceValidation, Validator
from digital_twins.server._acting import agent_name
from digital_twins.server._gate import Gate
from digital_twins.server._metrics import Metrics
from digital_twins.server._security import Guard
from digital_twins.storage import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

HERE = Path(__file__).parent
PATIENTS, OBSERVATIONS, ROUNDS, SYNTHEA, DURABLE = 200, 25, 400, 1500, 1000
BLOCKS, HTTP_BLOCKS, GROWTH_ROUNDS, LOADS = 7, 24, 200, 3
SEED = PATIENTS * (OBSERVATIONS + 1)
MILLION = 1_000_000
_MEDPLUM = ("read", "create", "search", "ingest")
_COPIED = {
    "fhir_token": ("param", "code", "rid", "system"),
    "fhir_date": ("param", "low", "high", "rid"),
    "fhir_string": ("param", "norm", "rid", "exact"),
    "fhir_quantity": ("param", "low", "high", "rid", "system", "code", "unit"),
}
_SCOPES = "system/*.cruds"
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
    """CPU of one round, the least of three blocks."""
    for number in range(20):
        work(number)
    blocks = []
    for _ in range(3):
        start = time.process_time()
        for number in range(rounds):
            work(number)
        blocks.append(time.process_time() - start)
    return min(blocks) / rounds * 1e6


async def _call(app: ASGIApp, token: bytes, request: tuple[str, str, str, bytes]) -> int:
    method, path, query, body = request
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1"), (b"content-type", b"application/fhir+json"), (b"authorization", token)
        ],
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


def _doors(store: FhirStore, validation: ResourceValidation, folder: Path) -> tuple[ASGIApp, bytes]:
    """Return the store behind the doors of the node, and the header of a client that may do everything."""
    database = store.database
    authority = auth.open_authority(
        database, Auditor("bench", b"0" * 32), folder, base_url="http://127.0.0.1"
    )
    grant = authority.grants.new("bench", "", _SCOPES, None, {})
    database.write(lambda cursor: authority.grants.create(cursor, grant))
    routes = fhir_routes(store, validation=validation, agent=lambda _: agent_name("anonymous"))
    app = Guard(Gate(FhirFirst(Starlette(routes=routes), routes), authority), metrics=Metrics())
    return app, b"Bearer " + authority.tokens.access_token(grant).encode()


async def _http_cpu_us(
    app: ASGIApp, token: bytes, requests: list[tuple[str, str, str, bytes]], at_once: int = 16
) -> float:
    """CPU a request with 16 in flight, so that writes share commits as they do under load."""
    waiting = iter(requests)

    async def worker() -> None:
        for request in waiting:
            status = await _call(app, token, request)
            if status >= 300:
                sys.exit(f"benchmark request failed with {status}")

    if await _call(app, b"", requests[0]) != 401:
        sys.exit("a benchmark request without a token was let in")
    for request in requests[:20]:
        await _call(app, token, request)
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
    """Base validation with all invariants and bindings, and fhir.resources (R4B models) on the same.

    Their blocks take turns, each in its own process, after one block to warm up; the least of each counts.
    """
    resources = _synthea() or [_observation(n, n) for n in range(ROUNDS)] + [
        _patient(n) for n in range(ROUNDS)
    ]
    validator, ours, peers = Validator(), list[float](), list[float]()
    with ExitStack() as stack:
        peer = stack.enter_context(_fhir_resources(resources)) if find_spec("fhir_core") else None
        for _ in range(BLOCKS + 1):
            start = time.process_time()
            for resource in resources:
                validator.validate(resource)
            ours.append((time.process_time() - start) / len(resources) * 1e6)
            if peer is not None:
                peers.append(peer())
    if peers:
        yield "fhir_resources.validate", min(peers[1:]), "us", None
    else:
        print("fhir.resources is not installed (make peers): its ratio is missing", file=sys.stderr)
    best = min(ours[1:])
    yield "validate.full", best, "us", best / min(peers[1:]) if peers else None


@contextmanager
def _fhir_resources(resources: list[dict[str, Any]]) -> Iterator[Callable[[], float]]:
    """Start fhir.resources in a process of its own; the call measures one block, in us a resource."""
    command = [sys.executable, "-P", str(HERE / "_fhir_resources_peer.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        into, out = process.stdin, process.stdout
        assert into is not None
        assert out is not None

        def ask(line: str) -> None:
            into.write(f"{line}\n")
            into.flush()

        def block() -> float:
            ask("block")
            return float(out.readline())

        ask(json.dumps(resources))
        yield block
        into.close()


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


class _Peers:
    """FHIRStarter and Medplum's router, as far as they are installed; the best of all their turns counts."""

    def __init__(self) -> None:
        self.starter: dict[str, float] = {}
        self.medplum: dict[str, float] = {}
        peers, node = HERE.parent / ".peers", shutil.which("node")
        python = peers / "fhir" / "bin" / "python"
        self.python = str(python) if python.is_file() else None
        self.node = node if (peers / "node_modules" / "@medplum" / "fhir-router").is_dir() else None
        self.modules = peers / "node_modules"
        for found, name in ((self.python, "FHIRStarter"), (self.node, "Medplum's router")):
            if found is None:
                print(f"{name} is not installed (make peers): its ratios are missing", file=sys.stderr)

    def turn(self) -> None:
        """Measure each of them once more."""
        pair = [_patient(0), _observation(1, 1)]
        if self.python is not None:
            command = [self.python, "-P", str(HERE / "_fhirstarter_peer.py"), str(ROUNDS)]
            _keep_best(self.starter, _peer(command, pair))
        if self.node is not None:
            with tempfile.TemporaryDirectory() as folder:
                script = Path(folder) / "peer.mjs"
                shutil.copy(HERE / "_fhir_medplum_peer.mjs", script)
                (Path(folder) / "node_modules").symlink_to(self.modules)
                bundles = [orjson.loads(_bundle(n)) for n in range(20)]
                command = [self.node, "--preserve-symlinks", str(script), str(ROUNDS)]
                _keep_best(self.medplum, _peer(command, [*pair, bundles]))

    def figures(self) -> Iterator[Figure]:
        """Yield the best of each."""
        for name, found in (("fhirstarter", self.starter), ("medplum", self.medplum)):
            for what in ("read", "create") if name == "fhirstarter" else _MEDPLUM:
                if what in found:
                    yield f"{name}.{what}", found[what], "resources/CPU-s" if what == "ingest" else "us", None


def _keep_best(best: dict[str, float], found: dict[str, float]) -> None:
    for name, value in found.items():
        best[name] = (max if name == "ingest" else min)(value, best.get(name, value))


def _peer(command: list[str], given: Any) -> dict[str, float]:
    answer = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, timeout=600, check=False
    )
    if answer.returncode:
        print(answer.stderr[-800:], file=sys.stderr)
        return {}
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def _multiply(database: Database, copies: range) -> None:
    """Store the resources of the first `SEED` numbers again under other ids and patients, with their rows."""
    for copy in copies:
        shift, mark = copy * SEED, f"-{copy}"

        def work(cursor: Any, shift: int = shift, mark: str = mark) -> None:
            cursor.execute(
                "INSERT INTO fhir_resource SELECT rid+?, type, id||?, version, updated, deleted, method, "
                "index_version, body FROM fhir_resource WHERE rid<=?",
                (shift, mark, SEED),
            )
            cursor.execute(
                "INSERT INTO fhir_reference SELECT param, target||?, rid+? FROM fhir_reference WHERE rid<=?",
                (mark, shift, SEED),
            )
            for table, columns in _COPIED.items():
                wanted = ", ".join(f"{name}+{shift}" if name == "rid" else name for name in columns)
                cursor.execute(f"INSERT INTO {table} SELECT {wanted} FROM {table} WHERE rid<={SEED}")

        database.write(work)


def _growth_figures(folder: Path) -> Iterator[Figure]:
    """Search for a patient and a code among 25,000 and a million resources, each store after each search.

    A neighbour on the other thread of the host's core makes everything, a loop of additions too, cost up to
    1.9 times as much for seconds at a time; so both sizes meet it alike, and each patient's median counts.
    """
    patients = [f"p{n % 50}-{n % 4 + 1}" for n in range(100)]
    with ExitStack() as stack:
        stores = []
        for name, copies in (("25k", 5), ("1m", MILLION // SEED)):
            path = folder / f"{name}.db"
            database = stack.enter_context(Database(path, migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS)))
            store = FhirStore(database, pseudonym=lambda _: "0" * 64)
            stack.callback(store.close)
            _load_rate(store)
            _multiply(database, range(1, copies))
            stores.append(store)
        rounds = [[_search_costs(stores, patient) for patient in patients] for _ in range(GROWTH_ROUNDS)]
    small, large = (mean(median(c[n] for c in each) for each in zip(*rounds, strict=True)) for n in (0, 1))
    yield "search_25k", small, "us", None
    yield "search_1m", large, "us", large / small


def _search_costs(stores: list[FhirStore], patient: str) -> list[float]:
    """CPU us of one search in each store."""
    costs = []
    for store in stores:
        start = time.process_time_ns()
        store.search("Observation", {"patient": patient, "code": "http://loinc.org|code-3"})
        costs.append((time.process_time_ns() - start) / 1e3)
    return costs


def _durable_figures(folder: Path) -> Iterator[Figure]:
    """Transactions a second of 32 callers, each acknowledged after its disk sync; ratio to no sync.

    Wall time on a shared machine: medians of the blocks, the ratio that of the two halves of each block.
    """
    with ExitStack() as stack:
        stores = [stack.enter_context(_durable_store(folder / name)) for name in ("synced", "not-synced")]
        # The same file system and log, only without the waits for the disk.
        stores[1].database._engine._writer.pragma("synchronous", "OFF")  # type: ignore[attr-defined]
        pool = stack.enter_context(ThreadPoolExecutor(32))
        for store in stores:
            _transaction_rate(store, pool, DURABLE // 5)  # warm
        blocks = [[_transaction_rate(store, pool, DURABLE) for store in stores] for _ in range(BLOCKS)]
    rates = [median(each) for each in zip(*blocks, strict=True)]
    share = median(synced / not_synced for synced, not_synced in blocks)
    yield "durable_32_clients", rates[0], "transactions/s", share
    yield "fsync_off_32_clients", rates[1], "transactions/s", None
    yield "raw_fsync", _fsync_us(folder), "us", None


@contextmanager
def _durable_store(folder: Path) -> Iterator[FhirStore]:
    with Database(folder / "durable.db", migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS)) as database:
        store = FhirStore(database, pseudonym=lambda _: "0" * 64)
        yield store
        store.close()


def _transaction_rate(store: FhirStore, pool: ThreadPoolExecutor, count: int) -> float:
    """Transactions of a patient and an observation a second."""
    owner = "urn:uuid:11111111-1111-4111-8111-111111111111"
    person, measured = _patient(1), {**_observation(1, 1), "subject": {"reference": owner}}
    entries = [
        {"fullUrl": owner, "resource": person, "request": {"method": "POST", "url": "Patient"}},
        {"resource": measured, "request": {"method": "POST", "url": "Observation"}},
    ]
    raw = orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    start = time.perf_counter()
    list(pool.map(lambda _: store.transaction(raw), range(count)))
    return count / (time.perf_counter() - start)


def _fsync_us(folder: Path) -> float:
    with (folder / "sync").open("wb", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(100):
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
    return (time.perf_counter() - start) / 100 * 1e6


def _http_figures(doors: tuple[ASGIApp, bytes], peers: _Peers) -> Iterator[Figure]:
    searched = PATIENTS - 1  # the last patient takes what is created, so that searches stay what they are
    body = orjson.dumps(_observation(searched, 1))
    code = "code=http%3A%2F%2Floinc.org%7Ccode-3"
    plans = {
        "read": [("GET", f"/fhir/Patient/p{n % PATIENTS}", "", b"") for n in range(ROUNDS)],
        "create": [("POST", "/fhir/Observation", "", body) for _ in range(ROUNDS)],
        "search": [
            ("GET", "/fhir/Observation", f"patient=p{n % searched}&{code}", b"") for n in range(ROUNDS)
        ],
    }
    blocks: dict[str, list[float]] = {name: [] for name in plans}
    for number in range(HTTP_BLOCKS):  # short ones over a longer time: some of them meet a quiet machine
        for name, requests in plans.items():
            blocks[name].append(asyncio.run(_http_cpu_us(*doors, requests)))
        if number % 8 == 7:
            peers.turn()
    for name, found in blocks.items():
        figure = min(found)
        peer = (peers.medplum if name == "search" else peers.starter).get(name)
        yield f"asgi.{name}", figure, "us", figure / peer if peer else None


def figures() -> Iterator[Figure]:
    """Yield (name, value, unit, ratio to the peer)."""
    peers = _Peers()
    observation = _observation(1, 1)
    yield "reference", _cpu_us(lambda _: json.dumps(json.loads(json.dumps(observation)))), "us", None
    with tempfile.TemporaryDirectory() as folder:
        validation = ResourceValidation()
        validation.check(_patient(0))  # reads the definitions, once
        rates = []
        for load in range(LOADS):
            path = Path(folder) / f"load{load}.db"
            with Database(path, migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS)) as database:
                store = FhirStore(database, pseudonym=lambda _: "0" * 64, validate=validation.check)
                rates.append(_load_rate(store))
                peers.turn()
                store.close()
        ratio = _ratio(max(rates), peers.medplum.get("ingest"))
        yield "ingest", max(rates), "resources/CPU-s", ratio
        yield from _growth_figures(Path(folder))
        yield from _small_figures(Path(folder) / "small.db", validation, peers)
        yield from peers.figures()
        yield from _durable_figures(Path(folder))
    for name, value, unit, ratio in hl7v2.figures():
        yield f"hl7v2.{name}", value, unit, ratio


def _load_rate(store: FhirStore) -> float:
    """Load 200 transaction bundles of 26 resources into an empty store; resources a CPU second."""
    bundles = [_bundle(n) for n in range(PATIENTS)]
    start = time.process_time()
    for bundle in bundles:
        store.transaction(bundle)
    return SEED / (time.process_time() - start)


def _ratio(ours: float, peer: float | None) -> float | None:
    return ours / peer if peer else None


def _small_figures(path: Path, validation: ResourceValidation, peers: _Peers) -> Iterator[Figure]:
    """Each interaction by itself, on a store of 5,200 resources."""
    with Database(path, migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS, *auth.MIGRATIONS)) as database:
        store = FhirStore(database, pseudonym=lambda _: "0" * 64, validate=validation.check)
        for number in range(PATIENTS):
            store.transaction(_bundle(number))
        yield from _http_figures(_doors(store, validation, path.parent), peers)
        yield from _store_figures(store)
        yield from _validation_figures()
        store.close()

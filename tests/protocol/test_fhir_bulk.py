"""Bulk Data Access 2.0 in a real server: the specification's steps, and what an export holds."""

from __future__ import annotations

import asyncio
import json
import tarfile
import time
import tracemalloc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from digital_twins.cli import main
from digital_twins.fhir import AsyncFHIRClient, FHIRClient, FHIRRequestError
from digital_twins.fhir.bulk import ExportRequest, _exports
from fhir_bulk_support import BulkServer, open_bulk, serve_bulk
from fhir_support import observation, patient, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASK = {"prefer": "respond-async", "accept": "application/fhir+json"}


def put(resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "resource": resource,
        "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
    }


def load_ward(bulk: BulkServer) -> None:
    """Three patients, two observations each, a group of two, and an organisation."""
    entries = []
    for name in ("a", "b", "c"):
        entries.append(put(patient(id=name, identifier=[{"value": name}])))
        for n, code in enumerate(("29463-7", "8302-2")):
            entries.append(put(observation(f"Patient/{name}", code, 60.0 + n, id=f"o{n}-{name}")))
    member = [{"entity": {"reference": f"Patient/{name}"}} for name in ("a", "b")]
    member.append({"entity": {"reference": "Patient/c"}, "inactive": True})
    entries.append(
        put({"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": member})
    )
    entries.append(put({"resourceType": "Organization", "id": "org", "name": "Ward"}))
    bulk.store.transaction(transaction(*entries))


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[BulkServer]:
    with open_bulk(tmp_path) as bulk:
        load_ward(bulk)
        with serve_bulk(bulk):
            yield bulk


def finish(http: httpx.Client, started: httpx.Response) -> httpx.Response:
    assert started.status_code == 202, started.text
    place = started.headers["content-location"]
    for _ in range(2000):
        answer = http.get(place)
        if answer.status_code != 202:
            return answer
        assert answer.headers["x-progress"]
        assert int(answer.headers["retry-after"]) >= 0
        time.sleep(0.01)
    pytest.fail("the export did not end")


def ids(http: httpx.Client, manifest: dict[str, Any], kind: str = "output") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in manifest[kind]:
        answer = http.get(row["url"])
        assert answer.headers["content-type"].startswith("application/fhir+ndjson")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert len(lines) == row["count"]
        assert {line["resourceType"] for line in lines} == {row["type"]}
        found.setdefault(row["type"], []).extend(line.get("id", "") for line in lines)
    return {kind: sorted(names) for kind, names in found.items()}


def export(ward: BulkServer, path: str, **more: Any) -> dict[str, list[str]]:
    with httpx.Client(headers=ASK) as http:
        answer = finish(http, http.get(f"{ward.base}{path}", **more))
        assert answer.status_code == 200
        return ids(http, answer.json())


def test_the_steps_of_the_specification(ward: BulkServer) -> None:
    with httpx.Client(headers=ASK) as http:
        started = http.get(f"{ward.base}/$export")
        assert (started.status_code, started.json()["resourceType"]) == (202, "OperationOutcome")
        place = started.headers["content-location"]
        answer = finish(http, started)
        assert answer.headers["content-type"] == "application/json"
        assert "GMT" in answer.headers["expires"]
        manifest = answer.json()
        assert manifest["request"] == f"{ward.base}/$export"
        assert manifest["requiresAccessToken"] is False
        assert manifest["error"] == []
        assert ids(http, manifest) == {
            "Group": ["g"],
            "Observation": sorted(f"o{n}-{p}" for n in (0, 1) for p in "abc"),
            "Organization": ["org"],
            "Patient": ["a", "b", "c"],
        }
        assert http.delete(place).status_code == 202
        assert http.get(place).status_code == 404
        assert http.get(manifest["output"][0]["url"]).status_code == 404


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/Patient/$export", {"Patient": ["a", "b", "c"], "Observation": 6, "Group": ["g"]}),
        ("/Group/g/$export", {"Patient": ["a", "b"], "Observation": 4, "Group": ["g"]}),
        (
            "/Patient/$export?patient=Patient/c&_type=Patient,Observation",
            {"Patient": ["c"], "Observation": 2},
        ),
        ("/$export?_type=Organization", {"Organization": ["org"]}),
        (
            "/Patient/$export?_type=Observation&_typeFilter=Observation%3Fcode%3D29463-7",
            {"Observation": ["o0-a", "o0-b", "o0-c"]},
        ),
        (
            "/$export?_typeFilter=Observation%3Fcode%3D29463-7%26subject%3DPatient/a,"
            "Observation%3Fcode%3D8302-2%26subject%3DPatient/b&_type=Observation",
            {"Observation": ["o0-a", "o1-b"]},
        ),
    ],
)
def test_levels_types_and_filters(ward: BulkServer, path: str, expected: dict[str, Any]) -> None:
    found = export(ward, path)
    assert found.keys() == expected.keys()
    for kind, names in expected.items():
        assert (len(found[kind]) if isinstance(names, int) else found[kind]) == names


def test_kick_off_by_post(ward: BulkServer) -> None:
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "patient", "valueReference": {"reference": "Patient/b"}},
            {"name": "_type", "valueString": "Observation"},
            {"name": "_outputFormat", "valueString": "application/fhir+ndjson"},
        ],
    }
    with httpx.Client(headers=ASK) as http:
        answer = finish(http, http.post(f"{ward.base}/Group/g/$export", json=body))
        assert ids(http, answer.json()) == {"Observation": ["o0-b", "o1-b"]}


def test_since_holds_changes_and_deletions(ward: BulkServer) -> None:
    with httpx.Client(headers=ASK) as http:
        moment = finish(http, http.get(f"{ward.base}/$export")).json()["transactionTime"]
        time.sleep(0.005)
        http.put(
            f"{ward.base}/Organization/org",
            json={"resourceType": "Organization", "id": "org", "name": "New"},
            headers={"content-type": "application/fhir+json"},
        )
        http.delete(f"{ward.base}/Observation/o0-a")
        manifest = finish(http, http.get(f"{ward.base}/$export", params={"_since": moment})).json()
        assert ids(http, manifest) == {"Organization": ["org"]}
        bundle = json.loads(http.get(manifest["deleted"][0]["url"]).text)
        assert bundle["type"] == "transaction"
        assert bundle["entry"] == [{"request": {"method": "DELETE", "url": "Observation/o0-a"}}]
        own = finish(http, http.get(f"{ward.base}/Patient/$export", params={"_since": moment})).json()
        assert (own["output"], len(own["deleted"])) == ([], 1)
        other = {"_since": moment, "patient": "Patient/b"}
        assert finish(http, http.get(f"{ward.base}/Patient/$export", params=other)).json()["deleted"] == []


def test_until_shows_what_stood_then(ward: BulkServer) -> None:
    with httpx.Client(headers=ASK) as http:
        moment = finish(http, http.get(f"{ward.base}/$export")).json()["transactionTime"]
        time.sleep(0.005)
        changed = {"resourceType": "Organization", "id": "org", "name": "New"}
        http.put(
            f"{ward.base}/Organization/org", json=changed, headers={"content-type": "application/fhir+json"}
        )
        http.delete(f"{ward.base}/Observation/o0-a")
        manifest = finish(http, http.get(f"{ward.base}/$export", params={"_until": moment})).json()
        assert len(ids(http, manifest)["Observation"]) == 6
        row = next(r for r in manifest["output"] if r["type"] == "Organization")
        assert json.loads(http.get(row["url"]).text)["name"] == "Ward"


def test_elements_are_cut_and_tagged(ward: BulkServer) -> None:
    with httpx.Client(headers=ASK) as http:
        query = {"_elements": "Patient.birthDate", "_type": "Patient,Observation"}
        manifest = finish(http, http.get(f"{ward.base}/$export", params=query)).json()
        rows = {row["type"]: row["url"] for row in manifest["output"]}
        person = json.loads(http.get(rows["Patient"]).text.splitlines()[0])
        assert person.keys() == {"resourceType", "id", "meta", "birthDate"}
        assert person["meta"]["tag"][0]["code"] == "SUBSETTED"
        assert "valueQuantity" in json.loads(http.get(rows["Observation"]).text.splitlines()[0])


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/$export", {"prefer": "", "accept": "*/*"}, 400),
        ("/$export", {"prefer": "respond-async", "accept": "text/html"}, 406),
        ("/$export?_outputFormat=text/csv", ASK, 400),
        ("/$export?_since=yesterday", ASK, 400),
        ("/$export?_type=Nothing", ASK, 400),
        ("/Patient/$export?_type=Organization", ASK, 400),
        ("/$export?patient=Patient/a", ASK, 400),
        ("/$export?organizeOutputBy=Patient", ASK, 400),
        ("/$export?_typeFilter=Observation%3F_sort%3Ddate", ASK, 400),
        ("/$export?_typeFilter=Observation%3Fnothing%3D1", ASK, 400),
        ("/Group/unknown/$export", ASK, 404),
        ("/$export-status/unknown", ASK, 404),
        ("/$export-file/unknown/Patient.1.ndjson", ASK, 404),
    ],
)
def test_bad_requests_are_told(ward: BulkServer, path: str, headers: dict[str, str], status: int) -> None:
    answer = httpx.get(f"{ward.base}{path}", headers=headers)
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")


def test_a_lenient_request_is_told_what_was_skipped(ward: BulkServer) -> None:
    with httpx.Client(headers={**ASK, "prefer": "respond-async, handling=lenient"}) as http:
        answer = finish(http, http.get(f"{ward.base}/$export?_type=Patient,Nothing&x=1"))
        manifest = answer.json()
        assert ids(http, manifest) == {"Patient": ["a", "b", "c"]}
        lines = http.get(manifest["error"][0]["url"]).text.splitlines()
        assert [json.loads(line)["issue"][0]["code"] for line in lines] == ["not-supported"] * 2


def test_nobody_else_gets_at_an_export(ward: BulkServer) -> None:
    with httpx.Client(headers={**ASK, "x-test-user": "ann"}) as http:
        started = http.get(f"{ward.base}/$export?_type=Patient")
        url = finish(http, started).json()["output"][0]["url"]
        place = started.headers["content-location"]
        for method, address in (("GET", place), ("GET", url), ("DELETE", place)):
            assert httpx.request(method, address, headers={"x-test-user": "bob"}).status_code == 404
        assert http.get(url).status_code == 200
    with ward.store.database.read() as connection:
        rows = [json.loads(str(row[0])) for row in connection.execute("SELECT body FROM audit_outbox")]
    seen = [(r["kind"], r["agent"]) for r in rows if r["kind"].startswith("fhir.export")]
    assert seen == [(f"fhir.export{part}", "ann") for part in ("", ".written", ".download")]


def test_cancel_restart_and_expiry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_bulk(tmp_path) as bulk:
        load_ward(bulk)
        with serve_bulk(bulk, working=False) as base, httpx.Client(headers=ASK) as http:
            place = http.get(f"{base}/$export").headers["content-location"]
            assert http.get(place).headers["x-progress"] == "queued"
            assert http.delete(place).status_code == 202
            assert http.get(place).status_code == 404
            kept = http.get(f"{base}/$export").headers["content-location"].rpartition("/")[2]
        job = bulk.jobs.claim("dead", ["fhir.export"])
        assert job is not None
        (bulk.exports.folder / f"{kept}.part").mkdir(parents=True)
    with open_bulk(tmp_path, lifetime_s=600.0) as bulk:  # the process died; the next one goes on
        assert bulk.jobs.release_stale() == 1
        assert bulk.work_once()
        assert bulk.exports.find(kept, agent="anonymous").expires
        names = sorted(place.name for place in bulk.exports.folder.iterdir())
        assert names == [kept]
        later = time.time() + 601.0
        monkeypatch.setattr(_exports, "time", SimpleNamespace(time=lambda: later))
        bulk.exports.kick_off(ExportRequest("system"), agent="x", url="")
        assert not list(bulk.exports.folder.iterdir())


def test_a_running_export_stops_when_it_is_cancelled(tmp_path: Path) -> None:
    with open_bulk(tmp_path) as bulk:
        load_ward(bulk)
        name = bulk.exports.kick_off(ExportRequest("system"), agent="x", url="")
        job = bulk.jobs.claim("w", ["fhir.export"])
        assert job is not None
        bulk.exports.cancel(name, agent="x")

        def progress(fraction: float, text: str) -> None:
            if not bulk.jobs.progress(job, fraction, text):
                raise InterruptedError

        with pytest.raises(InterruptedError):
            bulk.exports.run(job, progress)
        assert not list(bulk.exports.folder.iterdir())


def plain(node: Any) -> Any:
    """The node without references, which may come back resolved, and without the server's part of meta."""
    if isinstance(node, list):
        return [plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    own = {"reference", "versionId", "lastUpdated"}
    return {k: plain(v) for k, v in node.items() if k not in own and plain(v) != {}}


def test_the_client_brings_synthea_back(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str], *, full: bool
) -> None:
    """Synthea's bulk files go in by `twin fhir load` and come out equal but for references and meta."""
    with tarfile.open(shared_data / "fhir" / "synthea-bulk-10.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "synthea-bulk-10"
    kinds = ["Organization", "Location", "Practitioner", "Patient", "Device", "Encounter", "Condition"]
    files = sorted(folder.glob("*.ndjson")) if full else [folder / f"{kind}.000.ndjson" for kind in kinds]
    sent: dict[tuple[str, str], dict[str, Any]] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            resource = json.loads(line)
            if "resourceType" in resource:
                sent[resource["resourceType"], resource["id"]] = resource
    with open_bulk(tmp_path) as bulk, serve_bulk(bulk) as base, FHIRClient(base) as client:
        assert main(["fhir", "load", *map(str, files), "--to", base, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["resources"] == len(sent)
        done = client.bulk_export(tmp_path / "out")
        own = client.bulk_export(tmp_path / "own", scope="patient", types=["Patient", "Condition"])

        async def again() -> int:
            async with AsyncFHIRClient(base) as other:
                got = await other.bulk_export(tmp_path / "async", types=["Patient"])
                return sum(file.count for file in got.output)

        assert asyncio.run(again()) == 13
    back = {(r["resourceType"], r["id"]): dict(r) for r in done.resources()}
    assert back.keys() == sent.keys()
    for key, resource in sent.items():
        assert plain(back[key]) == plain(resource)
    assert sum(file.count for file in own.output) == 13 + 555
    assert done.transaction_time.endswith("Z")


def test_memory_does_not_grow_with_the_export(tmp_path: Path) -> None:
    with open_bulk(tmp_path) as bulk:
        text = "x" * 2000
        for start in range(0, 4000, 500):
            bulk.store.transaction(
                transaction(
                    *(
                        put({"resourceType": "Basic", "id": f"b{n}", "code": {"text": text}})
                        for n in range(start, start + 500)
                    )
                )
            )
        bulk.exports.kick_off(ExportRequest("system", types=("Basic",)), agent="x", url="")
        tracemalloc.start()
        assert bulk.work_once()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        size = sum(f.stat().st_size for f in bulk.exports.folder.rglob("*.ndjson"))
        assert size > 8_000_000
        assert peak < 0.5 * size


class Flaky:
    """A server that fails in each way once, then works."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.count = 2

    def __call__(self, request: httpx.Request) -> httpx.Response:
        key = f"{request.method} {request.url.path}"
        self.calls.append(key)
        first = self.calls.count(key) == 1
        if request.url.path.endswith("$export"):
            place = {"content-location": "http://x/fhir/status"}
            return (
                httpx.Response(429, headers={"retry-after": "0"})
                if first
                else httpx.Response(202, headers=place)
            )
        if request.method == "DELETE":
            return httpx.Response(202)
        if request.url.path.endswith("status"):
            if first:
                return httpx.Response(503, headers={"retry-after": "0"})
            row = {"type": "Patient", "url": "http://x/fhir/file", "count": self.count}
            manifest = {"transactionTime": "2026-01-01T00:00:00Z", "output": [row], "error": []}
            return httpx.Response(200, json=manifest)
        if first:
            raise httpx.ReadError("broken")
        return httpx.Response(
            200, content=b'{"resourceType":"Patient","id":"1"}\n{"resourceType":"Patient"}\n'
        )


def test_the_client_repeats_and_cleans_up(tmp_path: Path) -> None:
    server = Flaky()
    with FHIRClient("http://x/fhir", transport=httpx.MockTransport(server)) as client:
        client._sleep = lambda _: None
        done = client.bulk_export(tmp_path)
        assert [r.get("id") for r in done.resources("Patient")] == ["1", None]
        assert server.calls == [
            *["GET /fhir/$export"] * 2,
            *["GET /fhir/status"] * 2,
            *["GET /fhir/file"] * 2,
            "DELETE /fhir/status",
        ]
    wrong = Flaky()
    wrong.count = 3
    with FHIRClient("http://x/fhir", transport=httpx.MockTransport(wrong)) as client:
        client._sleep = lambda _: None
        with pytest.raises(FHIRRequestError, match="another number"):
            client.bulk_export(tmp_path)
        assert wrong.calls[-1] == "DELETE /fhir/status"

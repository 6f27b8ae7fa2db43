"""Hostile and huge input: always an OperationOutcome, bounded memory, and the server goes on."""

from __future__ import annotations

import gzip
import resource
import tarfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import orjson
import pytest

from digital_twins import InputError
from digital_twins.fhir import resource_from_xml
from digital_twins.fhir.validation import add_package
from fhir_support import observation, open_store, patient, post, serve, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from digital_twins.fhir import FhirStore

JSON = {"content-type": "application/fhir+json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FhirStore, httpx.Client]]:
    with (
        open_store(tmp_path_factory.mktemp("bad")) as store,
        serve(store) as base,
        httpx.Client(base_url=base, timeout=120) as client,
    ):
        yield store, client


def refused(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text[:300]
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_resource_of_50_mb_is_refused_before_it_is_read(served: tuple[FhirStore, httpx.Client]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chunk = b'"' + b"x" * 2**20

    def body() -> Iterator[bytes]:
        yield b'{"resourceType":"Binary","contentType":"text/plain","data":'
        for _ in range(50):
            yield chunk

    with suppress(httpx.WriteError):  # the server may answer and close while the client is still sending
        refused(served[1].post("/Binary", content=body(), headers=JSON), 413)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 150
    assert served[1].get("/metadata").status_code == 200


def test_a_bundle_of_10_000_entries_is_one_transaction(
    served: tuple[FhirStore, httpx.Client], full: bool
) -> None:
    count = 10_000 if full else 1_000
    store, http = served
    bundle = transaction(*(post(observation("Patient/big", "1", float(n))) for n in range(count)))
    answer = http.post("/", content=orjson.dumps(bundle), headers=JSON)
    assert answer.status_code == 200
    assert len(answer.json()["entry"]) == count
    assert http.get("/Observation?patient=big&_summary=count").json()["total"] == count
    many = {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {}}] * 20_001}
    refused(http.post("/", content=orjson.dumps(many), headers=JSON), 413, 422)
    assert store.count("Observation") >= count


def test_circular_references_end(served: tuple[FhirStore, httpx.Client]) -> None:
    store, http = served
    for name, other in (("a", "b"), ("b", "a")):
        store.update(patient(id=name, link=[{"other": {"reference": f"Patient/{other}"}, "type": "seealso"}]))
    store.update(
        {"resourceType": "Organization", "id": "o", "name": "o", "partOf": {"reference": "Organization/o"}}
    )
    page = http.get("/Patient?_id=a&_include:iterate=Patient:link&_revinclude:iterate=Patient:link").json()
    assert {e["resource"]["id"] for e in page["entry"]} == {"a", "b"}
    page = http.get("/Organization?_include:iterate=Organization:partof").json()
    assert [e["resource"]["id"] for e in page["entry"]] == ["o"]
    assert http.get("/Patient?link:Patient.link:Patient._id=a").json()["entry"][0]["resource"]["id"] == "a"
    first, second = (f"urn:uuid:{n * 8}-1111-4111-8111-{n * 12}" for n in "12")
    ring = transaction(
        post(patient(link=[{"other": {"reference": second}, "type": "seealso"}]), first),
        post(patient(link=[{"other": {"reference": first}, "type": "seealso"}]), second),
    )
    assert http.post("/", json=ring, headers=JSON).status_code == 200
    nested: dict[str, Any] = {"resourceType": "Bundle", "type": "collection"}
    for _ in range(60):
        nested = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": nested}]}
    refused(http.post("/Bundle", json=nested, headers=JSON), 400, 422)


def small_bomb(size: int) -> bytes:
    """A few kilobytes that unpack to ``size`` zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    return b"".join(packer.compress(zeros) for _ in range(size // 2**20)) + packer.flush()


LAUGHS = b"""<!DOCTYPE x [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]>
<Patient xmlns="http://hl7.org/fhir"><id value="&d;"/></Patient>"""
OUTSIDE = b"""<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]>
<Patient xmlns="http://hl7.org/fhir"><id value="&f;"/></Patient>"""


@pytest.mark.parametrize(
    "document", [LAUGHS, OUTSIDE, b"<a>" * 5000, b"\xff\xfe<", b"<Patient", b""], ids=range(6)
)
def test_hostile_xml_reaches_no_record(served: tuple[FhirStore, httpx.Client], document: bytes) -> None:
    store, http = served
    count = store.count("Patient")
    headers = {"content-type": "application/fhir+xml", "accept": "application/fhir+json"}
    for method, path in (("POST", "/"), ("POST", "/Patient"), ("PUT", "/Patient/x"), ("PATCH", "/Patient/x")):
        answer = http.request(method, path, content=document, headers=headers)
        refused(answer, 400, 404, 413, 415, 422)
        assert "/etc/" not in answer.text
    assert store.count("Patient") == count
    with pytest.raises(InputError):
        resource_from_xml(document)


def test_compressed_bombs_are_not_unpacked(served: tuple[FhirStore, httpx.Client], tmp_path: Path) -> None:
    bomb = small_bomb(256 * 2**20)
    assert len(bomb) < 300_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for coding in ("gzip", "deflate", "br"):
        headers = {**JSON, "content-encoding": coding}
        refused(served[1].post("/Patient", content=bomb, headers=headers), 400, 415)
        form = {"content-type": "application/x-www-form-urlencoded", "content-encoding": coding}
        refused(served[1].post("/Patient/_search", content=bomb, headers=form), 400, 415)
    package, inside = tmp_path / "bomb.tgz", tarfile.TarInfo("package/StructureDefinition-x.json")
    inside.size = 300 * 2**20
    package.write_bytes(gzip.compress(inside.tobuf() + bytes(2**20)))
    with pytest.raises(InputError, match="200 MB"):
        add_package(package, tmp_path / "packages")
    assert not (tmp_path / "packages").exists()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 64
    assert served[1].get("/metadata").status_code == 200


MALFORMED = [
    b"",
    b"{",
    b'{"resourceType":"Patient",}',
    b'{"resourceType":"Patient"} {}',
    b'{"resourceType":"Patient","gender":"fem',
    b"{'resourceType':'Patient'}",
    b'{"resourceType":"Patient","birthDate":NaN}',
    b'{"resourceType":"Patient","active":1e400}',
    b'{"resourceType":"Patient","id":"\xff"}',
    b'{"resourceType":"Patient","id":"\\ud800"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_json(served: tuple[FhirStore, httpx.Client], body: bytes) -> None:
    for method, path in (("POST", "/"), ("POST", "/Patient"), ("PUT", "/Patient/m"), ("POST", "/$validate")):
        refused(served[1].request(method, path, content=body, headers=JSON), 400, 404, 405, 422)
    refused(served[1].get("/Patient/m"), 404)


def test_an_unknown_parameter_is_told_or_refused(served: tuple[FhirStore, httpx.Client]) -> None:
    http = served[1]
    for preference, status in (("handling=strict", 400), ("handling=lenient", 200), ("", 200)):
        answer = http.get("/Patient", params={"colour": "blue"}, headers={"prefer": preference})
        assert answer.status_code == status
        if status == 400:
            refused(answer, 400)
            continue
        told = [e["resource"] for e in answer.json()["entry"] if e["search"]["mode"] == "outcome"]
        assert [issue["code"] for each in told for issue in each["issue"]] == ["not-supported"]
        link = next(each["url"] for each in answer.json()["link"] if each["relation"] == "self")
        assert "colour" not in link


INJECTIONS = [
    "'; DROP TABLE fhir_resource; --",
    '" OR 1=1 --',
    "x' UNION SELECT body FROM fhir_resource --",
    "%' ESCAPE '!",
    "\\",
    "\x00",
    "$this.repeat(children())",
    "${jndi:ldap://127.0.0.1/x}",
    "../../../../etc/passwd",
    "a" * 5000,
    "1e999999",
    "\u00b3",  # a digit to str.isdigit, none to int
    "\u0663",
    "ge9999-12-31T23:59:59.999999999+14:00",
    ",".join(["x"] * 900),
    ",".join(["x"] * 2000),
]


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_injection_in_every_place_of_a_search(served: tuple[FhirStore, httpx.Client], text: str) -> None:
    store, http = served
    before = store.count("Patient")
    names = (
        "name",
        "identifier",
        "birthdate",
        "general-practitioner",
        "_id",
        "_lastUpdated",
        "_sort",
        "_count",
    )
    names += ("_cursor", "_elements", "_include", "_revinclude", "_has:Observation:patient:code", "_total")
    names += (
        "organization.name",
        "name:exact",
        "name:contains",
        "identifier:of-type",
        "gender:text",
        "_summary",
    )
    for name in names:
        answer = http.get("/Patient", params={name: text})
        assert answer.status_code in {200, 400}, (name, answer.text)
        assert answer.json()["resourceType"] in {"Bundle", "OperationOutcome"}
    for kind, name in (
        ("Observation", "value-quantity"),
        ("Observation", "combo-code-value-quantity"),
        ("ValueSet", "url:above"),
    ):
        assert http.get(f"/{kind}", params={name: text}).status_code in {200, 400}
    assert http.get("/Patient", params={text[:200]: "1"}).status_code in {200, 400}
    assert http.get("/_history", params={"_since": text, "_cursor": text}).status_code == 400
    assert http.get("/_history", params={"_count": text}).status_code in {200, 400}
    for place in ("/Patient/x/_history", "/Patient/x/$everything?_count="):
        mark = "" if "?" in place else "/"
        answer = http.get(f"{place}{mark}{quote(text[:200], safe='')}")
        assert answer.status_code in {400, 404}, (place, answer.text)
    assert store.count("Patient") == before


@pytest.mark.parametrize(
    "path",
    [
        "a.b(",
        "Patient.name.where(",
        "1 + 1",
        "%resource",
        "Patient",
        "'x'",
        "(" * 5000,
        "repeat(repeat(children()))",
    ],
)
def test_hostile_fhirpath_in_a_patch(served: tuple[FhirStore, httpx.Client], path: str) -> None:
    http = served[1]
    http.put("/Patient/target", json=patient(id="target"), headers=JSON)
    before = http.get("/Patient/target").headers["etag"]
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": path},
        {"name": "value", "valueString": "x"},
    ]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    refused(http.patch("/Patient/target", json=patch, headers=JSON), 400, 422)
    assert http.get("/Patient/target").headers["etag"] == before


SEMANTIC: list[Any] = [
    {"resourceType": "Bundle", "type": "transaction", "entry": 5},
    {"resourceType": "Bundle", "type": "transaction", "entry": [5]},
    {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": 5}]},
    {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {"method": 5, "url": 5}}]},
    {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {"method": "GET", "url": "?"}}]},
    {"resourceType": "Bundle", "type": ["batch"]},
    {"resourceType": ["Bundle"]},
    {"resourceType": {"a": 1}},
    5,
    "x",
    None,
    [],
    {},
]


@pytest.mark.parametrize("body", SEMANTIC, ids=range(len(SEMANTIC)))
def test_bodies_of_the_wrong_shape(served: tuple[FhirStore, httpx.Client], body: Any) -> None:
    http = served[1]
    raw = orjson.dumps(body)
    for method, path in (
        ("POST", "/"),
        ("POST", "/Patient"),
        ("PUT", "/Patient/1"),
        ("PATCH", "/Patient/1"),
        ("PUT", "/Patient?_id=1"),
    ):
        refused(http.request(method, path, content=raw, headers=JSON), 400, 404, 422)


def test_every_synthea_bundle_loads_and_reads_back(shared_data: Path, tmp_path: Path, full: bool) -> None:
    with tarfile.open(shared_data / "fhir" / "synthea-bundles.tar.xz") as archive:
        raws = [s.read() for m in archive if m.name.endswith(".json") and (s := archive.extractfile(m))]
    raws = raws if full else sorted(raws, key=len)[:4]
    with open_store(tmp_path) as store, serve(store) as base, httpx.Client(timeout=120) as http:
        for number, raw in enumerate(raws):
            answer = http.post(base + ("", "/")[number % 2], content=raw, headers=JSON)
            assert answer.status_code == 200
            names: dict[str, str] = {}
            sent, places = orjson.loads(raw)["entry"], []
            for entry, told in zip(sent, answer.json()["entry"], strict=True):
                place = told["response"]["location"].split("/_history")[0]
                names[entry["fullUrl"]] = place
                places.append(place)
            for entry, place in zip(sent, places, strict=True):
                got = http.get(f"{base}/{place}").json()
                assert even(got, {}) == even(entry["resource"], names), place


def even(node: Any, names: dict[str, str], *, top: bool = True) -> Any:
    """A resource without id and meta, its references resolved."""
    if isinstance(node, dict):
        left = {k: v for k, v in node.items() if not (top and k in {"id", "meta"})}
        return {
            k: names.get(v, v) if k == "reference" else even(v, names, top=False) for k, v in left.items()
        }
    if isinstance(node, list):
        return [even(item, names, top=False) for item in node]
    return node

"""Validation at the door: create and update, $validate, packages of the node, and the commands."""

from __future__ import annotations

import asyncio
import json
import tarfile
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette

from digital_twins._errors import InputError
from digital_twins.audit import OUTBOX_MIGRATIONS
from digital_twins.cli import main
from digital_twins.fhir import MIGRATIONS, FhirStore, fhir_routes
from digital_twins.fhir.validation import PACKAGES_FOLDER, ResourceValidation, add_package, packages_in
from digital_twins.storage import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

US_PATIENT = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
PATIENT = {"resourceType": "Patient", "name": [{"family": "Lovelace"}], "gender": "female"}


class Client:
    """Requests to an application in this process."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def get(self, url: str) -> httpx.Response:
        return asyncio.run(self._send("GET", url, None))

    def post(self, url: str, json: Any) -> httpx.Response:
        return asyncio.run(self._send("POST", url, json))

    def put(self, url: str, json: Any) -> httpx.Response:
        return asyncio.run(self._send("PUT", url, json))

    async def _send(self, method: str, url: str, body: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, url, json=body)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    validation = ResourceValidation(tmp_path / PACKAGES_FOLDER)
    with Database(tmp_path / "x.sqlite", migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS)) as database:
        store = FhirStore(database, validate=validation.check)
        yield Client(Starlette(routes=fhir_routes(store, validation=validation)))
        store.close()


def severities(answer: Any) -> dict[str, list[str]]:
    assert answer["resourceType"] == "OperationOutcome"
    found: dict[str, list[str]] = {}
    for issue in answer["issue"]:
        found.setdefault(issue["severity"], []).append(issue.get("expression", ["-"])[0])
    return found


def test_create_and_update_refuse_what_breaks_the_base(client: Client) -> None:
    wrong = client.post("/fhir/Patient", json={**PATIENT, "gender": "unheard-of"})
    assert wrong.status_code == 422
    assert severities(wrong.json()) == {"error": ["Patient.gender"]}
    broken = client.put("/fhir/Patient/a", json={**PATIENT, "id": "a", "contact": [{"gender": "male"}]})
    assert severities(broken.json()) == {"error": ["Patient.contact[0]"]}
    unknown = client.post("/fhir/Patient", json={**PATIENT, "meta": {"profile": ["http://a.example/none"]}})
    assert unknown.status_code == 201
    entry = {"resource": {**PATIENT, "gender": "x"}, "request": {"method": "POST", "url": "Patient"}}
    bundle = client.post("/fhir", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    assert bundle.status_code == 422
    assert severities(bundle.json()) == {"error": ["Bundle.entry[0].resource.gender"]}


def test_validate_answers_for_types_and_instances(client: Client) -> None:
    claimed = {**PATIENT, "meta": {"profile": ["http://a.example/none"]}}
    answer = client.post("/fhir/Patient/$validate", json=claimed)
    assert answer.status_code == 200
    assert severities(answer.json()) == {"warning": ["Patient", "Patient.meta"]}
    parameters = {"resourceType": "Parameters", "parameter": [
        {"name": "resource", "resource": {**PATIENT, "birthDate": "1815-13-10"}},
        {"name": "profile", "valueUri": "http://a.example/none"}]}  # fmt: skip
    answer = client.post("/fhir/Patient/$validate", json=parameters)
    assert severities(answer.json())["error"] == ["-", "Patient.birthDate"]
    name = client.post("/fhir/Patient", json=PATIENT).json()["id"]
    stored = client.get(f"/fhir/Patient/{name}/$validate")
    assert severities(stored.json()) == {"warning": ["Patient"]}  # dom-6: no narrative
    assert client.post("/fhir/Observation/$validate", json=PATIENT).status_code == 400
    assert client.post("/fhir/Patient/$validate?mode=other", json=PATIENT).status_code == 400
    assert client.get("/fhir/Patient/nobody/$validate").status_code == 404


def test_a_package_is_served_and_validated_without_a_restart(
    client: Client, tmp_path: Path, shared_data: Path
) -> None:
    claimed = {**PATIENT, "meta": {"profile": [US_PATIENT]}}
    assert client.post("/fhir/Patient", json=claimed).status_code == 201
    package = add_package(shared_data / "fhir" / "us-core" / "us_core_700.tgz", tmp_path / PACKAGES_FOLDER)
    assert (package.name, package.version) == ("hl7.fhir.us.core", "7.0.0")
    refused = client.post("/fhir/Patient", json=claimed)
    assert refused.status_code == 422
    assert severities(refused.json()) == {"error": ["Patient.identifier"]}
    (rest,) = client.get("/fhir/metadata").json()["rest"]
    (patient,) = (found for found in rest["resource"] if found["type"] == "Patient")
    assert patient["supportedProfile"] == [US_PATIENT]
    assert patient["operation"][0]["name"] == "validate"
    answer = client.post(f"/fhir/Patient/$validate?profile={US_PATIENT}", json=PATIENT)
    assert "Patient.identifier" in severities(answer.json())["error"]
    assert [each.version for each in packages_in(tmp_path / PACKAGES_FOLDER)] == ["7.0.0"]


def test_the_commands(tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> tuple[int, str]:
        code = main(["fhir", *words])
        return code, capsys.readouterr().out

    package = str(shared_data / "fhir" / "us-core" / "us_core_700.tgz")
    data = str(tmp_path / "node")
    assert json.loads(run("package", "add", package, "--data", data, "--json")[1])["version"] == "7.0.0"
    assert run("package", "list", "--data", data)[1].startswith("hl7.fhir.us.core 7.0.0: ")
    file = tmp_path / "patient.json"
    file.write_text(json.dumps(PATIENT))
    code, said = run("validate", str(file))
    assert (code, said.splitlines()[-1]) == (0, "valid")
    code, said = run("validate", str(file), "--profile", US_PATIENT, "--package", package, "--json")
    assert code == 1
    errors = [issue for issue in json.loads(said)["issues"] if issue["severity"] == "error"]
    assert [issue["expression"] for issue in errors] == [["Patient.identifier"]]
    assert run("validate", str(file), "--profile", US_PATIENT)[0] != 0


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    text, other = tmp_path / "a.tgz", tmp_path / "b.tgz"
    text.write_bytes(b"no package")
    manifest = tmp_path / "package.json"
    manifest.write_text(json.dumps({"name": "x.y", "version": "1.0.0", "fhirVersions": ["5.0.0"]}))
    with tarfile.open(other, "w:gz") as archive:
        archive.add(manifest, "package/package.json")
    for file in (text, other, tmp_path / "missing.tgz"):
        with pytest.raises(InputError):
            add_package(file, tmp_path / "folder")
    manifest.write_text(json.dumps({"name": "../../evil", "version": "1.0.0"}))
    with tarfile.open(other, "w:gz") as archive:
        archive.add(manifest, "package/package.json")
    with pytest.raises(InputError):
        add_package(other, tmp_path / "folder")
    assert packages_in(tmp_path / "folder") == []

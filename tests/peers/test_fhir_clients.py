"""Our server under clients that others wrote: fhirpy, the SMART fhirclient for Python, @medplum/core."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fhir_support import open_store, serve
from foreign import node_package, program, python_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peers

FHIRPY = """
import asyncio, json, sys
from fhirpy import AsyncFHIRClient, SyncFHIRClient
from fhirpy.base.exceptions import ResourceNotFound

base, seen = sys.argv[1], {}
client = SyncFHIRClient(base)
patient = client.resource('Patient', name=[{'family': 'Py', 'given': ['Fhir']}], gender='female',
                          identifier=[{'system': 'urn:py', 'value': '1'}])
patient.save()
patient['active'] = True
patient.save()
seen['version'] = patient['meta']['versionId']
patient.patch(gender='other')
seen['patched'] = client.reference('Patient', patient['id']).to_resource()['gender']
for number in range(7):
    client.resource('Observation', status='final', code={'text': f'n{number}'},
                    subject=patient.to_reference()).save()
found = client.resources('Observation').search(patient=patient['id']).limit(3)
seen['pages'] = len(found.fetch_all())
seen['count'] = found.count()
seen['first'] = client.resources('Patient').search(family='py').first()['id'] == patient['id']
bundle = client.resources('Observation').search(patient=patient['id']).include('Observation', 'subject')
seen['included'] = sorted({e['resource']['resourceType'] for e in bundle.fetch_raw()['entry']})
copy, made = client.resources('Patient').search(identifier='urn:py|1').update(
    client.resource('Patient', identifier=[{'system': 'urn:py', 'value': '1'}]))
seen['conditional_update_made'] = made
patient.delete()
try:
    client.reference('Patient', patient['id']).to_resource()
except Exception as error:
    seen['gone'] = type(error).__name__

async def main():
    other = AsyncFHIRClient(base)
    made = other.resource('Patient', name=[{'family': 'Async'}])
    await made.save()
    seen['async'] = len(await other.resources('Patient').search(family='async').fetch_all())

asyncio.run(main())
print(json.dumps(seen))
"""

FHIRCLIENT = """
import json, sys
from fhirclient import client
from fhirclient.models import humanname, patient, observation

base, seen = sys.argv[1], {}
smart = client.FHIRClient(settings={'app_id': 'test', 'api_base': base})
person = patient.Patient({'name': [{'family': 'Smart', 'given': ['Ada']}], 'birthDate': '1980-02-03'})
made = person.create(smart.server)
seen['version'] = made['meta']['versionId']
read = patient.Patient.read(made['id'], smart.server)
seen['read'] = read.name[0].family
read.active = True
seen['updated'] = read.update(smart.server)['meta']['versionId']
found = patient.Patient.where({'family': 'smart', 'birthdate': '1980'}).perform_resources(smart.server)
seen['found'] = [p.id == made['id'] for p in found]
read.delete()
print(json.dumps(seen))
"""

MEDPLUM = """
import assert from 'node:assert/strict';
globalThis.WebSocket ??= class {};  // Node 20 has none, and the package names it when it is loaded
const { MedplumClient } = await import('@medplum/core');
const baseUrl = process.argv[2].replace(/fhir$/, '');
const client = new MedplumClient({ baseUrl, fhirUrlPath: 'fhir', cacheTime: 0 });
const seen = {};
const made = await client.createResource({ resourceType: 'Patient', name: [{ family: 'Plum' }],
  identifier: [{ system: 'urn:plum', value: '1' }] });
seen.version = made.meta.versionId;
const again = await client.createResourceIfNoneExist({ resourceType: 'Patient',
  identifier: [{ system: 'urn:plum', value: '1' }] }, 'identifier=urn:plum|1');
seen.same = again.id === made.id;
const patched = await client.patchResource('Patient', made.id,
  [{ op: 'add', path: '/gender', value: 'female' }]);
seen.gender = patched.gender;
const upserted = await client.upsertResource({ ...patched, active: true }, 'identifier=urn:plum|1');
seen.upserted = upserted.meta.versionId;
for (let n = 0; n < 5; n++) {
  await client.createResource({ resourceType: 'Observation', status: 'final', code: { text: `n${n}` },
    subject: { reference: `Patient/${made.id}` } });
}
seen.pages = 0;
for await (const page of client.searchResourcePages('Observation', { patient: made.id, _count: '2' })) {
  seen.pages += page.length;
}
const subject = await client.readReference({ reference: `Patient/${made.id}` });
seen.reference = subject.name[0].family;
const history = await client.readHistory('Patient', made.id);
seen.history = history.entry.length;
const everything = await client.readPatientEverything(made.id);
seen.everything = everything.entry.length;
const batch = await client.executeBatch({ resourceType: 'Bundle', type: 'batch',
  entry: [{ request: { method: 'GET', url: `Patient/${made.id}` } }] });
seen.batch = batch.entry[0].resource.id === made.id;
const outcome = await client.validateResource({ resourceType: 'Patient', gender: 'unheard' })
  .catch((error) => error.outcome);
seen.invalid = outcome.issue[0].severity;
await client.deleteResource('Patient', made.id);
await client.readResource('Patient', made.id).catch((error) => { seen.gone = error.outcome.issue[0].code; });
console.log(JSON.stringify(seen));
"""


def run(command: list[str], folder: Path) -> dict[str, object]:
    from digital_twins.fhir.validation import ResourceValidation

    with open_store(folder) as store, serve(store, validation=ResourceValidation()) as base:
        answer = subprocess.run([*command, base], capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    found: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_fhirpy(tmp_path: Path) -> None:
    python_package("fhirpy")
    (tmp_path / "run.py").write_text(FHIRPY)
    assert run([sys.executable, str(tmp_path / "run.py")], tmp_path) == {
        "version": "2",
        "patched": "other",
        "pages": 7,
        "count": 7,
        "first": True,
        "included": ["Observation", "Patient"],
        "conditional_update_made": False,
        "gone": "ResourceNotFound",
        "async": 1,
    }


def test_smart_fhirclient(tmp_path: Path) -> None:
    python_package("fhirclient")
    (tmp_path / "run.py").write_text(FHIRCLIENT)
    assert run([sys.executable, str(tmp_path / "run.py")], tmp_path) == {
        "version": "1",
        "read": "Smart",
        "updated": "2",
        "found": [True],
    }


def test_medplum_core(tmp_path: Path) -> None:
    package, node = node_package("@medplum/core"), program("node")
    script = tmp_path / "node_modules" / "run.mjs"
    (script.parent / "@medplum").mkdir(parents=True)
    (script.parent / "@medplum" / "core").symlink_to(package)
    script.write_text(MEDPLUM)
    assert run([node, str(script)], tmp_path) == {
        "version": "1",
        "same": True,
        "gender": "female",
        "upserted": "3",
        "pages": 5,
        "reference": "Plum",
        "history": 3,
        "everything": 6,
        "batch": True,
        "invalid": "error",
        "gone": "deleted",
    }

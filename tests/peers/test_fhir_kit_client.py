"""Our server under npm's fhir-kit-client, a client that others wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fhir_support import open_store, serve

pytestmark = pytest.mark.peers
MODULES = Path(os.environ.get("TWIN_PEERS", Path(__file__).parents[2] / ".peers")) / "node_modules"
SCRIPT = """
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Client } from 'FHIR_KIT';
const client = new Client({ baseUrl: process.argv[2] });
const seen = {};
const statement = await client.capabilityStatement();
seen.version = statement.fhirVersion;
const made = await client.create({ resourceType: 'Patient', body: { resourceType: 'Patient',
  name: [{ family: 'Kit' }], identifier: [{ system: 'urn:kit', value: '1' }] } });
const read = await client.read({ resourceType: 'Patient', id: made.id });
assert.equal(read.name[0].family, 'Kit');
const body = { ...read, active: true };
const updated = await client.update({ resourceType: 'Patient', id: made.id, body });
assert.equal(updated.meta.versionId, '2');
const old = await client.vread({ resourceType: 'Patient', id: made.id, version: '1' });
assert.equal(old.active, undefined);
const history = await client.history({ resourceType: 'Patient', id: made.id });
seen.history = history.entry.length;
const entry = [...Array(5).keys()].map((n) => ({ resource: { resourceType: 'Observation', status: 'final',
  code: { text: `n${n}` }, subject: { reference: `Patient/${made.id}` } },
  request: { method: 'POST', url: 'Observation' } }));
const bundle = { resourceType: 'Bundle', type: 'transaction', entry };
const done = await client.transaction({ body: bundle });
assert.equal(done.type, 'transaction-response');
const searchParams = { patient: made.id, _count: 2 };
let page = await client.search({ resourceType: 'Observation', searchParams });
seen.found = 0;
while (page) {
  seen.found += page.entry.length;
  page = page.link.some((l) => l.relation === 'next') ? await client.nextPage({ bundle: page }) : null;
}
const posted = await client.search({ resourceType: 'Observation', searchParams: { patient: made.id },
  options: { postSearch: true } });
seen.posted = posted.entry.length;
const batch = await client.batch({ body: { resourceType: 'Bundle', type: 'batch',
  entry: [{ request: { method: 'GET', url: `Patient/${made.id}` } }] } });
assert.equal(batch.entry[0].resource.id, made.id);
await client.delete({ resourceType: 'Patient', id: made.id });
try {
  await client.read({ resourceType: 'Patient', id: made.id });
} catch (error) {
  seen.gone = error.response.status;
  seen.outcome = error.response.data.resourceType;
}
console.log(JSON.stringify(seen));
"""


def test_fhir_kit_client_drives_our_server(tmp_path: Path) -> None:
    package = MODULES / "fhir-kit-client"
    if not package.is_dir() or shutil.which("node") is None:
        reason = "needs node and: npm install --prefix .peers fhir-kit-client (make peers)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    script = tmp_path / "node_modules" / "run.mjs"
    script.parent.mkdir()
    (script.parent / "fhir-kit-client").symlink_to(package)
    script.write_text(SCRIPT.replace("FHIR_KIT", "fhir-kit-client"))
    with open_store(tmp_path) as store, serve(store) as base:
        answer = subprocess.run(
            ["node", str(script), base], capture_output=True, text=True, timeout=60, check=False
        )
    assert answer.returncode == 0, answer.stderr[-2000:]
    expected = {
        "version": "4.0.1",
        "history": 2,
        "found": 5,
        "posted": 5,
        "gone": 410,
        "outcome": "OperationOutcome",
    }
    assert json.loads(answer.stdout) == expected

"""Bulk Data in a node where clients sign in, under a script of the specification's steps on others' code.

smart-on-fhir's bulk-data-client is on no registry, so no installation of ours can have it. The script below
does what that client does, in Node with npm's ``jose``: SMART discovery, ``private_key_jwt`` (ES384, RS384),
kick-off, polling, download and deletion (Bulk Data Access 2.0.0; SMART App Launch 2.2, backend services).
Against bulk-data-client 1.2.1 itself (GitHub, 3be801e) the same seven exports came out right on 2026-11-26.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from auth_support import Site, records, site
from foreign import node_package, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peers
SCRIPT = """
import { SignJWT, importJWK } from 'jose';
const [base, alg, jwkText, asked] = process.argv.slice(2);
const jwk = JSON.parse(jwkText), seen = {};
const known = await (await fetch(`${base}/.well-known/smart-configuration`)).json();
seen.listed = known.token_endpoint_auth_signing_alg_values_supported.includes(alg);
const assertion = await new SignJWT({}).setProtectedHeader({ alg, kid: jwk.kid, typ: 'JWT' })
  .setIssuer('service').setSubject('service').setAudience(known.token_endpoint)
  .setExpirationTime('4m').setJti(crypto.randomUUID()).sign(await importJWK(jwk, alg));
const form = new URLSearchParams({ grant_type: 'client_credentials', scope: 'system/*.rs',
  client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
  client_assertion: assertion });
const token = await (await fetch(known.token_endpoint, { method: 'POST', body: form })).json();
const own = { authorization: `Bearer ${token.access_token}`, accept: 'application/fhir+json' };
const ask = { ...own, prefer: 'respond-async' };
seen.closed = (await fetch(base + asked, { headers: { ...ask, authorization: '' } })).status;
const kickOff = await fetch(base + asked, { headers: ask });
seen.kickOff = kickOff.status;
const place = kickOff.headers.get('content-location');
let status;
do {
  status = await fetch(place, { headers: own });
  if (status.status === 202) await new Promise(r => setTimeout(r, 200));
} while (status.status === 202);
const manifest = await status.json();
seen.done = [status.status, manifest.requiresAccessToken, manifest.error.length];
seen.counts = {};
for (const { type, url, count } of manifest.output) {
  seen.bare = (await fetch(url)).status;
  const file = await fetch(url, { headers: { ...own, accept: 'application/fhir+ndjson' } });
  const lines = (await file.text()).trim().split('\\n').map(line => JSON.parse(line));
  if (lines.length !== count || lines.some(line => line.resourceType !== type)) throw new Error(type);
  seen.counts[type] = (seen.counts[type] ?? 0) + count;
}
seen.deleted = (await fetch(place, { method: 'DELETE', headers: own })).status;
seen.gone = (await fetch(place, { headers: own })).status;
const again = (await fetch(base + asked, { headers: ask })).headers.get('content-location');
seen.cancelled = (await fetch(again, { method: 'DELETE', headers: own })).status;
console.log(JSON.stringify(seen));
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("bulk")) as found:
        records(found.node)
        member = [{"entity": {"reference": "Patient/p1"}}]
        group = {"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": member}
        found.node.services.fhir.update(group)
        yield found


@pytest.mark.parametrize(
    ("alg", "asked", "counts"),
    [
        ("ES384", "/$export", {"Patient": 2, "Observation": 4, "Practitioner": 1, "Group": 1}),
        ("RS384", "/Patient/$export", {"Patient": 2, "Observation": 4, "Group": 1}),
        ("ES384", "/Group/g/$export?_type=Patient,Observation", {"Patient": 1, "Observation": 2}),
        ("RS384", "/$export?_type=Patient", {"Patient": 2}),
        ("ES384", "/Patient/$export?patient=Patient/p2&_type=Patient", {"Patient": 1}),
        (
            "ES384",
            "/$export?_type=Observation&_typeFilter=Observation%3Fsubject%3DPatient/p1",
            {"Observation": 2},
        ),
        ("RS384", "/$export?_since=2100-01-01T00:00:00Z", {}),
    ],
)
def test_export(place: Site, tmp_path: Path, alg: str, asked: str, counts: dict[str, int]) -> None:
    (tmp_path / "node_modules").symlink_to(node_package("jose").parent)
    script = tmp_path / "run.mjs"
    script.write_text(SCRIPT, encoding="utf-8")
    key = place.ec if alg == "ES384" else place.rsa
    jwk = json.dumps(key.as_dict(private=True))
    command = [program("node"), str(script), f"{place.base}/fhir", alg, jwk, asked]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    seen: dict[str, Any] = json.loads(answer.stdout)
    assert seen.pop("counts") == counts
    assert seen == {
        "listed": True,
        "closed": 401,
        "kickOff": 202,
        "done": [200, True, 0],
        **({"bare": 401} if counts else {}),
        "deleted": 202,
        "gone": 404,
        "cancelled": 202,
    }

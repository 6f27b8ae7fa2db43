"""Our authorization server under npm's openid-client, a certified relying party that others wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from auth_support import CALLBACK, _form_token, records, site

pytestmark = pytest.mark.peers
MODULES = Path(os.environ.get("TWIN_PEERS", Path(__file__).parents[2] / ".peers")) / "node_modules"
SCRIPT = """
import * as client from 'openid-client';
import { createInterface } from 'node:readline';
const [issuer, callback, jwk] = process.argv.slice(2);
const insecure = { execute: [client.allowInsecureRequests] };
const config = await client.discovery(new URL(issuer), 'app', undefined, client.None(), insecure);
const verifier = client.randomPKCECodeVerifier();
const state = client.randomState();
const nonce = client.randomNonce();
const url = client.buildAuthorizationUrl(config, {
  redirect_uri: callback, scope: 'openid fhirUser launch/patient offline_access patient/*.rs', state, nonce,
  aud: issuer + '/fhir', code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256' });
console.log(url.href);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const back = new URL((await lines.next()).value);
const tokens = await client.authorizationCodeGrant(config, back, { pkceCodeVerifier: verifier,
  expectedState: state, expectedNonce: nonce, idTokenExpected: true });
const fresh = await client.refreshTokenGrant(config, tokens.refresh_token);
let reused = '';
try { await client.refreshTokenGrant(config, tokens.refresh_token); } catch (e) { reused = e.error; }
const parsed = JSON.parse(jwk);
const curve = { name: 'ECDSA', namedCurve: 'P-384' };
const key = await crypto.subtle.importKey('jwk', parsed, curve, false, ['sign']);
const service = await client.discovery(new URL(issuer), 'service', undefined,
  client.PrivateKeyJwt({ key, kid: parsed.kid }, { [client.modifyAssertion]: (h, p) => {
    p.aud = issuer + '/auth/token'; } }), insecure);
const own = await client.clientCredentialsGrant(service, { scope: 'system/Patient.rs' });
const about = await client.tokenIntrospection(service, own.access_token);
await client.tokenRevocation(service, own.access_token);
const gone = await client.tokenIntrospection(service, own.access_token);
console.log(JSON.stringify({ patient: tokens.patient, claims: tokens.claims(),
  refreshed: !!fresh.access_token, reused, own: own.scope, about: about.active, gone: gone.active }));
process.exit(0);
"""


def test_openid_client_signs_in_refreshes_introspects_and_revokes(tmp_path: Path) -> None:
    package = MODULES / "openid-client"
    if not package.is_dir() or shutil.which("node") is None:
        reason = "needs node and: npm install --prefix .peers openid-client (make peers)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    script = tmp_path / "run.mjs"
    (tmp_path / "node_modules").symlink_to(MODULES)
    script.write_text(SCRIPT)
    with site(tmp_path / "node") as place:
        records(place.node)
        jwk = json.dumps(place.ec.as_dict(private=True))
        with subprocess.Popen(
            ["node", str(script), place.base, CALLBACK, jwk],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as peer:
            assert peer.stdout is not None
            assert peer.stderr is not None
            url = peer.stdout.readline().strip()
            assert url.startswith(f"{place.base}/auth/authorize"), peer.stderr.read()
            with place.browser() as browser:
                page = browser.get(url)
                form = {"decision": "allow", "form_token": _form_token(page.text), "patient": "p1"}
                back = browser.post(url, data=form).headers["location"]
            out, err = peer.communicate(back + "\n", timeout=120)
    assert peer.returncode == 0, err
    seen = json.loads(out)
    assert seen["patient"] == "p1"
    assert seen["claims"]["fhirUser"].endswith("/fhir/Practitioner/7")
    assert (seen["refreshed"], seen["reused"]) == (True, "invalid_grant")
    assert (seen["own"], seen["about"], seen["gone"]) == ("system/Patient.rs", True, False)

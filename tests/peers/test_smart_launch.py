"""SMART App Launch of npm's fhirclient, the SMART client for browsers that others wrote, in Chromium."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import pytest

from auth_support import PASSWORD, Site, records, site
from browser import browser
from foreign import PEERS, missing_peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.peers
LIBRARY = PEERS / "smart" / "build" / "fhir-client.js"
LAUNCH = """<!doctype html><link rel="icon" href="data:,"><script src="fhir-client.js"></script><script>
const q = new URLSearchParams(location.search);
FHIR.oauth2.authorize({ clientId: q.get('app') || 'smart', scope: q.get('scope') || 'launch openid fhirUser '
  + 'offline_access patient/*.rs', redirectUri: 'index.html', pkceMode: 'required', iss: q.get('iss') });
</script>"""
INDEX = """<!doctype html><link rel="icon" href="data:,"><script src="fhir-client.js"></script><script>
async function run(client) {
  const seen = { patient: client.patient.id, user: client.getFhirUser(), encounter: client.encounter.id,
    scope: client.state.tokenResponse.scope };
  seen.family = (await client.patient.read()).name[0].family;
  seen.about = await client.patient.request('Observation').then(
    b => (b.entry || []).map(e => e.resource.subject.reference), e => e.status);
  seen.other = await client.request('Patient/p2').then(() => 200, e => e.status);
  seen.write = await client.create({ resourceType: 'Observation', status: 'final', code: { text: 'x' },
    subject: { reference: 'Patient/p1' } }).then(() => 201, e => e.status);
  const first = client.state.tokenResponse.refresh_token;
  if (first) {
    const address = client.state.tokenUri;
    const before = client.state.tokenResponse.access_token;
    await client.refresh();
    const second = client.state.tokenResponse.refresh_token;
    seen.rotated = second !== first && client.state.tokenResponse.access_token !== before;
    seen.again = (await client.patient.read()).id;
    const use = token => fetch(address, { method: 'POST', body: new URLSearchParams({
      grant_type: 'refresh_token', refresh_token: token, client_id: 'smart' }) }).then(r => r.json());
    seen.reused = (await use(first)).error;
    seen.family_gone = (await use(second)).error;
    seen.after = await client.request('Patient/p1').then(() => 200, e => e.status || String(e));
  }
  return seen;
}
window.seen = FHIR.oauth2.ready().then(run).catch(e => ({ error: String(e && e.message || e) }));
</script>"""
READS = "launch/patient openid fhirUser offline_access patient/*.rs"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def _app(folder: Path) -> Iterator[str]:
    """Serve the app's two pages and the library from a folder, on an origin of its own."""
    if not LIBRARY.is_file():
        missing_peer("npm package fhirclient")
    folder.mkdir()
    (folder / "launch.html").write_text(LAUNCH, encoding="utf-8")
    (folder / "index.html").write_text(INDEX, encoding="utf-8")
    (folder / "fhir-client.js").write_bytes(LIBRARY.read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    folder = tmp_path_factory.mktemp("smart")
    with _app(folder / "app") as app, site(folder / "node") as found:
        records(found.node)
        more = {"redirect_uris": [f"{app}/index.html"], "launch_url": f"{app}/launch.html"}
        scope = "openid fhirUser launch launch/patient offline_access patient/*.rs"
        found.authority.clients.add("smart", scope=scope, **more)
        found.authority.clients.add("narrow", scope="launch/patient patient/Patient.rs", **more)
        yield found, app


def _sign_in_and_answer(page: Page, decision: str, patient: str | None) -> dict[str, Any]:
    """Fill in the node's pages as a person does and return what the app saw."""
    page.fill("#name", "anna")
    page.fill("#password", PASSWORD)
    page.click("#sign-in")
    if patient is not None:
        page.select_option("#patient", patient)
    page.click(f"#{decision}")
    page.wait_for_url("**/index.html*")
    found: dict[str, Any] = page.evaluate("window.seen")
    return found


def _standalone(place: tuple[Site, str], *, scope: str, decision: str = "allow", app: str = "smart") -> Any:
    found, address = place
    query = urlencode({"iss": f"{found.base}/fhir", "scope": scope, "app": app})
    with browser() as chromium, chromium.page() as page:
        page.goto(f"{address}/launch.html?{query}")
        return _sign_in_and_answer(page, decision, "p1" if decision == "allow" else None)


def _check_refresh(seen: dict[str, Any]) -> None:
    assert (seen["rotated"], seen["again"]) == (True, "p1")
    # A refresh token that comes twice ends the whole family (RFC 9700 section 4.14.2).
    assert (seen["reused"], seen["family_gone"]) == ("invalid_grant", "invalid_grant")
    assert seen["after"] != 200


def test_standalone_launch_reads_the_chosen_patient_only(place: tuple[Site, str]) -> None:
    seen = _standalone(place, scope=READS)
    assert "error" not in seen, seen
    assert (seen["patient"], seen["family"]) == ("p1", "P1")
    assert seen["user"].endswith("Practitioner/7")
    assert seen["about"]
    assert set(seen["about"]) == {"Patient/p1"}
    assert seen["other"] in {403, 404}
    assert seen["write"] == 403
    _check_refresh(seen)


def test_ehr_launch_takes_patient_and_encounter_from_the_ehr(place: tuple[Site, str]) -> None:
    found, _ = place
    # The EHR half: who is signed in at the node asks for a launch address.
    with found.browser() as ehr:
        form = {"client_id": "smart", "patient": "p1", "encounter": "e1"}
        answer = ehr.post("/auth/launch", data=form)
        assert answer.status_code == 200, answer.text
        url = answer.json()["url"]
    with browser() as chromium, chromium.page() as page:
        page.goto(url)
        seen = _sign_in_and_answer(page, "allow", None)
    assert "error" not in seen, seen
    assert (seen["patient"], seen["encounter"], seen["family"]) == ("p1", "e1", "P1")
    assert "launch" in seen["scope"].split()
    _check_refresh(seen)


def test_a_scope_that_the_app_is_not_registered_for_is_not_given(place: tuple[Site, str]) -> None:
    scope = "launch/patient patient/Patient.rs patient/Observation.rs"
    seen = _standalone(place, scope=scope, app="narrow")
    assert set(seen["scope"].split()) == {"launch/patient", "patient/Patient.rs"}
    assert (seen["family"], seen["about"], seen["write"]) == ("P1", 403, 403)


def test_a_person_who_denies_and_an_app_that_asks_too_much(place: tuple[Site, str]) -> None:
    assert "access_denied" in _standalone(place, scope=READS, decision="deny")["error"]
    found, address = place
    query = urlencode({"iss": f"{found.base}/fhir", "scope": "system/Patient.rs", "app": "narrow"})
    with browser() as chromium, chromium.page() as page:
        page.goto(f"{address}/launch.html?{query}")
        page.wait_for_url("**/index.html*")
        assert "registered" in page.evaluate("window.seen")["error"]


def test_the_capability_statement_names_the_addresses(place: tuple[Site, str]) -> None:
    found, _ = place
    rest = httpx.get(f"{found.base}/fhir/metadata").json()["rest"][0]
    named = {e["url"]: e["valueUri"] for e in rest["security"]["extension"][0]["extension"]}
    known = httpx.get(f"{found.base}/fhir/.well-known/smart-configuration").json()
    assert named["authorize"] == known["authorization_endpoint"]
    assert named["token"] == known["token_endpoint"]

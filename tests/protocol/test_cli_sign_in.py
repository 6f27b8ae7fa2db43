"""`twin login` and what follows it, against a running node; the test plays the person at the browser."""

from __future__ import annotations

import html
import io
import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from auth_support import PASSWORD, Site, _form_token, records, site
from digital_twins import ConflictError, auth
from digital_twins.cli import main
from digital_twins.cli._browser_sign_in import Attempt, discover
from digital_twins.config import Settings
from digital_twins.server import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(600)
BY = "client:twin-cli"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("node")) as made:
        records(made.node)
        yield made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home" / "digital-twins" / "sign-ins.json"


@pytest.fixture
def twin(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command; returns exit code, what it wrote, and what it said beside."""

    def run(*words: str, given: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def consent(browser: httpx.Client, address: str, decision: str = "allow") -> str:
    """Allow or deny what the page asks for; returns where the browser is then sent."""
    page = browser.get(address)
    assert page.status_code == 200, page.text
    form = {"decision": decision, "form_token": _form_token(page.text)}
    answer = browser.post(address, data=form)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def person(place: Site, user: str, decision: str = "allow") -> Callable[[str], bool]:
    """What stands in for `webbrowser.open`: somebody who signs in and is led back to the terminal."""

    def walk(address: str) -> None:
        with place.browser(user) as browser:
            back = consent(browser, address, decision)
        answer = httpx.get(back)
        assert answer.status_code == 200
        assert "content-security-policy" in answer.headers
        assert ("are not signed in" in answer.text) == (decision != "allow")

    def open_it(address: str) -> bool:
        threading.Thread(target=walk, args=(address,)).start()
        return True

    return open_it


@pytest.fixture
def signed_in(place: Site, twin: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sign somebody in at the browser."""

    def run(user: str = "anna", base: str | None = None) -> dict[str, Any]:
        monkeypatch.setattr("webbrowser.open", person(place, user))
        code, out, err = twin("login", base or place.base, "--json")
        assert code == 0, err
        return dict(json.loads(out))

    return run


def held(home: Path) -> dict[str, Any]:
    (row,) = json.loads(home.read_text()).values()
    return dict(row)


def outdated(home: Path) -> None:
    """Let the access token be over, as five minutes later."""
    rows = json.loads(home.read_text())
    for row in rows.values():
        row["until"] = 0
    home.write_text(json.dumps(rows))


def events(place: Site, *kinds: str) -> list[tuple[str, str, str]]:
    found = place.trail(*kinds)
    return [(e["kind"], e["outcome"], e["agent"]) for e in found]


def test_a_person_signs_in_at_the_browser_works_and_signs_out(
    place: Site, twin: Any, signed_in: Any, home: Path
) -> None:
    before = len(events(place, "auth.authorise", "auth.token", "auth.revoke"))
    told = signed_in("anna")
    assert (told["sub"], told["roles"], told["url"]) == ("anna", ["clinician"], place.base)
    words = told["scope"].split()
    assert {"user/*.cruds", "twin.read", "imaging.write"} <= set(words)
    assert not {"report.sign", "emergency.use", "launch.create", "pages.view", "retention.manage"} & set(
        words
    )
    assert home.stat().st_mode & 0o777 == 0o600
    assert home.parent.stat().st_mode & 0o777 == 0o700
    code, out, _ = twin("whoami")
    assert code == 0
    assert "anna" in out
    assert "clinician" in out
    token = twin("token")[1].strip()
    shown = {"authorization": f"Bearer {token}"}
    assert place.fhir(token, "GET", "/Patient/p1").status_code == 200
    assert httpx.get(f"{place.base}/api/patients", headers=shown).status_code == 200
    assert httpx.get(f"{place.base}/metrics", headers=shown).status_code == 403
    refresh = held(home)["refresh_token"]
    assert twin("logout")[0] == 0
    assert json.loads(home.read_text()) == {}
    form = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": "twin-cli"}
    assert httpx.post(f"{place.base}/auth/token", data=form).json()["error"] == "invalid_grant"
    assert place.fhir(token, "GET", "/Patient/p1").status_code == 401
    assert twin("whoami")[0] == 1
    found = events(place, "auth.authorise", "auth.token", "auth.revoke")[before:]
    assert [(kind, outcome) for kind, outcome, _ in found] == [
        ("auth.authorise", "success"),
        ("auth.token", "success"),
        ("auth.revoke", "success"),
        ("auth.token", "refused"),
    ]
    assert found[1][2] == f"user:anna {BY}"


def test_a_real_process_opens_the_browser_of_the_person(place: Site, home: Path, tmp_path: Path) -> None:
    """The command as users start it; BROWSER names a program that only notes the address."""
    noted = tmp_path / "address"
    program = tmp_path / "browser.py"
    program.write_text("import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])")
    command = [sys.executable, "-m", "digital_twins.cli", "login", place.base, "--json"]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "BROWSER": f"{sys.executable} {program} {noted} %s",
    }
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        try:
            end = time.monotonic() + 120
            while not (noted.exists() and noted.read_text()) and time.monotonic() < end:
                time.sleep(0.05)
            with place.browser("rita") as browser:
                assert httpx.get(consent(browser, noted.read_text())).status_code == 200
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert json.loads(out)["roles"] == ["researcher"]
    kept = tmp_path / ".config" / "digital-twins" / "sign-ins.json"
    assert kept.stat().st_mode & 0o077 == 0
    row = held(kept)
    assert row["access_token"] not in out + err
    assert row["refresh_token"] not in out + err


@pytest.mark.parametrize("form", ["code", "address"])
def test_without_a_browser_beside_the_terminal_a_code_is_copied(
    place: Site, twin: Any, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    copied: list[str] = []

    def show(address: str) -> None:
        with place.browser("phil") as browser:
            back = consent(browser, address)
            page = browser.get(back)
        shown = re.search(r'<code id="code">([^<]+)</code>', page.text)
        assert page.status_code == 200
        assert shown is not None
        copied.append(back if form == "address" else html.unescape(shown[1]))

    monkeypatch.setattr("digital_twins.cli._login._show_address", show)
    monkeypatch.setattr("digital_twins.cli._login._ask_code", lambda: f" {copied[0]}\n")
    code, out, err = twin("login", place.base, "--no-browser", "--json")
    assert code == 0, err
    assert json.loads(out)["sub"] == "phil"


def test_what_is_copied_from_elsewhere_signs_nobody_in(
    place: Site, twin: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code or address of another sign-in, as an attacker would have somebody paste it."""
    node = discover(place.base, None)
    other = Attempt.begin(node, f"{place.base}/auth/code")
    with place.browser("anna") as browser:
        back = consent(browser, other.url)
    code = parse_qs(urlsplit(back).query)["code"][0]
    mine: list[str] = []
    monkeypatch.setattr("digital_twins.cli._login._show_address", mine.append)
    for given in (back, code, "", "nonsense", f"{place.base}/auth/code?error=access_denied"):
        failed, _, err = twin("login", place.base, "--no-browser", given=f"{given}\n")
        assert failed == 1
        assert "did not sign you in" in err
    assert not home.exists()
    page = httpx.get(f"{place.base}/auth/code", params={"code": "<script>alert(1)</script>"})
    assert "<script>" not in page.text
    assert "Nobody was signed in" in httpx.get(f"{place.base}/auth/code?error=access_denied").text


def test_the_port_that_waits_takes_nothing_but_the_answer_to_its_own_question(
    place: Site, twin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def attack_then_answer(address: str) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        port = urlsplit(asked["redirect_uri"]).port
        right = {"code": "x", "state": asked["state"], "iss": place.base}
        wrong: tuple[dict[str, str], ...] = (
            {**right, "state": "guess"},
            {**right, "state": ""},
            {**right, "iss": "https://evil.example"},
            {"code": "x", "state": asked["state"]},
        )
        target = f"http://127.0.0.1:{port}/signed-in"
        seen.extend(httpx.get(target, params=query).status_code for query in wrong)
        twice = f"{target}?{urlencode(right)}&state=other"
        seen.append(httpx.get(twice).status_code)
        seen.append(httpx.get(target, params=right, headers={"host": "evil.example"}).status_code)
        seen.append(httpx.get(f"http://127.0.0.1:{port}/favicon.ico").status_code)
        seen.append(httpx.post(target, params=right).status_code)
        person(place, "anna")(address)

    monkeypatch.setattr(
        "webbrowser.open", lambda a: bool(threading.Thread(target=attack_then_answer, args=(a,)).start())
    )
    code, out, err = twin("login", place.base, "--json")
    assert code == 0, err
    assert json.loads(out)["sub"] == "anna"
    assert seen == [404, 404, 404, 404, 404, 404, 404, 501]


def test_who_does_not_agree_or_does_not_come_is_not_signed_in(
    place: Site, twin: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.open", person(place, "anna", decision="deny"))
    code, _, err = twin("login", place.base)
    assert code == 1
    assert "not allowed in the browser" in err
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    code, _, err = twin("login", place.base, "--timeout", "1")
    assert code == 1
    assert "Nobody came back" in err
    assert not home.exists()


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:80/elsewhere",
        "http://localhost:8000/signed-in",
        "http://127.0.0.1:0/signed-in",
        "http://127.0.0.1:99999/signed-in",
        "http://127.0.0.1:80@evil.example/signed-in",
        "http://127.0.0.1.evil.example:80/signed-in",
        "http://127.0.0.1:80/signed-in?next=http://evil.example",
        "http://127.0.0.1:80/signed-in#x",
        "https://127.0.0.1:80/signed-in",
        "http://2130706433:80/signed-in",
        "https://evil.example/auth/code",
    ],
)
def test_only_a_port_of_this_machine_may_differ(place: Site, uri: str) -> None:
    with place.browser("anna") as browser:
        query, _ = place.request("openid user/*.rs", app="twin-cli", redirect_uri=uri)
        answer = browser.get("/auth/authorize", params=query)
    assert answer.status_code == 400
    assert "location" not in answer.headers


def test_a_registered_address_with_a_port_is_that_port_alone(place: Site) -> None:
    with place.browser("anna") as browser:
        query, _ = place.request("user/*.rs", redirect_uri="http://127.0.0.1:10/callback")
        assert browser.get("/auth/authorize", params=query).status_code == 400


def test_tokens_are_renewed_and_many_commands_at_once_do_not_end_the_sign_in(
    place: Site, twin: Any, signed_in: Any, home: Path
) -> None:
    signed_in("anna")
    first = held(home)
    outdated(home)
    before = len(place.trail("auth.token"))
    command = [sys.executable, "-m", "digital_twins.cli", "token"]
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(4))
        )
    assert [each.returncode for each in done] == [0] * 4, done[0].stderr
    assert len({each.stdout for each in done}) == 1
    assert len(place.trail("auth.token")) == before + 1
    now = held(home)
    assert now["refresh_token"] != first["refresh_token"]
    assert home.stat().st_mode & 0o077 == 0
    assert twin("whoami")[0] == 0


def test_a_token_that_was_stolen_and_used_ends_the_sign_in(
    place: Site, twin: Any, signed_in: Any, home: Path
) -> None:
    signed_in("anna")
    stolen = held(home)["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": stolen, "client_id": "twin-cli"}
    theirs = httpx.post(f"{place.base}/auth/token", data=form).json()
    outdated(home)
    code, _, err = twin("whoami")
    assert code == 1
    assert "ended or was revoked" in err
    assert place.fhir(theirs["access_token"], "GET", "/Patient/p1").status_code == 401


def test_fewer_roles_another_password_or_a_closed_account_end_what_a_sign_in_may(
    place: Site, twin: Any, signed_in: Any, home: Path
) -> None:
    accounts = place.authority.accounts
    accounts.add("cleo", password=PASSWORD, roles=["clinician"], second_factor=False)
    assert "imaging.write" in signed_in("cleo")["scope"]
    accounts.set_roles("cleo", ["researcher"])
    outdated(home)
    fewer = json.loads(twin("whoami", "--json")[1])
    assert (fewer["roles"], "imaging.write" in fewer["scope"]) == (["researcher"], False)
    assert "user/*.rs" in fewer["scope"].split()
    token = twin("token")[1].strip()
    assert place.fhir(token, "POST", "/Patient", json={"resourceType": "Patient"}).status_code == 403
    accounts.set_password("cleo", "another long password")
    outdated(home)
    assert twin("whoami")[0] == 1
    place.cookies.pop("cleo")
    with httpx.Client(base_url=place.base) as browser:
        form = {"name": "cleo", "password": "another long password"}
        assert browser.post("/auth/sign-in", data=form).status_code == 303
        place.cookies["cleo"] = browser.cookies["twin-session"]
    signed_in("cleo")
    accounts.disable("cleo")
    outdated(home)
    assert twin("token")[0] == 1


def test_a_sign_in_ends_with_the_day(place: Site, signed_in: Any) -> None:
    signed_in("otto")
    with place.authority.records.database.read() as connection:
        text = "SELECT expires - created FROM auth_grant WHERE client='twin-cli' AND username='otto'"
        assert connection.execute(text).fetchall() == [(12 * 3600,)]


def test_the_operator_may_close_the_command_line(
    tmp_path: Path, twin: Any, home: Path, monkeypatch: Any
) -> None:
    with site(tmp_path / "own") as place:
        monkeypatch.setattr("webbrowser.open", person(place, "anna"))
        assert twin("login", place.base)[0] == 0
        with pytest.raises(ConflictError, match="in use"):
            place.authority.clients.add("twin-cli", scope="openid")
        folder = str(place.node.settings.data_dir)
        listed = json.loads(twin("auth", "client", "list", "--json", "--data", folder)[1])
        assert {row["client_id"]: row["disabled"] for row in listed}["twin-cli"] is False
        assert twin("auth", "client", "disable", "twin-cli", "--data", folder)[0] == 0
        listed = json.loads(twin("auth", "client", "list", "--json", "--data", folder)[1])
        assert {row["client_id"]: row["disabled"] for row in listed}["twin-cli"] is True
        outdated(home)
        assert twin("whoami")[0] == 1
        query, _ = place.request("openid", app="twin-cli", redirect_uri="http://127.0.0.1:80/signed-in")
        with place.browser("anna") as browser:
            assert browser.get("/auth/authorize", params=query).status_code == 400


@contextmanager
def stranger() -> Iterator[tuple[str, list[str]]]:
    """Another server on this machine, which notes the credentials that it is shown."""
    shown: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            shown.append(self.headers.get("authorization", ""))
            self.send_response(400)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815  (names of http.server)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", shown
        finally:
            server.shutdown()
            thread.join()


def test_commands_act_as_who_signed_in_and_show_the_token_to_nobody_else(
    place: Site, twin: Any, signed_in: Any, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "patient.ndjson"
    file.write_text('{"resourceType": "Patient", "id": "loaded"}\n')
    assert twin("fhir", "load", str(file), "--to", f"{place.base}/fhir")[0] == 1
    signed_in("anna")
    outdated(home)
    code, _, err = twin("fhir", "load", str(file), "--to", f"{place.base}/fhir")
    assert code == 0, err
    agents = {e["agent"] for e in place.trail("fhir.transaction") if BY in e["agent"]}
    assert agents == {f"user:anna {BY}"}
    rows = json.loads(home.read_text())
    rows[place.base]["access_token"] += "x"  # young, and yet the node does not take it
    home.write_text(json.dumps(rows))
    assert twin("fhir", "load", str(file), "--to", f"{place.base}/fhir")[0] == 0
    with stranger() as (address, shown):
        assert twin("fhir", "load", str(file), "--to", f"{address}/fhir")[0] == 1
    assert shown
    assert set(shown) == {""}
    checks = json.loads(twin("doctor", "--http", place.base, "--json")[1])["checks"]
    named = {each["name"]: each["ok"] for each in checks}
    assert (named["DICOMweb"], named["health"], named["FHIR metadata"]) == (True, True, True)
    signed_in("rita")
    assert twin("fhir", "load", str(file), "--to", f"{place.base}/fhir")[0] == 1


def test_over_tls_with_an_authority_of_ones_own(tmp_path: Path, twin: Any, monkeypatch: Any) -> None:
    certs = tmp_path / "certs"
    assert main(["certs", "init", "--folder", str(certs)]) == 0
    assert main(["certs", "issue", "node", "--host", "127.0.0.1", "--folder", str(certs)]) == 0
    settings = Settings(
        data_dir=tmp_path / "node", http_port=0, dicom_port=0, authentication=True,
        http_tls_certificate=certs / "node.pem", http_tls_key=certs / "node.key",
    )  # fmt: skip
    with Node(settings) as node:
        services = node.services
        authority = auth.open_authority(
            services.database, services.auditor, services.data_dir, base_url=node.base_url
        )
        authority.accounts.add("anna", password=PASSWORD, roles=["clinician"], second_factor=False)
        trust = str(certs / "ca.pem")

        def walk(address: str) -> None:
            import ssl

            context = ssl.create_default_context(cafile=trust)
            headers = {"origin": node.base_url}
            with httpx.Client(base_url=node.base_url, verify=context, headers=headers) as browser:
                browser.post("/auth/sign-in", data={"name": "anna", "password": PASSWORD})
                httpx.get(consent(browser, address))

        monkeypatch.setattr(
            "webbrowser.open", lambda a: bool(threading.Thread(target=walk, args=(a,)).start())
        )
        code, _, err = twin("login", node.base_url)
        assert code == 1
        assert "did not answer" in err
        code, _, err = twin("login", node.base_url, "--authority", trust)
        assert code == 0, err
        assert "anna" in twin("whoami")[1]
        assert twin("logout")[0] == 0
        assert twin("login", node.base_url, "--authority", str(tmp_path / "none.pem"))[0] == 1


def test_where_nobody_signs_in_and_addresses_that_tokens_must_not_go_to(
    tmp_path: Path, twin: Any, place: Site
) -> None:
    with Node(Settings(data_dir=tmp_path / "open", http_port=0, dicom_port=0)) as node:
        code, _, err = twin("login", node.base_url)
        assert code == 1
        assert "Nobody signs in there" in err
    for address in (
        "http://twin.hospital.example",
        "ftp://127.0.0.1",
        "twin",
        place.base.replace("127.0.0.1", "localhost"),
    ):
        code, _, err = twin("login", address)
        assert code == 1
        assert "cannot be used" in err, address
    assert place.base in err
    assert twin("login", "http://127.0.0.1:9")[0] == 1


def test_the_file_of_the_sign_ins_is_the_persons_alone(signed_in: Any, twin: Any, home: Path) -> None:
    signed_in("anna")
    home.chmod(0o640)
    code, _, err = twin("whoami")
    assert code == 1
    assert "chmod 600" in err
    home.chmod(0o600)
    home.write_text('{"x": 1}')
    code, _, err = twin("whoami")
    assert code == 1
    assert "damaged" in err


def test_signing_out_where_the_node_is_gone_says_that_the_tokens_live_on(
    signed_in: Any, twin: Any, home: Path
) -> None:
    signed_in("anna")
    rows = json.loads(home.read_text())
    for row in rows.values():
        row["revocation_endpoint"] = "http://127.0.0.1:9/auth/revoke"
    home.write_text(json.dumps(rows))
    code, _, err = twin("logout")
    assert code == 1
    assert "did not take them back" in err
    assert json.loads(home.read_text()) == {}


def test_who_a_token_stands_for_is_told_to_its_holder_alone(place: Site) -> None:
    address = f"{place.base}/auth/userinfo"
    before = len(place.trail("auth.userinfo"))
    assert httpx.get(address).status_code == 401
    for wrong in ("x.y.z", place.app_token("user/*.rs") + "x"):
        assert httpx.get(address, headers={"authorization": f"Bearer {wrong}"}).status_code == 401
    for token in (place.service().json()["access_token"], place.app_token("user/*.rs")):
        answer = httpx.get(address, headers={"authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
    found = place.app_token("openid fhirUser user/*.rs", user="rita")
    about = httpx.post(address, headers={"authorization": f"Bearer {found}"}).json()
    assert about == {"sub": "rita", "fhirUser": f"{place.base}/fhir/Practitioner/7"}
    assert [e["outcome"] for e in place.trail("auth.userinfo")[before:]] == ["refused"] * 2

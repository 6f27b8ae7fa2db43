"""Sign-in to the pages through npm's oidc-provider, a certified OpenID provider that others wrote."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from auth_support import Site, _form_token, site
from digital_twins.cli import main
from foreign import PEERS, node_package, program

pytestmark = pytest.mark.peers
SECRET = "a secret of this test"
SCRIPT = """
import { Provider } from 'oidc-provider';
const [issuer, port, back, secret] = process.argv.slice(2);
const provider = new Provider(issuer, {
  clients: [{ client_id: 'node', client_secret: secret, redirect_uris: [back] }],
  claims: { openid: ['sub'], profile: ['preferred_username'] },
  conformIdTokenClaims: false,
  findAccount: (ctx, id) => ({ accountId: id,
    claims: async () => ({ sub: 'u-' + id, preferred_username: id }) }),
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _through_its_pages(url: str, login: str, back: str) -> str:
    """Fill in the provider's own forms until it leads back."""
    with httpx.Client() as person:
        answer = person.get(url)
        for _ in range(12):
            if answer.is_redirect:
                place = str(answer.next_request.url) if answer.next_request else ""
                if place.startswith(back):
                    return place
                answer = person.get(place)
                continue
            assert answer.status_code == 200, answer.text
            action = re.search(r'<form[^>]* action="([^"]+)"', answer.text)
            assert action, answer.text
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            assert prompt, answer.text
            form = {"prompt": prompt[1], "login": login, "password": "any"}
            answer = person.post(action[1], data=form)
    raise AssertionError("the provider did not lead back")


def _terminal(place: Site, back: str, monkeypatch: Any, capsys: Any) -> dict[str, Any]:
    """`twin login` whose person has no session at the node yet and signs in at the provider."""

    def walk(address: str) -> None:
        with httpx.Client(base_url=place.base, headers={"origin": place.base}) as browser:
            target = browser.get(address).headers["location"]
            assert target.startswith("/auth/sign-in?next=")
            leave = re.search(r'href="(/auth/provider[^"]+)"', browser.get(target).text)
            assert leave
            url = browser.get(leave[1].replace("&amp;", "&")).headers["location"]
            consent = browser.get(_through_its_pages(url, "rita", back)).headers["location"]
            form = {"decision": "allow", "form_token": _form_token(browser.get(consent).text)}
            assert httpx.get(browser.post(consent, data=form).headers["location"]).status_code == 200

    monkeypatch.setattr(
        "webbrowser.open", lambda address: bool(threading.Thread(target=walk, args=(address,)).start())
    )
    capsys.readouterr()
    assert main(["login", place.base, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_a_person_signs_in_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    node_package("oidc-provider")
    (tmp_path / "node_modules").symlink_to(PEERS / "node_modules")
    script = tmp_path / "provider.mjs"
    script.write_text(SCRIPT, encoding="utf-8")
    secret_file = tmp_path / "oidc.secret"
    secret_file.touch(mode=0o600)
    secret_file.write_text(SECRET, encoding="utf-8")
    port = _free_port()
    issuer = f"http://127.0.0.1:{port}"
    settings = {"issuer": issuer, "client_id": "node", "client_secret_file": secret_file}
    with site(tmp_path / "data", oidc={**settings, "account_claim": "preferred_username"}) as place:
        back = f"{place.base}/auth/provider/callback"
        with subprocess.Popen(
            [program("node"), str(script), issuer, str(port), back, SECRET],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as provider:
            try:
                assert provider.stdout is not None
                assert "ready" in next((line for line in provider.stdout if "ready" in line), "")
                with httpx.Client(base_url=place.base) as browser:
                    url = browser.get("/auth/provider?next=/auth/account").headers["location"]
                    assert parse_qs(urlsplit(url).query)["scope"] == ["openid profile"]
                    home = browser.get(_through_its_pages(url, "rita", back))
                    assert (home.status_code, home.headers.get("location")) == (303, "/auth/account"), (
                        home.text
                    )
                    assert "researcher" in browser.get("/auth/account").text
                with httpx.Client(base_url=place.base) as browser:
                    url = browser.get("/auth/provider").headers["location"]
                    assert browser.get(_through_its_pages(url, "nobody", back)).status_code == 401
                told = _terminal(place, back, monkeypatch, capsys)
                assert (told["sub"], told["roles"]) == ("rita", ["researcher"])
                assert main(["logout"]) == 0
            finally:
                provider.terminate()

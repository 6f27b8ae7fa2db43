"""Our client signs a person in: authorization code with PKCE, the browser played by the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from auth_support import Site, _form_token, records, site
from digital_twins._errors import InputError
from digital_twins.fhir import FHIRClient, FHIRRequestError, sign_in

PORT = 38917


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("node")) as found:
        records(found.node)
        scope = "openid fhirUser launch/patient offline_access patient/*.rs"
        back = [f"http://127.0.0.1:{PORT}/callback"]
        found.authority.clients.add("program", scope=scope, redirect_uris=back)
        yield found


@pytest.fixture
def person(place: Site) -> Iterator[Callable[..., Callable[[str], None]]]:
    """Play the person's browser on a thread, as webbrowser.open returns at once."""
    threads: list[threading.Thread] = []

    def made(decision: str = "allow", change: Callable[[str], str] = str) -> Callable[[str], None]:
        def act(url: str) -> None:
            with place.browser() as browser:
                page = browser.get(url)
                form = {"decision": decision, "form_token": _form_token(page.text), "patient": "p1"}
                back = browser.post(url, data=form).headers["location"]
            foreign = f"http://127.0.0.1:{PORT}/callback?code=stolen&state=other"
            assert httpx.get(foreign).status_code == 404
            assert httpx.get(change(back)).status_code == 200

        def show(url: str) -> None:
            threads.append(threading.Thread(target=act, args=(url,)))
            threads[-1].start()

        return show

    yield made
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def _given(place: Site, folder: Path, **more: Any) -> dict[str, Any]:
    common = {"client_id": "program", "credentials_path": folder / "me.json", "port": PORT}
    return {"base_url": f"{place.base}/fhir", **common, **more}


def test_a_person_signs_in_and_stays_signed_in(
    place: Site, person: Callable[..., Any], tmp_path: Path
) -> None:
    session = sign_in(**_given(place, tmp_path, open_page=person()))
    assert session.patient == "p1"
    file = tmp_path / "me.json"
    assert file.stat().st_mode & 0o077 == 0
    before = json.loads(file.read_text())["refresh_token"]
    with FHIRClient(f"{place.base}/fhir", auth=session.auth) as client:
        assert client.read("Patient", "p1").name[0].family == "P1"
        assert {o.subject.reference for o in client.search("Observation")} == {"Patient/p1"}
        with pytest.raises(FHIRRequestError) as refused:
            client.create("Patient", {"resourceType": "Patient"})
        assert refused.value.status == 403
    assert json.loads(file.read_text())["refresh_token"] != before


def test_what_ends_without_a_token(place: Site, person: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(FHIRRequestError, match="access_denied"):
        sign_in(**_given(place, tmp_path, open_page=person("deny")))
    other = person(change=lambda url: url.replace("iss=http", "iss=https"))
    with pytest.raises(FHIRRequestError, match="another server"):
        sign_in(**_given(place, tmp_path, open_page=other))
    with pytest.raises(FHIRRequestError, match="No refresh token"):
        sign_in(**_given(place, tmp_path, open_page=person(), scope="launch/patient patient/*.rs"))
    with pytest.raises(FHIRRequestError, match="Nobody answered"):
        sign_in(**_given(place, tmp_path, open_page=lambda _: None, timeout_s=0.2))
    with pytest.raises(FHIRRequestError, match="smart-configuration"):
        sign_in(**{**_given(place, tmp_path), "base_url": f"{place.base}/nothing"})
    assert not (tmp_path / "me.json").exists()


def test_addresses_that_are_not_safe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {"authorization_endpoint": "http://ehr.example/a", "token_endpoint": "https://ehr.example/t"}
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, json=found))
    with pytest.raises(InputError, match="https"):
        sign_in("https://ehr.example/fhir", client_id="c", credentials_path=tmp_path / "x", open_page=_never)


def _never(url: str) -> None:
    raise AssertionError(f"nobody may be sent to {urlsplit(url).netloc} {parse_qs(url)}")

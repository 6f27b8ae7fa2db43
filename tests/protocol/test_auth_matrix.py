"""Scope x resource x action, role x route, sessions, break-glass, and what logs may not hold."""

from __future__ import annotations

import io
import itertools
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import Mount, Route, WebSocketRoute

from auth_support import LAB, PASSWORD, Site, records, site
from digital_twins import auth
from digital_twins._errors import DigitalTwinError
from digital_twins.auth._passwords import totp_code
from digital_twins.auth._sessions import principal_of
from digital_twins.fhir import request_allowed
from digital_twins.server._gate import _OPEN, _allowed, action_for


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("node")) as found:
        records(found.node)
        yield found


def _observation(name: str, patient: str, category: str = "laboratory") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"text": "x"},
        "category": [{"coding": [{"system": LAB.split("|")[0], "code": category}]}],
        "subject": {"reference": f"Patient/{patient}"},
    }


def _tries(store: Any, kind: str, patient: str, category: str) -> dict[str, bool]:
    """Which of the five actions the store lets who acts do on a resource; nothing is left behind."""
    if kind == "Observation":
        name = {"laboratory": "lab", "vital-signs": "vital"}[category] + f"-{patient}"
        body: dict[str, Any] = _observation(name, patient, category)
    elif kind == "Patient":
        name, body = patient, {"resourceType": "Patient", "id": patient}
    else:
        name, body = "7", {"resourceType": "Practitioner", "id": "7"}
    calls = {
        "c": lambda: store.create(
            {**body, "id": None} if False else {k: v for k, v in body.items() if k != "id"}
        ),
        "r": lambda: store.read(kind, name),
        "u": lambda: store.update(body),
        "s": lambda: store.search(kind, {"_id": name}).matches[0],
    }
    found = {}
    for action, call in calls.items():
        try:
            made = call()
        except (DigitalTwinError, IndexError):
            found[action] = False
        else:
            found[action] = True
            if action == "c":
                with auth.acting_as(None):
                    store.delete(kind, made.id)
    return found


def _expected(scope: auth.FhirScope, kind: str, patient: str, category: str) -> dict[str, bool]:
    """The rule as SMART words it, apart from the code under test."""
    fits = scope.kind in {"*", kind}
    if scope.level == "patient":
        if kind == "Practitioner":
            return {a: fits and a in "rs" and a in scope.actions for a in "crus"}
        fits = fits and patient == "p1"
    if scope.condition is not None:
        fits = fits and kind == "Observation" and category == "laboratory"
    found = {action: fits and action in scope.actions for action in "crus"}
    if kind == "Patient" and scope.level == "patient":
        found["c"] = False  # a new Patient is another one
    return found


LEVELS = ("patient", "user", "system")
SCOPES = [
    f"{level}/{kind}.{actions}"
    for level, kind, actions in itertools.product(
        LEVELS,
        ("*", "Patient", "Observation", "Practitioner"),
        ("c", "r", "u", "s", "rs", "cruds", "read", "write"),
    )
] + [f"{level}/Observation.{actions}?category={LAB}" for level in LEVELS for actions in ("r", "rs", "cruds")]


@pytest.mark.parametrize("level", LEVELS)
def test_scope_by_resource_by_action(place: Site, level: str) -> None:
    store, cells = place.node.services.fhir, 0
    for text in (each for each in SCOPES if each.startswith(level)):
        scope = auth.parse_fhir_scope(text)
        assert scope is not None
        who = auth.Principal("client:x", scopes=(scope,), patient="p1")
        for kind, patient, category in (
            ("Patient", "p1", ""),
            ("Patient", "p2", ""),
            ("Observation", "p1", "laboratory"),
            ("Observation", "p1", "vital-signs"),
            ("Observation", "p2", "laboratory"),
            ("Practitioner", "", ""),
        ):
            with auth.acting_as(who):
                found = _tries(store, kind, patient, category)
            assert found == _expected(scope, kind, patient, category), (text, kind, patient, category)
            cells += len(found)
    assert cells == 35 * 6 * 4


def test_every_way_to_a_resource_is_bound_to_the_patient(place: Site) -> None:
    records(place.node)
    before = place.node.services.fhir.read("Observation", "lab-p2").version
    token = place.app_token("launch/patient patient/*.cruds", patient="p1")

    def get(path: str) -> httpx.Response:
        return place.fhir(token, "GET", path)

    found = get(
        "/Observation?_include=Observation:subject&_include=Observation:performer&_total=accurate"
    ).json()
    ids = {e["resource"]["id"] for e in found["entry"]}
    assert ids == {"lab-p1", "vital-p1", "p1", "7"}
    assert found["total"] == 2
    assert {e["resource"]["id"] for e in get("/Patient?_revinclude=Observation:subject").json()["entry"]} == {
        "p1", "lab-p1", "vital-p1"
    }  # fmt: skip
    for path in ("/Patient/p2", "/Observation/lab-p2", "/Observation/lab-p2/_history",
                 "/Observation/lab-p2/_history/1"):  # fmt: skip
        assert get(path).status_code == 403, path
    assert get("/Observation/lab-p1/_history/1").status_code == 200
    assert "entry" not in get("/Observation?subject=Patient/p2").json()
    assert get("/Observation?subject:Patient.family=P2").status_code == 403
    assert get("/Patient?_has:Observation:subject:category=laboratory").status_code == 403
    moved = _observation("lab-p1", "p2")
    assert place.fhir(token, "PUT", "/Observation/lab-p1", json=moved).status_code == 403
    stolen = _observation("lab-p2", "p1")
    assert place.fhir(token, "PUT", "/Observation/lab-p2", json=stolen).status_code == 403
    assert place.fhir(token, "DELETE", "/Observation/lab-p2").status_code == 403
    for path in ("/_history", "/Observation/_history", "/Patient/_history", "/Patient/p2/$everything",
                 "/$export", "/Patient/$export", "/Group/x/$export"):  # fmt: skip
        assert get(path).status_code == 403, path
    whole = get("/Patient/p1/$everything").json()
    assert {e["resource"]["id"] for e in whole["entry"]} == {"p1", "lab-p1", "vital-p1", "7"}
    patch = {"content-type": "application/json-patch+json"}
    change = b'[{"op": "replace", "path": "/status", "value": "amended"}]'
    for path, status in (("/Observation/lab-p2", 403), ("/Observation?_id=lab-p2", 404)):
        answer = place.fhir(token, "PATCH", path, content=change, headers=patch)
        assert answer.status_code == status, path
    place.fhir(token, "DELETE", "/Observation?_id=lab-p2")
    for kind in ("transaction", "batch"):
        entry = [
            {"request": {"method": "GET", "url": "Observation/lab-p2"}},
            {"request": {"method": "PUT", "url": "Observation/lab-p2"}, "resource": stolen},
        ]
        for each in entry:
            bundle = {"resourceType": "Bundle", "type": kind, "entry": [each]}
            answer = place.fhir(
                token, "POST", "/", json=bundle, headers={"content-type": "application/fhir+json"}
            )
            statuses = [e["response"]["status"] for e in answer.json().get("entry", [])]
            assert answer.status_code == 403 or statuses == ["403"], answer.text
    assert place.node.services.fhir.read("Observation", "lab-p2").version == before


OPERATIONS = ("everything p1", "everything p2", "type history", "system history", "export")


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("patient/*.rs", "10000"),
        ("patient/*.cruds", "10000"),
        ("patient/*.r", "00000"),
        ("patient/Observation.rs", "00000"),
        ("user/*.rs", "11110"),
        ("user/*.s", "00000"),
        ("user/Observation.rs", "00100"),
        ("user/Patient.rs", "00000"),
        (f"user/Observation.rs?category={LAB}", "00000"),
        ("system/*.rs", "11111"),
        ("system/*.r", "00000"),
        ("system/Observation.rs", "00100"),
    ],
)
def test_scope_by_operation(place: Site, text: str, allowed: str) -> None:
    from digital_twins.fhir._everything import everything_page, everything_query
    from digital_twins.fhir._history import history_query

    records(place.node)
    store, scope = place.node.services.fhir, auth.parse_fhir_scope(text)
    assert scope is not None
    who = auth.Principal("client:x", scopes=(scope,), patient="p1")
    paths = (
        "/Patient/p1/$everything",
        "/Patient/p2/$everything",
        "/Observation/_history",
        "/_history",
        "/$export",
    )
    calls = {
        0: lambda: everything_page(store, "p1", everything_query([]), "x"),
        1: lambda: everything_page(store, "p2", everything_query([]), "x"),
        2: lambda: store.versions(history_query([]), kind="Observation"),
        3: lambda: store.versions(history_query([])),
    }
    found = ""
    for number, path in enumerate(paths):
        open_ = request_allowed(who, "GET", path)
        if open_ and number in calls:
            with auth.acting_as(who):
                try:
                    calls[number]()
                except DigitalTwinError:
                    open_ = False
        found += str(int(open_))
    assert found == allowed, dict(zip(OPERATIONS, found, strict=True))
    for kind in ("Observation", None):  # the store refuses by itself, whatever the gate does
        free = allowed[2 if kind else 3] == "1"
        with auth.acting_as(who):
            try:
                store.versions(history_query([]), kind=kind)
            except DigitalTwinError:
                assert not free
            else:
                assert free


@pytest.mark.parametrize("scope", ["patient/*.rs", "patient/Observation.rs", "user/*.r", "user/Patient.rs"])
def test_a_get_in_a_bundle_needs_the_rights_that_it_needs_alone(place: Site, scope: str) -> None:
    records(place.node)
    launch, chosen = ("launch/patient ", "p1") if scope.startswith("patient") else ("", None)
    token = place.app_token(launch + scope, patient=chosen)
    paths = ["Patient/p1", "Patient/p2", "Patient/p2/_history", "Patient/p2/_history/1", "_history"]
    paths += ["Observation/_history", "Observation", "Patient/p2/Observation", "?_type=Observation,Patient"]
    paths += ["Patient/p1/$everything", "Patient/p2/$everything", "Observation?subject.name=a"]
    alone = [place.fhir(token, "GET", f"/{path}".replace("/?", "?")) for path in paths]
    bundle = {"resourceType": "Bundle", "type": "batch"}
    entry = [{"request": {"method": "GET", "url": path}} for path in paths]
    headers = {"content-type": "application/fhir+json"}
    answer = place.fhir(token, "POST", "/", json={**bundle, "entry": entry}, headers=headers)
    for path, own, found in zip(paths, alone, answer.json()["entry"], strict=True):
        assert found["response"]["status"][:3] == str(own.status_code), path
        assert own.status_code != 200 or found["resource"] == own.json(), path
    assert {own.status_code for own in alone} >= {200, 403}


def test_rights_of_a_service_reach_bulk_data_and_cds_hooks(place: Site) -> None:
    records(place.node)
    token = place.service("system/*.rs").json()["access_token"]
    prefer = {"prefer": "respond-async"}
    started = place.fhir(token, "GET", "/$export", headers=prefer)
    assert started.status_code == 202, started.text
    status = started.headers["content-location"].removeprefix(f"{place.base}/fhir")
    other = place.app_token("user/*.cruds")
    assert place.fhir(token, "GET", status).status_code in {200, 202}
    assert place.fhir(other, "GET", status).status_code == 403
    assert place.fhir(other, "GET", "/$export", headers=prefer).status_code == 403
    assert place.fhir(token, "DELETE", status).status_code == 202
    shown = {"authorization": f"Bearer {token}"}
    assert httpx.get(f"{place.base}/cds-services", headers=shown).status_code == 403
    assert httpx.get(f"{place.base}/cds-services").status_code == 401
    with place.browser("anna") as browser:
        assert browser.get("/cds-services").status_code == 200


def test_a_subscription_needs_the_right_to_read_everything(place: Site) -> None:
    body = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "x",
        "criteria": "Observation?",
        "channel": {"type": "rest-hook", "endpoint": "https://127.0.0.1:9/hook"},
    }
    store = place.node.services.fhir
    for text, free in (
        ("user/Subscription.cruds", False),
        ("system/*.cruds", True),
        ("patient/*.cruds", False),
    ):
        scope = auth.parse_fhir_scope(text)
        assert scope is not None
        with auth.acting_as(auth.Principal("client:x", scopes=(scope,), patient="p1")):
            if free:
                store.create(body)
            else:
                with pytest.raises(DigitalTwinError, match="does not allow"):
                    store.create(body)


def test_a_patients_account_sees_one_record(place: Site) -> None:
    with place.browser("pat") as browser:
        assert browser.get("/fhir/Patient/p1").status_code == 200
        assert browser.get("/fhir/Patient/p2").status_code == 403
        assert {e["resource"]["id"] for e in browser.get("/fhir/Observation").json()["entry"]} == {
            "lab-p1", "vital-p1"
        }  # fmt: skip
        assert browser.get("/api/patients").status_code == 403


def _routes(routes: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path of the application, parameters filled in."""
    for route in routes:
        if isinstance(route, Mount) and route.routes:
            yield from _routes(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            path = prefix + route.path
            for part in path.split("/"):
                if part.startswith("{"):
                    path = path.replace(part, {"{type}": "Patient", "{version}": "1"}.get(part, "x"))
            for method in sorted(route.methods or {"GET"}):
                yield method, path
        elif not isinstance(route, WebSocketRoute):
            yield "GET", prefix + getattr(route, "path", "") + "/x"


def _application(app: Any) -> Any:
    """The Starlette application inside the middleware."""
    while not hasattr(app, "routes"):
        cells = [c.cell_contents for c in getattr(app, "__closure__", None) or ()]
        app = getattr(app, "_app", None) or next(c for c in cells if callable(c) and hasattr(c, "_app"))
    return app


def _every_route(place: Site) -> list[tuple[str, str]]:
    from digital_twins.dicom import dicomweb_routes
    from digital_twins.server._doors import node_app

    nothing: Any = lambda *_: None  # noqa: E731
    app = _application(
        node_app(place.node.services, subscriptions=nothing, health=nothing, on_stored=nothing,
                 on_record=nothing, stopping=lambda: False,
                 settings=place.node.settings, authority=place.authority)
    )  # fmt: skip
    found = set(_routes(app.routes))
    found |= set(_routes(dicomweb_routes(place.node.services.dicom), "/dicom-web"))
    return sorted(found)


def test_role_by_route_over_every_route(place: Site) -> None:
    every = _every_route(place)
    assert len(every) > 100
    accounts = {user.roles[0]: user for user in place.authority.accounts.all()}
    cells = 0
    with httpx.Client(base_url=place.base) as nobody:
        for method, path in every:
            if _OPEN.fullmatch(path):
                continue
            if not path.startswith("/fhir"):
                assert action_for(method, path) in auth.known_actions(), f"{method} {path} has no action"
            answer = nobody.request(method, path)
            assert answer.status_code in {401, 421}, (method, path, answer.status_code)
    for role, user in accounts.items():
        who = principal_of(user)
        rights = auth.role_table()[role]
        for method, path in every:
            if _OPEN.fullmatch(path):
                continue
            cells += 1
            if path.startswith("/fhir"):
                assert _allowed(who, method, path) == request_allowed(who, method, path[5:])
            else:
                assert _allowed(who, method, path) == (action_for(method, path) in rights.actions)
    assert cells > 700
    assert action_for("GET", "/something/new") is None
    assert action_for("DELETE", "/metrics") is None


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        ("adam", "/fhir/Patient", 403),
        ("adam", "/api/patients", 403),
        ("adam", "/dicom-web/studies", 403),
        ("adam", "/api/queues", 200),
        ("otto", "/fhir/Patient", 403),
        ("otto", "/metrics", 200),
        ("rita", "/fhir/Patient", 200),
        ("rita", "/metrics", 403),
        ("theo", "/fhir/Observation", 403),
        ("theo", "/fhir/Patient", 200),
        ("phil", "/api/patients", 200),
        ("anna", "/dicom-web/studies", 204),
    ],
)
def test_forced_browsing(place: Site, role: str, path: str, status: int) -> None:
    with place.browser(role) as browser:
        assert browser.get(path).status_code == status
    assert httpx.get(place.base + path).status_code == 401


def test_writes_need_the_role_and_the_own_site(place: Site) -> None:
    body = {"resourceType": "Patient"}
    with place.browser("rita") as browser:
        assert browser.post("/fhir/Patient", json=body).status_code == 403
    with place.browser("anna") as browser:
        assert browser.post("/fhir/Patient", json=body).status_code == 201
        for origin in ("https://evil.example", "null"):
            crossed = browser.post("/fhir/Patient", json=body, headers={"origin": origin})
            assert crossed.status_code == 403
        form = {"form_token": "0" * 64, "reason": "x" * 20}
        assert browser.post("/auth/emergency", data=form).status_code == 403
        del browser.headers["origin"]
        assert browser.post("/fhir/Patient", json=body).status_code == 403


def test_sessions_are_new_after_sign_in_and_end(place: Site) -> None:
    with httpx.Client(base_url=place.base) as browser:
        browser.cookies.set("twin-session", "fixed-by-an-attacker")
        answer = browser.post("/auth/sign-in", data={"name": "rita", "password": PASSWORD, "next": "//evil"})
        cookie = answer.headers["set-cookie"]
        assert "fixed" not in cookie
        assert "HttpOnly" in cookie
        assert "samesite=lax" in cookie.lower()
        assert answer.headers["location"] == "/"
        assert (
            browser.get("/fhir/Patient", headers={"cookie": "twin-session=fixed-by-an-attacker"}).status_code
            == 401
        )


def test_lockout_codes_and_clock(place: Site) -> None:
    clock = [1_800_000_000.0]
    services = place.node.services
    desk = auth.open_authority(
        services.database, services.auditor, services.data_dir, base_url=place.base, now=lambda: clock[0]
    )
    secret = desk.accounts.add("tess", password=PASSWORD, roles=["researcher"])
    assert secret is not None
    code = totp_code(secret, int(clock[0]) // 30)
    user = desk.accounts.sign_in("tess", PASSWORD, code)
    with pytest.raises(auth.NotSignedInError):
        desk.accounts.sign_in("tess", PASSWORD, code)  # good once
    session = desk.sessions.start(user)
    clock[0] += 14 * 60
    assert desk.sessions.find(session) is not None
    clock[0] += 16 * 60
    assert desk.sessions.find(session) is None
    for _ in range(5):
        with pytest.raises(auth.NotSignedInError):
            desk.accounts.sign_in("tess", "wrong password", "000000")
    code = totp_code(secret, int(clock[0]) // 30)
    with pytest.raises(auth.NotSignedInError):
        desk.accounts.sign_in("tess", PASSWORD, code)
    clock[0] += 16 * 60
    desk.accounts.sign_in("tess", PASSWORD, totp_code(secret, int(clock[0]) // 30))
    session = desk.sessions.start(user)
    desk.accounts.disable("tess")
    assert desk.sessions.find(session) is None
    with pytest.raises(DigitalTwinError, match="never used again"):
        desk.accounts.add("tess", password=PASSWORD, roles=["admin"])
    kinds = {(e["kind"], e["outcome"]) for e in place.trail("auth.sign-in", "auth.user.locked")}
    assert {
        ("auth.sign-in", "success"),
        ("auth.sign-in", "refused"),
        ("auth.user.locked", "success"),
    } <= kinds


def test_breaking_the_glass_opens_records_and_leaves_a_trace(place: Site) -> None:
    with place.browser("theo") as browser:
        assert browser.get("/fhir/Observation/lab-p1").status_code == 403
        page = browser.get("/auth/account").text
        token = page.split('name="form_token" value="')[1].split('"')[0]
        short = browser.post("/auth/emergency", data={"form_token": token, "reason": "short"})
        assert short.status_code == 400
        reason = "Patient unconscious in the scanner room"
        browser.post("/auth/emergency", data={"form_token": token, "reason": reason})
        assert browser.get("/fhir/Observation/lab-p1").status_code == 200
        assert (
            browser.put("/fhir/Patient/p1", json={"resourceType": "Patient", "id": "p1"}).status_code == 403
        )
    (event,) = place.trail("auth.emergency")
    assert event["agent"] == "user:theo"
    assert reason not in json.dumps(event)
    assert place.node.services.metrics.value("twin_emergency_access_total") == 1
    with place.browser("rita") as browser:
        page = browser.get("/auth/account").text
        token = page.split('name="form_token" value="')[1].split('"')[0]
        assert (
            browser.post("/auth/emergency", data={"form_token": token, "reason": reason}).status_code == 403
        )


def test_no_secret_reaches_the_log_or_the_trail(place: Site) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(args)s %(fields)s", defaults={"fields": ""}))
    handler.addFilter(lambda record: not record.name.startswith("http"))  # the browser's own log
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        found = place.app_tokens("openid offline_access user/*.rs", user="phil")
        assertion = place.assertion()
        place.token(grant_type="client_credentials", client_assertion=assertion)
        httpx.post(f"{place.base}/auth/sign-in", data={"name": "anna", "password": "hunter2-hunter2"})
        place.fhir(found["access_token"] + "x", "GET", "/Patient")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    cookies = place.cookies["phil"]
    secrets = (found["access_token"], found["refresh_token"], found["id_token"], assertion, cookies, PASSWORD,
               "hunter2-hunter2")  # fmt: skip
    trail = json.dumps(place.trail("auth.token", "auth.sign-in", "auth.access", "auth.client"), default=str)
    with place.authority.records.database.read() as connection:
        rows = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in
                ("auth_session", "auth_refresh", "auth_code", "auth_client", "auth_user")]  # fmt: skip
    for secret in secrets:
        assert secret not in stream.getvalue()
        assert secret not in trail
        assert secret not in repr(rows)
    assert "auth.access" in trail

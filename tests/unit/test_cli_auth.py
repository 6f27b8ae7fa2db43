"""`twin auth` on a data folder: accounts, clients, keys, and one-time secrets that are sealed at rest."""

from __future__ import annotations

import io
import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from digital_twins import audit, auth, storage
from digital_twins.auth._passwords import totp_code
from digital_twins.cli import main
from digital_twins.crypto import DecryptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "correct horse battery staple"


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command on the folder and return exit code, standard output and error."""

    def run(*words: str, given: str = f"{PASSWORD}\n") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        code = main(["auth", *words, "--data", str(tmp_path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@contextmanager
def _opened(folder: Path) -> Iterator[auth.Authority]:
    migrations = (*storage.MIGRATIONS, *audit.OUTBOX_MIGRATIONS, *auth.MIGRATIONS)
    with storage.Database(folder / "twin.sqlite", migrations=migrations) as database:
        auditor = audit.Auditor("TWIN", b"k" * 32)
        yield auth.open_authority(database, auditor, folder, base_url="http://127.0.0.1:1")


def _stored(authority: auth.Authority, name: str) -> str:
    with authority.records.database.read() as connection:
        rows = connection.execute("SELECT totp FROM auth_user WHERE name=?", (name,)).fetchall()
    return str(rows[0][0])


def test_accounts_are_made_changed_and_closed(twin: Any, tmp_path: Path) -> None:
    code, out, _ = twin("user", "add", "anna", "--role", "clinician", "--display", "Dr Anna", "--json")
    assert code == 0
    address = urlsplit(json.loads(out)["totp"])
    secret = parse_qs(address.query)["secret"][0]
    assert PASSWORD not in out
    assert twin("user", "add", "rita", "--role", "researcher", "--no-code")[0] == 0
    with _opened(tmp_path) as authority:
        right = totp_code(secret, int(time.time()) // 30)
        assert authority.accounts.sign_in("anna", PASSWORD, right).display == "Dr Anna"
        with pytest.raises(auth.NotSignedInError):
            authority.accounts.sign_in("anna", PASSWORD, "")
        assert not authority.accounts.sign_in("rita", PASSWORD).second_factor
    assert twin("user", "roles", "rita", "--role", "physicist")[0] == 0
    assert twin("user", "password", "rita", given="another long password\n")[0] == 0
    assert twin("user", "disable", "anna")[0] == 0
    rows = {u["name"]: u for u in json.loads(twin("user", "list", "--json")[1])}
    assert rows["rita"]["roles"] == ["physicist"]
    assert rows["anna"]["disabled"]
    assert "disabled" in twin("user", "list")[1]
    with _opened(tmp_path) as authority:
        authority.accounts.sign_in("rita", "another long password")
        for name, word in (("rita", PASSWORD), ("anna", PASSWORD)):
            with pytest.raises(auth.NotSignedInError):
                authority.accounts.sign_in(name, word, totp_code(secret, int(time.time()) // 30 + 1))


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (("user", "add", "x", "--role", "clinician"), PASSWORD),
        (("user", "add", "bob", "--role", "wizard"), PASSWORD),
        (("user", "add", "bob", "--role", "clinician"), "short"),
        (("user", "add", "bob", "--role", "patient"), PASSWORD),
        (("user", "disable", "nobody"), ""),
        (("user", "roles", "nobody", "--role", "admin"), ""),
        (("client", "add", "app", "--scope", "nonsense"), ""),
        (("client", "add", "app", "--scope", "openid", "--redirect-uri", "http://evil.example/"), ""),
        (("client", "add", "app", "--scope", "system/*.rs", "--jwks", "/nothing.json"), ""),
        (("client", "disable", "nobody"), ""),
    ],
)
def test_wrong_use_is_explained(twin: Any, words: tuple[str, ...], given: str) -> None:
    code, out, err = twin(*words, given=f"{given}\n")
    assert (code, out) == (1, "")
    assert err
    assert PASSWORD not in err


def test_clients_and_keys(twin: Any, tmp_path: Path) -> None:
    back = ("--redirect-uri", "https://app.example/back")
    code, out, _ = twin("client", "add", "app", "--scope", "openid patient/*.rs", *back, "--secret", "--json")
    assert code == 0
    made = json.loads(out)
    with _opened(tmp_path) as authority:
        held = authority.clients.get("app")
        assert held is not None
        assert made["client_secret"] not in str(held)
        form = {"client_id": "app", "client_secret": made["client_secret"]}
        assert authority.authentication.recognise(form, "").id == "app"
        before = authority.keys.signing.kid
    assert twin("rotate")[0] == 0
    with _opened(tmp_path) as authority:
        assert authority.keys.signing.kid != before
        assert before in {key["kid"] for key in authority.keys.public()["keys"]}
    assert twin("client", "disable", "app")[0] == 0
    rows = {row["client_id"]: row["disabled"] for row in json.loads(twin("client", "list", "--json")[1])}
    assert rows == {"app": True, "twin-cli": False}
    with _opened(tmp_path) as authority, pytest.raises(auth.OAuthError):
        authority.authentication.recognise(form, "")


def test_secrets_of_one_time_codes_are_sealed_at_rest(tmp_path: Path) -> None:
    with _opened(tmp_path) as authority:
        secrets = {}
        for name in ("anna", "bert"):
            secrets[name] = authority.accounts.add(name, password=PASSWORD, roles=["clinician"])
        stored = {name: _stored(authority, name) for name in secrets}
        assert not any(str(s) in text for s in secrets.values() for text in stored.values())
        # A row of another account, or a changed one, opens nothing.
        write = authority.records.database.write
        write(lambda c: c.execute("UPDATE auth_user SET totp=? WHERE name='anna'", (stored["bert"],)))
        with pytest.raises(DecryptionError):
            authority.accounts.sign_in("anna", PASSWORD, "000000")
        # What an older version stored in the clear is sealed when the tables are opened.
        write(lambda c: c.execute("UPDATE auth_user SET totp=? WHERE name='anna'", (secrets["anna"],)))
    whole = b"".join(p.read_bytes() for p in sorted(tmp_path.glob("auth*")))
    assert str(secrets["bert"]).encode() not in whole
    assert (tmp_path / "auth.totp.keys").stat().st_mode & 0o077 == 0
    with _opened(tmp_path) as authority:
        assert str(secrets["anna"]) not in _stored(authority, "anna")
        code = totp_code(str(secrets["anna"]), int(time.time()) // 30)
        assert authority.accounts.sign_in("anna", PASSWORD, code).name == "anna"

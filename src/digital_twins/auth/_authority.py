"""Everything that signs people and clients in on one node, put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from digital_twins._errors import InputError
from digital_twins.auth._accounts import Accounts
from digital_twins.auth._authenticators import Authenticators
from digital_twins.auth._client_auth import ClientAuthentication
from digital_twins.auth._clients import COMMAND_LINE, Clients
from digital_twins.auth._grants import Grants
from digital_twins.auth._issuers import ExternalIssuers
from digital_twins.auth._keyring import KeyRing
from digital_twins.auth._records import Records
from digital_twins.auth._sealed import SealedSecrets
from digital_twins.auth._sessions import Sessions
from digital_twins.auth._tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from digital_twins.audit import Auditor
    from digital_twins.auth._issuers import TrustedIssuer
    from digital_twins.auth._provider import ProviderSignIn
    from digital_twins.storage import Database

_OAUTH_ADDRESSES = ("authorize", "token", "introspect", "revoke")
_FETCH_S = 5.0
_MOST_FETCHED = 2**20


@dataclass(frozen=True, slots=True)
class Authority:
    """The accounts, clients, sessions, grants and tokens of a node; made by `open_authority`."""

    base_url: str
    records: Records
    accounts: Accounts
    clients: Clients
    sessions: Sessions
    grants: Grants
    keys: KeyRing
    tokens: Tokens
    authentication: ClientAuthentication
    authenticators: Authenticators
    provider: ProviderSignIn | None = None

    @property
    def fhir_base(self) -> str:
        """Address of the FHIR base: the audience of access tokens."""
        return f"{self.base_url}/fhir"

    @property
    def oauth_addresses(self) -> dict[str, str]:
        """Addresses by the names of SMART's ``oauth-uris`` extension."""
        return {name: f"{self.base_url}/auth/{name}" for name in _OAUTH_ADDRESSES}

    @property
    def secure(self) -> bool:
        """Whether people reach the node by https, so that cookies may demand it."""
        return self.base_url.startswith("https://")

    def origins(self) -> frozenset[str]:
        """Return the web origins of the registered apps: they may call the FHIR base from a browser."""
        apps = (client for client in self.clients.all() if client.id != COMMAND_LINE)
        found = (urlsplit(uri) for client in apps for uri in client.redirect_uris)
        return frozenset(f"{parts.scheme}://{parts.netloc}" for parts in found)


def open_authority(
    database: Database,
    auditor: Auditor,
    data_dir: Path,
    *,
    base_url: str,
    issuers: Sequence[TrustedIssuer] = (),
    on_emergency: Callable[[str], None] | None = None,
    fetch: Callable[[str], Any] | None = None,
    now: Callable[[], float] | None = None,
) -> Authority:
    """Return what signs people and clients in.

    Parameters
    ----------
    database
        Opened with `MIGRATIONS` and the audit outbox.
    auditor
        Writes the events.
    data_dir
        Folder of the node; the token keys lie there in ``auth.keys``, those that seal the secrets of one-time
        codes in ``auth.totp.keys``.
    base_url
        Address at which people and clients reach the node, e.g. ``https://twin.hospital.example``.
    issuers
        OpenID providers whose access tokens are taken too.
    on_emergency
        Called with a user's name when somebody breaks the glass.
    fetch
        Returns the JSON at an address; by default an https request (http to this machine only).
    now
        Seconds since 1970.

    Raises
    ------
    StorageError
        The key file cannot be read or made.
    """
    records = Records(database, auditor) if now is None else Records(database, auditor, now)
    get = fetch or fetch_json
    base = base_url.rstrip("/")
    accounts = Accounts(records, SealedSecrets(data_dir / "auth.totp.keys"))
    clients, grants = Clients(records, fetch=get, base_url=base), Grants(records)
    keys = KeyRing(data_dir / "auth.keys")
    external = ExternalIssuers(issuers, fetch=get, now=records.now) if issuers else None
    return Authority(
        base_url=base,
        records=records,
        accounts=accounts,
        clients=clients,
        sessions=Sessions(records, accounts, on_emergency=on_emergency),
        grants=grants,
        keys=keys,
        tokens=Tokens(records, keys, grants, issuer=base, audience=f"{base}/fhir", external=external),
        authentication=ClientAuthentication(records, clients, grants, (f"{base}/auth/token",)),
        authenticators=Authenticators(records, accounts, base),
    )


def fetch_json(url: str) -> Any:
    """Return the JSON at an address of the configuration; no redirects, at most 1 MiB, 5 seconds.

    Raises
    ------
    InputError
        It cannot be had, or the address is neither https nor of this machine.
    """
    import httpx

    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise InputError("A key set was not fetched.", "Its address is not https.", "Correct the address.")
    try:
        with httpx.Client(timeout=_FETCH_S, follow_redirects=False, trust_env=False) as client:
            answer = client.get(url)
            if answer.status_code != 200 or len(answer.content) > _MOST_FETCHED:
                raise ValueError("answer")
            return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise InputError(
            "A key set was not fetched.",
            f"The request raised {type(error).__name__}.",
            "Check the address and whether the provider runs.",
        ) from None

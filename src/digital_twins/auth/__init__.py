"""Who somebody is and what they may do: accounts, roles, OAuth 2, OpenID Connect and SMART App Launch."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.auth._accounts import Accounts as Accounts, User as User
    from digital_twins.auth._authenticators import (
        CHALLENGE_S as CHALLENGE_S,
        Assertion as Assertion,
        Authenticator as Authenticator,
        Authenticators as Authenticators,
        evidence_holds as evidence_holds,
    )
    from digital_twins.auth._authority import Authority as Authority, open_authority as open_authority
    from digital_twins.auth._clients import Client as Client, Clients as Clients
    from digital_twins.auth._issuers import TrustedIssuer as TrustedIssuer
    from digital_twins.auth._jwt import TokenRefusedError as TokenRefusedError
    from digital_twins.auth._passwords import totp_uri as totp_uri
    from digital_twins.auth._principal import (
        NOBODY as NOBODY,
        Principal as Principal,
        acting_as as acting_as,
        acting_principal as acting_principal,
        require_role as require_role,
    )
    from digital_twins.auth._provider import SignInProvider as SignInProvider, with_provider as with_provider
    from digital_twins.auth._refusals import (
        AccessDeniedError as AccessDeniedError,
        NotSignedInError as NotSignedInError,
        OAuthError as OAuthError,
    )
    from digital_twins.auth._roles import (
        Rights as Rights,
        known_actions as known_actions,
        rights_of as rights_of,
        role_table as role_table,
    )
    from digital_twins.auth._routes import auth_routes as auth_routes, cookie_name as cookie_name
    from digital_twins.auth._schema import MIGRATIONS as MIGRATIONS
    from digital_twins.auth._scopes import FhirScope as FhirScope, parse_fhir_scope as parse_fhir_scope
    from digital_twins.auth._sessions import Sessions as Sessions

_WHERE = {
    **dict.fromkeys(("Accounts", "User"), "digital_twins.auth._accounts"),
    **dict.fromkeys(
        ("CHALLENGE_S", "Assertion", "Authenticator", "Authenticators", "evidence_holds"),
        "digital_twins.auth._authenticators",
    ),
    **dict.fromkeys(("Authority", "open_authority"), "digital_twins.auth._authority"),
    **dict.fromkeys(("Client", "Clients"), "digital_twins.auth._clients"),
    "TrustedIssuer": "digital_twins.auth._issuers",
    "TokenRefusedError": "digital_twins.auth._jwt",
    **dict.fromkeys(
        ("NOBODY", "Principal", "acting_as", "acting_principal", "require_role"),
        "digital_twins.auth._principal",
    ),
    **dict.fromkeys(("SignInProvider", "with_provider"), "digital_twins.auth._provider"),
    **dict.fromkeys(("AccessDeniedError", "NotSignedInError", "OAuthError"), "digital_twins.auth._refusals"),
    **dict.fromkeys(("Rights", "known_actions", "rights_of", "role_table"), "digital_twins.auth._roles"),
    **dict.fromkeys(("auth_routes", "cookie_name"), "digital_twins.auth._routes"),
    "totp_uri": "digital_twins.auth._passwords",
    "MIGRATIONS": "digital_twins.auth._schema",
    **dict.fromkeys(("FhirScope", "parse_fhir_scope"), "digital_twins.auth._scopes"),
    "Sessions": "digital_twins.auth._sessions",
}

__getattr__, __dir__ = exports(__name__, _WHERE)

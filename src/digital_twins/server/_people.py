"""Who may come in: the authority of a node as its settings want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins._logging import get_logger

if TYPE_CHECKING:
    from digital_twins.auth import Authority
    from digital_twins.config import Settings
    from digital_twins.server._services import Services

_log = get_logger(__name__)


def node_authority(settings: Settings, services: Services, base_url: str) -> Authority | None:
    """Return what signs people and programs in; None where everything is open to this machine."""
    from digital_twins.auth import SignInProvider, TrustedIssuer, open_authority, with_provider

    if not settings.authentication:
        _log.warning("auth.open", host=settings.host, setting="authentication")
        return None
    authority = open_authority(
        services.database,
        services.auditor,
        services.data_dir,
        base_url=base_url,
        issuers=[TrustedIssuer(**each.model_dump()) for each in settings.auth_issuers],
        on_emergency=lambda _: services.metrics.add("twin_emergency_access_total"),
    )
    oidc = settings.oidc
    return (
        authority
        if oidc is None
        else with_provider(authority, SignInProvider.configured(**oidc.model_dump()))
    )

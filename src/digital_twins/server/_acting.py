"""Who acts at an HTTP door, for the audit trail."""

from __future__ import annotations

from digital_twins.auth import acting_principal


def agent_name(otherwise: str) -> str:
    """Return who acts; `otherwise` where nobody signs in."""
    principal = acting_principal()
    return otherwise if principal is None else principal.name

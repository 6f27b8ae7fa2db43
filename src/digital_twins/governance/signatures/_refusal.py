"""The refusal of a call that nobody signed."""

from __future__ import annotations

from digital_twins.auth import AccessDeniedError


class SignatureRequiredError(AccessDeniedError):
    """A function that needs an electronic signature was called without one (HTTP 403).

    Parameters
    ----------
    name
        Name of the function.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            "The call was refused.",
            f"{name} needs an electronic signature and nobody signs.",
            "Call it inside 'with compliance.signing(components)', of a manager with signatures.",
        )

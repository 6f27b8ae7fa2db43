"""Who keeps the key that wraps all data keys: a file of this machine, or a service outside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from digital_twins._errors import DigitalTwinError


class KeyServiceError(DigitalTwinError):
    """The keeper of the key did not answer, or refused (HTTP 503)."""

    http_status = 503

    def __init__(self, keeper: str, why: str) -> None:
        super().__init__(
            f"The key service '{keeper}' did not wrap or unwrap the key.",
            why,
            "Check its address, its credentials and the policy of the key; nothing was encrypted or lost.",
        )


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key that only its key provider can open; safe to store beside the data.

    Parameters
    ----------
    provider
        Name of the provider, as settings write it: ``"local"``, ``"keyring"``, ``"aws_kms"``, ``"vault"``.
    key_id
        Which of the provider's keys wrapped it; the provider gives the name.
    wrapped
        The sealed data key.
    """

    provider: str
    key_id: str
    wrapped: bytes


class KeyProvider(ABC):
    """Wraps and unwraps data keys of 32 bytes; the key that does it never leaves the provider.

    ``context`` says what the data key is for (e.g. ``{"object": "twin-17"}``). It is no secret and is not
    stored in the wrapped key, but unwrapping with another one is refused (AWS KMS: "encryption context").
    """

    name: str

    @abstractmethod
    def wrap(self, data_key: bytes, context: dict[str, str]) -> WrappedKey:
        """Seal a data key under the newest key of the provider.

        Raises
        ------
        KeyServiceError
            The provider cannot be reached or refuses.
        """

    @abstractmethod
    def unwrap(self, wrapped: WrappedKey, context: dict[str, str]) -> bytes:
        """Open a sealed data key.

        Raises
        ------
        DecryptionError
            The sealed key was changed, or belongs to another context or key.
        KeyServiceError
            The provider cannot be reached or refuses.
        """

    def rewrap(self, wrapped: WrappedKey, context: dict[str, str]) -> WrappedKey:
        """Seal the same data key under the provider's newest key: rotation without touching the data."""
        return self.wrap(self.unwrap(wrapped, context), context)

    def rotate(self) -> str | None:
        """Make a newer key that wraps from now on and return its id; None: the service does that itself."""
        return None

    def destroy(self, key_id: str) -> bool:
        """Destroy an old key for ever; False: only whoever runs the service can do that.

        Raises
        ------
        InputError
            It is the newest key.
        KeyServiceError
            The provider cannot be reached or refuses.
        """
        del key_id
        return False


def canonical_context(context: dict[str, str]) -> bytes:
    """Return the context as bytes that are the same for equal contexts: length-prefixed, sorted by key."""
    parts = []
    for key in sorted(context):
        for text in (key, context[key]):
            encoded = text.encode()
            parts.append(len(encoded).to_bytes(4, "big") + encoded)
    return b"".join(parts)

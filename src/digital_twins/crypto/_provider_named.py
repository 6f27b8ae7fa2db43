"""The key provider that a setting names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.crypto._local_keys import LocalKeyFile, OsKeyring
from digital_twins.crypto._remote_keys import AwsKms, VaultTransit

if TYPE_CHECKING:
    from digital_twins.crypto._providers import KeyProvider


def open_provider(name: str, *, vault_token_file: Path | None = None) -> KeyProvider:
    """Return the key provider of a text.

    Parameters
    ----------
    name
        ``local:FILE``, ``keyring:ACCOUNT``, ``aws_kms:KEY`` (id, ARN or alias) or
        ``vault:ADDRESS/KEY`` (e.g. ``vault:https://vault.example.org:8200/digital-twins``).
    vault_token_file
        File of mode 0600 with the Vault token; needed by ``vault:`` alone.

    Raises
    ------
    InputError
        The text names none of them, or the token file is missing.
    MissingExtraError
        The package that the provider needs is not installed.
    """
    kind, _, place = name.partition(":")
    if place and kind == "local":
        return LocalKeyFile(Path(place))
    if place and kind == "keyring":
        return OsKeyring(place)
    if place and kind == "aws_kms":
        return AwsKms(place)
    address, _, key = place.rpartition("/")
    if kind == "vault" and key and "//" in address and vault_token_file is not None:
        return VaultTransit(address, key, token_file=vault_token_file)
    raise InputError(
        "The key provider is not known.",
        "It is written local:FILE, keyring:ACCOUNT, aws_kms:KEY or vault:ADDRESS/KEY; vault needs"
        " encryption_vault_token_file too.",
        "Correct the setting encryption_keys, e.g. encryption_keys = 'local:/etc/digital-twins/keys.json'.",
    )

"""Whether a data folder is encrypted, and its keys: opened once by each process of the node."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from digital_twins.config import Settings
    from digital_twins.storage import KeyRegister

KEYS_FILE = "keys.sqlite"
DATABASE_FILE = "twin.sqlite"
MONITOR_FILE = "monitor.sqlite"


def open_keys(settings: Settings, *, migrating: bool = False) -> KeyRegister | None:
    """Return the keys of the node's data folder; None when it is not encrypted.

    Parameters
    ----------
    settings
        Say where the folder is, whether it is encrypted, and who keeps the key.
    migrating
        Open a folder whose encryption is under way, or that is about to be encrypted.

    Raises
    ------
    StorageError
        Setting and folder contradict each other, the encryption of the folder was not finished, or the
        provider does not hold its key. Nothing was changed.
    KeyServiceError
        The provider cannot be reached.
    InputError, MissingExtraError
        The provider is not known or not installed.
    """
    folder = settings.data_dir
    encrypted = (folder / KEYS_FILE).exists()
    if not settings.encryption_at_rest:
        if encrypted:
            raise StorageError(
                f"The data folder '{folder}' is not opened.",
                "It is encrypted, and encryption_at_rest is off.",
                "Set encryption_at_rest = true and encryption_keys as they were.",
            )
        return None
    if not encrypted and not migrating and holds_data(folder):
        raise StorageError(
            f"The data folder '{folder}' is not opened.",
            "encryption_at_rest is on, but what the folder holds is not encrypted yet.",
            "Stop the node and run 'twin keys encrypt' once.",
        )
    token = settings.encryption_vault_token_file
    return open_register(folder, settings.encryption_keys, token, migrating=migrating)


@contextmanager
def opened_keys(settings: Settings) -> Iterator[KeyRegister | None]:
    """Lend what `open_keys` returns and close it again."""
    keys = open_keys(settings)
    try:
        yield keys
    finally:
        if keys is not None:
            keys.close()


def holds_data(folder: Path) -> bool:
    """Whether a node has kept anything in a folder."""
    if (folder / DATABASE_FILE).exists():
        return True
    blobs = folder / "blobs"
    return blobs.is_dir() and any(
        True for part in blobs.iterdir() if part.name != "tmp" for _ in part.iterdir()
    )


def database_key(keys: KeyRegister | None, server: str) -> bytes | None:
    """Return the key of the node's SQLite file; None when it is not encrypted, or a server keeps the data."""
    return None if keys is None or server else keys.database_key(DATABASE_FILE)


def monitor_key(settings: Settings) -> bytes | None:
    """Return the key of 32 bytes of a monitor's folder; None when it is not encrypted.

    Parameters
    ----------
    settings
        Those of the monitor: its `data_dir` is the monitor's folder.

    Raises
    ------
    StorageError
        Setting and folder contradict each other, or the provider does not hold its key.
    KeyServiceError, InputError, MissingExtraError
        As for `open_keys`.
    """
    folder = settings.data_dir
    encrypted = (folder / KEYS_FILE).exists()
    if not settings.encryption_at_rest:
        if encrypted:
            raise StorageError(
                f"The monitor's folder '{folder}' is not opened.",
                "It is encrypted, and encryption_at_rest is off.",
                "Set encryption_at_rest = true and encryption_keys as they were.",
            )
        return None
    in_clear = (folder / MONITOR_FILE).exists() or any((folder / "history").glob("*.parquet"))
    if not encrypted and in_clear:
        raise StorageError(
            f"The monitor's folder '{folder}' is not opened.",
            "encryption_at_rest is on, but what the folder holds is in clear.",
            "Start with a new folder; keep or wipe this one as your rules say.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    keys = open_register(folder, settings.encryption_keys, settings.encryption_vault_token_file)
    try:
        return keys.database_key(MONITOR_FILE)
    finally:
        keys.close()


def open_register(
    folder: Path, provider: str, token_file: Path | None, *, migrating: bool = False
) -> KeyRegister:
    """Return the keys of an encrypted data folder; raises as `open_keys` does.

    Parameters
    ----------
    folder
        The data folder.
    provider, token_file
        The settings ``encryption_keys`` and ``encryption_vault_token_file``.
    migrating
        As for `open_keys`.
    """
    from digital_twins.crypto import open_provider
    from digital_twins.storage import KeyRegister

    keys = KeyRegister(folder / KEYS_FILE, open_provider(provider, vault_token_file=token_file))
    if keys.migrating and not migrating:
        keys.close()
        raise StorageError(
            f"The data folder '{folder}' is not opened.",
            "Its encryption was begun and not finished.",
            "Run 'twin keys encrypt' again: it goes on where it stopped.",
        )
    return keys


def worker_encryption(settings: Settings) -> list[str]:
    """Return the arguments that tell a worker process how to open the keys."""
    if not settings.encryption_at_rest:
        return []
    token = settings.encryption_vault_token_file
    return [
        *("--encryption-keys", settings.encryption_keys),
        *(() if token is None else ("--encryption-vault-token-file", str(token))),
    ]

"""Wrapping keys kept by this machine: in a file of its owner, or in the keyring of the operating system."""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import InputError, MissingExtraError, StorageError
from digital_twins.crypto._providers import KeyProvider, KeyServiceError, WrappedKey, canonical_context
from digital_twins.crypto._secret_file import create_secret_file
from digital_twins.crypto._stream import KEY_BYTES, DecryptionError

if TYPE_CHECKING:
    from types import ModuleType

_NONCE_BYTES = 12
_KEYRING_SERVICE = "digital-twins"


class _HeldKeys(KeyProvider):
    """Keys in memory while in use, kept somewhere as ``{"newest": id, "keys": {id: base64}}``."""

    @abstractmethod
    def _load(self) -> str | None: ...

    @abstractmethod
    def _replace(self, text: str) -> None: ...

    @abstractmethod
    def _create(self, text: str) -> None: ...

    def wrap(self, data_key: bytes, context: dict[str, str]) -> WrappedKey:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        newest, keys = self._keys()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(keys[newest]).encrypt(nonce, data_key, canonical_context(context))
        return WrappedKey(self.name, newest, sealed)

    def unwrap(self, wrapped: WrappedKey, context: dict[str, str]) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        text = self._load()  # a missing set of keys is never made anew here: it would hide the loss
        _, keys = ("", {}) if text is None else self._parsed(text)
        if wrapped.key_id not in keys:
            raise DecryptionError("The key that wrapped its data key is not here.")
        nonce, sealed = wrapped.wrapped[:_NONCE_BYTES], wrapped.wrapped[_NONCE_BYTES:]
        try:
            return AESGCM(keys[wrapped.key_id]).decrypt(nonce, sealed, canonical_context(context))
        except (InvalidTag, ValueError):
            raise DecryptionError("Its data key was changed or belongs to another object.") from None

    def rotate(self) -> str:
        """Add a key that wraps from now on, keep the old ones for unwrapping, and return the new id."""
        _, keys = self._keys()
        newest = _new_id()
        keys[newest] = secrets.token_bytes(KEY_BYTES)
        self._replace(_text(newest, keys))
        return newest

    def destroy(self, key_id: str) -> bool:
        """Forget an old key; what it wrapped can never be opened again. One that is not there is no error."""
        newest, keys = self._keys()
        if key_id == newest:
            raise InputError(
                "The wrapping key is not destroyed.",
                "It is the newest one, which wraps everything.",
                "Rotate first.",
            )
        if keys.pop(key_id, None) is not None:
            self._replace(_text(newest, keys))
        return True

    def _keys(self) -> tuple[str, dict[str, bytes]]:
        text = self._load()
        if text is None:
            first = _new_id()
            self._create(_text(first, {first: secrets.token_bytes(KEY_BYTES)}))
            text = self._load()
        return self._parsed(text or "")

    def _parsed(self, text: str) -> tuple[str, dict[str, bytes]]:
        try:
            held = json.loads(text)
            keys = {each: base64.b64decode(value, validate=True) for each, value in held["keys"].items()}
            if held["newest"] not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            raise KeyServiceError(self.name, "What it keeps is not a set of wrapping keys.") from None
        return held["newest"], keys


class LocalKeyFile(_HeldKeys):
    """Wrapping keys in a file of mode 0600; made at first use.

    Whoever has the data and this file can read the data: keep it on another disk and backup than the data.

    Parameters
    ----------
    path
        The file.
    """

    name = "local"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def _load(self) -> str | None:
        try:
            open_to_others = self._path.stat().st_mode & 0o077
            text = self._path.read_text(encoding="ascii")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise KeyServiceError(self.name, f"Its file cannot be read ({type(error).__name__}).") from error
        if open_to_others:
            raise StorageError(
                f"The key file '{self._path.name}' is not used.",
                "Other users of this machine may read it.",
                f"Run: chmod 600 {self._path.name}",
            )
        return text

    def _create(self, text: str) -> None:
        create_secret_file(self._path, text.encode())

    def _replace(self, text: str) -> None:
        fresh = self._path.with_name(f"{self._path.name}.{secrets.token_hex(6)}")
        create_secret_file(fresh, text.encode())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class OsKeyring(_HeldKeys):
    """Wrapping keys in the keyring of the operating system (Secret Service, Keychain, Credential Locker).

    Needs the extra ``keyring``.

    Parameters
    ----------
    account
        Name of the entry under the service ``digital-twins``.

    Raises
    ------
    MissingExtraError
        The package ``keyring`` is not installed.
    """

    name = "keyring"

    def __init__(self, account: str = "node") -> None:
        self._account = account
        self._keyring = _keyring_module()

    def _load(self) -> str | None:
        try:
            text: str | None = self._keyring.get_password(_KEYRING_SERVICE, self._account)
        except self._keyring.errors.KeyringError as error:
            raise KeyServiceError(self.name, f"It cannot be read ({type(error).__name__}).") from error
        return text

    def _create(self, text: str) -> None:
        self._replace(text)

    def _replace(self, text: str) -> None:
        try:
            self._keyring.set_password(_KEYRING_SERVICE, self._account, text)
        except self._keyring.errors.KeyringError as error:
            raise KeyServiceError(self.name, f"It cannot be written ({type(error).__name__}).") from error


def _keyring_module() -> ModuleType:
    try:
        import keyring
        import keyring.errors
    except ModuleNotFoundError:
        raise MissingExtraError("keyring", "keyring") from None
    module: ModuleType = keyring
    return module


def _new_id() -> str:
    return secrets.token_hex(8)


def _text(newest: str, keys: dict[str, bytes]) -> str:
    return json.dumps(
        {"newest": newest, "keys": {each: base64.b64encode(key).decode() for each, key in keys.items()}}
    )

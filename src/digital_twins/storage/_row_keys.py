"""Values of rows that are encrypted by themselves: under their patient's key, or so that equals stay equal.

Two ways, for two needs:

* what is stored whole and never compared (a FHIR resource, a DICOM JSON object) is AES-256-GCM with a random
  nonce under the key of its owner: when that key is destroyed, nobody reads it any more, in no backup;
* a text by which rows are found is AES-SIV (RFC 5297), which gives equal texts of one column equal
  ciphertexts, so that an index still finds them. It tells which rows hold the same value, and how long it is.

Neither binds a value to its row: who may write to the database can exchange values.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING, Any, Protocol

from digital_twins.crypto import DecryptionError
from digital_twins.storage._key_register import COMMON

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

    from digital_twins.storage._key_rows import DataKey

SEALED = b"\x00DTr1\x00"
"""How sealed bytes begin; no JSON and no zlib stream does."""
HIDDEN = "~dt1~"
"""How a hidden text begins."""
_ID_BYTES, _NONCE_BYTES = 16, 12
_BODY_AT = len(SEALED) + _ID_BYTES + _NONCE_BYTES
_CONTEXT = b"digital-twins row"
_TEXT_KEYS = ("rows:text:1", "rows:text:2")
_MOST_CIPHERS = 20_000


class RowKeySource(Protocol):
    """Where the keys of rows come from: a register, or one key that all are derived from."""

    @property
    def migrating(self) -> bool:
        """Whether rows that are in clear may be encrypted now."""

    def for_owner(self, owner: str) -> DataKey:
        """Return the key of an owner."""

    def by_id(self, key_id: str) -> bytes:
        """Return the key of an id."""


class RowKeys:
    """Encrypts and decrypts values of rows.

    Parameters
    ----------
    register
        Holds the keys of the owners, and the two halves of the key of texts.
    """

    def __init__(self, register: RowKeySource) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        self._register = register
        self._ciphers: dict[str, AESGCM] = {}
        first, second = (register.for_owner(name).key for name in _TEXT_KEYS)
        self._texts: AESSIV = AESSIV(first + second)

    def seal(self, data: bytes, owner: str = COMMON) -> bytes:
        """Return bytes encrypted under the key of their owner.

        Parameters
        ----------
        data
            What is stored.
        owner
            Whose data they are, e.g. a PatientID; `COMMON`: nobody's.
        """
        held = self._register.for_owner(owner)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher(held.key_id, held.key).encrypt(nonce, data, _CONTEXT)
        return SEALED + bytes.fromhex(held.key_id) + nonce + sealed

    def open(self, data: bytes) -> bytes:
        """Return what was sealed.

        Raises
        ------
        ErasedError
            The key of its owner was destroyed.
        DecryptionError
            The value was changed, or the register does not have its key.
        """
        from cryptography.exceptions import InvalidTag

        key_id = data[len(SEALED) : len(SEALED) + _ID_BYTES].hex()
        cipher = self._cipher(key_id, self._register.by_id(key_id))
        try:
            return cipher.decrypt(data[_BODY_AT - _NONCE_BYTES : _BODY_AT], data[_BODY_AT:], _CONTEXT)
        except (InvalidTag, ValueError):
            raise DecryptionError("A value of the database was changed.") from None

    def hide(self, text: str, column: str) -> str:
        """Return the ciphertext of a text, the same for the same text and column; '' stays ''."""
        if not text:
            return text
        sealed = self._texts.encrypt(text.encode("utf-8", "surrogatepass"), [column.encode()])
        return f"{HIDDEN}{column}~{base64.urlsafe_b64encode(sealed).decode()}"

    def show(self, text: str) -> str:
        """Return what `hide` hid; a text that is not hidden comes back as it is.

        Raises
        ------
        DecryptionError
            The text was changed, or names another column.
        """
        from cryptography.exceptions import InvalidTag

        if not text.startswith(HIDDEN):
            return text
        column, _, coded = text[len(HIDDEN) :].partition("~")
        try:
            sealed = base64.b64decode(coded, b"-_", validate=True)
            return self._texts.decrypt(sealed, [column.encode()]).decode("utf-8", "surrogatepass")
        except (InvalidTag, ValueError, binascii.Error):
            raise DecryptionError("A text of the database was changed.") from None

    @property
    def migrating(self) -> bool:
        """Whether a store that was in clear is being encrypted."""
        return self._register.migrating

    def protect(self, value: Any, column: str) -> Any:
        """Return a value as it is kept in a protected column: texts hidden, bytes sealed."""
        if isinstance(value, str):
            return self.hide(value, column)
        return self.seal(value) if isinstance(value, bytes) and value else value

    def clear(self, value: Any) -> Any:
        """Return a value as it was before `protect` or `seal`; raises as `open` and `show`."""
        if isinstance(value, str):
            return self.show(value)
        return self.open(value) if isinstance(value, bytes) and value.startswith(SEALED) else value

    def opened(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a row with its sealed bytes opened; raises as `open`."""
        for value in row:
            if type(value) is bytes and value.startswith(SEALED):
                return tuple(
                    self.open(each) if type(each) is bytes and each.startswith(SEALED) else each
                    for each in row
                )
        return row

    def _cipher(self, key_id: str, key: bytes) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            if len(self._ciphers) >= _MOST_CIPHERS:
                self._ciphers.clear()
            cipher = self._ciphers[key_id] = AESGCM(key)
        return cipher


def seal_for(cursor: Any, data: bytes, owner: Callable[[], str]) -> bytes:
    """Return bytes as they are to be stored by a unit of work: sealed for their owner in an encrypted store.

    Parameters
    ----------
    cursor
        As a unit of work gets it.
    data
        What is stored; reading gives it back as it is.
    owner
        Tells whose data they are, and is asked in an encrypted store only.
    """
    keys: RowKeys | None = getattr(cursor.connection, "row_keys", None)
    return data if keys is None else keys.seal(data, owner())

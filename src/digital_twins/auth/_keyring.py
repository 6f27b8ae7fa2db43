"""The keys that sign tokens: ES256 in a file of mode 0600, rotated without a break."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from digital_twins._errors import StorageError
from digital_twins.crypto import create_secret_file

if TYPE_CHECKING:
    from pathlib import Path

    from joserfc.jwk import ECKey, KeySet

KEPT = 3
"""Keys of the file: the first signs, the others still verify."""


class KeyRing:
    """The signing keys of a node.

    Parameters
    ----------
    path
        File of the private keys as a JWK set (RFC 7517); made at first use.

    Raises
    ------
    StorageError
        The file cannot be read or made, others may read it, or it holds no keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = 0
        if not path.exists():
            create_secret_file(path, json.dumps({"keys": [_new_key()]}).encode())
        self._keys: list[ECKey] = []
        self._refresh()

    @property
    def signing(self) -> ECKey:
        """The key that signs now."""
        self._refresh()
        return self._keys[0]

    @property
    def verifying(self) -> KeySet:
        """All keys that tokens may be signed with."""
        from joserfc.jwk import KeySet

        self._refresh()
        return KeySet(list(self._keys))

    def public(self) -> dict[str, Any]:
        """Return the JWK set of the public halves, as ``/auth/jwks`` shows it."""
        self._refresh()
        return {"keys": [{**key.as_dict(private=False), "alg": "ES256", "use": "sig"} for key in self._keys]}

    def rotate(self) -> str:
        """Let a new key sign from now on and return its id; the last two before it still verify."""
        with self._lock:
            fresh = _new_key()
            held = json.loads(self._path.read_text(encoding="utf-8"))["keys"]
            temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            create_secret_file(temporary, json.dumps({"keys": [fresh, *held][:KEPT]}).encode())
            temporary.replace(self._path)
        self._refresh()
        return str(fresh["kid"])

    def _refresh(self) -> None:
        """Read the file again when another process has rotated it."""
        from joserfc.jwk import ECKey

        try:
            status = self._path.stat()
            if status.st_mtime_ns == self._stamp:
                return
            if status.st_mode & 0o077:
                raise ValueError("mode")
            rows = json.loads(self._path.read_text(encoding="utf-8"))["keys"]
            keys = [ECKey.import_key(row) for row in rows]
            if not keys:
                raise ValueError("empty")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"The token keys '{self._path.name}' cannot be used.",
                "The file cannot be read, others may read it, or it holds no keys.",
                f"chmod 600 {self._path.name}, or restore it from the backup.",
            ) from error
        self._keys, self._stamp = keys, status.st_mtime_ns


def _new_key() -> dict[str, Any]:
    from joserfc.jwk import ECKey

    key = ECKey.generate_key("P-256", private=True)
    kid = f"{int(time.time()):x}-{key.thumbprint()[:12]}"
    return {**key.as_dict(private=True), "kid": kid}

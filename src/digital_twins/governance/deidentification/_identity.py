"""New names, numbers, UIDs and days for a patient, the same ones whenever the same key is used."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins.crypto import create_secret_file

if TYPE_CHECKING:
    import os

_KEY_BYTES = 32
_LEAST_SHIFT_DAYS, _SHIFT_RANGE_DAYS = 30, 3620
_DICOM_ROOT = "1.2.840.10008."
_HL7_CODE_SYSTEMS = "2.16.840.1.113883.6."


@dataclass(frozen=True, slots=True)
class DeidentificationKey:
    """The secret that new identities come from: who has it can test a guess, so it stays with the sender.

    Parameters
    ----------
    secret
        32 random bytes.
    """

    secret: bytes = field(repr=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DeidentificationKey:
        """Return the key of a file of mode 0600; at first use a random one is made.

        Raises
        ------
        StorageError
            The file cannot be read or made, others may read it, or it holds no key.
        """
        target = Path(path)
        try:
            if not target.exists():
                create_secret_file(target, secrets.token_hex(_KEY_BYTES).encode() + b"\n")
            open_to_others = target.stat().st_mode & 0o077
            secret = bytes.fromhex(target.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise _unusable(target, f"it cannot be read or made ({type(error).__name__})") from error
        if open_to_others or len(secret) != _KEY_BYTES:
            raise _unusable(target, "other users may read it, or it is not 32 bytes in hexadecimal")
        return cls(secret)

    def digest(self, purpose: str, value: str) -> bytes:
        """Return HMAC-SHA256 of a value for one purpose."""
        return hmac.new(self.secret, f"{purpose}\0{value}".encode(), hashlib.sha256).digest()

    def pseudonym(self, patient_id: str) -> str:
        """Return the patient's new number, e.g. ``DT-7KQ2M4XA5B``."""
        return "DT-" + base64.b32encode(self.digest("patient", patient_id.strip())).decode()[:10]

    def shift_days(self, patient_id: str) -> int:
        """Return by how many days the patient's dates move, 30 to 3649 days back."""
        number = int.from_bytes(self.digest("dates", patient_id.strip())[:8], "big")
        return -(_LEAST_SHIFT_DAYS + number % _SHIFT_RANGE_DAYS)

    def uid(self, uid: str) -> str:
        """Return the new UID of an old one, ``2.25.`` and a UUID (PS3.5 B.2); UIDs of standards stay."""
        old = uid.strip("\0 ")
        if old.startswith((_DICOM_ROOT, _HL7_CODE_SYSTEMS)):
            return old
        return f"2.25.{uuid.UUID(bytes=self.digest('uid', old)[:16], version=4).int}"

    def code(self, scheme: str, value: str) -> str:
        """Return a code of scheme 99DEID in the place of a local one."""
        return "L" + self.digest("code", f"{scheme}\0{value}").hex()[:10].upper()


def _unusable(path: Path, why: str) -> StorageError:
    return StorageError(
        f"The de-identification key '{path.name}' cannot be used.",
        f"{why[0].upper()}{why[1:]}.",
        f"Restore it from the backup and run: chmod 600 {path.name}",
    )

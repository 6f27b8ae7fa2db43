"""The re-identification table: who is who, in a file of its own under its own key."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from digital_twins.crypto import decrypt_file, encrypt_file
from digital_twins.governance.deidentification._object import Identity

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from digital_twins.crypto import KeyProvider

_OBJECT_NAME = "re-identification-table"


def write_reidentification_table(
    path: str | os.PathLike[str], identities: Iterable[Identity], *, provider: KeyProvider
) -> None:
    """Write old and new identities encrypted; keep the file and its key away from the de-identified data.

    Raises
    ------
    KeyServiceError
        The provider did not wrap the key.
    """
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "table"
        with plain.open("w", encoding="utf-8") as out:
            for each in identities:
                out.write(json.dumps(asdict(each)) + "\n")
        encrypt_file(plain, path, provider=provider, object_name=_OBJECT_NAME)


def read_reidentification_table(path: str | os.PathLike[str], *, provider: KeyProvider) -> list[Identity]:
    """Read the identities of a table.

    Raises
    ------
    DecryptionError
        It was changed, or another key made it.
    """
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "table"
        decrypt_file(path, plain, provider=provider, object_name=_OBJECT_NAME)
        return [Identity(**json.loads(line)) for line in plain.read_text(encoding="utf-8").splitlines()]

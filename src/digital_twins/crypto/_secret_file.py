"""A file that only its owner reads, made once whoever comes first."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def create_secret_file(target: Path, content: bytes) -> None:
    """Write a file of mode 0600 that is whole and on disk, unless another process was first.

    Parameters
    ----------
    target
        Where it shall lie; its folder is made where it is missing.
    content
        What it holds.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        try:
            os.link(temporary, target)  # fails, unlike a rename, if another process was first
        except FileExistsError:
            return
    finally:
        os.close(descriptor)
        temporary.unlink()
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

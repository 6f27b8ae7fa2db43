"""Envelope encryption: a random data key for each file, wrapped by a key provider, in the file's header.

A file is the line ``DTENC1``, a line of JSON (provider, key id, object, wrapped key) and then a stream of
Tink's AES256_GCM_HKDF_1MB whose associated data is the object's name: Tink opens what follows the two lines.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from digital_twins.crypto._providers import WrappedKey
from digital_twins.crypto._stream import KEY_BYTES, DecryptionError, decrypt_stream, encrypt_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.crypto._providers import KeyProvider

_MAGIC = b"DTENC1\n"
_HEADER_LIMIT = 16_384


def encrypt_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    provider: KeyProvider,
    object_name: str,
) -> None:
    """Encrypt a file under a new data key; the target appears whole and on disk, or not at all.

    Parameters
    ----------
    source, target
        Files; an existing target is replaced.
    provider
        Wraps the data key.
    object_name
        What the file is; it stands readable in the header, so give a pseudonym. Decryption needs the same.

    Raises
    ------
    KeyServiceError
        The provider did not wrap the key.
    """
    context = {"object": object_name}
    data_key = secrets.token_bytes(KEY_BYTES)
    header = header_bytes(provider.wrap(data_key, context), object_name)
    with Path(source).open("rb") as plain:

        def write(out: BinaryIO) -> None:
            out.write(header)
            encrypt_stream(plain, out, key=data_key, associated_data=object_name.encode())

        _write_whole(Path(target), write)


def decrypt_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    provider: KeyProvider,
    object_name: str,
) -> None:
    """Decrypt a file of :func:`encrypt_file`; the target appears only after all of it was verified.

    Parameters
    ----------
    source, target
        Files; an existing target is replaced.
    provider
        Opens the data key.
    object_name
        What the file must be.

    Raises
    ------
    DecryptionError
        The file was changed, cut, lengthened, is another object, or another key made it.
    KeyServiceError
        The provider did not unwrap the key.
    """
    with Path(source).open("rb") as sealed:
        wrapped = read_header(sealed, object_name)
        data_key = provider.unwrap(wrapped, {"object": object_name})

        def write(out: BinaryIO) -> None:
            decrypt_stream(sealed, out, key=data_key, associated_data=object_name.encode())

        _write_whole(Path(target), write)


def rewrap_file(path: str | os.PathLike[str], *, provider: KeyProvider, object_name: str) -> None:
    """Put the data key of a file under the provider's newest key; the encrypted data are copied, not opened.

    Raises
    ------
    DecryptionError, KeyServiceError
        As :func:`decrypt_file`; the file stays as it was.
    """
    with Path(path).open("rb") as sealed:
        wrapped = read_header(sealed, object_name)
        header = header_bytes(provider.rewrap(wrapped, {"object": object_name}), object_name)

        def write(out: BinaryIO) -> None:
            out.write(header)
            while piece := sealed.read(1 << 20):
                out.write(piece)

        _write_whole(Path(path), write)


def header_bytes(wrapped: WrappedKey, object_name: str) -> bytes:
    """Return the two lines before the encrypted data."""
    fields = {
        "provider": wrapped.provider,
        "key_id": wrapped.key_id,
        "object": object_name,
        "wrapped_key": base64.b64encode(wrapped.wrapped).decode(),
    }
    return _MAGIC + json.dumps(fields, sort_keys=True).encode() + b"\n"


def read_header(source: BinaryIO, object_name: str) -> WrappedKey:
    """Read the two lines before the encrypted data and leave the stream behind them.

    Raises
    ------
    DecryptionError
        They are not there, or name another object.
    """
    if source.read(len(_MAGIC)) != _MAGIC:
        raise DecryptionError("It does not start as an encrypted file does.")
    line = source.readline(_HEADER_LIMIT)
    try:
        fields = json.loads(line)
        wrapped = WrappedKey(
            str(fields["provider"]),
            str(fields["key_id"]),
            base64.b64decode(fields["wrapped_key"], validate=True),
        )
        found = fields["object"]
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise DecryptionError("Its header cannot be read.") from None
    if found != object_name:
        raise DecryptionError("It is another object than the one asked for.")
    return wrapped


def _write_whole(target: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let ``write`` fill a file beside the target, sync it, and put it in the target's place."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

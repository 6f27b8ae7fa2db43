"""Rotation by wrapping anew, with each keeper of the wrapping key: file, keyring, AWS KMS (moto), Vault."""

from __future__ import annotations

import base64
import json
import os
import secrets
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import apsw
import pytest

from digital_twins import StorageError
from digital_twins.crypto import (
    AwsKms,
    DecryptionError,
    KeyProvider,
    KeyServiceError,
    LocalKeyFile,
    OsKeyring,
    VaultTransit,
)
from digital_twins.storage import BlobStore, KeyRegister, RowKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.peers
FULL = os.environ.get("TWIN_TEST_FULL") == "1"
OWNERS = [f"MRN-{number}" for number in range(1200 if FULL else 60)]
"""At the full count more than two batches of a rotation."""


class Keeper(NamedTuple):
    """A provider, what its operator does to make a newer key, and to end the older ones for ever."""

    provider: KeyProvider
    newer: Callable[[], object]
    end_older: Callable[[], object]
    by_itself: bool
    """Whether the provider makes and destroys keys on the register's request."""


def nothing() -> None:
    pass


@contextmanager
def in_file(folder: Path) -> Iterator[Keeper]:
    yield Keeper(LocalKeyFile(folder / "wrapping.json"), nothing, nothing, by_itself=True)


@contextmanager
def in_keyring(folder: Path) -> Iterator[Keeper]:
    del folder
    keyring = pytest.importorskip("keyring", reason="run: make peers")
    from keyring.backend import KeyringBackend

    class Memory(KeyringBackend):
        """The package's own seam, without a desktop."""

        priority = 1.0  # type: ignore[assignment]
        entries: ClassVar[dict[tuple[str, str], str]] = {}

        def get_password(self, service: str, username: str) -> str | None:
            return self.entries.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.entries[service, username] = password

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        yield Keeper(OsKeyring(), nothing, nothing, by_itself=True)
    finally:
        keyring.set_keyring(before)


@contextmanager
def in_kms(folder: Path) -> Iterator[Keeper]:
    del folder
    moto = pytest.importorskip("moto", reason="run: make peers")
    boto3 = pytest.importorskip("boto3", reason="run: make peers")
    with pytest.MonkeyPatch.context() as patch, moto.mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        kms = boto3.client("kms")
        made = [kms.create_key()["KeyMetadata"]["KeyId"]]
        kms.create_alias(AliasName="alias/twins", TargetKeyId=made[0])

        def newer() -> None:
            made.append(kms.create_key()["KeyMetadata"]["KeyId"])
            kms.update_alias(AliasName="alias/twins", TargetKeyId=made[-1])

        def end() -> None:
            """The waiting period of ScheduleKeyDeletion is over; moto itself never lets it end."""
            from moto.kms.models import kms_backends

            for key in made[:-1]:
                del kms_backends["123456789012"]["eu-central-1"].keys[key]

        yield Keeper(AwsKms("alias/twins"), newer, end, by_itself=False)


class Vault(BaseHTTPRequestHandler):
    """Transit with key versions, after HashiCorp's API page; ``oldest`` is min_decryption_version."""

    versions: ClassVar[list[bytes]] = []
    oldest = 1

    def do_POST(self) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        associated = base64.b64decode(body["associated_data"])
        if self.path.startswith("/v1/transit/encrypt/"):
            nonce = secrets.token_bytes(12)
            plain = base64.b64decode(body["plaintext"])
            sealed = nonce + AESGCM(self.versions[-1]).encrypt(nonce, plain, associated)
            text = f"vault:v{len(self.versions)}:{base64.b64encode(sealed).decode()}"
            return self._answer(200, {"data": {"ciphertext": text}})
        _, version, text = body["ciphertext"].split(":")
        number, sealed = int(version[1:]), base64.b64decode(text)
        if number < type(self).oldest:
            return self._answer(400, {"errors": ["ciphertext or signature version is disallowed by policy"]})
        try:
            plain = AESGCM(self.versions[number - 1]).decrypt(sealed[:12], sealed[12:], associated)
        except InvalidTag:
            return self._answer(400, {"errors": ["cipher: message authentication failed"]})
        return self._answer(200, {"data": {"plaintext": base64.b64encode(plain).decode()}})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def in_vault(folder: Path) -> Iterator[Keeper]:
    token = folder / "token"
    token.write_text("s.good\n")
    token.chmod(0o600)

    class Own(Vault):
        versions: ClassVar[list[bytes]] = [secrets.token_bytes(32)]

    def end() -> None:
        Own.oldest = len(Own.versions)

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            provider = VaultTransit(f"http://127.0.0.1:{server.server_port}", "twins", token_file=token)
            yield Keeper(provider, lambda: Own.versions.append(secrets.token_bytes(32)), end, by_itself=False)
        finally:
            server.shutdown()


def wrapped_keys(path: Path) -> dict[str, bytes]:
    """Id and wrapped bytes of each data key, past the register."""
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return {str(key): bytes(data) for key, data in reader.execute("SELECT id, wrapped FROM data_key")}
    finally:
        reader.close()


def back_up(path: Path, copy: Path) -> None:
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        reader.execute("VACUUM INTO ?", (str(copy),))
    finally:
        reader.close()


@pytest.mark.parametrize("kept", [in_file, in_keyring, in_kms, in_vault])
def test_rotation_wraps_every_key_anew_and_touches_no_data(
    kept: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "keys.sqlite"
    with kept(tmp_path) as keeper, closing(KeyRegister(path, keeper.provider)) as register:
        keys = {owner: register.for_owner(owner) for owner in OWNERS}
        rows = {owner: RowKeys(register).seal(owner.encode(), owner) for owner in OWNERS[:5]}
        blobs = BlobStore(tmp_path / "blobs", keys=register)
        digest = blobs.put(b"of one patient", owner=OWNERS[0])
        file = blobs.path(digest).read_bytes()
        before, provider_key = wrapped_keys(path), register.status().key_id
        back_up(path, tmp_path / "before.sqlite")

        keeper.newer()
        steps: list[tuple[int, int]] = []
        done = register.rotate(destroy_old=True, progress=lambda *step: steps.append(step))
        after = wrapped_keys(path)
        assert done.rewrapped == len(before) == len(after)
        assert steps[-1] == (len(after), len(after))
        assert all(after[key] != before[key] for key in before)
        assert register.status().key_id != provider_key
        assert register.status().rotating == 0
        assert (done.destroyed, done.kept) == (
            ((provider_key,), ()) if keeper.by_itself else ((), (provider_key,))
        )
        keeper.end_older()
        assert blobs.path(digest).read_bytes() == file
        # again from the files alone, as after a restart
        with closing(KeyRegister(path, keeper.provider)) as again:
            assert {owner: again.for_owner(owner) for owner in OWNERS} == keys
            assert {owner: RowKeys(again).open(row).decode() for owner, row in rows.items()} == {
                owner: owner for owner in OWNERS[:5]
            }
            assert BlobStore(tmp_path / "blobs", keys=again).get(digest) == b"of one patient"
        with pytest.raises((StorageError, KeyServiceError, DecryptionError)):
            KeyRegister(tmp_path / "before.sqlite", keeper.provider)

"""Google's Tink opens our files and we open its; AWS KMS as moto simulates it; Vault by its HTTP API."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from digital_twins import InputError
from digital_twins.crypto import (
    AwsKms,
    DecryptionError,
    KeyServiceError,
    LocalKeyFile,
    OsKeyring,
    VaultTransit,
    decrypt_stream,
    encrypt_file,
    encrypt_stream,
)
from digital_twins.storage import BlobStore, Database, KeyRegister, Migration
from digital_twins.storage._sealed import HEADER_BYTES, BlobKeys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peers
SEGMENT = 1 << 20
_TABLE = Migration("peers.0001", "CREATE TABLE t (a TEXT)")
SIZES = (0, 1, SEGMENT - 57, SEGMENT - 56, SEGMENT - 55, 3 * SEGMENT + 5)


class Open(io.BytesIO):
    """Tink closes the stream that it wrote to."""

    def close(self) -> None:
        pass


def tink_primitive(key: bytes) -> Any:
    tink = pytest.importorskip("tink", reason="run: make peers")
    from tink import secret_key_access, streaming_aead
    from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

    streaming_aead.register()
    parameters = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(key_value=key, params=parameters)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW)
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.value = value.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


@pytest.mark.parametrize("size", SIZES)
def test_tink_and_we_open_each_other(size):
    key, data = secrets.token_bytes(32), secrets.token_bytes(size)
    tink = tink_primitive(key)
    ours = io.BytesIO()
    encrypt_stream(io.BytesIO(data), ours, key=key, associated_data=b"twin-17")
    with tink.new_decrypting_stream(io.BytesIO(ours.getvalue()), b"twin-17") as stream:
        assert stream.read() == data
    theirs = Open()
    with tink.new_encrypting_stream(theirs, b"twin-17") as stream:
        stream.write(data)
    back = io.BytesIO()
    decrypt_stream(io.BytesIO(theirs.getvalue()), back, key=key, associated_data=b"twin-17")
    assert back.getvalue() == data


def test_tink_opens_a_file_behind_its_two_lines(tmp_path: Path):
    class Noting(LocalKeyFile):
        data_key = b""

        def wrap(self, data_key, context):
            type(self).data_key = data_key
            return super().wrap(data_key, context)

    plain = tmp_path / "plain"
    plain.write_bytes(secrets.token_bytes(SEGMENT + 100))
    provider = Noting(tmp_path / "keys")
    encrypt_file(plain, tmp_path / "locked", provider=provider, object_name="twin-17")
    content = (tmp_path / "locked").read_bytes().split(b"\n", 2)[2]
    with tink_primitive(provider.data_key).new_decrypting_stream(io.BytesIO(content), b"twin-17") as stream:
        assert stream.read() == plain.read_bytes()


def test_tink_opens_a_blob_of_the_store_behind_its_header(tmp_path: Path):
    data = secrets.token_bytes(SEGMENT + 100)
    with contextlib.closing(
        KeyRegister(tmp_path / "keys.sqlite", LocalKeyFile(tmp_path / "root.json"))
    ) as keys:
        blobs = BlobStore(tmp_path / "blobs", keys=keys)
        digest = blobs.put(data, owner="P1")
        content = blobs.path(digest).read_bytes()
        key = BlobKeys(keys).data_key(content[:HEADER_BYTES], digest)
    stream = io.BytesIO(content[HEADER_BYTES:])
    with tink_primitive(key).new_decrypting_stream(stream, b"digital-twins blob") as opened:
        assert opened.read() == data


def test_sqlcipher_opens_an_encrypted_database(tmp_path: Path):
    """A second implementation of the page format, where its wheel is at hand."""
    sqlcipher = pytest.importorskip("sqlcipher3", reason="run: make peers")
    key = secrets.token_bytes(32)
    with contextlib.closing(Database(tmp_path / "a.sqlite", migrations=[_TABLE], key=key)) as database:
        database.write(lambda cursor: cursor.execute("INSERT INTO t VALUES ('planted')"))
    with contextlib.closing(sqlcipher.connect(str(tmp_path / "a.sqlite"))) as connection:
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        assert connection.execute("SELECT a FROM t").fetchall() == [("planted",)]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    moto = pytest.importorskip("moto", reason="run: make peers")
    boto3 = pytest.importorskip("boto3", reason="run: make peers")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with moto.mock_aws():
        yield boto3.client("kms")


def test_aws_kms_keeps_the_wrapping_key(aws):
    first = aws.create_key()["KeyMetadata"]
    aws.create_alias(AliasName="alias/digital-twins", TargetKeyId=first["KeyId"])
    provider = AwsKms("alias/digital-twins")
    key, context = secrets.token_bytes(32), {"object": "twin-17"}
    wrapped = provider.wrap(key, context)
    assert wrapped.provider == "aws_kms"
    assert key not in wrapped.wrapped
    assert provider.unwrap(wrapped, context) == key
    with pytest.raises(DecryptionError):
        provider.unwrap(wrapped, {"object": "twin-18"})
    second = aws.create_key()["KeyMetadata"]["KeyId"]
    aws.update_alias(AliasName="alias/digital-twins", TargetKeyId=second)
    again = provider.rewrap(wrapped, context)
    assert second in again.key_id
    assert provider.unwrap(again, context) == key
    with pytest.raises(KeyServiceError, match="NotFoundException"):
        AwsKms("alias/none").wrap(key, context)


def test_the_keyring_of_the_system_keeps_the_wrapping_key():
    keyring = pytest.importorskip("keyring", reason="run: make peers")
    from keyring.backend import KeyringBackend

    class Memory(KeyringBackend):
        """The package's own seam, without a desktop."""

        priority = 1.0  # type: ignore[assignment]
        entries: ClassVar[dict[tuple[str, str], str]] = {}

        def get_password(self, service, username):
            return self.entries.get((service, username))

        def set_password(self, service, username, password):
            self.entries[service, username] = password

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        wrapped = OsKeyring().wrap(b"k" * 32, {"object": "twin-17"})
        newest = OsKeyring().rotate()
        again = OsKeyring().rewrap(wrapped, {"object": "twin-17"})
        assert (wrapped.provider, again.key_id) == ("keyring", newest)
        assert OsKeyring().unwrap(wrapped, {"object": "twin-17"}) == b"k" * 32
        assert list(Memory.entries) == [("digital-twins", "node")]
    finally:
        keyring.set_keyring(before)


class Vault(BaseHTTPRequestHandler):
    """Transit's encrypt and decrypt for one key, after HashiCorp's API page; AES-256-GCM as its key type."""

    key = secrets.token_bytes(32)

    def do_POST(self) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["X-Vault-Token"] != "s.good":
            return self._answer(403, {"errors": ["permission denied"]})
        associated = base64.b64decode(body["associated_data"])
        if self.path == "/v1/transit/encrypt/twins":
            nonce = secrets.token_bytes(12)
            sealed = nonce + AESGCM(self.key).encrypt(nonce, base64.b64decode(body["plaintext"]), associated)
            text = "vault:v3:" + base64.b64encode(sealed).decode()
            return self._answer(200, {"data": {"ciphertext": text, "key_version": 3}})
        sealed = base64.b64decode(body["ciphertext"].removeprefix("vault:v3:"))
        try:
            plain = AESGCM(self.key).decrypt(sealed[:12], sealed[12:], associated)
        except InvalidTag:
            return self._answer(400, {"errors": ["cipher: message authentication failed"]})
        return self._answer(200, {"data": {"plaintext": base64.b64encode(plain).decode()}})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_vault_transit_keeps_the_wrapping_key(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("s.good\n")
    token.chmod(0o600)
    with ThreadingHTTPServer(("127.0.0.1", 0), Vault) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            provider = VaultTransit(f"http://127.0.0.1:{server.server_port}", "twins", token_file=token)
            key, context = secrets.token_bytes(32), {"object": "twin-17"}
            wrapped = provider.wrap(key, context)
            assert wrapped.key_id == "twins:v3"
            assert provider.unwrap(wrapped, context) == key
            with pytest.raises(DecryptionError):
                provider.unwrap(wrapped, {"object": "twin-18"})
            token.write_text("s.bad")
            with pytest.raises(KeyServiceError, match="403"):
                provider.wrap(key, context)
            token.chmod(0o644)
            with pytest.raises(KeyServiceError, match="chmod"):
                provider.wrap(key, context)
        finally:
            server.shutdown()
    with pytest.raises(InputError, match="https"):
        VaultTransit("http://vault.example.org", "twins", token_file=token)

"""Wrapping keys that stay in a service: AWS KMS, and HashiCorp Vault's Transit engine."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from digital_twins._errors import InputError, MissingExtraError
from digital_twins.crypto._providers import KeyProvider, KeyServiceError, WrappedKey, canonical_context
from digital_twins.crypto._stream import DecryptionError

if TYPE_CHECKING:
    import os

    import httpx

_TIMEOUT_S = 10.0
_BAD_REQUEST = 400


class AwsKms(KeyProvider):
    """A key of AWS Key Management Service; needs the extra ``kms`` and AWS credentials in the usual places.

    The context goes along as the encryption context, so CloudTrail shows what each key was opened for: give
    pseudonyms, never patient data.

    Parameters
    ----------
    key_id
        Key id, ARN or alias (``alias/digital-twins``).
    endpoint_url
        Other address than AWS', e.g. of a private endpoint.

    Raises
    ------
    MissingExtraError
        The package ``boto3`` is not installed.
    """

    name = "aws_kms"

    def __init__(self, key_id: str, *, endpoint_url: str | None = None) -> None:
        try:
            import boto3
        except ModuleNotFoundError:
            raise MissingExtraError("boto3", "kms") from None
        self._key_id = key_id
        self._kms = boto3.client("kms", endpoint_url=endpoint_url)

    def wrap(self, data_key: bytes, context: dict[str, str]) -> WrappedKey:
        answer = self._call("encrypt", KeyId=self._key_id, Plaintext=data_key, EncryptionContext=context)
        return WrappedKey(self.name, answer["KeyId"], answer["CiphertextBlob"])

    def unwrap(self, wrapped: WrappedKey, context: dict[str, str]) -> bytes:
        answer = self._call(
            "decrypt", KeyId=wrapped.key_id, CiphertextBlob=wrapped.wrapped, EncryptionContext=context
        )
        return cast("bytes", answer["Plaintext"])

    def _call(self, operation: str, **parameters: object) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return cast("dict[str, Any]", getattr(self._kms, operation)(**parameters))
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            if code in {"InvalidCiphertextException", "IncorrectKeyException"}:
                raise DecryptionError("Its data key was changed or belongs to another object.") from None
            raise KeyServiceError(self.name, f"It answered {code}.") from None
        except BotoCoreError as error:
            raise KeyServiceError(self.name, f"It cannot be reached ({type(error).__name__}).") from None


class VaultTransit(KeyProvider):
    """A key of Vault's Transit secrets engine (HTTP API v1, ``transit/encrypt`` and ``transit/decrypt``).

    The context is sent as ``associated_data``, which Vault checks for its AEAD key types. Tested against a
    simulator of that API, not against the product.

    Parameters
    ----------
    address
        Base address, e.g. ``https://vault.example.org:8200``.
    key_name
        Name of the Transit key (type ``aes256-gcm96``).
    token_file
        File with the Vault token, readable by its owner alone.
    mount
        Path of the engine.
    """

    name = "vault"

    def __init__(
        self, address: str, key_name: str, *, token_file: str | os.PathLike[str], mount: str = "transit"
    ) -> None:
        if not address.startswith("https://") and not address.startswith("http://127.0.0.1:"):
            raise InputError("Vault is not asked.", "Its address is not https.", "Give an https address.")
        self._address, self._key_name, self._mount = address.rstrip("/"), key_name, mount
        self._token_file = Path(token_file)

    def wrap(self, data_key: bytes, context: dict[str, str]) -> WrappedKey:
        answer = self._post("encrypt", {"plaintext": _base64(data_key)}, context)
        sealed = str(answer.get("ciphertext", ""))
        if not sealed.startswith("vault:v"):
            raise KeyServiceError(self.name, "It answered without a ciphertext.")
        return WrappedKey(self.name, f"{self._key_name}:{sealed.split(':')[1]}", sealed.encode())

    def unwrap(self, wrapped: WrappedKey, context: dict[str, str]) -> bytes:
        answer = self._post("decrypt", {"ciphertext": wrapped.wrapped.decode("ascii", "replace")}, context)
        try:
            return base64.b64decode(str(answer.get("plaintext", "")), validate=True)
        except binascii.Error:
            raise KeyServiceError(self.name, "It answered without a key.") from None

    def _post(self, operation: str, body: dict[str, str], context: dict[str, str]) -> dict[str, Any]:
        import httpx

        url = f"{self._address}/v1/{self._mount}/{operation}/{self._key_name}"
        body["associated_data"] = _base64(canonical_context(context))
        try:
            answer = httpx.post(
                url, json=body, headers={"X-Vault-Token": self._token()}, timeout=_TIMEOUT_S, trust_env=False
            )
            content = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise KeyServiceError(self.name, f"It cannot be reached ({type(error).__name__}).") from None
        return self._data(operation, answer, content)

    def _data(self, operation: str, answer: httpx.Response, content: dict[str, Any]) -> dict[str, Any]:
        if answer.status_code == _BAD_REQUEST and operation == "decrypt":
            raise DecryptionError("Its data key was changed or belongs to another object.")
        if not answer.is_success:
            raise KeyServiceError(self.name, f"It answered {answer.status_code}.")
        return cast("dict[str, Any]", content.get("data") or {})

    def _token(self) -> str:
        try:
            if self._token_file.stat().st_mode & 0o077:
                raise KeyServiceError(self.name, "Other users may read its token file: chmod 600 it.")
            return self._token_file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise KeyServiceError(self.name, f"Its token cannot be read ({type(error).__name__}).") from None


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()

"""Signing keys and signed notes that anybody can check; encryption, and the keepers of its keys."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.crypto._certificates import (
        create_authority as create_authority,
        issue_certificate as issue_certificate,
    )
    from digital_twins.crypto._envelope import (
        decrypt_file as decrypt_file,
        encrypt_file as encrypt_file,
        rewrap_file as rewrap_file,
    )
    from digital_twins.crypto._keyfile import load_signing_key as load_signing_key
    from digital_twins.crypto._keys import SigningKey as SigningKey, VerifierKey as VerifierKey
    from digital_twins.crypto._local_keys import LocalKeyFile as LocalKeyFile, OsKeyring as OsKeyring
    from digital_twins.crypto._note import open_note as open_note, sign_note as sign_note
    from digital_twins.crypto._provider_named import open_provider as open_provider
    from digital_twins.crypto._providers import (
        KeyProvider as KeyProvider,
        KeyServiceError as KeyServiceError,
        WrappedKey as WrappedKey,
        canonical_context as canonical_context,
    )
    from digital_twins.crypto._random_access import (
        SealedReader as SealedReader,
        StreamSealer as StreamSealer,
    )
    from digital_twins.crypto._remote_keys import AwsKms as AwsKms, VaultTransit as VaultTransit
    from digital_twins.crypto._secret_file import create_secret_file as create_secret_file
    from digital_twins.crypto._stream import (
        DecryptionError as DecryptionError,
        decrypt_stream as decrypt_stream,
        encrypt_stream as encrypt_stream,
    )
    from digital_twins.crypto._suites import BCP_195_SUITES as BCP_195_SUITES

_WHERE = {
    **dict.fromkeys(("create_authority", "issue_certificate"), "digital_twins.crypto._certificates"),
    "BCP_195_SUITES": "digital_twins.crypto._suites",
    "create_secret_file": "digital_twins.crypto._secret_file",
    "load_signing_key": "digital_twins.crypto._keyfile",
    **dict.fromkeys(("SigningKey", "VerifierKey"), "digital_twins.crypto._keys"),
    **dict.fromkeys(("open_note", "sign_note"), "digital_twins.crypto._note"),
    **dict.fromkeys(("decrypt_file", "encrypt_file", "rewrap_file"), "digital_twins.crypto._envelope"),
    **dict.fromkeys(("LocalKeyFile", "OsKeyring"), "digital_twins.crypto._local_keys"),
    **dict.fromkeys(
        ("KeyProvider", "KeyServiceError", "WrappedKey", "canonical_context"),
        "digital_twins.crypto._providers",
    ),
    "open_provider": "digital_twins.crypto._provider_named",
    **dict.fromkeys(("SealedReader", "StreamSealer"), "digital_twins.crypto._random_access"),
    **dict.fromkeys(("AwsKms", "VaultTransit"), "digital_twins.crypto._remote_keys"),
    **dict.fromkeys(("DecryptionError", "decrypt_stream", "encrypt_stream"), "digital_twins.crypto._stream"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)

"""Signing keys of this node, and signed notes that anybody can check."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.crypto._keyfile import load_signing_key as load_signing_key
    from digital_twins.crypto._keys import SigningKey as SigningKey, VerifierKey as VerifierKey
    from digital_twins.crypto._note import open_note as open_note, sign_note as sign_note
    from digital_twins.crypto._secret_file import create_secret_file as create_secret_file

_WHERE = {
    "create_secret_file": "digital_twins.crypto._secret_file",
    "load_signing_key": "digital_twins.crypto._keyfile",
    **dict.fromkeys(("SigningKey", "VerifierKey"), "digital_twins.crypto._keys"),
    **dict.fromkeys(("open_note", "sign_note"), "digital_twins.crypto._note"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)

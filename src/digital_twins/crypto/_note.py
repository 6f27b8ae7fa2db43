"""Signed notes: text with signature lines below it (https://c2sp.org/signed-note)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.crypto._keys import SigningKey, VerifierKey

_DASH = "— "
_MOST_SIGNATURES = 64


def sign_note(text: str, *keys: SigningKey) -> str:
    """Return the text as a note signed by every key.

    Parameters
    ----------
    text
        Ends with a newline and holds no other control character.
    *keys
        At least one.

    Raises
    ------
    InputError
        The text has another form, or no key is given.
    """
    if not keys or not _is_text(text):
        raise _refused("its text does not end with a newline, holds control characters, or nobody signs it")
    lines = [
        f"{_DASH}{key.name} {base64.b64encode(key.verifier.key_id + key.sign(text.encode())).decode()}\n"
        for key in keys
    ]
    return f"{text}\n{''.join(lines)}"


def open_note(note: str, keys: Sequence[VerifierKey]) -> str:
    """Return the text of a note after its signatures were checked.

    Signatures of unknown keys are ignored; one of a known key that is wrong refuses the note.

    Raises
    ------
    InputError
        The note is malformed, none of the keys signed it, or a signature of one of them is wrong.
    """
    text, gap, tail = note.rpartition("\n\n")
    text += "\n"
    lines = tail.split("\n")
    if not gap or lines.pop() or not lines or len(lines) > _MOST_SIGNATURES or not _is_text(text):
        raise _refused("it has not the form of a signed note")
    signed = False
    for line in lines:
        name, signature = _parsed(line)
        for key in keys:
            if (key.name, key.key_id) != (name, signature[:4]):
                continue
            if not key.verify(text.encode(), signature[4:]):
                raise _refused(f"the signature of {name} is wrong")
            signed = True
    if not signed:
        raise _refused("none of the trusted keys signed it")
    return text


def _parsed(line: str) -> tuple[str, bytes]:
    parts = line.removeprefix(_DASH).split(" ")
    try:
        signature = base64.b64decode(parts[-1], validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if not line.startswith(_DASH) or len(parts) != 2 or not parts[0] or len(signature) < 5:
        raise _refused("a signature line is malformed")
    return parts[0], signature


def _is_text(text: str) -> bool:
    return text.endswith("\n") and all(sign >= " " or sign == "\n" for sign in text)


def _refused(why: str) -> InputError:
    return InputError(
        "The signed note was refused.",
        f"{why[0].upper()}{why[1:]}.",
        "Get the note again from where it was made, and the verifier key from its owner.",
    )

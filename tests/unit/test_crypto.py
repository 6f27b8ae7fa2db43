"""Keys and signed notes, against the published examples of Go's sumdb/note and of C2SP."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from digital_twins import InputError, StorageError
from digital_twins.crypto import SigningKey, VerifierKey, load_signing_key, open_note, sign_note

SRC = Path(__file__).parents[2] / "src"
# golang.org/x/mod sumdb/note, package documentation
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
GO_NOTE = (
    GO_TEXT + "\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# verifier key of the tests of golang.org/x/mod, and one whose base64 holds a plus (transparency-dev/formats)
OTHER = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
PLUS = "TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6"


def test_we_sign_as_go_does():
    key = SigningKey.from_text(GO_SIGNER)
    assert key.to_text() == GO_SIGNER
    assert key.verifier.to_text() == GO_VERIFIER
    assert sign_note(GO_TEXT, key) == GO_NOTE
    assert "AYEKF" not in repr(key)
    assert key.secret.hex() not in repr(key)


def test_we_open_what_go_signed():
    keys = [VerifierKey.from_text(text) for text in (OTHER, PLUS, GO_VERIFIER)]
    assert [key.to_text() for key in keys] == [OTHER, PLUS, GO_VERIFIER]
    assert open_note(GO_NOTE, keys) == GO_TEXT


def test_every_changed_byte_of_a_note_is_refused():
    keys = [VerifierKey.from_text(GO_VERIFIER)]
    data = GO_NOTE.encode()
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises((InputError, UnicodeDecodeError)):
            open_note(changed.decode(), keys)
    for cut in range(len(data)):
        with pytest.raises((InputError, UnicodeDecodeError)):
            open_note(data[:cut].decode(), keys)


def test_signatures_of_strangers_are_ignored_and_of_friends_are_not():
    ours = SigningKey("ours.example", bytes(range(32)))
    note = sign_note("one\n\ntwo\n", SigningKey("stranger.example", bytes(32)), ours)
    assert open_note(note, [ours.verifier]) == "one\n\ntwo\n"
    with pytest.raises(InputError, match="None of the trusted keys"):
        open_note(note, [VerifierKey.from_text(GO_VERIFIER)])
    # a key of the same name is another key
    with pytest.raises(InputError, match="None of the trusted keys"):
        open_note(note, [SigningKey("ours.example", bytes(32)).verifier])


@pytest.mark.parametrize("text", ["", "no newline", "tab\there\n", "nul\0\n"])
def test_a_text_that_is_no_note_is_not_signed(text):
    with pytest.raises(InputError):
        sign_note(text, SigningKey.from_text(GO_SIGNER))


def test_nobody_signs_nothing():
    with pytest.raises(InputError):
        sign_note("text\n")


@pytest.mark.parametrize("cut", range(1, len(GO_VERIFIER)))
def test_a_damaged_key_is_refused(cut):
    with pytest.raises(InputError):
        VerifierKey.from_text(GO_VERIFIER[:cut])
    with pytest.raises(InputError):
        SigningKey.from_text(GO_SIGNER.replace("+c7", "+c8")[: cut + 40])


def test_the_key_file_is_made_once_and_private(tmp_path):
    path = tmp_path / "keys" / "audit.key"
    key = load_signing_key(path, purpose="audit")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_signing_key(path, purpose="other") == key
    assert [each.name for each in path.parent.iterdir()] == ["audit.key"]
    assert key.name.startswith("digital-twins/audit-")
    assert load_signing_key(tmp_path / "second.key", purpose="audit") != key


def test_processes_that_start_at_once_agree_on_the_key(tmp_path):
    code = (
        "import sys; from digital_twins.crypto import load_signing_key as f;"
        "print(f(sys.argv[1], purpose='audit').verifier.to_text())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "key")],
            env={**os.environ, "PYTHONPATH": str(SRC)},
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1


def test_an_unsafe_or_damaged_key_file_is_refused(tmp_path):
    path = tmp_path / "audit.key"
    load_signing_key(path, purpose="audit")
    path.chmod(0o640)
    with pytest.raises(StorageError, match="chmod 600"):
        load_signing_key(path, purpose="audit")
    path.write_text("junk")
    path.chmod(0o600)
    with pytest.raises(StorageError, match="It does not hold a signing key"):
        load_signing_key(path, purpose="audit")

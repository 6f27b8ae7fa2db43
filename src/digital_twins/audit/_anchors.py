"""Checkpoints that came back from outside: out of a syslog receiver's file."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from digital_twins.audit._checkpoint import parse_checkpoint
from digital_twins.audit._syslog import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOTE = re.compile(rf"{CHECKPOINT} - (?:\ufeff)?(\S+)")


def checkpoints_of_syslog(lines: Iterable[str]) -> str:
    """Return the checkpoints among the messages of a syslog file, as the content of an anchor file.

    Lines that hold none are passed over; the order is that of the sizes. `verify_trail` checks the
    signatures: whoever writes to the receiver cannot forge one.
    """
    found = {}
    for line in lines:
        match = _NOTE.search(line)
        if match is None:
            continue
        try:
            note = base64.b64decode(match[1], validate=True).decode()
        except (binascii.Error, ValueError):
            continue
        checkpoint = parse_checkpoint(note)
        if checkpoint is not None:
            found[checkpoint.size] = note
    return "".join(f"{found[size]}\n" for size in sorted(found))

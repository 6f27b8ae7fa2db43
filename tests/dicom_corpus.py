"""Inputs that reach every corner of the DICOM parsers; ``dicom_corpus.py SECONDS`` grows the kept ones.

The growth is guided by coverage: an input is kept when it makes a parser run a pair of lines, one after the
other, that no kept input did. The file holds parser name and base64, one input a line.
"""

from __future__ import annotations

import base64
import contextlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from pydicom.uid import CTImageStorage

from digital_twins import DigitalTwinError
from digital_twins.dicom import _dimse, _pdu
from digital_twins.dicom._contexts import AcceptedContext
from digital_twins.dicom._framing import Assembler, Budget, Framer
from digital_twins.dicom._header import read_header
from digital_twins.dicom._identifier import read_dataset
from digital_twins.dicom._part10 import split_file
from digital_twins.dicom._walk import HeadTooShortError, LayoutError

FILE = Path(__file__).parent / "data" / "dicom_corpus.txt"
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
BOUNDARY = (_pdu.PduError, _dimse.DimseError, LayoutError, HeadTooShortError, DigitalTwinError)
_MAX_BYTES = 2048
_MARKS = (b"\xff" * 4, bytes(4), b"SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\0\xe0")


def stream(data: bytes) -> None:
    """Bytes of a connection whose association stands."""
    framer, budget = Framer(16384), Budget(2**20)
    assembler = Assembler({1: AcceptedContext(1, CTImageStorage, SYNTAXES[0])}, 4096, budget)
    try:
        rest = memoryview(data)
        while rest:
            room = framer.buffer()
            count = min(len(room), len(rest), 97)
            room[:count] = rest[:count]
            rest = rest[count:]
            for kind, body in framer.received(count):
                if kind is _pdu.PduType.P_DATA_TF:
                    for message in assembler.add(body):
                        assembler.recycle(message)
    finally:
        assembler.drop()
        assert budget.used_bytes == 0


def header(data: bytes) -> None:
    """A data set in each encoding, whole and only its first half."""
    for syntax in SYNTAXES:
        with contextlib.suppress(*BOUNDARY):
            read_header(data, syntax)
        with contextlib.suppress(*BOUNDARY):
            read_header(data[: len(data) // 2], syntax, size_bytes=len(data))


PARSERS: dict[str, Callable[[bytes], object]] = {
    "associate": _pdu.decode_associate,
    "accept": _pdu.decode_accept,
    "reject": _pdu.decode_reject,
    "stream": stream,
    "command": _dimse.decode_command,
    "file": split_file,
    "header": header,
    "identifier": lambda data: read_dataset(data, implicit=False),
    "identifier-implicit": lambda data: read_dataset(data, implicit=True),
}


def kept() -> list[tuple[str, bytes]]:
    """Return parser name and input of the kept corpus."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    return [(name, base64.b64decode(text)) for name, text in (line.split(" ", 1) for line in lines)]


def run(name: str, data: bytes) -> None:
    """Give an input to a parser; only an error of its boundary is taken."""
    with contextlib.suppress(*BOUNDARY):
        PARSERS[name](data)


def _reached(name: str, data: bytes) -> set[tuple[str, int, int]]:
    """Pairs of lines of our parsers that an input makes run."""
    pairs: set[tuple[str, int, int]] = set()

    def tracer(frame: FrameType, _event: str, _argument: Any) -> Any:
        file = frame.f_code.co_filename
        if "digital_twins" not in file:
            return None
        last = frame.f_lineno

        def lines(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            if event == "line":
                pairs.add((file, last, frame.f_lineno))
                last = frame.f_lineno
            return lines

        return lines

    sys.settrace(tracer)
    try:
        run(name, data)
    finally:
        sys.settrace(None)
    return pairs


def _mutated(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((1, 2, 4, 8, 16))
        match rng.randrange(7):
            case 0:
                data[at : at + length] = rng.randbytes(length)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length * 4]
            case 3:
                data[at:at] = rng.choice(
                    (b"\xff" * 4, bytes(4), b"SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\0\xe0")
                )
            case 4:
                data[at : at + 2] = rng.choice((b"UN", b"OB", b"SQ", b"UI", b"\xfe\xff", b"\xe0\x7f"))
            case 5:
                data[at:] = other[rng.randrange(len(other) + 1) :]
            case _:
                data[at : at + 1] = bytes([rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 127, 128, 255))])
    return bytes(data[:_MAX_BYTES])


def grow(seeds: list[tuple[str, bytes]], seconds: float, seed: int) -> list[tuple[str, bytes]]:
    """Return inputs that together reach all that was reached within the time."""
    rng = random.Random(seed)
    chosen: dict[str, list[bytes]] = {name: [] for name in PARSERS}
    seen: dict[str, set[tuple[str, int, int]]] = {name: set() for name in PARSERS}

    def take(name: str, data: bytes) -> None:
        new = _reached(name, data) - seen[name]
        if new:
            seen[name] |= new
            chosen[name].append(data)

    for name, data in sorted(seeds, key=lambda item: len(item[1])):
        take(name, data)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, inputs in chosen.items():
            base = rng.choice(inputs or [b""])
            take(name, _mutated(rng, base, rng.choice(inputs or [b""])))
    return [(name, data) for name, inputs in chosen.items() for data in inputs]


def _seeds() -> list[tuple[str, bytes]]:
    from protocol.test_dicom_fuzz import ACCEPT, COMMAND, DATASET, FILE as PART10, REQUEST

    data = b"".join(_pdu.encode_data(1, DATASET, command=False, max_pdu_bytes=256))
    command = b"".join(_pdu.encode_data(1, COMMAND, command=True, max_pdu_bytes=64))
    return [
        ("associate", REQUEST[6:]),
        ("accept", ACCEPT[6:]),
        ("reject", _pdu.encode_reject(1, 1, 1)[6:]),
        ("stream", command + data),
        ("command", COMMAND),
        ("file", PART10),
        ("header", DATASET),
        ("identifier", DATASET),
        ("identifier-implicit", DATASET),
    ]


if __name__ == "__main__":
    found = grow([*kept(), *_seeds()], float(sys.argv[1]), seed=int(time.time()))
    FILE.write_text("".join(f"{name} {base64.b64encode(data).decode()}\n" for name, data in found))
    sys.stdout.write(f"{len(found)} inputs, {FILE.stat().st_size} bytes\n")

"""HL7 v2: CPU time to parse an ORU with 10 OBX, beside PyPI ``hl7`` in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from digital_twins.hl7v2 import parse

Figure = tuple[str, float, str, float | None]
ROUNDS = 300


def oru() -> bytes:
    """An ORU^R01 of 765 bytes with 10 OBX, as in the reference measurement."""
    lines = [
        "MSH|^~\\&|LAB|HOSP|TWIN|HOSP|20260301120000||ORU^R01^ORU_R01|C1|P|2.5.1||||||UNICODE UTF-8",
        "PID|1||4711^^^HOSP^MR||Muster^Eva||19620314|F",
        "OBR|1|P77|F88|24323-8^Chemistry^LN|||20260301090000",
        *(f"OBX|{n}|NM|{2000 + n}-8^Analyte {n}^LN||{n}.5|mg/dL|1-8|N|||F" for n in range(1, 11)),
    ]
    text = "\r".join(lines) + "\r"
    return (text + "NTE|1||" + "x" * (765 - len(text) - 8) + "\r").encode()


def figures() -> Iterator[Figure]:
    data = oru()
    text = data.decode()
    peer = _peer(text)
    ours = _us(lambda: parse(data))
    yield "message", float(len(data)), "bytes", None
    yield "parse", ours, "cpu_us", None if peer is None else ours / peer
    whole = _us(lambda: [s.repetitions(n) for s in parse(data).lines for n in range(1, len(s.fields))])
    yield "parse_and_every_value", whole, "cpu_us", None if peer is None else whole / peer
    yield "write", _us(parse(data).to_bytes), "cpu_us", None
    if peer is not None:
        yield "peer_hl7_parse", peer, "cpu_us", None


def _peer(text: str) -> float | None:
    try:
        import hl7
    except ImportError:
        return None
    return _us(lambda: hl7.parse(text))


def _us(work: Callable[[], object]) -> float:
    """CPU microseconds of one call: the least of five runs."""
    best = float("inf")
    for _ in range(5):
        begin = time.process_time()
        for _ in range(ROUNDS):
            work()
        best = min(best, (time.process_time() - begin) / ROUNDS)
    return best * 1e6

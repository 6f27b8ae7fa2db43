"""C-STORE of a CT series into our node, durable and indexed, beside dcmtk with fsync and Orthanc."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import _dicomweb

TESTS = Path(__file__).parents[1] / "tests"
ROUNDS = 3
CALM_ROUNDS, PIECE = 6, 25


Figure = tuple[str, float, str, float | None]


def _slices(folder: Path, count: int) -> list[Path]:
    sys.path.insert(0, str(TESTS))
    import numpy

    from dicom_support import ct_slice, file_bytes

    rng = numpy.random.default_rng(0)
    folder.mkdir()
    paths = []
    for number in range(1, count + 1):
        ds = ct_slice(number, size=512)
        ds.PixelData = rng.integers(0, 4096, 512 * 512, dtype=numpy.uint16).tobytes()
        block = ds.private_block(0x0009, "BENCHMARK", create=True)
        block.add_new(1, "OB", bytes(2048))
        paths.append(folder / f"{number:05}.dcm")
        paths[-1].write_bytes(file_bytes(ds))
    return paths


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _send(port: int, folder: Path, associations: int) -> float:
    """Seconds from the start of the senders to their end; TCP_NODELAY, or dcmtk waits for delayed ACKs."""
    env = {**os.environ, "TCP_NODELAY": "1"}
    groups = [sorted(folder.iterdir())[n::associations] for n in range(associations)]
    start = time.perf_counter()
    senders = [
        subprocess.Popen(["storescu", "-xe", "127.0.0.1", str(port), *map(str, group)], env=env)
        for group in groups
    ]
    if any(sender.wait() for sender in senders):
        raise RuntimeError("storescu failed")
    return time.perf_counter() - start


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _node(data: Path) -> tuple[subprocess.Popen[str], int]:
    """A node in a process of its own, and its port; it has answered an echo."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])}
    script = TESTS / "protocol" / "dicom_kill_node.py"
    node = subprocess.Popen(
        [sys.executable, str(script), str(data)], stdout=subprocess.PIPE, text=True, env=env
    )
    assert node.stdout is not None
    port = int(node.stdout.readline())
    subprocess.run(["echoscu", "127.0.0.1", str(port)], check=True)
    return node, port


def _calm_cpu_s(work: Path, folder: Path) -> float:
    """CPU seconds of receiving the series from one sender, each 25 objects at their best of several rounds.

    A neighbour on the other thread of the host's core makes everything cost up to 1.9 times as much for
    seconds at a time, so that hardly any whole series is received without one.
    """
    rounds = [_cpu_of_pieces(work / f"calm{number}", folder) for number in range(CALM_ROUNDS)]
    return sum(map(min, zip(*rounds, strict=True)))


def _cpu_of_pieces(data: Path, folder: Path) -> list[float]:
    node, port = _node(data)
    tasks = Path(f"/proc/{node.pid}/task")

    def cpu_s() -> float:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    marks = [cpu_s()]
    command = ["stdbuf", "-oL", "storescu", "-v", "-xe", "127.0.0.1", str(port)]
    with subprocess.Popen(
        [*command, *map(str, sorted(folder.iterdir()))],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as sender:
        assert sender.stdout is not None
        answers = (line for line in sender.stdout if "Received Store Response (Success)" in line)
        for number, _ in enumerate(answers, 1):
            if number % PIECE == 0:
                marks.append(cpu_s())
    node.kill()
    node.wait()
    shutil.rmtree(data)
    return [after - before for before, after in pairwise(marks)]


def _ours(work: Path, folder: Path, associations: int) -> tuple[float, float, float]:
    """Wall and CPU seconds of receiving, CPU seconds of building the DICOM JSON."""
    data = work / f"node{associations}"
    node, port = _node(data)
    before = _cpu_s(node.pid)
    wall = _send(port, folder, associations)
    cpu = _cpu_s(node.pid) - before
    node.kill()
    node.wait()
    from dicom_support import open_store
    from digital_twins import dicom

    with open_store(data) as store:
        start = time.process_time()
        while dicom.build_pending(store):
            pass
        return wall, cpu, time.process_time() - start


def _dcmtk(work: Path, folder: Path, associations: int) -> float:
    """Wall seconds of storescp, then fsync of the files that it wrote."""
    target, port = work / f"dcmtk{associations}", _free_port()
    target.mkdir()
    env = {**os.environ, "TCP_NODELAY": "1"}
    server = subprocess.Popen(["storescp", "--fork", "-od", str(target), "+xa", str(port)], env=env)
    deadline = time.monotonic() + 10
    while subprocess.run(["echoscu", "127.0.0.1", str(port)], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError("storescp did not start")
        time.sleep(0.05)
    wall = _send(port, folder, associations)
    start = time.perf_counter()
    for path in target.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    server.terminate()
    server.wait()
    return wall + time.perf_counter() - start


def _orthanc(work: Path, folder: Path, associations: int) -> float:
    """Wall seconds of Orthanc with its defaults (SQLite index, no promise about the disk)."""
    from dicom_peers import orthanc

    with orthanc(work / f"orthanc{associations}", modalities={}) as (port, _root):
        return _send(port, folder, associations)


def _store_figures(work: Path, folder: Path, associations: int) -> Iterator[Figure]:
    """The best of three rounds, in each of which everybody takes a turn."""
    dcmtk_wall: list[float] = []
    orthanc_wall: list[float] = []
    wall: list[float] = []
    cpu: list[float] = []
    json_cpu: list[float] = []
    for number in range(ROUNDS):
        turn = work / f"{associations}-{number}"
        turn.mkdir()
        dcmtk_wall.append(_dcmtk(turn, folder, associations))
        ours = _ours(turn, folder, associations)
        orthanc_wall.append(_orthanc(turn, folder, associations))
        for figure, value in zip((wall, cpu, json_cpu), ours, strict=True):
            figure.append(value)
    label = f"c_store_{len(list(folder.iterdir()))}_{associations}_assoc"
    best = min(wall)
    yield f"{label}_wall_to_dcmtk", best, "s", best / min(dcmtk_wall)
    yield f"{label}_wall_to_orthanc", best, "s", best / min(orthanc_wall)
    yield f"{label}_cpu", min(cpu), "CPU-s", None
    yield f"json_after_{associations}_assoc_cpu", min(json_cpu), "CPU-s", None


def figures() -> Iterator[Figure]:
    """Yield (name, value, unit, ratio to the peer); TWIN_BENCH_COUNT sets the number of slices (500)."""
    for peer in ("storescp", "Orthanc"):
        if shutil.which(peer) is None:
            raise SystemExit(f"The peer {peer} is missing: run `make peers`.")
    count = int(os.environ.get("TWIN_BENCH_COUNT", "500"))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = work / "sent"
        _slices(folder, count)
        for associations in (1, 4):
            yield from _store_figures(work, folder, associations)
        yield f"c_store_{count}_calm_cpu", _calm_cpu_s(work, folder), "CPU-s", None
    yield from _dicomweb.figures()

"""DICOMweb of our node beside Orthanc's plugin: same data, same run, same clients."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy

TESTS = Path(__file__).parents[1] / "tests"
Figure = tuple[str, float, str, float | None]
BIG_STUDY = "1.2.3.8"
STUDIES, PER_STUDY, BIG = 100, 95, 500
ANY_OBJECT = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
ANY_FRAME = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
JSON = {"Accept": "application/dicom+json"}


def _objects(scale: float) -> Iterator[bytes]:
    from dicom_support import ct_slice, file_bytes

    rng = numpy.random.default_rng(0)
    for number in range(1, int(BIG * scale) + 1):
        ds = ct_slice(number, size=512, patient="BIG", study="8", series="8.1")
        ds.PixelData = rng.integers(0, 4096, 512 * 512, dtype=numpy.uint16).tobytes()
        yield file_bytes(ds)
    for study in range(int(STUDIES * scale)):
        for number in range(1, PER_STUDY + 1):
            ds = ct_slice(number, patient=f"P{study}", study=f"9.{study}", series=f"9.{study}.1")
            ds.PatientName = f"Name{study}^Given{study % 7}"
            ds.StudyDate = f"2024{1 + study % 12:02}{1 + study % 28:02}"
            yield file_bytes(ds)


@contextmanager
def node(folder: Path) -> Iterator[tuple[str, int]]:
    """Run our routes in a process of their own: base URL and process id."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, str(TESTS / "dicomweb_node.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/dicom-web", process.pid
        finally:
            process.terminate()


def _median(call: Callable[[], object], repeats: int = 15) -> float:
    if repeats > 1:
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _get(client: httpx.Client, url: str, headers: dict[str, str]) -> int:
    answer = client.get(url, headers=headers)
    answer.raise_for_status()
    return len(answer.content)


def _frame_urls(base: str, count: int) -> list[str]:
    series = f"{base}/studies/{BIG_STUDY}/series/{BIG_STUDY}.1/instances/{BIG_STUDY}.1"
    return [f"{series}.{number}/frames/1" for number in range(1, count + 1)]


def _frames_httpx(base: str, count: int) -> float:
    with httpx.Client(timeout=120) as client:
        start = time.perf_counter()
        for url in _frame_urls(base, count):
            _get(client, url, ANY_FRAME)
        return count / (time.perf_counter() - start)


def _frames_curl(base: str, count: int) -> float:
    command = ["curl", "-sf", "-H", f"Accept: {ANY_FRAME['Accept']}"]
    for url in _frame_urls(base, count):
        command += ["-o", "/dev/null", url]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return count / (time.perf_counter() - start)


def _study_mb_s(base: str) -> float:
    best = 0.0
    for _ in range(3):
        size, start = 0, time.perf_counter()
        url = f"{base}/studies/{BIG_STUDY}"
        with httpx.stream("GET", url, headers=ANY_OBJECT, timeout=300) as answer:
            for chunk in answer.iter_raw():
                size += len(chunk)
        best = max(best, size / 1e6 / (time.perf_counter() - start))
    return best


def _measure(base: str, frames: int) -> dict[str, float]:
    with httpx.Client(timeout=300) as client:
        return {
            "metadata": _median(lambda: _get(client, f"{base}/studies/{BIG_STUDY}/metadata", JSON), 3),
            "frames_httpx": _frames_httpx(base, frames),
            "frames_curl": _frames_curl(base, frames),
            "study": _study_mb_s(base),
        }


def _fill(work: Path, rest: str, scale: float) -> Path:
    from dicom_support import open_store
    from digital_twins import dicom

    folder = work / "web"
    with open_store(folder) as store, httpx.Client(timeout=120) as client:
        group: list[bytes] = []
        for file in _objects(scale):
            client.post(f"{rest}/instances", content=file).raise_for_status()
            group.append(file)
            if len(group) == 256:
                store.ingest_many(group)
                group = []
        store.ingest_many(group)
        while dicom.build_pending(store):
            pass
    return folder


def _million(work: Path, instances: int) -> Path:
    """An index of that many instances, 100 a study, without files."""
    from dicom_support import open_store

    folder = work / "million"
    studies = instances // 100
    with open_store(folder) as store:
        store.database.write(lambda cursor: _synthetic(cursor, studies))
    return folder


_SERIES = (
    "(WITH RECURSIVE s(value) AS"
    " (SELECT 1 UNION ALL SELECT value + 1 FROM s WHERE value < {}) SELECT * FROM s)"
)


def _synthetic(cursor: Any, studies: int) -> None:
    statements = (
        "INSERT INTO dicom_patient SELECT value, 'P' || value, '', '', 'Name' || value || '^Given',"
        " 'name' || value || '^given', '', '', '19600101', 'F' FROM generate_series(1, ?1)",
        "INSERT INTO dicom_study SELECT value, value, '1.2.9.' || value, 20240101 + value % 28, '101500',"
        " 'A' || value, 'S', 'chest', '', '', '', '', '2026-01-01T00:00:00' FROM generate_series(1, ?1)",
        "INSERT INTO dicom_series SELECT value, value, '1.2.9.' || value || '.1',"
        " iif(value % 3, 'CT', 'MR'), 1,"
        " 'chest', '', '', '', '', '', '', '', '', '', '', '', 100 FROM generate_series(1, ?1)",
        "INSERT INTO dicom_instance SELECT value, (value - 1) / 100 + 1,"
        " '1.2.9.' || ((value - 1) / 100 + 1) ||"
        " '.1.' || value, '1.2.840.10008.5.1.4.1.1.2', value % 100, '', '', '', '', 1, 64, 64, 16, 1,"
        " '1.2.840.10008.1.2.1', '0', 0, 9000, 500, 8192, 'bench', '2026-01-01T00:00:00'"
        " FROM generate_series(1, ?1 * 100)",
    )
    for statement in statements:
        text = statement
        for span in ("?1 * 100", "?1"):
            text = text.replace(f"generate_series(1, {span})", _SERIES.format(span))
        cursor.execute(text, (studies,))


QUERIES = {
    "studies": "studies?limit=25",
    "studies_name": "studies?PatientName=Name7*&limit=25",
    "studies_date": "studies?StudyDate=20240101-20240331&limit=25",
    "studies_modality": "studies?ModalitiesInStudy=CT&limit=25",
    "studies_fuzzy": "studies?PatientName=given+name7&fuzzymatching=true&limit=25",
    "studies_deep": "studies?limit=25&offset=60",
    "series": "series?limit=25",
    "series_modality": "series?Modality=CT&limit=25",
    "instances": "instances?limit=25",
    "instances_number": "instances?InstanceNumber=7&limit=25",
}
SLOW_PEER = frozenset({"instances", "instances_number"})
"""Orthanc takes minutes for these, so it is asked once."""
NO_PEER = frozenset({"studies_fuzzy"})
"""Orthanc ignores fuzzymatching and finds nothing, which is no measure."""


def _queries(base: str, *, once: frozenset[str] = frozenset()) -> dict[str, float]:
    with httpx.Client(timeout=600) as client:
        return {
            name: _median(lambda path=path: _get(client, f"{base}/{path}", JSON), 1 if name in once else 9)
            for name, path in QUERIES.items()
        }


def figures() -> Iterator[Figure]:
    """Yield the figures; TWIN_BENCH_SCALE (1) scales the data: 10,000 instances and an index of 1M."""
    sys.path.insert(0, str(TESTS))
    from orthanc_web import orthanc, orthanc_program

    if orthanc_program() is None or shutil.which("curl") is None:
        raise SystemExit("The peer Orthanc or curl is missing: run `make peers`.")
    import tempfile

    scale = float(os.environ.get("TWIN_BENCH_SCALE", "1"))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        frames = int(200 * scale)
        with orthanc(work / "orthanc") as peer:
            folder = _fill(work, peer.rest, scale)
            theirs = _measure(peer.dicom_web, frames)
            their_queries = _queries(peer.dicom_web, once=SLOW_PEER)
        with node(folder) as (base, _pid):
            ours = _measure(base, frames)
            small = _queries(base)
        yield "metadata_500", ours["metadata"] * 1e3, "ms", ours["metadata"] / theirs["metadata"]
        for client in ("httpx", "curl"):
            rate = f"frames_{client}"
            yield rate, ours[rate], "frames/s", ours[rate] / theirs[rate]
        yield "study", ours["study"], "MB/s", ours["study"] / theirs["study"]
        with node(_million(work, int(1_000_000 * scale))) as (base, _pid):
            large = _queries(base)
        for query in QUERIES:
            ratio = None if query in NO_PEER else small[query] / their_queries[query]
            yield f"qido_25_{query}_10k", small[query] * 1e3, "ms", ratio
            yield f"qido_25_{query}_1m", large[query] * 1e3, "ms", large[query] / small[query]

"""De-identification of 512x512 CT slices: files a CPU second, beside plain pydicom and dicognito."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from digital_twins.governance import DeidentificationKey, DicomDeidentifier

Figure = tuple[str, float, str, float | None]
FILES = 100


def figures() -> Iterator[Figure]:
    contents = [_slice(number) for number in range(FILES)]
    cleaner = DicomDeidentifier(DeidentificationKey(bytes(range(32))))
    _rate(contents[:3], cleaner.deidentify)
    plain, ours = 0.0, 0.0
    for _ in range(3):
        plain = max(plain, _rate(contents, lambda _: None))
        ours = max(ours, _rate(contents, cleaner.deidentify))
    yield "plain_pydicom", plain, "files/cpu_s", None
    yield "ours", ours, "files/cpu_s", ours / plain
    try:
        from dicognito.anonymizer import Anonymizer
    except ModuleNotFoundError:
        logging.getLogger(__name__).warning("dicognito is not installed: its figure is missing")
        return
    peer = _rate(contents, Anonymizer(seed="bench").anonymize)
    yield "dicognito", peer, "files/cpu_s", None
    yield "ours_to_dicognito", ours / peer, "x", None


def _slice(number: int) -> bytes:
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.Rows = dataset.Columns = 512
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.InstanceNumber = number
    dataset.PixelData = np.random.default_rng(number).integers(0, 4096, (512, 512), np.int16).tobytes()
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def _rate(contents: list[bytes], change: Callable[[FileDataset], object]) -> float:
    start = time.process_time()
    for content in contents:
        dataset = dcmread(io.BytesIO(content))
        change(dataset)
        dataset.save_as(io.BytesIO())
    return len(contents) / (time.process_time() - start)

"""The breast case of dicompyler-core (BSD-3-Clause, see data/rt/LICENSE), packed in this repository."""

from __future__ import annotations

import lzma
from functools import cache
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

FOLDER = Path(__file__).parent / "data" / "rt"


@cache
def packed(name: str) -> bytes:
    """Bytes of ``rtdose``, ``rtplan`` or ``rtss``."""
    return lzma.decompress((FOLDER / f"{name}.dcm.xz").read_bytes())


def dataset(name: str) -> Dataset:
    """A fresh data set to change."""
    return pydicom.dcmread(BytesIO(packed(name)))

"""Numerics records in WFDB format (one frame a minute or so) as readings of a device."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError, NotFoundError
from digital_twins.monitoring.signals import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CODES = {
    "HR": "HR",
    "PULSE": "PULSE",
    "RESP": "RR",
    "SpO2": "SPO2",
    "ABPSys": "ART_SYS",
    "ABPDias": "ART_DIA",
    "ABPMean": "ART_MEAN",
    "NBPSys": "NIBP_SYS",
    "NBPDias": "NIBP_DIA",
    "NBPMean": "NIBP_MEAN",
}
_INVALID = -32768
_GAIN = re.compile(r"([0-9.]+)(?:\(([-0-9]+)\))?")


def replay_numerics(header: Path, *, device: str, start_s: float) -> Iterator[Reading]:
    """Yield the frames of a numerics record, each at its own time.

    Parameters
    ----------
    header
        The ``.hea`` file; one file of format 16 (16-bit two's complement, WFDB ``signal(5)``) lies beside it.
    device
        Name that the readings carry.
    start_s
        Time of the first frame, seconds since 1970 UTC.

    Raises
    ------
    NotFoundError
        A file is missing.
    InputError
        The header cannot be read, or the format is another.
    """
    try:
        lines = [line.split() for line in header.read_text("ascii").splitlines() if line[:1] not in "#"]
        period_s = 1.0 / float(lines[0][2].partition("/")[0])
        signals = lines[1 : 1 + int(lines[0][1])]
        if {each[0] for each in signals} != {signals[0][0]} or {each[1] for each in signals} != {"16"}:
            raise ValueError("format")
        data = np.fromfile(header.parent / signals[0][0], dtype="<i2").reshape(-1, len(signals))
        gains = [_GAIN.match(each[2]) for each in signals]
        scale = [(float(each[1]), float(each[2] or 0)) for each in gains if each is not None]
    except OSError:
        raise NotFoundError("The record cannot be read.", "A file is missing.", "Check the path.") from None
    except (ValueError, IndexError, UnicodeDecodeError):
        raise InputError(
            "The record cannot be read.",
            "Its header is not that of a numerics record in format 16.",
            "Give a .hea file of bedside numerics.",
        ) from None
    names = [each[-1] for each in signals]
    for number, frame in enumerate(data.tolist()):
        values = {
            _CODES[name]: (raw - zero) / gain
            for name, raw, (gain, zero) in zip(names, frame, scale, strict=True)
            if name in _CODES and raw != _INVALID
        }
        yield Reading(device, start_s + number * period_s, values, sequence=number)

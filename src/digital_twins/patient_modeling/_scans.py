"""Follow-up scans: whose lesion, and on which day."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.imaging import load_mask
from digital_twins.patient_modeling._geometry import place_on_grid
from digital_twins.patient_modeling._visit_images import VisitImage, read_images
from digital_twins.units import DAYS_PER_WEEK, SECONDS_PER_DAY

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from digital_twins.imaging import Mask

_DAY_IN_NAME = re.compile(r"(?:^|[^a-z])(week|day)s?[ _\-]?(\d+(?:\.\d+)?)", re.IGNORECASE)
_SAME_MOMENT_DAYS = 0.05
_MAX_DAY = 36525.0


@dataclass(frozen=True, eq=False)
class Visit:
    """A segmented follow-up.

    Attributes
    ----------
    day
        Days since baseline.
    volume_cm3
        Volume of the mask on its own grid.
    mask
        The lesion on the model grid (voxels at least half covered).
    digest
        SHA-256 of the mask's content.
    day_from
        Where the day was read: ``"given"``, ``"acquisition time"`` or ``"file name"``.
    images
        Cellularity and uptake that were seen with it.
    """

    day: float
    volume_cm3: float
    mask: NDArray[np.bool_]
    digest: str
    day_from: str
    images: tuple[VisitImage, ...] = ()


def read_visit(scan: Any, *, frame: Mask, baseline: datetime | None) -> Visit:
    """Read one entry of ``longitudinal_scans``.

    Parameters
    ----------
    scan
        ``(day, source)`` or a source, which is whatever :func:`digital_twins.imaging.load_mask` takes, or a
        mapping of it as ``segmentation`` with ``adc`` and ``pet`` images beside it
        (:func:`digital_twins.patient_modeling._visit_images.read_images`). A bare source needs an acquisition
        time (DICOM) or ``week_N``/``day_N`` in its file name.
    frame
        Domain mask of the twin: its grid and frame of reference.
    baseline
        Wall-clock time of day 0, if known.

    Raises
    ------
    InputError
        When the day cannot be told or lies before baseline, when the scan is an image instead of labels, or
        when it belongs to another frame of reference or patient, or lies outside the model's grid.
    """
    day, source = _split(scan)
    beside = source if isinstance(source, Mapping) else {}
    if isinstance(source, Mapping):
        source = _segmentation(source)
    mask = load_mask(source)
    day_from = "given"
    if day is None and baseline is not None and mask.acquired is not None:
        day = (mask.acquired - baseline).total_seconds() / SECONDS_PER_DAY
        day_from = "acquisition time"
    if day is None and isinstance(source, str | Path):
        day, day_from = _day_in_name(Path(source).name), "file name"
    if day is None:
        raise InputError(
            "The day of a follow-up scan is not known.",
            "It was not given, the scan or the baseline has no acquisition time, and its file name holds "
            "no 'week_N' or 'day_N'.",
            "Pass (day, scan) with the days since baseline.",
        )
    if day < -_SAME_MOMENT_DAYS:
        raise InputError(
            "A follow-up scan lies before the baseline.",
            f"It is from {-day:.1f} days before the scan from which the twin was made.",
            "Make the twin from the earliest scan and calibrate it on the later ones.",
        )
    placed, inside = place_on_grid(mask, frame)
    if inside < 0.98:
        day_from += f"; {100.0 * (1.0 - inside):.0f} % of the lesion is outside the model's box"
    images = read_images(beside, frame, placed)
    return Visit(max(day, 0.0), mask.volume_cm3, placed, mask.digest(), day_from, images)


def _segmentation(source: Mapping[str, Any]) -> Any:
    if source.get("segmentation") is None:
        raise InputError(
            "A follow-up scan has no segmentation.",
            "Images are compared with the model inside and around the outlined lesion.",
            "Pass {'segmentation': ..., 'adc': ..., 'pet': ...}.",
        )
    return source["segmentation"]


def _split(scan: Any) -> tuple[float | None, Any]:
    pair = isinstance(scan, Sequence) and not isinstance(scan, str) and len(scan) == 2
    if not (pair and isinstance(scan[0], Real)):
        return None, scan
    day = float(scan[0])
    if not math.isfinite(day) or abs(day) > _MAX_DAY:
        raise InputError(
            "The day of a follow-up scan cannot be used.",
            f"It is {day:g}.",
            "Give the number of days since baseline.",
        )
    return day, scan[1]


def _day_in_name(name: str) -> float | None:
    found = {
        float(number) * (DAYS_PER_WEEK if unit.lower() == "week" else 1.0)
        for unit, number in _DAY_IN_NAME.findall(name)
    }
    if len(found) > 1:
        raise InputError(
            "The file name of a follow-up scan holds several days.",
            "More than one 'week_N' or 'day_N' is in it.",
            "Pass (day, scan) with the days since baseline.",
        )
    return found.pop() if found else None

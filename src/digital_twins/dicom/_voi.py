"""Stored pixel values to display values: modality LUT, window, polarity (PS3.3 section C.11)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_FUNCTIONS = ("linear", "linear-exact", "sigmoid")


@dataclass(frozen=True, slots=True)
class Window:
    """A value-of-interest window in the units of the modality (HU for CT).

    Attributes
    ----------
    function
        ``"linear"``, ``"linear-exact"`` or ``"sigmoid"`` (PS3.3 section C.11.2.1).
    """

    center: float
    width: float
    function: str = "linear"

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return display values from 0 to 255."""
        x = np.asarray(values, dtype=np.float64)
        if self.function == "sigmoid":
            return np.asarray(255.0 / (1.0 + np.exp(-4.0 * (x - self.center) / self.width)))
        center, width = (
            (self.center - 0.5, self.width - 1.0) if self.function == "linear" else (self.center, self.width)
        )
        if width <= 0:  # a linear window of width 1 is a threshold
            return np.where(x > center, 255.0, 0.0)
        return np.clip(((x - center) / width + 0.5) * 255.0, 0.0, 255.0)


def parse_window(text: str) -> Window:
    """Read the query parameter ``window=center,width,function``; raises InputError."""
    parts = text.split(",")
    function = parts[2].strip().lower() if len(parts) == 3 else "linear"
    number = re.compile(r"[+-]?\d{1,12}(\.\d{1,12})?([eE][+-]?\d{1,2})?")
    if (
        len(parts) in {2, 3}
        and function in _FUNCTIONS
        and all(number.fullmatch(p.strip()) for p in parts[:2])
    ):
        window = Window(float(parts[0]), float(parts[1]), function)
        if window.width >= (1 if function == "linear" else 1e-9):
            return window
    raise InputError(
        "The window cannot be used.",
        "It is written center,width,function with a positive width.",
        "Ask for e.g. window=40,400,linear; functions are linear, linear-exact and sigmoid.",
    )


def grey(dataset: Dataset, values: NDArray[Any], index: int, window: Window | None) -> NDArray[np.uint8]:
    """Return 8-bit grey levels of one monochrome frame.

    Parameters
    ----------
    values
        Stored values ``[row, column]``.
    index
        Number of the frame from 0, for its functional groups.
    window
        Used instead of what the object says; without either, the values' whole range is shown.
    """
    from pydicom.pixels.processing import apply_modality_lut

    group = _groups(dataset, index)
    transform = group("PixelValueTransformationSequence")
    if transform is not None:
        slope, intercept = transform.get("RescaleSlope", 1), transform.get("RescaleIntercept", 0)
        modality = values * float(slope or 1) + float(intercept or 0)
    else:
        modality = apply_modality_lut(values, dataset)
    shown = window or _window(group("FrameVOILUTSequence") or dataset)
    if shown is not None:
        display = shown.apply(modality)
    elif window is None and dataset.get("VOILUTSequence"):
        display = _by_lut(dataset, modality)
    else:
        display = _whole_range(dataset, values, modality)
    inverse = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    return np.asarray(np.rint(255.0 - display if inverse else display), dtype=np.uint8)


def _groups(dataset: Dataset, index: int) -> Any:
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    sources = [frames[index]] if index < len(frames) else []
    sources += list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]

    def group(name: str) -> Dataset | None:
        found = next((s.get(name) for s in sources if s.get(name)), None)
        return found[0] if found else None

    return group


def _window(dataset: Dataset) -> Window | None:
    centers, widths = _numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth")
    name = str(dataset.get("VOILUTFunction") or "LINEAR").lower().replace("_", "-")
    function = name if name in _FUNCTIONS else "linear"
    if not centers or not widths or widths[0] < (1 if function == "linear" else 1e-9):
        return None
    return Window(centers[0], widths[0], function)


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return [float(v) for v in (value if hasattr(value, "__iter__") else [value])]


def _by_lut(dataset: Dataset, modality: NDArray[Any]) -> NDArray[np.float64]:
    from pydicom.pixels.processing import apply_voi

    shown = np.asarray(apply_voi(modality.astype(np.int64), dataset), dtype=np.float64)
    bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
    return np.asarray(np.clip(shown * (255.0 / (2**bits - 1)), 0.0, 255.0))


def _whole_range(dataset: Dataset, values: NDArray[Any], modality: NDArray[Any]) -> NDArray[np.float64]:
    x = np.asarray(modality, dtype=np.float64)
    shown = np.isfinite(x)
    padding = dataset.get("PixelPaddingValue")
    if padding is not None:
        shown &= values != padding
    low, high = (float(x[shown].min()), float(x[shown].max())) if shown.any() else (0.0, 1.0)
    scaled = (np.nan_to_num(x, nan=low, posinf=high, neginf=low) - low) * (255.0 / ((high - low) or 1.0))
    return np.asarray(np.clip(scaled, 0.0, 255.0))

"""The brain sample as four MR sequences in DICOM: its real image, contrast simulated in its outline."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import highdicom
import numpy as np
from scipy import ndimage

from digital_twins.samples import SamplePatient, sample_patient

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

FILES = {"t1": "T1_pre.dcm", "t1ce": "T1CE_pre.dcm", "t2": "T2_pre.dcm", "flair": "FLAIR_pre.dcm"}


@cache
def brain() -> SamplePatient:
    """The brain sample, read once."""
    return sample_patient("brain")


def sequences(*, core: bool = False, gain: float = 1.2) -> dict[str, NDArray[Any]]:
    """Voxels of T1 (the sample's real image), T1 with simulated contrast, and rescaled T2 and FLAIR.

    Contrast is added inside the real outline (in a rim of it with ``core``); ``gain`` is the receiver gain of
    the second T1; noise of 1 % of the bright end is added to all.
    """
    image = brain().image.array.astype(np.float32)
    lesion = brain().lesion.array
    if core:
        lesion = lesion & ~ndimage.binary_erosion(lesion, iterations=4, structure=_in_plane())
    top = float(np.percentile(image, 99))
    rng = np.random.default_rng(3)
    noisy = {name: image + 0.01 * top * rng.standard_normal(image.shape) for name in FILES}
    noisy["t1ce"] = gain * (noisy["t1ce"] + 0.5 * top * lesion)
    noisy["t2"] = top - 0.7 * noisy["t2"]
    return {name: np.clip(array, 0, None).astype(np.uint16) for name, array in noisy.items()}


def _in_plane() -> NDArray[np.bool_]:
    structure = np.zeros((3, 3, 3), dtype=bool)
    structure[1, 1, :] = structure[1, :, 1] = True
    return structure


def single_frames(voxels: NDArray[Any], number: int) -> list[Dataset]:
    """One MR Image Storage object a slice, in the sample's study."""
    series = []
    uid = highdicom.UID()
    for k, dataset in enumerate(brain().baseline_images()):
        made = deepcopy(dataset)
        made.PixelData = voxels[k].astype("<u2").tobytes()
        made.SeriesInstanceUID, made.SeriesNumber = uid, number
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = highdicom.UID()
        series.append(made)
    return series


def enhanced(series: list[Dataset]) -> Dataset:
    """The same as one multi-frame object (Legacy Converted Enhanced MR Image Storage)."""
    number = int(series[0].SeriesNumber) + 50
    return highdicom.legacy.LegacyConvertedEnhancedMRImage(
        series, highdicom.UID(), number, highdicom.UID(), 1
    )


@dataclass(frozen=True)
class Written:
    """Where the sequences of one visit lie."""

    paths: dict[str, Path]

    @property
    def arguments(self) -> dict[str, Path]:
        """Keyword arguments of ``PatientData.from_dicom``."""
        return {f"{name}_path": path for name, path in self.paths.items()}


def write_multi_frame(folder: Path, *, segmentations: bool = True, **options: Any) -> Written:
    """Write each sequence as one enhanced file, and the outlines of all visits as SEG files beside them."""
    paths = {}
    for number, (name, voxels) in enumerate(sequences(**options).items(), start=1):
        paths[name] = folder / FILES[name]
        enhanced(single_frames(voxels, number)).save_as(paths[name], enforce_file_format=True)
    if segmentations:
        for visit, seg in zip(brain().visits, segs(), strict=True):
            seg.save_as(folder / f"SEG_day_{visit.day:g}.dcm", enforce_file_format=True)
    return Written(paths)


def segs() -> list[Dataset]:
    """The outlines of the sample's four visits."""
    return [brain().baseline_seg(), *brain().follow_up_segs()]

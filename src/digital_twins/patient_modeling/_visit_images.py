"""What a visit can carry beside its outline: cellularity from diffusion MR, and uptake from PET."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from digital_twins._errors import InputError
from digital_twins.imaging import load_volume, resample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from digital_twins.imaging import Mask, Volume

FloatArray = NDArray[np.float64]

FREE_WATER_MM2_PER_S = 3.0e-3
"""Apparent diffusion coefficient of free water at body temperature (Holz et al. 2000, doi:10.1039/b005319h,
2.3e-3 at 25 and 3.0e-3 at 37 degrees C [verify])."""
TYPICAL_FWHM_MM = 6.0
"""Width of a clinical PET image's point spread, an assumption where the scanner's own is not given."""
_ADC_UNITS = (1.0, 1.0e-3, 1.0e-6)
_ADC_RANGE = (2.0e-4, 4.5e-3)
_FLUID = 0.8
_LEAST_VIABLE = 0.05
_KNOWN = frozenset({"segmentation", "adc", "pet", "pet_fwhm_mm", "pet_background_suv"})


@dataclass(frozen=True, eq=False)
class VisitImage:
    """An image of a visit, turned into what the model can be compared with.

    Attributes
    ----------
    kind
        ``"cellularity"``: part of the carrying capacity, 0..1; ``"uptake"``: SUV above background,
        proportional to the density but for the scanner's blur.
    values
        [slice, row, column] on the model grid, float32; NaN where it cannot be compared.
    digest
        SHA-256 of the image.
    fwhm_mm
        Width of the blur, 0 for none.
    """

    kind: str
    values: NDArray[np.float32]
    digest: str
    fwhm_mm: float = 0.0


def cellularity_from_adc(
    adc_mm2_per_s: ArrayLike,
    *,
    water_mm2_per_s: float = FREE_WATER_MM2_PER_S,
    densest_mm2_per_s: float = 0.0,
) -> FloatArray:
    """Tumour cell density, as a part of the carrying capacity, from apparent diffusion coefficients.

    ``N = (ADC_w - ADC) / (ADC_w - ADC_d)``: water between cells diffuses freely, in packed cells slowly.
    ``ADC_d`` = 0 is the form of the published models of glioma (arXiv:2505.00670); with the lowest ADC of
    the tumour it is that of Hormuth et al. 2015, doi:10.1088/1478-3975/12/4/046006 [verify]. Valid inside
    solid tumour: normal tissue restricts water as well, fluid and necrosis have N near 0, and oedema,
    haemorrhage and T2 shine-through are not told apart.

    Parameters
    ----------
    adc_mm2_per_s
        ADC in mm2/s, any shape; not positive or not finite gives NaN, above free water gives 0.
    water_mm2_per_s
        ADC of free water.
    densest_mm2_per_s
        ADC at the carrying capacity, below water's; lower values give 1.

    Raises
    ------
    InputError
        When the two reference values contradict each other.
    """
    if not 0.0 <= densest_mm2_per_s < water_mm2_per_s < math.inf:
        raise InputError(
            "The reference values of the diffusion coefficient contradict each other.",
            f"Densest {densest_mm2_per_s:g}, free water {water_mm2_per_s:g} mm2/s.",
            "Give 0 <= densest < water, in mm2/s.",
        )
    adc = np.asarray(adc_mm2_per_s, dtype=np.float64)
    share = np.clip((water_mm2_per_s - adc) / (water_mm2_per_s - densest_mm2_per_s), 0.0, 1.0)
    return np.where(np.isfinite(adc) & (adc > 0.0), share, np.nan)


def read_images(source: Mapping[str, Any], frame: Mask, lesion: NDArray[np.bool_]) -> tuple[VisitImage, ...]:
    """Read the images beside a segmentation onto the model grid.

    Parameters
    ----------
    source
        ``adc``: a map in mm2/s, 1e-3 or 1e-6 mm2/s (told by its values in the lesion); ``pet``: SUV, with
        optional ``pet_fwhm_mm`` and ``pet_background_suv``; each image as for
        :func:`digital_twins.imaging.load_volume`.
    frame
        Domain mask of the twin.
    lesion
        The visit's outline on the model grid.

    Raises
    ------
    InputError
        For an unknown key, an image without usable values, or one that shows no viable tumour.
    """
    unknown = sorted(set(source) - _KNOWN)
    if unknown:
        raise InputError(
            f"A visit carries something unknown: {', '.join(unknown)}.",
            f"Known are {', '.join(sorted(_KNOWN))}.",
            "Correct the name, or leave it out.",
        )
    images = []
    if source.get("adc") is not None:
        images.append(_cellularity(load_volume(source["adc"]), frame, lesion))
    if source.get("pet") is not None:
        images.append(_uptake(load_volume(source["pet"]), source, frame, lesion))
    return tuple(images)


def _cellularity(adc: Volume, frame: Mask, lesion: NDArray[np.bool_]) -> VisitImage:
    values = _on_grid(adc, frame)
    seen = values[lesion & np.isfinite(values) & (values > 0.0)]
    middle = float(np.median(seen)) if seen.size else math.nan
    unit = next((u for u in _ADC_UNITS if _ADC_RANGE[0] <= middle * u <= _ADC_RANGE[1]), None)
    if unit is None:
        raise InputError(
            "The map of apparent diffusion coefficients cannot be used.",
            f"Its median in the lesion is {middle:g}, which no unit explains.",
            "Give an ADC map in mm2/s, 1e-3 mm2/s or 1e-6 mm2/s that covers the lesion.",
        )
    cells = cellularity_from_adc(values * unit)
    cells[values * unit > _FLUID * FREE_WATER_MM2_PER_S] = np.nan
    solid = np.isfinite(cells[lesion])
    if np.count_nonzero(solid) < _LEAST_VIABLE * solid.size:
        raise InputError(
            "The lesion shows no viable tumour.",
            f"Diffusion is that of fluid or necrosis in {100.0 * (1.0 - solid.mean()):.0f} % of it.",
            "Calibrate on the outline alone, or outline the solid part.",
        )
    cells[~lesion] = np.nan
    return VisitImage("cellularity", cells.astype(np.float32), adc.digest())


def _uptake(pet: Volume, source: Mapping[str, Any], frame: Mask, lesion: NDArray[np.bool_]) -> VisitImage:
    fwhm = float(source.get("pet_fwhm_mm", TYPICAL_FWHM_MM))
    if not 0.0 < fwhm <= 30.0:
        raise InputError(
            "The blur of the PET image cannot be used.",
            f"Its full width at half maximum is {fwhm:g} mm.",
            "Give the scanner's, in mm.",
        )
    values = _on_grid(pet, frame)
    away = ndimage.distance_transform_edt(~lesion, sampling=frame.spacing_mm)
    background = source.get("pet_background_suv")
    if background is None:
        around = values[(away > 2.0 * fwhm) & frame.array & np.isfinite(values)]
        background = float(np.median(around)) if around.size >= 50 else 0.0
    above = np.where((away <= fwhm) & frame.array, values - float(background), np.nan)
    if not np.nanmean(np.where(lesion, above, np.nan)) > 0.0:
        raise InputError(
            "The PET image shows no uptake in the lesion.",
            "Its mean there is not above the background.",
            "Check the registration, or calibrate without it.",
        )
    return VisitImage("uptake", above.astype(np.float32), pet.digest(), fwhm)


def _on_grid(image: Volume, frame: Mask) -> FloatArray:
    """Linear interpolation onto the model grid, NaN beyond the image."""
    real = replace(image, array=np.asarray(image.array, dtype=np.float32))
    return np.asarray(resample(real, frame, outside=math.nan).array, dtype=np.float64)

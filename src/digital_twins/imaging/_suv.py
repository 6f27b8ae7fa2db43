"""PET in standardised uptake values by body weight (QIBA FDG-PET/CT profile)."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign
from digital_twins.imaging._dicom_files import required
from digital_twins.imaging._series import volume_from_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    from digital_twins.imaging._volume import Volume

_GE, _GE_CREATOR = 0x0009, "GEMS_PETD_01"
_PHILIPS, _PHILIPS_CREATOR = 0x7053, "Philips PET Private Group"
_TOLERANCE = 1e-3
"""Times are written in whole seconds; ten of them are a thousandth of the half-life of fluorine-18."""
_LONGEST_UPTAKE = timedelta(hours=24)


def suv_from_series(datasets: Sequence[Dataset]) -> Volume:
    """Return a PET series as SUVbw in g/mL (float32).

    ``SUVbw = concentration / (injected dose decayed to the scan / body weight)``, after the vendor-neutral
    calculation of the QIBA FDG-PET/CT profile (https://qibawiki.rsna.org, "Standardized Uptake Value").

    Raises
    ------
    InputError
        Not PET; not corrected for decay and attenuation; or weight, dose, half-life or times are missing.
    """
    volume = volume_from_series(datasets)
    with foreign("PET series"):
        earliest = min(datasets, key=lambda d: (str(d.get("AcquisitionDate")), str(d.get("AcquisitionTime"))))
        factors = {suv_factor(dataset, series=[earliest]) for dataset in datasets}
    if max(factors) > min(factors) * (1 + _TOLERANCE):
        raise InputError(
            what="The PET series has several SUV factors.",
            why="Weight, dose or reference times differ among its images.",
            fix="Export the series again; merged bed positions must share one reference time.",
        )
    return volume.with_array(np.asarray(volume.array, dtype=np.float32) * np.float32(max(factors)))


def suv_factor(dataset: Dataset, *, series: Sequence[Dataset] = ()) -> float:
    """Return the number that turns the rescaled values of a PET image into SUVbw (g/mL).

    Parameters
    ----------
    series
        All images of the series; the earliest acquisition time among them counts.

    Raises
    ------
    InputError
        As `suv_from_series`.
    """
    if str(dataset.get("Modality")) != "PT":
        raise _bad("Its Modality is not PT.", "Pass a PET series.")
    corrections = set(dataset.get("CorrectedImage") or ())
    if not {"ATTN", "DECY"} <= corrections:
        raise _bad("CorrectedImage does not name ATTN and DECY.", "Reconstruct with both corrections.")
    units = str(dataset.get("Units") or "")
    if units == "GML":
        kind = str(dataset.get("SUVType") or "BW")
        if kind != "BW":
            raise _bad(f"It holds SUV of type {kind}, not by body weight.", "Export it in BQML.")
        return 1.0
    scale = 1.0
    if units == "CNTS":
        ready, scale = _philips(dataset)
        if ready:
            return ready
    elif units != "BQML":
        raise _bad("Its Units are none of BQML, CNTS and GML.", "Export it in BQML.")
    weight_kg = float(dataset.get("PatientWeight") or 0)
    if not 0 < weight_kg < 1000:
        raise _bad("PatientWeight is missing or absurd.", "Enter the weight at the scanner.")
    return scale * weight_kg * 1000 / _decayed_dose_bq(dataset, series or [dataset])


def _decayed_dose_bq(dataset: Dataset, series: Sequence[Dataset]) -> float:
    """Injected activity, decayed to the time to which the image is decay corrected."""
    drug: Any = required(dataset, "RadiopharmaceuticalInformationSequence")[0]
    dose_bq, half_life_s = (
        float(drug.get("RadionuclideTotalDose") or 0),
        float(drug.get("RadionuclideHalfLife") or 0),
    )
    if dose_bq <= 0 or half_life_s <= 0:
        raise _bad(
            "RadionuclideTotalDose or RadionuclideHalfLife is missing.", "Enter the dose at the scanner."
        )
    correction = str(dataset.get("DecayCorrection") or "")
    if correction == "ADMIN":
        return dose_bq
    if correction != "START":
        raise _bad("DecayCorrection is neither START nor ADMIN.", "Reconstruct with decay correction.")
    scan = _scan_start(dataset, series)
    elapsed = scan - _injection(drug, scan)
    if not timedelta(0) <= elapsed <= _LONGEST_UPTAKE:
        raise _bad(
            "The injection is not within the day before the scan.", "Correct the times of the injection."
        )
    return float(dose_bq * 2.0 ** (-elapsed.total_seconds() / half_life_s))


def _scan_start(dataset: Dataset, series: Sequence[Dataset]) -> datetime:
    """Series time, unless it lies after an acquisition: then the series was made anew from an older one."""
    start = _moment(dataset, "SeriesDate", "SeriesTime")
    acquired = min(_moment(image, "AcquisitionDate", "AcquisitionTime") for image in series)
    return start if start <= acquired else _reference(dataset)


def _reference(dataset: Dataset) -> datetime:
    """The time to which the image is decay corrected: as GE tells it, or from the acquisition.

    Frame Reference Time is the moment, counted from the reference, at which the mean activity of the frame
    was reached: QIBA's way for series whose own time was overwritten.
    """
    with contextlib.suppress(KeyError):
        told = str(dataset.private_block(_GE, _GE_CREATOR)[0x0D].value)
        return _parse(told[:8], told[8:])
    half_life_s = float(dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideHalfLife)
    frame_s = float(required(dataset, "ActualFrameDuration")) / 1000
    reference_s = float(required(dataset, "FrameReferenceTime")) / 1000
    rate = np.log(2) / half_life_s
    # Mean activity of a decaying source over the frame is reached this long after the frame's start.
    average_s = float(np.log(rate * frame_s / -np.expm1(-rate * frame_s)) / rate)
    acquired = _moment(dataset, "AcquisitionDate", "AcquisitionTime")
    return acquired + timedelta(seconds=average_s - reference_s)


def _injection(drug: Any, scan: datetime) -> datetime:
    whole = str(drug.get("RadiopharmaceuticalStartDateTime") or "")
    if whole:
        return _parse(whole[:8], whole[8:].split("+", maxsplit=1)[0].split("-", maxsplit=1)[0])
    time = str(drug.get("RadiopharmaceuticalStartTime") or "")
    if not time:
        raise _bad("The time of the injection is missing.", "Enter it at the scanner.")
    moment = _parse(scan.strftime("%Y%m%d"), time)
    return moment if moment <= scan else moment - timedelta(days=1)


def _moment(dataset: Dataset, day: str, time: str) -> datetime:
    return _parse(str(required(dataset, day)), str(required(dataset, time)))


def _parse(day: str, time: str) -> datetime:
    whole, _dot, fraction = time.partition(".")
    try:
        moment = datetime.strptime(day + whole.ljust(6, "0"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        return moment + timedelta(seconds=float(f"0.{fraction or 0}"))
    except ValueError:
        raise _bad("A date or time cannot be read.", "Export the series again.") from None


def _philips(dataset: Dataset) -> tuple[float, float]:
    """Philips' private factors: straight to SUV, and to Bq/mL; raises InputError when there is neither."""
    try:
        block = dataset.private_block(_PHILIPS, _PHILIPS_CREATOR)
    except KeyError:
        raise _bad("Its Units are CNTS, and it has no factor of Philips.", "Export it in BQML.") from None
    ready = float(block[0x00].value) if 0x00 in block else 0.0
    scale = float(block[0x09].value) if 0x09 in block else 0.0
    if ready <= 0 and scale <= 0:
        raise _bad("Its Units are CNTS, and the factors of Philips are empty.", "Export it in BQML.")
    return max(ready, 0.0), scale


def _bad(why: str, fix: str) -> InputError:
    return InputError(what="The PET series cannot be shown as SUV.", why=why, fix=fix)

"""Twins and predictions as pandas and xarray objects, whose libraries load only here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins import __version__
from digital_twins._errors import MissingExtraError

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd
    import xarray as xr

    from digital_twins.imaging import Volume
    from digital_twins.patient_modeling._predict import Prediction
    from digital_twins.patient_modeling._twin import PatientTwin

_GRID = ("slice", "row", "column")


def twin_frame(twin: PatientTwin) -> pd.DataFrame:
    """One row for each parameter of each version."""
    rows = [
        {
            "version": snapshot.version,
            "created_utc": snapshot.created_utc,
            "origin_day": snapshot.origin_day,
            "parameter": name,
            "value": estimate.value,
            "standard_deviation": estimate.standard_deviation,
            "low": estimate.low,
            "high": estimate.high,
            "unit": estimate.unit,
            "fixed": estimate.fixed,
            "source": estimate.source,
        }
        for snapshot in twin.history
        for name, estimate in snapshot.belief.estimates().items()
    ]
    frame: pd.DataFrame = _library("pandas", "dataframe").DataFrame(rows)
    return frame


def prediction_frame(prediction: Prediction, *, samples: bool = False) -> pd.DataFrame:
    """One row for each day, or for each day of each member of the ensemble."""
    columns: dict[str, Any]
    if samples:
        count, days = prediction.samples_cm3.shape
        columns = {
            "sample": np.repeat(np.arange(count), days),
            "day": np.tile(prediction.days, count),
            "volume_cm3": prediction.samples_cm3.ravel(),
        }
    else:
        columns = {
            "day": prediction.days,
            "volume_cm3": prediction.volume_cm3,
            "low_cm3": prediction.low_cm3,
            "high_cm3": prediction.high_cm3,
            "interval": prediction.interval,
            "predicted": prediction.days > prediction.origin_day,
        }
    frame: pd.DataFrame = _library("pandas", "dataframe").DataFrame(columns)
    return frame


def prediction_dataset(prediction: Prediction) -> xr.Dataset:
    """Volumes, probability and mean density over time and place, with the names of the CF conventions."""
    variables = {
        "tumour_volume": (("time",), prediction.volume_cm3, _about("median tumour volume", "cm3")),
        "tumour_volume_bounds": (
            ("time", "bound"),
            np.stack([prediction.low_cm3, prediction.high_cm3], axis=1),
            _about(f"central {100 * prediction.interval:g} % interval of the tumour volume", "cm3"),
        ),
        "tumour_volume_sample": (
            ("sample", "time"),
            prediction.samples_cm3,
            _about("tumour volume of each member of the ensemble", "cm3"),
        ),
        "tumour_probability": (
            ("time", *_GRID),
            prediction.probability,
            _about("share of the ensemble with visible tumour", "1"),
        ),
        "tumour_density": (
            ("time", *_GRID),
            prediction.mean_density,
            _about("mean tumour cell density as a part of the carrying capacity", "1"),
        ),
    }
    variables["tumour_volume"][2]["ancillary_variables"] = "tumour_volume_bounds"
    time = ("time", prediction.days, {**_about("days since baseline", "d"), "axis": "T"})
    coordinates = {"time": time, **_places(prediction.domain)}
    attributes = {
        **_attributes("Forecast of a tumour twin"),
        "twin_id": prediction.twin_id,
        "twin_version": prediction.model_version,
        "origin_day": prediction.origin_day,
        "input_hash": prediction.input_hash,
        "treatments": "; ".join(t.label for t in prediction.treatments),
    }
    dataset: xr.Dataset = _library("xarray", "xarray").Dataset(variables, coordinates, attributes)
    return dataset


def twin_dataset(twin: PatientTwin) -> xr.Dataset:
    """Domain, baseline lesion and current density on the model grid, and the follow-up volumes."""
    visits = twin.visits
    variables = {
        "domain": (_GRID, twin.domain.array, _about("where tumour cells can live", "1")),
        "lesion": (_GRID, twin.lesion.array, _about("lesion at baseline", "1")),
        "tumour_density": (
            _GRID,
            twin.density.array,
            _about(f"tumour cell density on day {twin.origin_day:g}, part of the carrying capacity", "1"),
        ),
        "segmented_volume": (
            ("visit",),
            np.array([visit.volume_cm3 for visit in visits]),
            _about("segmented volume of each follow-up scan", "cm3"),
        ),
    }
    day = ("visit", np.array([visit.day for visit in visits]), _about("days since baseline", "d"))
    attributes = {
        **_attributes("Tumour twin"),
        "twin_id": twin.twin_id,
        "twin_version": twin.version,
        "baseline": _iso(twin.baseline),
        "content_digest": twin.content_digest,
    }
    dataset: xr.Dataset = _library("xarray", "xarray").Dataset(
        variables, {"visit_day": day, **_places(twin.domain)}, attributes
    )
    return dataset


def _library(package: str, extra: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtraError(package, extra) from None


def _places(grid: Volume) -> dict[str, Any]:
    """Distance along each axis of the grid, and the affine that maps indices to the patient."""
    places: dict[str, Any] = {
        name: (
            (name,),
            np.arange(size) * step,
            _about(f"distance along the {name} axis from the centre of the first voxel", "mm"),
        )
        for name, size, step in zip(_GRID, grid.shape, grid.spacing_mm, strict=True)
    }
    places["affine"] = (
        ("patient_axis", "index_axis"),
        grid.affine,
        _about("(slice, row, column, 1) to patient LPS millimetres (DICOM PS3.3 C.7.6.2)", "mm"),
    )
    return places


def _about(long_name: str, units: str) -> dict[str, Any]:
    return {"long_name": long_name, "units": units}


def _attributes(title: str) -> dict[str, Any]:
    return {
        "Conventions": "CF-1.11",
        "title": title,
        "source": f"digital-twins {__version__}",
        "comment": "Research use. Names and units follow CF; the grid is the patient's, not the Earth's.",
    }


def _iso(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat()

"""Parametric maps (PS3.3 section A.75): volumes of a measured or modelled quantity with its coded unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins import __version__
from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign, refuse_not_finite
from digital_twins.imaging._files import to_highdicom
from digital_twins.imaging._planes import planes_of
from digital_twins.imaging._seg import seg_grid
from digital_twins.imaging._seg_write import SegDetails, derive_dimension_uid, images_in_order, set_times
from digital_twins.imaging._series import acquired_utc, decode
from digital_twins.imaging._volume import Volume
from digital_twins.records import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_CLASS = "1.2.840.10008.5.1.4.1.1.30"


def volume_from_parametric_map(dataset: Dataset) -> tuple[Volume, Code]:
    """Return the real-world values (float32) of a parametric map, and their unit.

    Parameters
    ----------
    dataset
        A Parametric Map of one quantity: integers, floats or doubles with a linear real-world value mapping
        or a look-up table (PS3.3 section C.7.6.16.2.11).

    Raises
    ------
    InputError
        Not a parametric map, without a mapping, of several quantities, or frames that make no regular grid.
    """
    with foreign("parametric map"):
        if str(dataset.get("SOPClassUID")) != _CLASS:
            raise InputError(
                what="The object is not a parametric map.",
                why="Its SOP Class is another one.",
                fix="Pass a Parametric Map; use load_volume for images.",
            )
        planes = planes_of(dataset)
        affine, slices = seg_grid(planes)
        frames = decode(dataset)
        if len(np.unique(slices)) != len(planes) or int(slices.max()) + 1 != len(planes):
            raise InputError(
                what="The parametric map is no single volume.",
                why="Slices are missing, or several frames (quantities, time points) share a place.",
                fix="Export one quantity at one time as an object of its own.",
            )
        array = np.empty((len(planes), int(dataset.Rows), int(dataset.Columns)), dtype=np.float32)
        units = []
        for number, frame in enumerate(frames):
            mapping = _mapping(dataset, number)
            array[slices[number]] = _real_world(frame, mapping)
            unit = mapping.MeasurementUnitsCodeSequence[0]
            units.append(Code(str(unit.CodeValue), str(unit.CodingSchemeDesignator), str(unit.CodeMeaning)))
        if len(set(units)) > 1:
            raise InputError(
                what="The parametric map mixes units.",
                why="Its frames are measured in different units.",
                fix="Export one quantity as an object of its own.",
            )
        refuse_not_finite(array)
        volume = Volume(
            array,
            affine,
            frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID") or "") or None,
            modality=str(dataset.get("Modality") or "") or None,
            acquired=acquired_utc(dataset),
            source_uids=(str(dataset.SOPInstanceUID),),
            patient_id=str(dataset.get("PatientID") or "") or None,
        )
        return volume, units[0]


def _mapping(dataset: Dataset, frame: int) -> Any:
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    for source in (*groups[frame : frame + 1], *shared):
        found = source.get("RealWorldValueMappingSequence")
        if found:
            return found[0]
    raise InputError(
        what="The parametric map does not say what its values mean.",
        why="A frame has no RealWorldValueMappingSequence.",
        fix="Export it again with a real-world value mapping.",
    )


def _real_world(frame: NDArray[Any], mapping: Any) -> NDArray[Any]:
    table = mapping.get("RealWorldValueLUTData")
    if table is not None:
        first = int(mapping.RealWorldValueFirstValueMapped)
        index = np.clip(frame.astype(np.int64) - first, 0, len(table) - 1)
        return np.asarray(np.asarray(table, dtype=np.float64)[index])
    slope, intercept = float(mapping.RealWorldValueSlope), float(mapping.RealWorldValueIntercept)
    return np.asarray(frame.astype(np.float64) * slope + intercept)


def parametric_map(
    volume: Volume,
    source_images: Sequence[Dataset],
    *,
    quantity: Code,
    unit: Code,
    series_description: str,
    series_number: int,
    details: SegDetails | None = None,
) -> Dataset:
    """Return a parametric map (32-bit floats) in the study of the images.

    Parameters
    ----------
    volume
        Finite values on the grid of the images, or on another one of the same frame of reference.
    source_images
        Data sets of the one series that the map was made from.
    quantity
        What the values are, e.g. ``Code("113041", "DCM", "Apparent Diffusion Coefficient")``.
    unit
        UCUM code of their unit, e.g. ``Code("um2/s", "UCUM", "um2/s")``.
    details
        UIDs, time, content label and description; labels and algorithm are not used.

    Raises
    ------
    InputError
        Values that are not finite, a sheared grid, or another frame of reference.
    """
    import highdicom as hd

    details = details or SegDetails(content_label="MAP")
    images = images_in_order(source_images)
    refuse_not_finite(volume.array)
    frame = _checked_frame(volume, images[0])
    values = np.asarray(volume.array, dtype=np.float32)
    grid = to_highdicom(volume)
    low, high = float(values.min()), float(values.max())
    result: Any = hd.pm.ParametricMap(
        source_images=images,
        pixel_array=type(grid)(
            values, volume.affine, coordinate_system="PATIENT", frame_of_reference_uid=frame
        ),
        series_instance_uid=details.series_uid or hd.UID(),
        series_number=series_number,
        sop_instance_uid=details.sop_uid or hd.UID(),
        instance_number=1,
        manufacturer="digital-twins",
        manufacturer_model_name="digital-twins",
        software_versions=__version__,
        device_serial_number="0",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_new_mapping(values, quantity, unit)],
        voi_lut_transformations=[
            hd.VOILUTTransformation(window_center=(low + high) / 2, window_width=max(high - low, 1.0))
        ],
        content_label=details.content_label,
        content_description=(details.content_description or series_description)[:64],
        content_creator_name="digital-twins^",
        series_description=series_description[:64],
    )
    if "Laterality" not in result:
        result.Laterality = ""  # type 2C, and no image says of which side a map is
    if details.created is not None:
        set_times(result, details.created)
    if details.sop_uid is not None:
        derive_dimension_uid(result, details.sop_uid)
    dataset: Dataset = result
    return dataset


def _checked_frame(volume: Volume, image: Dataset) -> str | None:
    """Return the frame of reference of the images; raises InputError for a map that does not lie in it."""
    frame = str(image.get("FrameOfReferenceUID") or "") or None
    if volume.is_sheared or volume.frame_of_reference_uid not in (None, frame):
        raise InputError(
            what="The map cannot be written on this grid.",
            why="It is sheared (tilted gantry), or belongs to another frame of reference than the images.",
            fix="Resample it to an upright grid of the images' frame of reference first.",
        )
    return frame


def _new_mapping(values: NDArray[np.float32], quantity: Code, unit: Code) -> Any:
    """Return the real world value mapping (PS3.3 section C.7.6.16.2.11): the pixels are the values."""
    import highdicom as hd
    from pydicom.sr.coding import Code as SrCode

    return hd.pm.RealWorldValueMapping(
        lut_label=quantity.meaning[:16],
        lut_explanation=quantity.meaning[:64],
        unit=SrCode(unit.value, unit.scheme, unit.meaning),
        value_range=(float(values.min()), float(values.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=SrCode(quantity.value, quantity.scheme, quantity.meaning),
    )

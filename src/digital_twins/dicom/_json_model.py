"""The DICOM JSON model of a data set (PS3.18 annex F), leaving out what cannot be written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._logging import get_logger

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_log = get_logger(__name__)


def json_model(dataset: Dataset) -> dict[str, Any]:
    """Return the DICOM JSON object of a data set; elements that cannot be written are left out at any depth.

    Not pydicom's ``suppress_invalid_tags``: that makes reading strict for the whole process while it works,
    and two threads that overlap leave it strict for good, so that later objects of any thread are refused.
    """
    model: dict[str, Any] = {}
    for tag in dataset.keys():  # noqa: SIM118  (iteration would decode each element outside of the try)
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                model[f"{int(tag):08X}"] = {"vr": "SQ", "Value": [json_model(item) for item in element.value]}
            else:
                model[f"{int(tag):08X}"] = element.to_json_dict(None, 1024)
        except Exception as error:  # noqa: BLE001  (whatever foreign bytes do must not hide the other elements)
            _log.debug("dicom.json.left_out", error=type(error).__name__)
    return model

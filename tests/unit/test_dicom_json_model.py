"""DICOM JSON of data sets: as pydicom writes it, without what pydicom changes in the whole process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pydicom import config, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from digital_twins.dicom._json_model import json_model

if TYPE_CHECKING:
    import pytest


def test_it_equals_what_pydicom_writes() -> None:
    for name in ("CT_small.dcm", "rtplan.dcm", "reportsi.dcm", "MR_small.dcm"):
        path = get_testdata_file(name)
        assert isinstance(path, str)
        dataset = dcmread(path, stop_before_pixels=True)
        assert json_model(dataset) == dataset.to_json_dict(), name


def test_what_cannot_be_written_is_left_out_at_any_depth() -> None:
    inner, dataset = Dataset(), Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    inner.add_new(0x00181151, "IS", "7")
    inner[0x00181151]._value = object()
    dataset.ReferencedImageSequence = [inner]
    dataset.Modality = "CT"
    assert json_model(dataset) == {
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]},
    }


def test_reading_stays_as_lenient_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads inside at one time: pydicom's own way leaves every later read of the process strict."""
    monkeypatch.setattr(config.settings, "_reading_validation_mode", None)
    both, seen = threading.Barrier(2), []

    class Meeting(Dataset):
        def __getitem__(self, key: object) -> object:  # type: ignore[override]
            both.wait(60)
            seen.append(config.settings.reading_validation_mode)
            return super().__getitem__(key)  # type: ignore[index]

    datasets = [Meeting(), Meeting()]
    for each in datasets:
        each.Modality = "CT"
    threads = [threading.Thread(target=json_model, args=(each,)) for each in datasets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {config.WARN}
    assert config.settings.reading_validation_mode == config.WARN

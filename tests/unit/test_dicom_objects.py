"""Key object selections and secondary captures."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import highdicom
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from ct_series import AXIAL, ct_series
from digital_twins import ConflictError, InputError
from digital_twins.dicom import (
    DocumentIdentity,
    Software,
    key_object_selection,
    read_key_objects,
    secondary_capture,
)
from digital_twins.records import Code

IDENTITY = DocumentIdentity(
    "1.2.3.60", "1.2.3.61", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 90, "Key images"
)
SOFTWARE = Software("digital-twins", "0.1.0")


def images() -> list[Any]:
    return ct_series(np.zeros((3, 8, 8), np.int16), AXIAL)


def again(dataset: Any) -> Any:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))


def test_key_objects_return_what_was_chosen() -> None:
    title = Code("113001", "DCM", "Rejected for Quality Reasons")
    chosen = images()[1:]
    document = key_object_selection(
        chosen, identity=IDENTITY, software=SOFTWARE, title=title, description="Bewegungsunschärfe"
    )
    read = read_key_objects(again(document))
    assert read.title == title
    assert read.description == "Bewegungsunschärfe"
    assert read.sop_uids == tuple(str(ds.SOPInstanceUID) for ds in chosen)
    assert (document.SOPInstanceUID, document.SeriesNumber, document.ContentDate) == (
        "1.2.3.61",
        90,
        "20260102",
    )
    foreign = highdicom.ko.KeyObjectSelectionDocument.from_dataset(again(document))
    assert foreign.resolve_reference(chosen[0].SOPInstanceUID)[2] == chosen[0].SOPInstanceUID


def test_key_objects_of_two_studies_are_refused() -> None:
    mixed = images()
    mixed[0].StudyInstanceUID = "9.9"
    with pytest.raises(ConflictError):
        key_object_selection(mixed, identity=IDENTITY, software=SOFTWARE)
    with pytest.raises(InputError):
        key_object_selection([], identity=IDENTITY, software=SOFTWARE)
    with pytest.raises(InputError, match="no Key Object"):
        read_key_objects(images()[0])


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_capture_holds_the_picture(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    capture = again(
        secondary_capture(
            picture, images(), identity=IDENTITY, software=SOFTWARE, derivation="PREDICTED, NOT ACQUIRED"
        )
    )
    np.testing.assert_array_equal(capture.pixel_array, picture)
    assert capture.StudyInstanceUID == images()[0].StudyInstanceUID
    assert (capture.PatientID, capture.DerivationDescription) == ("P1", "PREDICTED, NOT ACQUIRED")
    assert len(capture.SourceImageSequence) == 3


def test_capture_of_a_png_file() -> None:
    buffer = BytesIO()
    half = Image.new("RGBA", (6, 4), (255, 0, 0, 0))
    half.putpixel((0, 0), (10, 20, 30, 255))
    half.save(buffer, "PNG")
    capture = secondary_capture(buffer.getvalue(), images(), identity=IDENTITY, software=SOFTWARE)
    assert capture.pixel_array[0, 0].tolist() == [10, 20, 30]
    assert capture.pixel_array[1, 1].tolist() == [255, 255, 255]
    for bad in (
        b"GIF89a",
        np.zeros((2, 2), np.uint16),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((0, 2), np.uint8),
    ):
        with pytest.raises(InputError, match="cannot be captured"):
            secondary_capture(bad, images(), identity=IDENTITY, software=SOFTWARE)

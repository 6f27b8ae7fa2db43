"""Burned-in text on a seeded set of images: all of it is covered, and no other pixel changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage

from digital_twins import InputError
from digital_twins.governance import (
    BurnedInText,
    DeidentificationKey,
    DicomDeidentifier,
    PixelsMayIdentifyError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("rapidocr_onnxruntime", reason="pip install 'digital-twins[ocr]'")
SIZE = 512
WORDS = ("DOE^JANE", "MRN 4711-22", "1960-01-02", "St Mary Hospital", "Ward 7B", "Dr K Mueller", "F 66 Y")
BACKGROUNDS = ("flat", "noise", "structured")


@dataclass
class Planted:
    """An image with words burned in: pixels, where letters are, and the boxes of the words."""

    pixels: np.ndarray[Any, Any]
    letters: np.ndarray[Any, Any]
    boxes: list[tuple[int, int, int, int]]


def background(kind: str, chance: np.random.Generator) -> np.ndarray[Any, Any]:
    if kind == "flat":
        return np.zeros((SIZE, SIZE))
    noise = chance.normal(0, 18, (SIZE, SIZE))
    if kind == "noise":
        return np.clip(1.5 * noise + 60, 0, 200)
    y, x = np.mgrid[:SIZE, :SIZE]
    waves = 60 + 40 * np.sin(x / 23) + 30 * np.cos(y / 31) + 25 * np.sin((x + y) / 11)
    return np.clip(waves + noise, 0, 200)


def planted(kind: str, pixels_high: int, chance: np.random.Generator, *, ink: int = 255) -> Planted:
    image = Image.fromarray(background(kind, chance).astype(np.uint8))
    letters = Image.new("L", image.size)
    draw, mark, boxes = ImageDraw.Draw(image), ImageDraw.Draw(letters), []
    font = ImageFont.load_default(size=pixels_high)
    for row in range(4):
        word = WORDS[chance.integers(len(WORDS))]
        place = (int(chance.integers(5, 300)), int(20 + 120 * row + chance.integers(0, 60)))
        draw.text(place, word, fill=ink, font=font)
        mark.text(place, word, fill=255, font=font)
        left, top, right, bottom = mark.textbbox(place, word, font=font)
        boxes.append((int(left), int(top), int(right) + 1, int(bottom) + 1))
    return Planted(np.array(image), np.array(letters) > 0, boxes)


def captured(pixels: np.ndarray[Any, Any], *, photometric: str = "MONOCHROME2") -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = (
        ExplicitVRLittleEndian,
        SecondaryCaptureImageStorage,
    )
    meta.MediaStorageSOPInstanceUID = "1.2.3.1"
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.1"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.Modality = "1.2.3.2", "1.2.3.3", "OT"
    image.PatientID, image.PatientName, image.ConversionType = "P1", "Doe^Jane", "WSD"
    image.Rows = image.Columns = SIZE
    image.SamplesPerPixel = pixels.shape[-1] if pixels.shape[-1] == 3 else 1
    if image.SamplesPerPixel == 3:
        image.PlanarConfiguration = 0
    if pixels.shape[0] != SIZE:
        image.NumberOfFrames = pixels.shape[0]
    image.PhotometricInterpretation = photometric
    image.BitsAllocated = image.BitsStored = 8 * pixels.itemsize
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, 0
    image.PixelData = pixels.tobytes()
    image["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    return image


def pairs(full: bool) -> Iterator[Planted]:
    chance = np.random.default_rng(20261126)
    for kind in BACKGROUNDS:
        for height in (10, 14, 24) if full else (14,):
            for ink in (255, 220) if full else (255,):
                yield planted(kind, height, chance, ink=ink)


def test_text_is_covered_and_the_rest_is_as_it_was(full):
    covered = letters = whole = words = 0
    for each in pairs(full):
        image = captured(each.pixels)
        boxes = BurnedInText().clean(image)
        after = image.pixel_array
        changed = after != each.pixels
        # Where a letter already had the covering value nothing had to change.
        gone = changed | (after == after.min())
        covered += int((gone & each.letters).sum())
        letters += int(each.letters.sum())
        for left, top, right, bottom in each.boxes:
            part = each.letters[top:bottom, left:right]
            whole += bool(gone[top:bottom, left:right][part].mean() >= 0.98)
            words += 1
        assert boxes >= len(each.boxes)
        assert changed.mean() < 0.12  # no more than the lines of text and a margin
        assert image.BurnedInAnnotation == "NO"
    assert covered / letters >= 0.98, (covered, letters)
    assert whole / words >= 0.98, (whole, words)


@pytest.mark.parametrize("kind", ["sixteen bits", "colour", "inverse", "compressed", "frames"])
def test_every_kind_of_pixels(kind):
    each = planted("noise", 18, np.random.default_rng(3))
    pixels, photometric = each.pixels, "MONOCHROME2"
    if kind == "sixteen bits":
        pixels = pixels.astype(np.uint16) * 16
    elif kind == "colour":
        pixels, photometric = np.stack([pixels, pixels // 2, pixels], axis=-1), "RGB"
    elif kind == "inverse":
        pixels, photometric = 255 - pixels, "MONOCHROME1"
    elif kind == "frames":
        pixels = np.stack([pixels, np.zeros_like(pixels)])
    image = captured(pixels, photometric=photometric)
    if kind == "compressed":
        image.compress(RLELossless, generate_instance_uid=False)
    BurnedInText().clean(image)
    after = image.pixel_array
    first = after[0] if kind == "frames" else after
    before = pixels[0] if kind == "frames" else pixels
    changed = (first != before).any(axis=-1) if kind == "colour" else first != before
    assert changed[each.letters].mean() >= 0.98
    assert changed.mean() < 0.12
    if kind == "frames":
        assert not after[1].any()
    assert not image.file_meta.TransferSyntaxUID.is_encapsulated


def test_an_object_passes_once_its_text_is_covered():
    key = DeidentificationKey(b"k" * 32)
    each = planted("flat", 18, np.random.default_rng(5))
    with pytest.raises(PixelsMayIdentifyError):
        DicomDeidentifier(key).deidentify(captured(each.pixels))
    image = captured(each.pixels)
    DicomDeidentifier(key, pixel_text=BurnedInText()).deidentify(image)
    assert not image.pixel_array.any()
    assert image.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in image.DeidentificationMethodCodeSequence]


def test_what_cannot_be_searched_is_refused():
    image = captured(np.zeros((SIZE, SIZE), dtype=np.uint8), photometric="PALETTE COLOR")
    with pytest.raises(InputError, match="not searched"):
        BurnedInText().clean(image)

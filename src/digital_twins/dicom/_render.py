"""Rendered images of stored objects (PS3.18 sections 8.3.5 and 10.4.1.1.3): JPEG, PNG and GIF."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError, NotFoundError
from digital_twins.dicom._accept import NotAcceptableError
from digital_twins.dicom._dataset_file import load, readable
from digital_twins.dicom._text import quiet_pydicom
from digital_twins.dicom._voi import Window, grey, parse_window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image
    from pydicom.dataset import Dataset

    from digital_twins.dicom._accept import Accepted
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Instance

JPEG, PNG, GIF, PDF = "image/jpeg", "image/png", "image/gif", "application/pdf"
_FORMATS = {JPEG: "JPEG", PNG: "PNG", GIF: "GIF"}
_PDF_STORAGE = "1.2.840.10008.5.1.4.1.1.104.1"
_THUMBNAIL_PIXELS = 128
_MAX_VIEWPORT = 8192
_MAX_MOVIE_PIXELS = 2**27
_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Viewport:
    """Largest size of the answer, and the part of the source that it shows.

    Attributes
    ----------
    region
        Left, top, width, height in pixels of the source; None for all of it. A negative width or height
        mirrors the image.
    """

    width: int
    height: int
    region: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Rendering:
    """How an image is to be drawn.

    Attributes
    ----------
    any_type
        Whether the client takes other media types too.
    ignored
        Names of query parameters that are not supported.
    """

    media_type: str = JPEG
    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = _QUALITY
    any_type: bool = False
    ignored: tuple[str, ...] = ()


def parse_rendering(
    parameters: Mapping[str, str], accepted: Sequence[Accepted], *, thumbnail: bool
) -> Rendering:
    """Read the query parameters and media ranges of a rendered resource.

    Raises
    ------
    InputError
        A malformed window, viewport or quality.
    NotAcceptableError
        None of the media types can be drawn.
    """
    quality = parameters.get("quality", str(_QUALITY))
    if not re.fullmatch(r"\d{1,3}", quality) or not 1 <= int(quality) <= 100:
        raise _bad("quality is a whole number from 1 to 100")
    viewport = parse_viewport(parameters["viewport"]) if parameters.get("viewport") else None
    if viewport is None and thumbnail:
        viewport = Viewport(_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS)
    known = {"viewport", "accept", "charset"} | (set() if thumbnail else {"window", "quality"})
    return Rendering(
        choose_image_type(accepted),
        parse_window(parameters["window"]) if parameters.get("window") and not thumbnail else None,
        viewport,
        int(quality),
        any(item.part_type == "*/*" for item in accepted),
        tuple(name for name in parameters if name not in known),
    )


def parse_viewport(text: str) -> Viewport:
    """Read ``viewport=vw,vh[,sx,sy,sw,sh]``; empty source values mean the whole side. Raises InputError."""
    parts = [part.strip() for part in text.split(",")]
    number = re.compile(r"[+-]?\d{1,6}(\.\d{1,6})?")
    if len(parts) not in {2, 6} or not all(re.fullmatch(r"\d{1,5}", part) for part in parts[:2]):
        raise _bad("viewport is written vw,vh or vw,vh,sx,sy,sw,sh")
    if not all(1 <= int(part) <= _MAX_VIEWPORT for part in parts[:2]):
        raise _bad(f"a side of the viewport is from 1 to {_MAX_VIEWPORT} pixels")
    if not all(part == "" or number.fullmatch(part) for part in parts[2:]):
        raise _bad("the source of the viewport is four numbers, each of which may be empty")
    source = [float(part) if part else 0.0 for part in parts[2:]]
    region = (source[0], source[1], source[2], source[3]) if source else None
    return Viewport(int(parts[0]), int(parts[1]), region)


def choose_image_type(accepted: Sequence[Accepted]) -> str:
    """Return the first image type that can be drawn; raises NotAcceptableError."""
    for item in accepted:
        if item.part_type in {"*/*", "image/*", JPEG}:
            return JPEG
        if item.part_type in {PNG, GIF, PDF}:
            return item.part_type
    raise NotAcceptableError(
        "The image cannot be drawn in the accepted form.",
        f"Rendered images come as {JPEG}, {PNG} or {GIF}, encapsulated documents as {PDF}.",
        f"Accept one of them, e.g. Accept: {JPEG}.",
    )


def render(
    store: DicomStore, instance: Instance, frames: Sequence[int] | None, rendering: Rendering
) -> tuple[bytes, str]:
    """Return the drawing and its media type.

    Parameters
    ----------
    frames
        One number from 1, or None for the object: a movie when GIF is asked for, else its representative
        frame. An encapsulated PDF is given as it is.

    Raises
    ------
    NotFoundError
        No such frame.
    NotAcceptableError
        The object cannot be drawn, or not in that form.
    """
    if (
        instance.sop_class_uid == _PDF_STORAGE
        and frames is None
        and (rendering.media_type == PDF or rendering.any_type)
    ):
        return _document(store, instance), PDF
    if rendering.media_type == PDF or not instance.rows:
        raise NotAcceptableError(
            "The object cannot be drawn.",
            "It has no pixels, or is no encapsulated document.",
            "Retrieve the object itself.",
        )
    with quiet_pydicom():
        dataset = load(store.file(instance), stop_before_pixels=instance.pixel_offset is not None)
    movie = rendering.media_type == GIF and frames is None and instance.frames > 1
    numbers = (
        list(range(1, instance.frames + 1)) if movie else list(frames or [_representative(dataset, instance)])
    )
    if any(not 1 <= n <= instance.frames for n in numbers):
        raise NotFoundError(
            "The frame is not stored here.", "The object has fewer frames.", "Ask for frames from 1."
        )
    if len(numbers) * instance.rows * instance.columns > _MAX_MOVIE_PIXELS and movie:
        raise NotAcceptableError(
            "The movie cannot be drawn.",
            f"It has more than {_MAX_MOVIE_PIXELS} pixels in all.",
            "Ask for single frames: .../frames/1/rendered.",
        )
    images = [
        _fit(_frame(store, instance, dataset, n - 1, rendering.window), rendering.viewport) for n in numbers
    ]
    return _encode(images, rendering, _frame_ms(dataset)), rendering.media_type


def drawable(instances: Sequence[Instance], rendering: Rendering) -> list[Instance]:
    """Return the objects that can be drawn in the wanted form; all of them when none can."""
    documents = rendering.media_type == PDF or rendering.any_type
    drawn = [i for i in instances if i.rows or (documents and i.sop_class_uid == _PDF_STORAGE)]
    return drawn or list(instances)


def _representative(dataset: Dataset, instance: Instance) -> int:
    stated = dataset.get("RepresentativeFrameNumber")
    return int(stated) if stated and 1 <= int(stated) <= instance.frames else (instance.frames + 1) // 2


def _frame_ms(dataset: Dataset) -> int:
    return max(int(float(dataset.get("FrameTime") or 100)), 20)


def _frame(
    store: DicomStore, instance: Instance, dataset: Dataset, index: int, window: Window | None
) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    try:
        with quiet_pydicom():
            if instance.pixel_offset is None:
                values = pixel_array(dataset, index=index)
            else:
                with readable(store.file(instance)) as source:
                    values = pixel_array(source, index=index)
            if values.ndim == 3:
                top = 2 ** int(dataset.get("BitsStored") or 8) - 1
                return np.asarray(np.rint(values[..., :3] * (255.0 / top)), dtype=np.uint8)
            if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
                colours = apply_color_lut(values, dataset)
                top = 2 ** int(dataset.RedPaletteColorLookupTableDescriptor[2]) - 1
                return np.asarray(np.rint(colours[..., :3] * (255.0 / top)), dtype=np.uint8)
            return grey(dataset, values, index, window)
    except Exception as error:  # noqa: BLE001  (edge: codecs raise many kinds on foreign pixel data)
        raise NotAcceptableError(
            "The frame cannot be drawn.",
            f"The decoder raised {type(error).__name__}.",
            "Retrieve the object itself.",
        ) from None


def _fit(pixels: NDArray[np.uint8], viewport: Viewport | None) -> Image:
    """Crop, mirror and scale to the largest size within the viewport that keeps the shape."""
    from PIL import Image, ImageOps

    image = Image.fromarray(pixels)
    if viewport is None:
        return image
    if viewport.region is not None:
        left, top, width, height = viewport.region
        right = min(left + (abs(width) or image.width), image.width)
        bottom = min(top + (abs(height) or image.height), image.height)
        if left < 0 or top < 0 or right - left < 1 or bottom - top < 1:
            raise _bad("the source region of the viewport lies outside the image")
        image = image.crop((round(left), round(top), round(right), round(bottom)))
        image = ImageOps.mirror(image) if width < 0 else image
        image = ImageOps.flip(image) if height < 0 else image
    scale = min(viewport.width / image.width, viewport.height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _encode(images: Sequence[Image], rendering: Rendering, frame_ms: int) -> bytes:
    buffer = BytesIO()
    options: dict[str, Any] = {}
    if rendering.media_type == JPEG:
        options = {"quality": rendering.quality, "optimize": False}
    elif len(images) > 1:
        options = {"save_all": True, "append_images": list(images[1:]), "duration": frame_ms, "loop": 0}
    images[0].save(buffer, _FORMATS[rendering.media_type], **options)
    return buffer.getvalue()


def _document(store: DicomStore, instance: Instance) -> bytes:
    with quiet_pydicom():
        dataset = load(store.file(instance))
    length = int(dataset.get("EncapsulatedDocumentLength") or len(dataset.EncapsulatedDocument))
    return bytes(dataset.EncapsulatedDocument[:length])


def _bad(why: str) -> InputError:
    return InputError(
        "The image cannot be drawn as asked.",
        why[0].upper() + why[1:] + ".",
        "See PS3.18 section 8.3.5 for the parameters of rendered resources.",
    )

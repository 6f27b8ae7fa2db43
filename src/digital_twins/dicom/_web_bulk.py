"""Handlers of bulk data and pixel data (PS3.18 sections 10.4.1.1.5 and 10.4.1.1.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from anyio.to_thread import run_sync
from starlette.responses import Response, StreamingResponse

from digital_twins._errors import NotFoundError
from digital_twins.dicom._accept import NotAcceptableError
from digital_twins.dicom._body import Body
from digital_twins.dicom._frames import OCTETS, choose_frame_format, frame_segments
from digital_twins.dicom._json import BASE_MARK, metadata
from digital_twins.dicom._wado import PIXEL_DATA, PIXELS, bulk_value, etag, part_head
from digital_twins.dicom._web_base import accepted, base_url, body_answer, not_modified

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from starlette.requests import Request

    from digital_twins.dicom._accept import Accepted
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Instance
    from digital_twins.dicom._web_base import Door
    from digital_twins.dicom._web_retrieve import Retrieval

_RANGES = frozenset({"*/*", "application/*", OCTETS})
_Part = tuple[bytes, Body]


class BulkRetrieval:
    """Handlers that give the long values of stored objects.

    Parameters
    ----------
    retrieval
        Finds the objects of a request, and gives the frames of compressed pixels.
    """

    def __init__(self, door: Door, retrieval: Retrieval) -> None:
        self._door = door
        self._store: DicomStore = door.store
        self._retrieval = retrieval

    async def one(self, request: Request) -> Response:
        """One value that the metadata refer to."""
        instance = (await run_sync(self._retrieval.instances, request))[0]
        tag = request.path_params["tag"].upper()
        if _is_compressed(instance, tag):
            return await self._retrieval.some_frames(request, range(1, instance.frames + 1), "all")
        multipart = _choose(accepted(request)).multipart and "range" not in request.headers
        body = await run_sync(bulk_value, self._store, instance, tag)
        entity = etag([instance], f"b{tag}{int(multipart)}")
        if (unchanged := not_modified(request, entity)) is not None:
            return unchanged
        self._door.audit(request, "R", "dicom.bulk", instance=instance, detail={"tag": tag})
        if not multipart:
            return await body_answer(request, body, OCTETS, entity)
        boundary = entity.strip('"')[-32:]
        whole = Body([part_head(boundary, OCTETS), *body.segments, f"\r\n--{boundary}--\r\n".encode()])
        return await body_answer(
            request, whole, f'multipart/related; type="{OCTETS}"; boundary={boundary}', entity
        )

    def every(self, *, pixels_only: bool) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of all bulk data, or only the pixels, of a study, series or instance."""

        async def handler(request: Request) -> Response:
            instances = await run_sync(self._retrieval.instances, request)
            ranges = accepted(request)
            tag = etag(instances, "p" if pixels_only else "a")
            if (unchanged := not_modified(request, tag)) is not None:
                return unchanged
            places = await run_sync(self._places, instances, pixels_only)
            if not places:
                raise NotFoundError(
                    "The bulk data are not stored here.",
                    "The objects have no such values.",
                    "Retrieve the objects themselves.",
                )
            if any(_is_compressed(instance, one) for instance, one, _uri in places):
                for instance, one, _uri in places:  # what cannot be given is said by the status
                    if _is_compressed(instance, one):
                        choose_frame_format(instance, ranges)
            else:
                _choose(ranges)
            self._door.audit(
                request, "R", "dicom.bulk", instance=instances[0], detail={"instances": len(instances)}
            )
            boundary = tag.strip('"')[-32:]
            pieces = self._pieces(places, ranges, boundary, base_url(request))
            kind = f'multipart/related; type="{OCTETS}"; boundary={boundary}'
            return StreamingResponse(pieces, media_type=kind, headers={"ETag": tag})

        return handler

    def _places(self, instances: Sequence[Instance], pixels_only: bool) -> list[tuple[Instance, str, str]]:
        """Return object, tag and URI of each value that the metadata name."""
        return [
            (instance, tag, element["BulkDataURI"])
            for instance, model in zip(instances, metadata(self._store, instances), strict=True)
            for tag, element in orjson.loads(model).items()
            if "BulkDataURI" in element and (tag in PIXELS or not pixels_only)
        ]

    async def _pieces(
        self, places: Sequence[tuple[Instance, str, str]], ranges: list[Accepted], boundary: str, base: str
    ) -> AsyncIterator[bytes | memoryview]:
        for instance, tag, uri in places:
            location = uri.replace(BASE_MARK.decode(), base)
            for head, body in await run_sync(self._parts, instance, tag, location, ranges, boundary):
                yield head
                async for piece in body.pieces(0, body.length):
                    yield piece
                yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    def _parts(
        self, instance: Instance, tag: str, location: str, ranges: list[Accepted], boundary: str
    ) -> list[_Part]:
        """Return the parts of one value: compressed pixels come frame by frame under one name."""
        if not _is_compressed(instance, tag):
            head = part_head(boundary, OCTETS, location=location)
            return [(head, bulk_value(self._store, instance, tag))]
        chosen = choose_frame_format(instance, ranges)
        head = part_head(boundary, chosen.media_type, chosen.transfer_syntax, location)
        numbers = range(1, instance.frames + 1)
        segments = frame_segments(self._store, instance, numbers, decoded=chosen.decoded)
        return [(head, Body([segment])) for segment in segments]


def _is_compressed(instance: Instance, tag: str) -> bool:
    return tag == PIXEL_DATA and instance.pixel_offset is not None and instance.pixel_length is None


def _choose(ranges: Sequence[Accepted]) -> Accepted:
    """Return the first media range in which a value can be given; raises NotAcceptableError."""
    for item in ranges:
        if item.part_type in _RANGES:
            return item
    raise NotAcceptableError(
        "The bulk data cannot be given in the accepted form.",
        f"They are given as {OCTETS}.",
        f'Accept multipart/related; type="{OCTETS}".',
    )

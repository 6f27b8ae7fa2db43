"""Handlers of WADO-RS and WADO-URI (PS3.18 sections 10.4 and 9)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync
from starlette.responses import Response, StreamingResponse

from digital_twins._errors import DigitalTwinError
from digital_twins._logging import get_logger
from digital_twins.dicom._body import Body, Slice
from digital_twins.dicom._frames import choose_frame_format, frame_segments
from digital_twins.dicom._json import metadata
from digital_twins.dicom._multipart import new_boundary
from digital_twins.dicom._native_model import wants_xml, xml_answer
from digital_twins.dicom._render import drawable, parse_rendering, render
from digital_twins.dicom._store import not_found
from digital_twins.dicom._wado import (
    choose_object_format,
    etag,
    given_syntax,
    object_file,
    objects_body,
    part_head,
    transcoded_parts,
)
from digital_twins.dicom._wado_uri import parse_wado_uri
from digital_twins.dicom._web_base import (
    accepted,
    body_answer,
    ignored,
    json_answer,
    not_modified,
    warning_header,
    whole_numbers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from starlette.requests import Request

    from digital_twins.dicom._render import Rendering
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Instance
    from digital_twins.dicom._wado import ObjectFormat
    from digital_twins.dicom._web_base import Door

_log = get_logger(__name__)


class Retrieval:
    """Handlers that give stored objects, or what is in them."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._store: DicomStore = door.store

    async def objects(self, request: Request) -> Response:
        """WADO-RS of a study, series or instance."""
        instances = await run_sync(self.instances, request)
        chosen = choose_object_format(instances, accepted(request))
        tag = etag(instances, f"o{chosen.transfer_syntax or ''}{int(chosen.multipart)}")
        if (unchanged := not_modified(request, tag)) is not None:
            return unchanged
        answer = await self._objects(request, instances, chosen, tag)
        self._door.audit(
            request, "R", "dicom.retrieve", instance=instances[0], detail={"instances": len(instances)}
        )
        return answer

    async def _objects(
        self, request: Request, instances: Sequence[Instance], chosen: ObjectFormat, tag: str
    ) -> Response:
        syntax = chosen.transfer_syntax
        if not chosen.multipart:
            only = instances[0]
            given = only.transfer_syntax if syntax is None else given_syntax(only, syntax)
            kind = f"application/dicom; transfer-syntax={given}"
            if syntax is None:
                return await body_answer(request, self._file(only), kind, tag)
            return Response(
                await run_sync(object_file, self._store, only, syntax), media_type=kind, headers={"ETag": tag}
            )
        boundary = tag.strip('"')[-32:]  # the same for the same objects, so that ranges fit together
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        if syntax is None:
            return await body_answer(request, objects_body(self._store, instances, boundary), kind, tag)
        if len(instances) == 1:  # what cannot be transcoded is then said by the status
            file = await run_sync(object_file, self._store, instances[0], syntax)
            pieces = (
                part_head(boundary, "application/dicom", given_syntax(instances[0], syntax)),
                file,
                f"\r\n--{boundary}--\r\n".encode(),
            )
            return Response(b"".join(pieces), media_type=kind, headers={"ETag": tag})
        parts = transcoded_parts(self._store, instances, syntax, boundary)
        return StreamingResponse(parts, media_type=kind, headers={"ETag": tag})

    def _file(self, instance: Instance) -> Body:
        return Body([Slice(self._store.file(instance), 0, instance.size_bytes)])

    async def metadata(self, request: Request) -> Response:
        """WADO-RS metadata of a study, series or instance."""
        xml = wants_xml(request)
        instances = await run_sync(self.instances, request)
        tag = etag(instances, "x" if xml else "m")
        if (unchanged := not_modified(request, tag)) is not None:
            return unchanged
        found = await run_sync(metadata, self._store, instances)
        self._door.audit(
            request, "R", "dicom.metadata", instance=instances[0], detail={"instances": len(instances)}
        )
        if xml:
            return await run_sync(lambda: xml_answer(request, found, headers={"ETag": tag}))
        return json_answer(request, b"[" + b",".join(found) + b"]", headers={"ETag": tag})

    async def frames(self, request: Request) -> Response:
        """WADO-RS frames by number."""
        numbers = whole_numbers(request.path_params["frames"])
        if len(numbers) > 1 or "range" in request.headers:
            return await self.some_frames(request, numbers, request.path_params["frames"])
        answer, instance = await run_sync(self._read_frame, request, numbers)
        # Here and not in the thread: the writer of the event would contend with it for the interpreter.
        if answer.status_code != HTTPStatus.NOT_MODIFIED:
            self._door.audit(request, "R", "dicom.frames", instance=instance, detail={"frames": 1})
        return answer

    def _read_frame(self, request: Request, numbers: Sequence[int]) -> tuple[Response, Instance]:
        """Answer for one frame in one visit to the thread: that is what viewers ask for most."""
        instance = self.instances(request)[0]
        chosen = choose_frame_format(instance, accepted(request))
        tag = etag([instance], f"f{numbers[0]}{chosen.transfer_syntax}{int(chosen.multipart)}")
        answer = not_modified(request, tag)
        if answer is not None:
            return answer, instance
        segments = frame_segments(self._store, instance, numbers, decoded=chosen.decoded)
        kind = f"{chosen.media_type}; transfer-syntax={chosen.transfer_syntax}"
        if chosen.multipart:
            boundary = tag.strip('"')[-32:]  # the same for the same frame, so that ranges fit together
            head = part_head(boundary, chosen.media_type, chosen.transfer_syntax)
            segments = [head, *segments, f"\r\n--{boundary}--\r\n".encode()]
            kind = f'multipart/related; type="{chosen.media_type}"; boundary={boundary}'
        return Response(Body(segments).read(), media_type=kind, headers={"ETag": tag}), instance

    async def some_frames(self, request: Request, numbers: Sequence[int], name: str) -> Response:
        """Give frames, whose numbers are known as ``name`` in the entity tag."""
        instance = (await run_sync(self.instances, request))[0]
        chosen = choose_frame_format(instance, accepted(request))

        def build() -> list[bytes | Slice]:
            return frame_segments(self._store, instance, numbers, decoded=chosen.decoded)

        tag = etag([instance], f"f{name}{chosen.transfer_syntax}{int(chosen.multipart)}")
        if (unchanged := not_modified(request, tag)) is not None:
            return unchanged
        segments = await run_sync(build)
        self._door.audit(request, "R", "dicom.frames", instance=instance, detail={"frames": len(segments)})
        kind = f"{chosen.media_type}; transfer-syntax={chosen.transfer_syntax}"
        if len(segments) == 1 and not chosen.multipart:
            return await body_answer(request, Body(segments), kind, tag)
        boundary = tag.strip('"')[-32:]  # the same for the same frames, so that ranges fit together
        head = part_head(boundary, chosen.media_type, chosen.transfer_syntax)
        parts: list[bytes | Slice] = []
        for segment in segments:
            parts += [head, segment, b"\r\n"]
        parts.append(f"--{boundary}--\r\n".encode())
        kind = f'multipart/related; type="{chosen.media_type}"; boundary={boundary}'
        return await body_answer(request, Body(parts), kind, tag)

    def rendered(self, *, thumbnail: bool) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of rendered images or thumbnails."""

        async def handler(request: Request) -> Response:
            rendering = parse_rendering(dict(request.query_params), accepted(request), thumbnail=thumbnail)
            frames = whole_numbers(request.path_params["frames"]) if "frames" in request.path_params else None
            instances = await run_sync(self.instances, request)
            asked, instances = len(instances), drawable(instances, rendering)
            if thumbnail:
                instances = [instances[len(instances) // 2]]
            tag = etag(instances, f"r{hash_of(request)}")
            if (unchanged := not_modified(request, tag)) is not None:
                return unchanged
            answer = await self._drawn(instances, frames, rendering)
            kind = "dicom.thumbnail" if thumbnail else "dicom.rendered"
            self._door.audit(request, "R", kind, instance=instances[0], detail={"instances": len(instances)})
            answer.headers["ETag"] = tag
            warnings = ignored(rendering.ignored)
            if not thumbnail and len(instances) < asked:
                warnings.append(f"{asked - len(instances)} objects without pixels were not drawn")
            answer.headers.update(warning_header(warnings))
            return answer

        return handler

    async def _drawn(
        self, instances: Sequence[Instance], frames: Sequence[int] | None, rendering: Rendering
    ) -> Response:
        wanted: list[list[int] | None] = [[n] for n in frames] if frames else [None]
        orders = [(instance, frame) for instance in instances for frame in wanted]
        if len(orders) == 1:
            drawing, kind = await run_sync(render, self._store, *orders[0], rendering)
            return Response(drawing, media_type=kind)
        boundary = new_boundary()
        # The first is drawn before the status is sent: where nothing can be drawn, the status says so.
        first = await run_sync(render, self._store, *orders[0], rendering)
        kind = f'multipart/related; type="{rendering.media_type}"; boundary={boundary}'
        return StreamingResponse(self._drawings(first, orders[1:], rendering, boundary), media_type=kind)

    async def _drawings(
        self,
        first: tuple[bytes, str],
        orders: Sequence[tuple[Instance, list[int] | None]],
        rendering: Rendering,
        boundary: str,
    ) -> AsyncIterator[bytes]:
        """Yield a multipart body with one drawing in memory at a time; what cannot be drawn is left out."""
        drawing, kind = first
        yield part_head(boundary, kind) + drawing + b"\r\n"
        for instance, frames in orders:
            try:
                drawing, kind = await run_sync(render, self._store, instance, frames, rendering)
            except DigitalTwinError as error:
                _log.warning("dicom.rendered.failed", reason=error.why)
                continue
            yield part_head(boundary, kind) + drawing + b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    async def wado_uri(self, request: Request) -> Response:
        """WADO-URI: one object, or a picture of one frame of it."""
        asked = parse_wado_uri(dict(request.query_params), request.headers.get("accept", ""))
        instance = await run_sync(self._store.instance, asked.uids[2])
        if (instance.study_uid, instance.series_uid) != asked.uids[:2]:
            raise not_found("instance")
        draws = asked.rendering is not None and (instance.rows > 0 or asked.stated)
        tag = etag([instance], f"u{hash_of(request)}")
        if (unchanged := not_modified(request, tag)) is not None:
            return unchanged
        rendering = asked.rendering_of(instance) if draws else None
        if rendering is not None:
            frames = None if asked.frame is None else [asked.frame]
            drawing, kind = await run_sync(render, self._store, instance, frames, rendering)
        else:
            drawing = await run_sync(object_file, self._store, instance, asked.transfer_syntax)
            kind = "application/dicom"
        self._door.audit(request, "R", "dicom.wado-uri", instance=instance, detail={"drawn": int(draws)})
        headers = {"ETag": tag, **warning_header(ignored(asked.ignored))}
        return Response(drawing, media_type=kind, headers=headers)

    def instances(self, request: Request) -> list[Instance]:
        """Return the stored objects that the path names; raises NotFoundError."""
        names = request.path_params
        if "instance" not in names:
            return self._store.instances(names["study"], names.get("series"))
        only = self._store.instance(names["instance"])
        if (only.study_uid, only.series_uid) != (names["study"], names["series"]):
            raise not_found("instance")
        return [only]


def hash_of(request: Request) -> str:
    """Return a short name of the path, the query and the accepted types, for an entity tag."""
    from hashlib import sha256

    text = f"{request.url.path}?{request.url.query}#{request.headers.get('accept', '')}"
    return sha256(text.encode()).hexdigest()[:12]

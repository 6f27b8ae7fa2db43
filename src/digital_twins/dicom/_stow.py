"""STOW-RS (PS3.18 section 10.5): DICOM files in, a store instances response out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, StorageError
from digital_twins.audit import AuditEvent
from digital_twins.dicom._dimse import Status
from digital_twins.dicom._header import ObjectRefusedError
from digital_twins.dicom._json import BASE_MARK
from digital_twins.dicom._multipart import MultipartReader, Part, TooLongError, media_type
from digital_twins.dicom._stow_parts import BulkParts
from digital_twins.dicom._stow_stream import ArrivingFile, arriving_pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Stored

_FILE, _JSON = "application/dicom", "application/dicom+json"


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that was not stored, and the reason (PS3.4 table B.2-1 statuses serve as reasons)."""

    sop_class_uid: str
    sop_uid: str
    reason: int


class Inbox:
    """One STOW-RS request while its parts are stored.

    Parameters
    ----------
    study_uid
        The study that the URL names; objects of others are refused.
    agent
        Who sends, for the index and the audit trail.
    """

    def __init__(self, store: DicomStore, study_uid: str | None, agent: str) -> None:
        self._store = store
        self._study_uid = study_uid
        self._agent = agent
        self.stored: list[Stored] = []
        self.failures: list[Failure] = []

    async def receive(
        self, content_type: str, body: AsyncIterator[bytes], *, max_object_bytes: int, max_file_bytes: int
    ) -> None:
        """Read the body and store every part.

        DICOM files go to the disk while they arrive, where they are not small; metadata and bulk data are
        gathered in memory until the body ends.

        Parameters
        ----------
        max_object_bytes, max_file_bytes
            Most that metadata and bulk data may take together, and longest DICOM file.

        Raises
        ------
        InputError
            The body is no multipart/related of DICOM files, or of metadata and bulk data; a part is too long.
        """
        name, parameters = media_type(content_type)
        kind = parameters.get("type", _FILE).lower() if name == "multipart/related" else name
        if kind not in {_FILE, _JSON}:
            raise UnsupportedMediaError(
                "The objects cannot be stored.",
                "Only DICOM files, and DICOM JSON with its bulk data, are taken.",
                'Send Content-Type: multipart/related; type="application/dicom"; boundary=...',
            )
        alone = name != "multipart/related"
        if kind == _JSON:
            await self._gather(content_type, body, max_object_bytes, alone=alone)
        else:
            await self._take_files(content_type, body, max_file_bytes, alone=alone)

    async def _take_files(
        self, content_type: str, body: AsyncIterator[bytes], max_file_bytes: int, *, alone: bool
    ) -> None:
        from anyio.to_thread import run_sync

        file = ArrivingFile(self._store, max_file_bytes)
        try:
            async for piece in arriving_pieces(content_type, body, alone=alone):
                if piece is None:
                    await run_sync(self._keep_arrived, file)
                    file = ArrivingFile(self._store, max_file_bytes)
                elif file.fits_in_memory(piece):
                    file.feed(piece)
                else:
                    await run_sync(file.feed, piece)
        finally:
            file.discard()

    async def _gather(
        self, content_type: str, body: AsyncIterator[bytes], max_object_bytes: int, *, alone: bool
    ) -> None:
        from anyio.to_thread import run_sync

        gathered = BulkParts(max_object_bytes)
        async for part in _parts(content_type, body, max_object_bytes, alone=alone):
            gathered.add(part)
        await run_sync(self._keep_gathered, gathered)

    @property
    def status(self) -> int:
        """HTTP status of PS3.18 table 10.5.3-1: 200 all stored, 202 some, 409 none."""
        if not self.failures:
            return 200 if self.stored else 400
        return 202 if self.stored else 409

    def response(self) -> dict[str, Any]:
        """Return the store instances response module (PS3.18 annex I.2) as DICOM JSON."""
        base = BASE_MARK.decode()
        answer: dict[str, Any] = {}
        studies = sorted({s.study_uid for s in self.stored})
        if len(studies) == 1:
            answer["00081190"] = {"vr": "UR", "Value": [f"{base}/studies/{studies[0]}"]}
        if self.failures:
            answer["00081198"] = {"vr": "SQ", "Value": [_failed(failure) for failure in self.failures]}
        if self.stored:
            answer["00081199"] = {"vr": "SQ", "Value": [_reference(base, s) for s in self.stored]}
        return answer

    def _keep_gathered(self, gathered: BulkParts) -> None:
        for class_uid, sop_uid, file in gathered.files():
            if isinstance(file, ObjectRefusedError):
                self._refuse(file, class_uid, sop_uid)
            else:
                whole = ArrivingFile(self._store, len(file))
                whole.feed(file)
                self._keep_arrived(whole)

    def _keep_arrived(self, file: ArrivingFile) -> None:
        try:
            stored = file.keep(source=self._agent, study_uid=self._study_uid)
        except ObjectRefusedError as error:
            self._refuse(error, *file.identity())
        except StorageError:
            self.failures.append(Failure(*file.identity(), Status.OUT_OF_RESOURCES))
        else:
            self.stored.append(stored)
        finally:
            file.discard()

    def _refuse(self, error: ObjectRefusedError, class_uid: str, sop_uid: str) -> None:
        self.failures.append(Failure(class_uid, sop_uid, error.status))
        self._store.record(
            AuditEvent(
                action="C",
                kind="dicom.store",
                outcome="refused",
                agent=self._agent,
                detail={"status": f"{error.status:04X}", "why": error.why},
            )
        )


async def _parts(
    content_type: str, body: AsyncIterator[bytes], max_part_bytes: int, *, alone: bool
) -> AsyncIterator[Part]:
    """Yield the parts of a body; a body that is not multipart is its only part."""
    if not alone:
        reader = MultipartReader(content_type, max_part_bytes=max_part_bytes)
        async for chunk in body:
            for part in reader.feed(chunk):
                yield part
        reader.finish()
        return
    whole = bytearray()
    async for chunk in body:
        whole += chunk
        if len(whole) > max_part_bytes:
            raise TooLongError(
                "The object cannot be stored.",
                f"It is longer than {max_part_bytes} bytes.",
                "Raise max_object_bytes, or send smaller objects.",
            )
    yield Part({"content-type": content_type}, bytes(whole))


class UnsupportedMediaError(InputError):
    """The body has a media type that cannot be stored (HTTP 415)."""

    http_status = 415


def refuse_coding(request: Request) -> None:
    """Raise UnsupportedMediaError for a body in a content coding: it is read as it comes (RFC 9110 8.4)."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"", "identity"}:
        raise UnsupportedMediaError(
            "The objects cannot be stored.", "The body is in a content coding.", "Send it without one."
        )


def _reference(base: str, stored: Stored) -> dict[str, Any]:
    url = f"{base}/studies/{stored.study_uid}/series/{stored.series_uid}/instances/{stored.sop_uid}"
    return {
        "00081150": {"vr": "UI", "Value": [stored.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [stored.sop_uid]},
        "00081190": {"vr": "UR", "Value": [url]},
    }


def _failed(failure: Failure) -> dict[str, Any]:
    item: dict[str, Any] = {"00081197": {"vr": "US", "Value": [failure.reason]}}
    if failure.sop_class_uid:
        item["00081150"] = {"vr": "UI", "Value": [failure.sop_class_uid]}
    if failure.sop_uid:
        item["00081155"] = {"vr": "UI", "Value": [failure.sop_uid]}
    return item

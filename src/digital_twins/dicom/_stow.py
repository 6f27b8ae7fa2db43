"""STOW-RS (PS3.18 section 10.5): DICOM files in, a store instances response out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, StorageError
from digital_twins.audit import AuditEvent
from digital_twins.dicom._dimse import Status
from digital_twins.dicom._header import ObjectRefusedError
from digital_twins.dicom._json import BASE_MARK
from digital_twins.dicom._multipart import MultipartReader, media_type

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from digital_twins.dicom._multipart import Part
    from digital_twins.dicom._store import DicomStore, Stored


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
        self.failures: list[int] = []

    async def receive(self, content_type: str, body: AsyncIterator[bytes], *, max_object_bytes: int) -> None:
        """Read the body and store every part; one part is in memory at a time.

        Raises
        ------
        InputError
            The body is no multipart/related of DICOM files.
        """
        from anyio.to_thread import run_sync

        name, parameters = media_type(content_type)
        if name != "multipart/related" or parameters.get("type", "application/dicom") != "application/dicom":
            raise UnsupportedMediaError(
                "The objects cannot be stored.",
                "Only multipart/related with parts of application/dicom is taken.",
                'Send Content-Type: multipart/related; type="application/dicom"; boundary=...',
            )
        reader = MultipartReader(content_type, max_part_bytes=max_object_bytes)
        async for chunk in body:
            for part in reader.feed(chunk):
                await run_sync(self._keep, part)
        reader.finish()

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
            items = [{"00081197": {"vr": "US", "Value": [reason]}} for reason in self.failures]
            answer["00081198"] = {"vr": "SQ", "Value": items}
        if self.stored:
            answer["00081199"] = {"vr": "SQ", "Value": [_reference(base, s) for s in self.stored]}
        return answer

    def _keep(self, part: Part) -> None:
        try:
            stored = self._store.ingest(part.body, source=self._agent, study_uid=self._study_uid)
        except ObjectRefusedError as error:
            self.failures.append(error.status)
            self._store.record(
                AuditEvent(
                    action="C",
                    kind="dicom.store",
                    outcome="refused",
                    agent=self._agent,
                    detail={"status": f"{error.status:04X}", "why": error.why},
                )
            )
        except StorageError:
            self.failures.append(Status.OUT_OF_RESOURCES)
        else:
            self.stored.append(stored)


class UnsupportedMediaError(InputError):
    """The body has a media type that cannot be stored (HTTP 415)."""

    http_status = 415


def _reference(base: str, stored: Stored) -> dict[str, Any]:
    url = f"{base}/studies/{stored.study_uid}/series/{stored.series_uid}/instances/{stored.sop_uid}"
    return {
        "00081150": {"vr": "UI", "Value": [stored.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [stored.sop_uid]},
        "00081190": {"vr": "UR", "Value": [url]},
    }

"""A study from an archive that speaks DIMSE, into files: by C-GET, or by C-MOVE to a port opened for it."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.dicom._contexts import STUDY_ROOT_MOVE
from digital_twins.dicom._part10 import split_file
from digital_twins.dicom._requestor import DimseFailedError, run_blocking
from digital_twins.dicom._scu import get, move_async, study_keys
from digital_twins.dicom._web_download import DownloadedStudy, Progress, TemporaryFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._scu import Transfer
    from digital_twins.dicom._stored import Stored

_SETTLE_S = 10.0


def download_study(
    remote: Remote,
    study_uid: str,
    folder: str | Path | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    receive_at: tuple[str, int] | None = None,
) -> DownloadedStudy:
    """Fetch every object of a study into files; one object at a time is in memory.

    Parameters
    ----------
    folder
        Where the files go and stay, each under its SOP Instance UID; by default a temporary folder that lives
        as long as the result.
    progress
        Called after each object; the number of bytes to come is not known.
    receive_at
        Address and port to open for the time of a C-MOVE; the archive must know our calling AE title there.
        None asks by C-GET.

    Raises
    ------
    DimseFailedError
        No connection, rejected, nothing could be sent, or some objects failed.
    StorageError
        The port is occupied, or a file cannot be written.
    """
    keep = TemporaryFolder() if folder is None else None
    target = Path(folder or "") if keep is None else keep.path
    target.mkdir(parents=True, exist_ok=True)
    arriving = _Arriving(target, progress)
    if receive_at is None:
        done = get(remote, {"StudyInstanceUID": study_uid}, into=arriving.keep)
    else:
        done = run_blocking(_by_move(remote, study_uid, arriving, receive_at=receive_at))
    if done.failed:
        raise DimseFailedError(
            f"The study was not fetched whole from {remote.called_ae}.",
            f"{done.failed} objects failed.",
            "Look at the archive's log, and fetch the study again.",
        )
    return DownloadedStudy(list(arriving.paths.values()), keep)


class _Arriving:
    """Writes objects into a folder and tells how far it is."""

    def __init__(self, folder: Path, progress: Callable[[Progress], None] | None) -> None:
        self._folder, self._progress = folder, progress
        self.paths: dict[str, Path] = {}
        self._bytes = 0

    def keep(self, data: bytes) -> None:
        uid = split_file(data).sop_instance_uid
        self._incoming(uid).write_bytes(data)
        self._name(uid)
        self._count(len(data))

    def take(self, stored: Stored, source: Path) -> None:
        shutil.copyfile(source, self._incoming(stored.sop_uid))
        self._name(stored.sop_uid)
        self._count(stored.size_bytes)

    def _incoming(self, uid: str) -> Path:
        if not uid.replace(".", "").isdigit():
            raise InputError("The object was refused.", "Its UID is none.", "Repair it at its source.")
        return self._folder / f".{uid}.incoming"

    def _name(self, uid: str) -> None:
        """Give a file that is whole the name that a reader looks for."""
        self.paths[uid] = self._incoming(uid).replace(self._folder / f"{uid}.dcm")

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._progress is not None:
            self._progress(Progress(len(self.paths), self._bytes, None))


async def _by_move(
    remote: Remote, study_uid: str, arriving: _Arriving, *, receive_at: tuple[str, int]
) -> Transfer:
    from digital_twins.audit import OUTBOX_MIGRATIONS
    from digital_twins.dicom._listener import Access, start_listener
    from digital_twins.dicom._peers import PeerTable
    from digital_twins.dicom._schema import MIGRATIONS
    from digital_twins.dicom._store import DicomStore
    from digital_twins.storage import BlobStore, Database

    room = TemporaryFolder()
    with closing(Database(room.path / "index.db", migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS))) as database:
        store = DicomStore(database, BlobStore(room.path / "blobs"))

        def stored(one: Stored) -> None:
            path = store.blobs.path(one.digest)
            arriving.take(one, path)
            path.unlink()  # the copy is enough

        listener = await start_listener(
            store,
            host=receive_at[0],
            port=receive_at[1],
            ae_title=remote.calling_ae,
            on_stored=stored,
            access=Access(peers=PeerTable.only(remote.called_ae), tls=remote.tls),
        )
        try:
            done = await move_async(remote, remote.calling_ae, study_keys(study_uid), STUDY_ROOT_MOVE)
            async with asyncio.timeout(_SETTLE_S):
                while listener.associations:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise DimseFailedError(
                f"The study was not fetched from {remote.called_ae}.",
                "Its association to us did not end.",
                "Fetch the study again.",
            ) from None
        finally:
            await listener.close()
    return done

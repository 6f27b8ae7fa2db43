"""A study from a DICOMweb server into files, piece by piece, and on after a broken connection."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from digital_twins._errors import InputError
from digital_twins.dicom._multipart import PartSplitter
from digital_twins.dicom._part10 import split_file
from digital_twins.dicom._text import quiet_pydicom
from digital_twins.dicom._walk import LayoutError
from digital_twins.dicom._web_requests import OBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedWriter

    import httpx
    from pydicom.dataset import Dataset

_UID = re.compile(r"[0-9][0-9.]{0,63}")
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download has come.

    Attributes
    ----------
    total_bytes
        Length of the whole answer, None when the server does not say it.
    """

    instances: int
    done_bytes: int
    total_bytes: int | None


class DownloadedStudy(Sequence["Dataset"]):
    """The files of a study: an item is read from its file when it is asked for, and not kept.

    Parameters
    ----------
    paths
        The DICOM files in the order in which they came.
    keep
        What has to live as long as the files, e.g. their temporary folder.
    """

    def __init__(self, paths: Sequence[Path], keep: object = None) -> None:
        self.paths = tuple(paths)
        self._keep = keep

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice) -> DownloadedStudy: ...
    def __getitem__(self, index: int | slice) -> Dataset | DownloadedStudy:
        from pydicom import dcmread

        if isinstance(index, slice):
            return DownloadedStudy(self.paths[index], self._keep)
        with quiet_pydicom():
            return dcmread(self.paths[index])


class TemporaryFolder:
    """A folder that goes with this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="study-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Download:
    """One study on its way to a folder; the clients feed it.

    Parameters
    ----------
    folder
        Where the files go, each under its SOP Instance UID; made when missing. None: a temporary folder that
        lives as long as the study.
    """

    def __init__(self, folder: str | Path | None, progress: Callable[[Progress], None] | None) -> None:
        self._keep = TemporaryFolder() if folder is None else None
        self.folder = Path(folder or "") if self._keep is None else self._keep.path
        self.folder.mkdir(parents=True, exist_ok=True)
        self._progress = progress
        self._paths: dict[str, Path] = {}
        self._file: BufferedWriter | None = None
        self._splitter: PartSplitter | None = None
        self._done, self._tag = 0, ""
        self._total: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the next request, which ask for what is missing when the server can give it."""
        headers = {"Accept": OBJECTS, "Accept-Encoding": "identity"}
        if self._tag and self._done:
            headers |= {"Range": f"bytes={self._done}-", "If-Range": self._tag}
        return headers

    @property
    def done_bytes(self) -> int:
        """Bytes of the body that are written."""
        return self._done

    def start(self, response: httpx.Response) -> None:
        """Take the head of an answer: the first one, or the one that continues it."""
        if response.status_code == 206 and self._splitter is not None:
            return
        self._close()
        self._splitter = PartSplitter(response.headers.get("content-type", ""))
        length = response.headers.get("content-length", "")
        plain = response.headers.get("content-encoding", "identity") == "identity"
        self._total = int(length) if length.isdecimal() and plain else None
        resumable = response.headers.get("accept-ranges") == "bytes" and self._total is not None
        tag = response.headers.get("etag", "")
        self._tag = tag if resumable and not tag.startswith("W/") else ""
        self._done = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body; raises InputError for a malformed one, OSError from the disk."""
        assert self._splitter is not None
        self._done += len(chunk)
        for piece in self._splitter.feed(chunk):
            if isinstance(piece, dict):
                self._file = (self.folder / ".incoming").open("wb")
            elif piece is None:
                self._keep_file()
            elif self._file is not None:
                self._file.write(piece)
        if self._progress is not None:
            self._progress(Progress(len(self._paths), self._done, self._total))

    def finish(self) -> DownloadedStudy:
        """Return the study; raises InputError when the body ended early."""
        assert self._splitter is not None
        self._splitter.finish()
        return DownloadedStudy(list(self._paths.values()), self._keep)

    def abandon(self) -> None:
        """Remove the file that is not whole."""
        self._close()
        (self.folder / ".incoming").unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _keep_file(self) -> None:
        self._close()
        incoming = self.folder / ".incoming"
        with incoming.open("rb") as file:
            head: Any = file.read(_HEAD_BYTES)
        try:
            uid = split_file(head).sop_instance_uid
        except LayoutError:
            uid = ""
        if not _UID.fullmatch(uid):
            raise InputError(
                "The server sent something that is no DICOM file.",
                "A part of its answer has no file meta information.",
                "Report it to the operator of the server.",
            )
        self._paths[uid] = incoming.replace(self.folder / f"{uid}.dcm")

"""A folder of DICOM files without its patients: one file in, one file out or one reason why not."""

from __future__ import annotations

import secrets
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import dcmread

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.governance.deidentification._media import write_media
from digital_twins.governance.deidentification._object import DicomDeidentifier, Identity, is_media_directory

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator


_NOT_DICOM = "not a DICOM file"
_CHUNK = 16


@dataclass(slots=True)
class FolderReport:
    """What became of a folder.

    Parameters
    ----------
    identities
        Old and new identity of every object written: the re-identification table. It names patients.
    refused
        Reason by file, relative to the folder, of every file that was not written.
    directories
        The DICOMDIRs of the folder, relative to it: none is copied, a new one is written in their place.
    listed
        Number of objects in the new DICOMDIR.
    """

    identities: list[Identity] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    listed: int = 0

    @property
    def faces(self) -> int:
        """Number of objects from which a face can be rendered."""
        return sum(each.face for each in self.identities)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and reasons, without any old identity."""
        return {
            "written": len(self.identities),
            "patients": len({each.pseudonym for each in self.identities}),
            "faces_can_be_rendered_from": self.faces,
            "dicomdir": {"left_out": self.directories, "objects_in_new_one": self.listed},
            "refused": len(self.refused),
            "reasons": dict(Counter(self.refused.values())),
            "refused_files": self.refused,
        }


def deidentify_folder(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    deidentifier: DicomDeidentifier,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """De-identify every DICOM file of a folder and its folders.

    Files appear as ``<pseudonym>/<new StudyInstanceUID>/<new SOPInstanceUID>.dcm``, whole or not at all;
    running it again writes the same files again. Files that are refused are not copied. Where the folder
    holds a DICOMDIR, the files get the names that media allow, and a new DICOMDIR is written over them.

    Parameters
    ----------
    source, target
        Folders; the target must not lie in the source.
    deidentifier
        What to do.
    workers
        Processes.
    progress
        Called with the number of files done and of all files.

    Raises
    ------
    InputError
        The source is no folder, or the target lies in it.
    """
    root, out = Path(source).resolve(), Path(target).resolve()
    if not root.is_dir():
        raise InputError("There is nothing to de-identify.", "The source is not a folder.", "Give a folder.")
    if out == root or root in out.parents:
        raise InputError(
            "The target cannot be used.",
            "It lies in the source and would be read too.",
            "Give another folder.",
        )
    paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    report, written, media = FolderReport(), [], ""
    for done, (path, result) in enumerate(_each(paths, out, deidentifier, workers), start=1):
        name = path.relative_to(root).as_posix()
        if isinstance(result, _Written):
            report.identities.append(result.identity)
            written.append(result.path)
        elif isinstance(result, _Directory):
            report.directories.append(name)
            media = media or result.new_uid
        else:
            report.refused[name] = result
        if progress is not None:
            progress(done, len(paths))
    if written and report.directories:
        report.listed = write_media(out, written, media)
    return report


@dataclass(frozen=True, slots=True)
class _Written:
    identity: Identity
    path: Path


@dataclass(frozen=True, slots=True)
class _Directory:
    """A DICOMDIR, and the UID of the one that takes its place."""

    new_uid: str


def _each(
    paths: list[Path], out: Path, deidentifier: DicomDeidentifier, workers: int
) -> Iterator[tuple[Path, _Written | _Directory | str]]:
    if workers <= 1:
        for path in paths:
            yield path, _one(path, out, deidentifier)
        return
    # a fork of a process with threads (a gateway's, or JAX's) may lock up
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        count = len(paths)
        results = pool.map(_one, paths, [out] * count, [deidentifier] * count, chunksize=_CHUNK)
        yield from zip(paths, results, strict=True)


def _one(path: Path, out: Path, deidentifier: DicomDeidentifier) -> _Written | _Directory | str:
    """Return what was written of a file, or why nothing was."""
    try:
        dataset = dcmread(path)
    except Exception:  # noqa: BLE001  (a foreign file raises anything)
        return _NOT_DICOM
    if is_media_directory(dataset):
        return _Directory(deidentifier.new_uid(str(dataset.file_meta.get("MediaStorageSOPInstanceUID", ""))))
    try:
        identity = deidentifier.deidentify(dataset)
        folder = out / identity.pseudonym / str(dataset.StudyInstanceUID)
        folder.mkdir(parents=True, exist_ok=True)
        final = folder / f"{identity.new_sop_instance_uid}.dcm"
        temporary = final.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            dataset.save_as(temporary, enforce_file_format=True)
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
    except DigitalTwinError as error:
        return error.why
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  (a damaged object raises anything; it is not written)
        return f"it cannot be read or written ({type(error).__name__})"
    return _Written(identity, final)

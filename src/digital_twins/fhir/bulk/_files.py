"""The files of an export: NDJSON, one resource a line, in parts of bounded size."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from digital_twins.fhir._definitions import definitions
from digital_twins.storage import SealedFiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LINES_A_FILE = 100_000
_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
_ALWAYS = frozenset({"resourceType", "id", "meta"})


class NdjsonFiles:
    """Writes resources into ``<name>.<part>.ndjson`` under a folder, at most 100,000 lines each.

    Parameters
    ----------
    folder
        Where the files go; it exists.
    lines_a_file
        Lines after which a new part begins.
    files
        Opens them, encrypted or in clear; the default writes them in clear.
    """

    def __init__(
        self, folder: Path, *, lines_a_file: int = LINES_A_FILE, files: SealedFiles | None = None
    ) -> None:
        self._folder = folder
        self._files = files or SealedFiles(None, "")
        self._limit = lines_a_file
        self._open: dict[str, BinaryIO] = {}
        self._parts: dict[str, int] = {}
        self.written: dict[tuple[str, str], dict[str, Any]] = {}
        """``{"type", "name", "count"}`` of each file, by the kind of output and the name of the file."""

    def write(self, kind: str, body: bytes, *, output: str = "output") -> None:
        """Append one resource to the files of its type, for one array of the manifest."""
        stem = kind if output == "output" else f"{output}-{kind}"
        part = self._parts.setdefault(stem, 1)
        name = f"{stem}.{part}.ndjson"
        row = self.written.setdefault((output, name), {"type": kind, "name": name, "count": 0})
        stream = self._open.get(stem)
        if stream is None:
            stream = self._open[stem] = self._files.create(self._folder / name)
        stream.write(body)
        stream.write(b"\n")
        row["count"] += 1
        if row["count"] >= self._limit:
            self._finish(stem)
            self._parts[stem] = part + 1

    def of(self, output: str) -> list[dict[str, Any]]:
        """Return the files of one array of the manifest."""
        return [row for (kind, _), row in self.written.items() if kind == output]

    def _finish(self, stem: str) -> None:
        with self._open.pop(stem) as stream:
            stream.flush()
            if isinstance(stream, io.BufferedWriter):  # an encrypted file syncs itself, at its end
                os.fsync(stream.fileno())

    def close(self) -> None:
        """Make every file durable and close it."""
        for stem in list(self._open):
            self._finish(stem)


def cut_to(body: bytes, kind: str, elements: Sequence[str]) -> bytes:
    """Return the body with its mandatory elements and those named, tagged SUBSETTED (``_elements``).

    A name may carry its type (``Patient.name``) and then concerns that type only; a type that no name
    concerns is returned whole.
    """
    own = {e.rpartition(".")[2] for e in elements if "." not in e or e.partition(".")[0] == kind}
    if not own:
        return body
    shape = definitions().structures[kind]
    keep = _ALWAYS | {name for name, row in shape.items() if row[0]}
    keep |= {name for name, row in shape.items() if name in own or (len(row) > 3 and row[3] in own)}
    resource = orjson.loads(body)
    cut = {name: value for name, value in resource.items() if name.lstrip("_") in keep}
    meta = cut.setdefault("meta", {})
    meta["tag"] = [*meta.get("tag", ()), _SUBSETTED]
    return orjson.dumps(cut)

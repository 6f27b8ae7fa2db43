"""Time stamps of a trail's checkpoints by an outside authority (RFC 3161)."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError, MissingExtraError, StorageError
from digital_twins.audit._checkpoint import CheckpointFile, parse_checkpoint
from digital_twins.audit._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT_S = 20.0
_MOST_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A checkpoint and when an authority saw it.

    Attributes
    ----------
    size
        Number of rows that the checkpoint covers.
    at_utc
        Time that the authority states.
    note
        The checkpoint, a signed note.
    response
        The authority's answer, DER (TimeStampResp).
    """

    size: int
    at_utc: datetime
    note: str
    response: bytes


def timestamp_trail(path: str | os.PathLike[str], url: str, *, authority: Path) -> Timestamp:
    """Let an authority stamp the newest checkpoint, check its answer, and keep it in ``<trail>.timestamps``.

    Parameters
    ----------
    path
        The trail's file.
    url
        Address of the authority (RFC 3161 section 3.4). Only a digest goes there.
    authority
        PEM file with the root of its certificate.

    Raises
    ------
    MissingExtraError
        rfc3161-client is not installed.
    ConflictError
        There is no checkpoint yet.
    InputError
        The authority refused, or its answer is not a right one.
    StorageError
        It cannot be reached, or the file cannot be written.
    """
    client = _client()
    trail = Path(path)
    newest = CheckpointFile(trail.with_suffix(".checkpoints")).newest()
    if newest is None:
        raise ConflictError(
            "Nothing was stamped.", "The trail has no checkpoint.", "Start the node: it signs the trail."
        )
    request = client.TimestampRequestBuilder().data(newest.note.encode()).nonce(nonce=True).build()
    answer = _post(url, request.as_bytes())
    stamp = _checked(newest.note, answer, authority, nonce=request.nonce)
    line = {"note": stamp.note, "response": base64.b64encode(answer).decode("ascii")}
    try:
        with trail.with_suffix(".timestamps").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            "The time stamp was not kept.", f"Writing failed ({type(error).__name__}).", "Free the disk."
        ) from error
    return stamp


def check_timestamps(
    path: str | os.PathLike[str], authority: Path
) -> tuple[tuple[Timestamp, ...], tuple[Problem, ...]]:
    """Check every kept time stamp against its checkpoint and the authority's root.

    The checkpoints of good stamps are anchors: write their notes to a file and give it to `verify_trail`.

    Parameters
    ----------
    path
        The trail's file.
    authority
        PEM file with the root of the authority's certificate.

    Returns
    -------
    tuple
        The good stamps, oldest first, and what is wrong with the others.

    Raises
    ------
    MissingExtraError
        rfc3161-client is not installed.
    StorageError
        The root cannot be read.
    """
    _client()
    try:
        lines: Sequence[str] = Path(path).with_suffix(".timestamps").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = ()
    good, problems = [], []
    for number, line in enumerate(lines, start=1):
        try:
            kept = json.loads(line)
            good.append(_checked(kept["note"], base64.b64decode(kept["response"]), authority))
        except (InputError, ValueError, KeyError, TypeError):
            problems.append(Problem(None, f"time stamp {number} does not belong to its checkpoint"))
    return tuple(good), tuple(problems)


def _checked(note: str, answer: bytes, authority: Path, *, nonce: int | None = None) -> Timestamp:
    client = _client()
    checkpoint = parse_checkpoint(note)
    if checkpoint is None:
        raise _refused("it is about something that is no checkpoint")
    builder = client.VerifierBuilder().add_root_certificate(_root(authority))
    if nonce is not None:
        builder = builder.nonce(nonce)
    try:
        response = client.decode_timestamp_response(answer)
        builder.build().verify_message(response, note.encode())
    except (ValueError, client.VerificationError) as error:
        raise _refused("the answer is not a time stamp of this checkpoint by this authority") from error
    at_utc = response.tst_info.gen_time.astimezone(UTC)
    return Timestamp(checkpoint.size, at_utc, note, answer)


def _root(authority: Path) -> Any:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(authority.read_bytes())
    except (OSError, ValueError) as error:
        raise StorageError(
            "The time stamps were not checked.", "The authority's root cannot be read.", "Give its PEM file."
        ) from error


def _post(url: str, body: bytes) -> bytes:
    import httpx

    headers = {"content-type": "application/timestamp-query", "accept": "application/timestamp-reply"}
    try:
        with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False) as http:
            answer = http.post(url, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StorageError(
            "Nothing was stamped.",
            f"The authority cannot be reached ({type(error).__name__}).",
            "Check the address and try again.",
        ) from error
    if answer.status_code != 200 or len(answer.content) > _MOST_BYTES:
        raise _refused(f"the authority answered HTTP {answer.status_code}")
    return answer.content


def _client() -> Any:
    try:
        import rfc3161_client
    except ModuleNotFoundError as error:
        raise MissingExtraError("rfc3161-client", "signing") from error
    return rfc3161_client


def _refused(why: str) -> InputError:
    return InputError(
        "The time stamp was refused.", f"{why[0].upper()}{why[1:]}.", "Check which authority was asked."
    )

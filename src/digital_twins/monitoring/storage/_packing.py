"""Arrays as compressed bytes, and back: a head that names them, then their own bytes in one piece."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from digital_twins._errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_MARK = b"\xc1\x01"  # begins no msgpack, no zlib stream and no zip file, which versions before wrote
_HEAD_BYTES = 4


class _Head(msgspec.Struct, array_like=True):
    codec: Literal["lz4_raw", "zstd"]
    size: int
    arrays: list[tuple[str, str, tuple[int, ...]]]


_DECODER = msgspec.msgpack.Decoder(_Head)


def pack_arrays(arrays: Mapping[str, NDArray[Any]], *, codec: Literal["lz4_raw", "zstd"]) -> bytes:
    """Return arrays of numbers as bytes; `lz4_raw` is quicker, `zstd` smaller.

    Every bit of the numbers comes back by `unpack_arrays`.
    """
    import pyarrow as pa

    whole = {name: np.ascontiguousarray(each) for name, each in arrays.items()}
    body = b"".join(each.tobytes() if each.ndim == 0 else each.data for each in whole.values() if each.size)
    named = [(name, each.dtype.str, each.shape) for name, each in whole.items()]
    head = msgspec.msgpack.encode(_Head(codec, len(body), named))
    level = 1 if codec == "zstd" else None
    squeezed = pa.Codec(codec, compression_level=level).compress(body, asbytes=True)
    return b"".join((_MARK, len(head).to_bytes(_HEAD_BYTES, "big"), head, squeezed))


def unpack_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Return what `pack_arrays` took; arrays that may be written to.

    Raises
    ------
    StorageError
        These are no such bytes.
    """
    import pyarrow as pa

    if data.startswith(b"PK"):  # a snapshot of a version before
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)
    try:
        if not data.startswith(_MARK):
            raise ValueError
        at = len(_MARK) + _HEAD_BYTES
        end = at + int.from_bytes(data[len(_MARK) : at], "big")
        head = _DECODER.decode(data[at:end])
        codec = pa.Codec(head.codec)
        body = bytearray(codec.decompress(data[end:], decompressed_size=head.size, asbytes=True))
        found, place = {}, 0
        for name, kind, shape in head.arrays:
            count = int(np.prod(shape))
            found[name] = (
                np.frombuffer(body, kind, count, place).reshape(shape) if count else np.zeros(shape, kind)
            )
            place += count * np.dtype(kind).itemsize
    except (ValueError, TypeError, OSError, msgspec.MsgspecError, pa.ArrowException):
        raise StorageError(
            "The monitor's stored state cannot be read.",
            "Its bytes are not of this program's form.",
            "Restore the folder from a backup, or begin with an empty one.",
        ) from None
    return found

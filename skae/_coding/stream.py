"""The bytes of a stream: a header, chunks with checksums, an end.

The header has eight bytes of name and format, and sixteen of the codec's fingerprint. A
chunk has its numbers of rows and of bytes, a checksum and the bytes. The checksum continues
that of the previous chunk, so that no chunk can be left out or moved. The end is a chunk
without rows.
"""

import dataclasses
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

FORMAT = 1

_NAME = b"skaecod"
_HEADER = struct.Struct("<7sB16s")
_CHUNK = struct.Struct("<III")

# Most rows of a chunk, and most bytes that reading one asks for.
MOST_ROWS = 1 << 12
_MOST_BYTES = 1 << 30


def fingerprint(*parts: Any) -> bytes:
    """Hash arrays, settings and objects made of them; the same on every machine."""
    digest = hashlib.sha256()
    _feed(digest, parts)
    return digest.digest()[:16]


def write_stream(mark: bytes, chunks: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """The pieces of a stream, given the number of rows and the bytes of each chunk."""
    piece = _HEADER.pack(_NAME, FORMAT, mark)
    yield piece
    checksum = zlib.crc32(piece)
    for n_rows, data in chunks:
        checksum = _checksum(checksum, n_rows, data)
        yield _CHUNK.pack(n_rows, len(data), checksum) + data
    yield _CHUNK.pack(0, 0, _checksum(checksum, 0, b""))


def read_stream(mark: bytes, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The chunks of a stream, up to its end.

    Raises
    ------
    ValueError
        If the stream is cut short, damaged, or of another format or codec.
    """
    piece = _read(file, _HEADER.size)
    name, number, found = _HEADER.unpack(piece)
    if name != _NAME:
        raise ValueError("This is no stream of a LatentCodec. Pass what encode returned.")
    if number != FORMAT:
        raise ValueError(
            f"The stream has format {number}, and this version of skae reads format {FORMAT}. "
            f"Decode it with the version that wrote it."
        )
    if found != mark:
        raise ValueError(
            f"The stream was written by the codec {found.hex()}, and this one is {mark.hex()}. "
            f"Decode it with the codec that wrote it."
        )
    checksum = zlib.crc32(piece)
    while True:
        n_rows, n_bytes, expected = _CHUNK.unpack(_read(file, _CHUNK.size))
        if n_rows > MOST_ROWS or n_bytes > _MOST_BYTES:
            raise ValueError("The stream is damaged: a chunk is too long. Encode it again.")
        data = _read(file, n_bytes)
        checksum = _checksum(checksum, n_rows, data)
        if checksum != expected:
            raise ValueError("The stream is damaged: a checksum does not hold. Encode it again.")
        if n_rows == 0:
            return
        yield n_rows, data


def _checksum(before: int, n_rows: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack("<II", n_rows, len(data)), before))


def _read(file: BinaryIO, length: int) -> bytes:
    data = b""
    # A pipe may give less than it was asked for.
    while len(data) < length and (piece := file.read(length - len(data))):
        data += piece
    if len(data) < length:
        raise ValueError("The stream is cut short. Pass the whole of what encode returned.")
    return data


def _feed(digest: Any, value: Any) -> None:
    """Add a value with its type, so that different trees give different bytes."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        head = (value.dtype.str, value.shape)
        digest.update(repr(head).encode() + np.ascontiguousarray(value).tobytes())
        return
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
        digest.update(repr(value).encode())
        return
    if isinstance(value, dict):
        parts = [part for key in sorted(value, key=str) for part in (str(key), value[key])]
    elif isinstance(value, (list, tuple, np.ndarray)):
        parts = list(value)
    elif callable(value):
        parts = [getattr(value, "__module__", ""), getattr(value, "__qualname__", "")]
    else:
        parts = [_set(value)]
    digest.update(f"{type(value).__name__}({len(parts)}:".encode())
    for part in parts:
        _feed(digest, part)
        digest.update(b",")


def _set(value: Any) -> dict[str, Any]:
    """Attributes of an object; a field that a later version adds counts once it is set."""
    own = vars(value) if hasattr(value, "__dict__") else {}
    if not dataclasses.is_dataclass(value):
        return own
    defaults = {field.name: field.default for field in dataclasses.fields(value)}
    return {
        name: part
        for name, part in own.items()
        if type(part) is not type(defaults.get(name)) or part != defaults.get(name)
    }

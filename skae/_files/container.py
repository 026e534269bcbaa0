"""A .safetensors file: a JSON header, arrays behind it, a checksum over both.

There is one way to write given contents, and the reader refuses files written in any
other. So it needs no list of tricks: it reads the header, writes it again, and compares.
The format is that of https://github.com/huggingface/safetensors, whose library reads
these files too.
"""

import hashlib
import json
import math
import os
import secrets
import stat
from pathlib import Path
from typing import Any

import numpy as np

# In rows of the caller's NaN means missing, and in a range that a feature was never observed.
_WITH_NAN = ("_recent", "scaler.seen")

# Key of the settings in the header's metadata, and of the checksum among them.
_KEY, _CHECKSUM = "skae", "sha256"

# Most bytes of a header.
_MOST_HEADER = 1_000_000

# Longest axis: what fits into memory, and into NumPy's index.
_MOST_LENGTH = 2**48

_DTYPES = {
    "BOOL": np.dtype("?"), "U8": np.dtype("u1"), "I8": np.dtype("i1"), "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"), "I64": np.dtype("<i8"), "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"), "F64": np.dtype("<f8"),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

# Name, dtype and shape of each array.
Layout = dict[str, tuple[np.dtype, tuple[int, ...]]]


def canonical(tree: Any) -> str:
    """The only JSON text that files may have for a tree."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse(text: str) -> Any:
    """The tree of a canonical JSON text.

    Raises
    ------
    ValueError
        If it is not JSON, or not the text that :func:`canonical` makes: with spaces,
        keys given twice, or NaN.
    """
    try:
        tree = json.loads(text)
        if canonical(tree) == text:
            return tree
    except RecursionError:
        raise ValueError("its header is nested too deeply.") from None
    except ValueError as error:
        raise ValueError(f"its header is not JSON: {str(error)[:80]}.") from None
    raise ValueError("its header is not canonical JSON.")


def write(path: Path, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a file, or leave the old one as it is.

    Raises
    ------
    ValueError
        If a value is not finite, or the settings are too long.
    ValueError
        If an array has a dtype that such files cannot hold.
    OSError
        If the file cannot be written.
    """
    layout: Layout = {}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in _NAMES:
            raise ValueError(f"{name} is an array of {array.dtype}, which a file cannot hold.")
        _check_finite(name, array)
        layout[name] = (array.dtype.newbyteorder("<"), array.shape)
    body = [_bytes_of(np.asarray(arrays[k], layout[k][0])) for k in _order(layout)]
    header = _header(settings | {_CHECKSUM: _checksum(settings, layout, body)}, layout)
    if len(header) > _MOST_HEADER:
        raise ValueError(
            f"The settings take {len(header):,} bytes, and may take {_MOST_HEADER:,}. Fit on fewer "
            f"or shorter feature names, or on an array."
        )
    replace(path, [header, *body])


class Reader:
    """An open file with a checked header; :meth:`arrays` reads the rest.

    Attributes
    ----------
    settings : dict
    layout : dict
        Name, dtype and shape of each array.
    """

    def __init__(self, path: Path):
        self._path = path
        # Opening a pipe would wait for its other end.
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise ValueError("it is not a regular file.")
        self._file = open(path, "rb")  # noqa: SIM115
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read_header(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(8), "little")
        if size < 8 or length > min(_MOST_HEADER, size - 8):
            raise ValueError("it is cut short, or no .safetensors file.")
        raw = self._file.read(length)
        header = parse(raw.decode("ascii").rstrip(" "))
        metadata = header.pop("__metadata__", None) if type(header) is dict else None
        if type(metadata) is not dict or type(text := metadata.get(_KEY)) is not str:
            raise ValueError("its header has no settings: it was not written by skae.")
        settings = parse(text)
        if type(settings) is not dict or type(settings.get(_CHECKSUM)) is not str:
            raise ValueError("it has no checksum: it was not written by skae.")
        self.layout = {name: _entry(name, entry) for name, entry in header.items()}
        if _header(settings, self.layout) != length.to_bytes(8, "little") + raw:
            raise ValueError("its header does not describe its arrays as skae does.")
        self._size = sum(_n_bytes(entry) for entry in self.layout.values())
        if (described := 8 + length + self._size) != size:
            raise ValueError(f"it has {size:,} bytes, but its header tells of {described:,}.")
        self._checksum = settings.pop(_CHECKSUM)
        self.settings = settings

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, after a check of the checksum and that every value is finite."""
        body = bytearray(self._size)
        if self._file.readinto(body) != self._size:
            raise ValueError("it became shorter while it was read.")
        if _checksum(self.settings, self.layout, [body]) != self._checksum:
            raise ValueError("its checksum does not hold: the file is damaged.")
        arrays, start = {}, 0
        for name in _order(self.layout):
            dtype, shape = self.layout[name]
            array = np.ndarray(shape, dtype, body, start)
            _check_finite(name, array)
            arrays[name] = array.astype(dtype.newbyteorder("="))
            start += array.nbytes
        return arrays


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    holds = ~np.isinf(array) if name.endswith(_WITH_NAN) else np.isfinite(array)
    if not holds.all():
        raise ValueError(f"{name[:80]} holds values that are not finite.")


def _bytes_of(array: np.ndarray) -> np.ndarray:
    """The bytes of an array in C order, without a copy where they lie so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _entry(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...]]:
    """Dtype and shape of one array of a header."""
    fields = entry if type(entry) is dict else {}
    kind, shape = fields.get("dtype"), fields.get("shape")
    if type(kind) is not str or kind not in _DTYPES:
        raise ValueError(f"the array {name[:80]!r} has the unknown dtype {str(kind)[:80]!r}.")
    if type(shape) is not list or len(shape) > 8 or not all(map(_is_length, shape)):
        raise ValueError(f"the array {name[:80]!r} has the shape {str(shape)[:80]}.")
    return _DTYPES[kind], tuple(shape)


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_LENGTH


def _header(settings: dict[str, Any], layout: Layout) -> bytes:
    """Length and header. Arrays with the widest numbers come first, so that all are aligned."""
    header: dict[str, Any] = {"__metadata__": {_KEY: canonical(settings)}}
    end = 0
    for name in _order(layout):
        dtype, shape = layout[name]
        start, end = end, end + _n_bytes(layout[name])
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    raw = canonical(header).encode("ascii")
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _checksum(settings: dict[str, Any], layout: Layout, body: list[Any]) -> str:
    """Checksum of everything in the file except the checksum."""
    digest = hashlib.sha256(_header(settings, layout))
    for part in body:
        digest.update(part)
    return digest.hexdigest()


def _order(layout: Layout) -> list[str]:
    return sorted(layout, key=lambda name: (-layout[name][0].itemsize, name))


def _n_bytes(entry: tuple[np.dtype, tuple[int, ...]]) -> int:
    return entry[0].itemsize * math.prod(entry[1])


def replace(path: Path, parts: list[Any]) -> None:
    """Put a complete new file in the place of the old one."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a directory. Pass the name of a file.")
    new = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(new, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise

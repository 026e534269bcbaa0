"""Integers as bytes: a table of frequencies for each column, and a range coder.

Once the tables are made, all arithmetic is on integers, so that every machine decodes the
same. The coder is constriction's range coder (Bamler, "Understanding entropy coding
with asymmetric numeral systems", 2022; Martin, "Range encoding", 1979).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from skae._runtime.tuning import TABLE_PRIOR_ROWS

# Sum of the frequencies in a table, equal to the resolution of the coder.
_TOTAL = 1 << 24

# Most entries of a table. If a column spreads wider, its low bits are coded as they are.
_MOST_ENTRIES = 1 << 11
_MOST_LOW_BITS = 20

# Farthest value of a first entry, its low bits included, so that all values of a table are int64.
_FARTHEST = 3 << 61


@dataclass(frozen=True)
class Table:
    """Frequencies of the integers of one column.

    Attributes
    ----------
    low : int
        Value of the first entry, without its low bits.
    n_low_bits : int
        Number of low bits, which are coded as they are.
    frequencies : ndarray of int64
        Positive, with the sum ``_TOTAL``; the last, the escape, is for all other values.
    """

    low: int
    n_low_bits: int
    frequencies: np.ndarray

    @property
    def escape(self) -> int:
        return len(self.frequencies) - 1

    def symbols(self, values: np.ndarray) -> np.ndarray:
        """The entry of each integer."""
        high = values >> self.n_low_bits
        inside = (high >= self.low) & (high < self.low + self.escape)
        return np.where(inside, high - self.low, self.escape).astype(np.int32)

    def bits(self, values: np.ndarray) -> np.ndarray:
        """How many bits each integer takes."""
        bits = -np.log2(self.frequencies / _TOTAL) + self.n_low_bits
        bits[self.escape] += 64
        return bits[self.symbols(values)]

    @property
    def model(self) -> Any:
        """The coder's model. Its arithmetic is exact on integers."""
        return constriction().stream.model.Categorical(
            self.frequencies.astype(np.float64), perfect=False
        )


def fit_table(values: np.ndarray) -> Table:
    """Count integers, and add a small geometric density for those that did not occur."""
    spread = np.abs(values - int(np.median(values))).mean()
    reach = int(values.max()) - int(values.min()) + 2 * (int(4.0 * spread) + 8)
    n_low_bits = min(max(0, (reach // _MOST_ENTRIES).bit_length()), _MOST_LOW_BITS)
    values = values >> n_low_bits
    middle = int(np.median(values))
    spread = max(float(np.abs(values - middle).mean()), 0.05)
    margin = int(4.0 * spread) + 8
    half = _MOST_ENTRIES // 2
    low = max(int(values.min()) - margin, middle - half)
    high = min(int(values.max()) + margin, middle + half)
    grid = np.arange(low, high + 1)
    # The ratio at which the mean distance from the middle is the spread.
    ratio = spread / (1.0 + np.hypot(1.0, spread))
    smooth = (1.0 - ratio) / (1.0 + ratio) * ratio ** np.abs(grid - middle)
    inside = values[(values >= low) & (values <= high)]
    counts = np.bincount(inside - low, minlength=len(grid)) + TABLE_PRIOR_ROWS * smooth
    escapes = len(values) - len(inside) + 0.01
    return Table(low, n_low_bits, _normalized(np.append(counts, escapes)))


def _normalized(counts: np.ndarray) -> np.ndarray:
    """Positive integers in proportion to the counts, with the sum ``_TOTAL``."""
    room = _TOTAL - len(counts)
    frequencies = 1 + np.floor(counts * (room / counts.sum())).astype(np.int64)
    frequencies[np.argmax(frequencies)] += _TOTAL - frequencies.sum()
    return frequencies


class PackedTables(NamedTuple):
    """Tables as arrays of integers: one entry per table, and the frequencies of all tables."""

    low: np.ndarray
    n_low_bits: np.ndarray
    lengths: np.ndarray
    frequencies: np.ndarray


def pack(tables: list[Table]) -> PackedTables:
    low, n_low_bits, lengths = np.array(
        [(table.low, table.n_low_bits, len(table.frequencies)) for table in tables]
    ).T
    frequencies = np.concatenate([table.frequencies for table in tables])
    return PackedTables(low, n_low_bits, lengths, frequencies)


def unpack(packed: PackedTables) -> list[Table]:
    """The tables that :func:`pack` was given.

    Raises
    ------
    ValueError
        If a coder could not use the tables.
    """
    low, n_low_bits, lengths, frequencies = packed
    ends = np.cumsum(lengths)
    fits = len(lengths) > 0 and (lengths > 1).all() and ends[-1] == len(frequencies)
    if not fits or (frequencies < 1).any():
        raise ValueError("tables of frequencies must be of positive integers.")
    if (n_low_bits < 0).any() or (n_low_bits > _MOST_LOW_BITS).any():
        raise ValueError("tables of frequencies have too many low bits.")
    farthest = _FARTHEST >> n_low_bits
    if (low > farthest).any() or (low < -farthest).any():
        raise ValueError("tables of frequencies begin beyond all integers of 64 bits.")
    parts = np.split(frequencies, ends[:-1])
    if any(part.sum() != _TOTAL for part in parts):
        raise ValueError(f"tables of frequencies must add up to {_TOTAL}.")
    numbers = zip(low.tolist(), n_low_bits.tolist(), parts, strict=True)
    return [Table(*fields) for fields in numbers]


def encode_columns(columns: np.ndarray, tables: list[Table]) -> bytes:
    """Integers (n, n_columns) as bytes."""
    encoder, escapes = constriction().stream.queue.RangeEncoder(), []
    for values, table in zip(columns.T, tables, strict=True):
        symbols = table.symbols(values)
        encoder.encode(symbols, table.model)
        if table.n_low_bits:
            low = values & ((1 << table.n_low_bits) - 1)
            encoder.encode(low.astype(np.int32), _uniform(table.n_low_bits))
        escapes.append(values[symbols == table.escape])
    words = encoder.get_compressed().astype("<u4")
    escaped = np.concatenate(escapes).astype("<i8") if escapes else np.empty(0, "<i8")
    return len(words).to_bytes(4, "little") + words.tobytes() + escaped.tobytes()


def decode_columns(data: bytes, n_rows: int, tables: list[Table]) -> np.ndarray:
    """Integers (n_rows, n_columns) that :func:`encode_columns` was given.

    Raises
    ------
    ValueError
        If these bytes were not written with these tables.
    """
    end = 4 + 4 * int.from_bytes(data[:4], "little")
    if len(data) < end or (len(data) - end) % 8:
        raise ValueError("its integers have the wrong length.")
    words = np.frombuffer(data, "<u4", (end - 4) // 4, 4).astype(np.uint32)
    decoder = constriction().stream.queue.RangeDecoder(words)
    escaped = np.frombuffer(data, "<i8", offset=end).astype(np.int64)
    columns = np.empty((n_rows, len(tables)), dtype=np.int64)
    # The decoder raises an AssertionError for bytes that no encoder wrote.
    try:
        for j, table in enumerate(tables):
            columns[:, j], n_used = _decode_column(decoder, n_rows, table, escaped)
            escaped = escaped[n_used:]
    except AssertionError as error:
        raise ValueError("its integers cannot be decoded.") from error
    if len(escaped) or not decoder.maybe_exhausted():
        raise ValueError("it holds more integers than rows.")
    return columns


def _decode_column(
    decoder: Any, n_rows: int, table: Table, escaped: np.ndarray
) -> tuple[np.ndarray, int]:
    """One column, and how many escaped values it took."""
    symbols = decoder.decode(table.model, n_rows).astype(np.int64)
    values = (symbols + table.low) << table.n_low_bits
    if table.n_low_bits:
        values |= decoder.decode(_uniform(table.n_low_bits), n_rows)
    is_escape = symbols == table.escape
    n_used = int(is_escape.sum())
    if n_used > len(escaped):
        raise ValueError("it holds fewer integers than rows.")
    values[is_escape] = escaped[:n_used]
    return values, n_used


def _uniform(n_bits: int) -> Any:
    return constriction().stream.model.Uniform(1 << n_bits)


def constriction() -> Any:
    """The optional library of the coder."""
    try:
        import constriction
    except ImportError as error:
        raise ImportError('LatentCodec needs constriction: pip install "skae[codec]".') from error
    return constriction

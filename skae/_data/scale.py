"""Scaling fitted on the training rows, and its inverse.

Every named scaling is affine, a center and a scale for each feature, and is
fitted in one pass over chunks of rows: NaN cells are left out, rows count by their
weights, and sums are taken in float64. Constant features get scale one.

A scaling also knows the range that it has seen: a network gets nothing far beyond.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from skae._data.convert import missing_mask
from skae._data.reach import Chunks, Ranged, joined, range_of, united, within_fences
from skae._runtime.communicator import ALONE, Communicator, gathered, largest, total
from skae._runtime.tuning import CONSTANT_SHARE, FAR_MARGIN, FEW_VALUES, FLAG_SCALE

# Rows that are sorted at once.
_BLOCK_ROWS = 4096

# Centers of so many scales are added in float64: float32 has steps of a thousandth of a scale.
_FAR_CENTER = 2.0**14


@dataclass
class AffineScaler(Ranged):
    """``(x - center) / scale`` for each feature.

    Attributes
    ----------
    center, scale : ndarray of shape (n_features,), float64
    name : str
        The scaling that was chosen.
    limits : tuple of float or None
        Smallest and largest value of features that look like pixels, in their units.
    sizes : tuple of int
        Features of each category; those of categories come last.
    seen : ndarray of shape (2, n_features) or None
        The scaled range of the training rows; None if it is not known.
    fenced : bool
        Whether training gets rows that are cut off, as they are for predictions.
    margin : float
        How far beyond their range a network gets them, in lengths of the range.
    output_bounds : ndarray of shape (2, n_features) or None
        Smallest and largest value of rows that are given back, in the caller's units.
    """

    center: np.ndarray
    scale: np.ndarray
    name: str
    limits: tuple[float, float] | None = None
    sizes: tuple[int, ...] = ()
    seen: np.ndarray | None = None
    fenced: bool = False
    margin: float = FAR_MARGIN
    output_bounds: np.ndarray | None = None

    def bounds(self) -> np.ndarray | None:
        """The scaled limits of each feature, (2, n_features), if there are any."""
        if self.limits is None:
            return None
        return (np.array(self.limits)[:, None] - self.center) / self.scale

    def with_some(self, columns: list[int], other: "AffineScaler") -> "AffineScaler":
        """A scaler that scales some of the features as another does."""
        center, scale = self.center.copy(), self.scale.copy()
        center[columns], scale[columns] = other.center[columns], other.scale[columns]
        seen = None if self.seen is None else self.seen.copy()
        if seen is not None and other.seen is not None:
            seen[:, columns] = other.seen[:, columns]
        return replace(self, center=center, scale=scale, seen=seen, limits=None)

    def repeated(self, n: int) -> "AffineScaler":
        """A scaler for rows that hold these features ``n`` times, one set after another."""
        center, scale = np.tile(self.center, n), np.tile(self.scale, n)
        seen = None if self.seen is None else np.tile(self.seen, n)
        return replace(self, center=center, scale=scale, seen=seen)

    def transform(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write the scaled rows into ``out`` (in its dtype)."""
        # Values that do not fit into float32 become infinite.
        with np.errstate(over="ignore"):
            if self.name == "none":
                np.copyto(out, rows, casting="unsafe")
            else:
                dtype = np.result_type(rows.dtype, np.float32, out.dtype)
                centered = out if dtype == out.dtype else None
                centered = np.subtract(rows, self.center.astype(dtype), out=centered, dtype=dtype)
                np.divide(centered, self.scale.astype(dtype), out=out, casting="unsafe")
        self._leave_out(out)

    def inverse_transform(self, scaled: np.ndarray) -> np.ndarray:
        """Rows in the units of the training data; float64 if float32 cannot hold these."""
        rows = scaled
        if self.name != "none":
            dtype = np.result_type(scaled.dtype, self._dtype)
            with np.errstate(over="ignore"):
                rows = np.multiply(scaled, self.scale.astype(dtype), dtype=dtype)
                rows += self.center.astype(dtype)
        rows = self._given_back(rows)
        # Rounding must not move values beyond the limits.
        return rows if self.limits is None else rows.clip(*self.limits, out=rows)

    @property
    def is_of_flags(self) -> bool:
        """Whether most of the features are flags, as of one-hot categories, put in pairs' scale."""
        is_flag = self.scale == FLAG_SCALE
        return self.name == "pairs" and not self.sizes and bool(is_flag.mean() > 0.5)

    @property
    def _dtype(self) -> np.dtype:
        """The dtype that holds the rows, and tells them apart where they are far from zero."""
        is_far = bool((np.abs(self.center) > _FAR_CENTER * self.scale).any())
        largest = max(np.abs(self.center).max(), self.scale.max())
        return np.result_type(np.min_scalar_type(largest), np.float64 if is_far else np.float32)


@dataclass
class TransformerScaler(Ranged):
    """A fitted scikit-learn transformer that keeps the number of features."""

    transformer: Any
    name: str = "transformer"
    limits: None = None
    seen: np.ndarray | None = None
    fenced: bool = False
    margin: float = FAR_MARGIN
    output_bounds: np.ndarray | None = None

    def bounds(self) -> None:
        """No limits are known."""

    def transform(self, rows: np.ndarray, out: np.ndarray) -> None:
        with np.errstate(over="ignore"):
            out[:] = self.transformer.transform(rows.astype(np.float64))
        self._leave_out(out)

    def inverse_transform(self, scaled: np.ndarray) -> np.ndarray:
        inverse = self.transformer.inverse_transform(scaled.astype(np.float64))
        return self._given_back(inverse.astype(scaled.dtype))


Scaler = AffineScaler | TransformerScaler


@dataclass
class _Values:
    """Up to ``FEW_VALUES`` + 1 different values of each feature; the rest is NaN."""

    known: np.ndarray | None = None

    @property
    def few(self) -> np.ndarray:
        assert self.known is not None
        return np.isnan(self.known[-1])

    def add(self, rows: np.ndarray) -> None:
        if self.known is None:
            self.known = np.full((FEW_VALUES + 1, rows.shape[1]), np.nan)
        for start in range(0, len(rows), _BLOCK_ROWS):
            few = self.few  # Most features have too many values in the first block.
            if not few.any():
                return
            values = np.vstack([self.known[:, few], rows[start : start + _BLOCK_ROWS, few]])
            values.sort(axis=0)
            values[1:][values[1:] == values[:-1]] = np.nan
            values.sort(axis=0)
            self.known[:, few] = values[: len(self.known)]

    def join(self, communicator: Communicator) -> None:
        """Add the values of all processes."""
        assert self.known is not None
        for known in gathered(communicator, self.known):
            self.add(known)


@dataclass
class _Summary:
    """Weighted count, mean, variance, minimum, maximum and, if there are few, all values."""

    shift: np.ndarray | None = None
    count: Any = 0.0
    total: Any = 0.0
    squares: Any = 0.0
    low: Any = field(default=np.inf)
    high: Any = field(default=-np.inf)
    values: _Values = field(default_factory=_Values)

    def add(self, rows: np.ndarray, weights: np.ndarray | None) -> None:
        missing = missing_mask(rows)
        low, high = rows, rows
        if missing is not None:
            low, high = np.where(missing, np.inf, rows), np.where(missing, -np.inf, rows)
        self.low = np.minimum(self.low, low.min(axis=0))
        self.high = np.maximum(self.high, high.max(axis=0))
        if self.shift is None:
            # Subtracting any value near the data keeps the difference of squares exact.
            self.shift = np.where(np.isfinite(self.low), self.low, 0.0).astype(np.float64)
        rows = np.subtract(rows, self.shift, dtype=np.float64)
        weight = np.ones((len(rows), 1)) if weights is None else weights[:, None]
        if missing is not None:
            rows[missing] = 0.0
        observed = weight if missing is None else weight * ~missing
        self.count = self.count + observed.sum(axis=0)
        # Plain sums: a BLAS product would depend on the number of threads.
        weighted = rows if weights is None else weight * rows
        self.total = self.total + weighted.sum(axis=0)
        self.squares = self.squares + np.multiply(rows, weighted, out=rows).sum(axis=0)

    def join(self, communicator: Communicator) -> None:
        """Make this the summary of the rows of all processes."""
        if communicator.size == 1:
            return
        count = np.broadcast_to(self.count, self.low.shape)
        # All subtract the same, the mean: it is as near the data as a value.
        weight, shifted = total(communicator, [count, count * self.shift + self.total])
        center = shifted / np.maximum(weight, np.finfo(float).tiny)
        moved = self.shift - center
        squares = self.squares + moved * (2 * self.total + moved * count)
        sums = total(communicator, [self.total + moved * count, squares])
        low, high = largest(communicator, [-self.low, self.high])
        self.shift, self.count, (self.total, self.squares) = center, weight, sums
        self.low, self.high = -low, high
        if self.values.known is not None:
            self.values.join(communicator)

    @property
    def mean(self) -> np.ndarray:
        return self.shift + self.total / np.maximum(self.count, np.finfo(float).tiny)

    @property
    def variance(self) -> np.ndarray:
        count = np.maximum(self.count, np.finfo(float).tiny)
        variance = self.squares / count - (self.total / count) ** 2
        # A variance below the rounding error of the sums is zero.
        return np.where(variance > 1e-14 * self.squares / count, variance, 0.0)

    @property
    def is_flag(self) -> np.ndarray:
        """Features of zeros and ones: no other values between them have as large squares."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean_square = self.variance + self.mean**2
        between = (self.low == 0.0) & (self.high == 1.0)
        return between & (mean_square > (1.0 - 1e-12) * self.mean)


def _large_enough(scale: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The scale, where it is no rounding error; else a millionth of what it is too small for.

    That is the feature's own size, and the scale of the features that vary. (Unix times of a few
    minutes vary by less than a millionth of their size, and concentrations by less than a
    millionth of other features, but each of them does vary.) For constant features it is a
    millionth of their size, at least one: a large constant has a large rounding error.
    """
    size = np.abs(center) * CONSTANT_SHARE
    constant = ~(np.isfinite(scale) & (scale > 0))
    varying = scale[~constant & (scale > size)]
    least = np.minimum(size, np.median(varying) * CONSTANT_SHARE) if len(varying) else 0.0
    return np.where(constant, np.maximum(1.0, size), np.maximum(scale, least))


def _standard(summary: _Summary, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    return summary.mean, np.sqrt(summary.variance)


def _flags(summary: _Summary, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Like "standard", but only center features of zeros and ones.

    A flag that is rarely set would be blown up, and many such flags, as one category makes them,
    would be most of what there is to rebuild.
    """
    mean, deviation = _standard(summary, rows)
    return mean, np.where(summary.is_flag, 1.0, deviation)


def _pairs(summary: _Summary, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Like "flags", but flags count as the two of a category of equally frequent values.

    Together, these then vary as much as one scaled number.
    """
    mean, deviation = _standard(summary, rows)
    return mean, np.where(summary.is_flag, FLAG_SCALE, deviation)


def _common(summary: _Summary, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """A center for each feature, one scale for all: the root of the mean variance."""
    mean = summary.mean
    return mean, np.full_like(mean, np.sqrt(summary.variance.mean()))


def _minmax(summary: _Summary, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    low = np.where(np.isfinite(summary.low), summary.low, 0.0)
    return low, np.where(np.isfinite(summary.high), summary.high, 0.0) - low


def _robust(summary: _Summary, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Median and interquartile range, of all rows at once; weights are ignored."""
    everything = np.vstack(list(rows()))
    missing_columns = np.isnan(everything).all(axis=0)
    everything[:, missing_columns] = 0.0
    low, median, high = np.nanpercentile(everything.astype(np.float64), [25, 50, 75], axis=0)
    # Where half of the values are equal and the range is zero, use the standard deviation.
    return median, np.where(high > low, high - low, np.sqrt(summary.variance))


def _mixed(summary: _Summary, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Like "standard", but divide features of few values by half of their range.

    A flag that is set in one row of a thousand has a standard deviation of .03. Divided by
    this, it would make each row that has it set unlike all others. Divided by half of its
    range, it counts as much as a flag that is set in half of the rows.
    """
    mean, deviation = _standard(summary, rows)
    return mean, np.where(summary.values.few, (summary.high - summary.low) / 2, deviation)


def _counts(summary: _Summary, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Divide by the mean: zeros stay zeros, and the mean is one."""
    return np.zeros_like(summary.mean), summary.mean


_SCALINGS: dict[str, Callable[[_Summary, Any], tuple[np.ndarray, np.ndarray]]] = {
    "standard": _standard,
    "flags": _flags,
    "pairs": _pairs,
    "common": _common,
    "minmax": _minmax,
    "robust": _robust,
    "mixed": _mixed,
    "counts": _counts,
}


def _has_like_units(summary: _Summary) -> bool:
    """Whether the features look like pixels: bounded, and in one unit.

    All features that vary start at one common minimum, and at least half of
    them reach half of the common range.
    """
    span = summary.high - summary.low
    varies = np.isfinite(span) & (span > 0)
    if varies.sum() < 2:
        return False
    low, span = summary.low[varies], span[varies]
    return bool((low == low[0]).all() and (span >= span.max() / 2).mean() >= 0.5)


def _fit_transformer(scaling: Any, rows: np.ndarray) -> TransformerScaler:
    if isinstance(scaling, type):
        raise TypeError(
            f"scaling={scaling!r} is a class. Pass an instance, scaling={scaling.__name__}()."
        )
    transformer = clone(scaling)
    scaled = transformer.fit_transform(rows)
    if (shape := np.shape(scaled)) != rows.shape:
        raise ValueError(
            f"scaling={scaling!r} turns rows of {rows.shape[1]} features into shape {shape}; it "
            f"must keep the features. Put it ahead in a Pipeline, and pass scaling='auto'."
        )
    return TransformerScaler(transformer, seen=range_of(scaled))


def needs_all_rows(scaling: Any) -> bool:
    """Whether :func:`fit_scaler` holds all rows in memory at once."""
    return scaling is not None and (not isinstance(scaling, str) or scaling == "robust")


def unscaled(n_features: int) -> AffineScaler:
    """A scaler that leaves rows as they are."""
    return AffineScaler(np.zeros(n_features), np.ones(n_features), "none")


def fit_scaler(
    scaling: Any,
    chunks: Chunks,
    bounded: bool,
    unlike: str = "standard",
    limited: bool = False,
    communicator: Communicator = ALONE,
    fences: np.ndarray | None = None,
) -> Scaler:
    """Fit a scaling.

    Parameters
    ----------
    scaling : {"auto", "standard", "common", "minmax", "robust", "mixed", None} or transformer
    chunks : callable
        Each call gives the rows and their weights in chunks.
    bounded : bool
        The loss needs targets in [0, 1]: "auto" becomes "minmax".
    unlike : str
        The scaling that "auto" becomes if features do not look like pixels.
    limited : bool
        Whether "auto" keeps the limits of features that look like pixels.
    communicator : Communicator
        Whose processes have a part of the rows each.
    fences : ndarray of shape (2, n_features) or None
        Where values are cut off, here and in training.
    """
    if fences is not None:
        chunks = within_fences(chunks, fences)
    scaler = _fitted(scaling, chunks, bounded, unlike, limited, communicator)
    scaler.fenced = fences is not None
    return scaler


def _fitted(
    scaling: Any,
    chunks: Chunks,
    bounded: bool,
    unlike: str,
    limited: bool,
    communicator: Communicator,
) -> Scaler:
    if scaling is not None and not isinstance(scaling, str):
        everything = np.vstack([rows for rows, _ in chunks()]).astype(np.float64)
        return _fit_transformer(scaling, everything)
    if scaling is None:
        seen = functools.reduce(united, (range_of(rows) for rows, _ in chunks()))
        seen = joined(seen, communicator)
        return AffineScaler(np.zeros(seen.shape[1]), np.ones(seen.shape[1]), "none", seen=seen)
    summary = _Summary()
    counts_values = (unlike if scaling == "auto" else scaling) == "mixed"
    with np.errstate(over="ignore", invalid="ignore"):
        for rows, weights in chunks():
            summary.add(rows, weights)
            if counts_values:
                summary.values.add(rows)
        summary.join(communicator)
    if not np.isfinite(summary.squares).all():
        raise ValueError(
            "X holds values so large that their squares are infinite, beyond about 1e150. Divide "
            "such features by a constant."
        )
    limits = None
    if scaling == "auto":
        fitting = "common" if _has_like_units(summary) else unlike
        scaling = "minmax" if bounded else fitting
        if limited and scaling == "common":
            limits = (float(summary.low.min()), float(summary.high.max()))
    center, scale = _SCALINGS[scaling](summary, lambda: (rows for rows, _ in chunks()))
    scale = _large_enough(scale, center)
    seen = (np.stack([summary.low, summary.high]) - center) / scale
    seen = np.where(np.isfinite(seen), seen, np.nan)
    return AffineScaler(center, scale, scaling, limits, seen=seen)


def fit_pixel_scaler(
    scaling: Any,
    chunks: Chunks,
    bounded: bool,
    n_channels: int,
    communicator: Communicator = ALONE,
) -> Scaler:
    """Fit one center and one scale per channel, which are the same for all pixels.

    The parameters are those of :func:`fit_scaler`. A row holds one pixel after another,
    channels last.
    """
    if scaling is not None and not isinstance(scaling, str):
        raise ValueError(
            f"scaling={scaling!r} scales each pixel by itself, but patches come from anywhere in "
            f"an image. Pass scaling='auto', 'standard', 'common', 'minmax', 'robust' or None."
        )

    def pixels() -> Iterable[tuple[np.ndarray, np.ndarray | None]]:
        for rows, weights in chunks():
            n_pixels = rows.shape[1] // n_channels
            yield (
                rows.reshape(-1, n_channels),
                None if weights is None else weights.repeat(n_pixels),
            )

    n_pixels = next(iter(chunks()))[0].shape[1] // n_channels
    scaler = fit_scaler(scaling, pixels, bounded, communicator=communicator)
    assert isinstance(scaler, AffineScaler)
    return scaler.repeated(n_pixels)

"""How rows are scaled for a fit, and whether the loss can take them then."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from skae._data.categories import shares_of, with_categories
from skae._data.columns import bounds_of
from skae._data.convert import dense_rows, weighted_chunks
from skae._data.loaded import Rows
from skae._data.reach import Chunks, at_least, fences_of
from skae._data.scale import (
    AffineScaler,
    Scaler,
    TransformerScaler,
    fit_pixel_scaler,
    fit_scaler,
    needs_all_rows,
)
from skae._data.shards import communicator_of, local
from skae._data.streamed import sampled, scaling_sample
from skae._data.types import FloatArray
from skae._networks.conv import BUILDERS
from skae._runtime.randomness import SCALING_STREAM
from skae._runtime.tuning import (
    FAR_MARGIN,
    FENCE_ROWS,
    NORM_SPREAD,
    WIDE_FEATURES,
    ZERO_ROWS,
    ZERO_SHARE,
)
from skae._training.losses import LossKind, places_of
from skae._training.plan import TrainingPlan

# Networks that correct what they are given, and take it as it is.
_OF_ANY_LEVEL = ("unet", "unet1d")

# Networks whose rows are scaled as pixels, alike in all places.
_OF_PIXELS = {*BUILDERS, "scattering"}

# Smallest and largest target that a loss takes, in words, and how to have them.
_TAKES = {
    "log_loss": (0.0, 1.0 + 1e-6, "in [0, 1]", "Pass scaling='minmax'"),
    "poisson": (0.0, np.inf, "of at least 0", "Pass counts, and scaling='auto'"),
}


def fitted_scaler(
    estimator: Any, X: Any, weights: FloatArray | None, plan: TrainingPlan, resume: bool
) -> Scaler:
    if resume:
        rows = weighted_chunks(local(X), None)
        return estimator._model.scaler.widened(rows, communicator_of(X))
    scaler = _new_scaler(estimator, X, weights, plan)
    # Noise takes pixels beyond their range.
    of_images, autos = estimator._input.image_shape is not None, estimator._autos()
    scaler.margin = FAR_MARGIN if of_images else autos.margin
    if estimator.network in _OF_ANY_LEVEL:
        scaler.seen = None
    if scaler.seen is not None:
        scaler.seen = at_least(scaler.seen, autos.usual)
    scaler.output_bounds = _output_bounds(estimator, X.shape[1])
    return scaler


def _output_bounds(estimator: Any, n_features: int) -> np.ndarray | None:
    """Bounds of each unit of the rows that are given back, if there are any."""
    given, table = estimator.output_bounds, estimator._table
    bounds = bounds_of(given, table.n_columns if table.categories else n_features)
    if bounds is None:
        return None
    if estimator._input.is_patch:
        raise ValueError(
            f"output_bounds={given!r} is not for patches, from which images of any size are made. "
            f"Clip the images, or pass patch_size=None."
        )
    return table.bounds_of_units(bounds)


def _new_scaler(estimator: Any, X: Any, weights: FloatArray | None, plan: TrainingPlan) -> Scaler:
    scaling = estimator.scaling
    if scaling == "auto" and _shares_a_unit(X, plan, estimator._autos().scaling):
        scaling = "common"
    if needs_all_rows(scaling):
        X, weights = scaling_sample(X, weights, plan.block_length, plan.seeds[0])
    chunks = functools.partial(weighted_chunks, local(X), local(weights))
    autos, fences = estimator._autos(), None
    # Values beyond a fence are beyond the range, which the log loss cannot take.
    if autos.fenced and not places_of("log_loss", plan.loss, X.shape[1]):
        some, _ = sampled(X, None, FENCE_ROWS, plan.block_length, plan.seeds[0], SCALING_STREAM)
        fences = fences_of(dense_rows(some, slice(None)))
    if estimator._table.categories:
        return _mixed_scaler(estimator, chunks, fences, plan.loss)
    bounded, given = estimator.loss == "log_loss", estimator._input
    communicator = communicator_of(X)
    if given.is_patch or (estimator.network in _OF_PIXELS and scaling == "auto"):
        n_channels = given.network_shape[0]
        return fit_pixel_scaler(scaling, chunks, bounded, n_channels, communicator)

    def fit(scaling: Any) -> Scaler:
        settings = (bounded, autos.scaling, autos.limited, communicator, fences)
        return fit_scaler(scaling, chunks, *settings)

    scaler = fit(scaling)
    return _as_losses_need(scaler, fit, plan.loss) if estimator.scaling == "auto" else scaler


def _as_losses_need(scaler: Scaler, fit: Callable[[Any], Any], kind: LossKind) -> AffineScaler:
    """A scaler whose numbers are shares of their range, or of their mean, where the loss asks."""
    assert isinstance(scaler, AffineScaler)
    for name, scaling in (("log_loss", "minmax"), ("poisson", "counts")):
        own = places_of(name, kind, len(scaler.center))
        if own and kind != "log_loss":
            scaler = scaler.with_some(own, fit(scaling))
    return scaler


def _shares_a_unit(X: Any, plan: TrainingPlan, unlike: str) -> bool:
    """Whether rows are words, or the like: rare features must not be blown up.

    They are mostly zero; and unless they are wide, someone gave all rows one norm, as TF-IDF does.
    ``unlike`` is the scaling of features that do not look like pixels.
    """
    is_wide = X.shape[1] >= WIDE_FEATURES
    if not is_wide and unlike != "pairs":
        return False
    some, _ = sampled(X, None, ZERO_ROWS, plan.block_length, plan.seeds[0], SCALING_STREAM)
    rows = dense_rows(some, slice(None)).astype(np.float64)
    if (rows == 0).mean() < ZERO_SHARE:
        return False
    are_flags = bool(np.isin(rows, (0, 1)).all())  # One-hot rows have one norm by themselves.
    norms = (np.linalg.norm(rows, order, axis=1) for order in (1, 2))
    return is_wide or (not are_flags and any(map(_are_alike, norms)))


def _are_alike(norms: np.ndarray) -> bool:
    """Whether norms are one number, but for those of empty rows."""
    norms = norms[norms > 0]
    return len(norms) > 0 and bool(np.ptp(norms) <= NORM_SPREAD * norms.max())


def _mixed_scaler(
    estimator: Any, chunks: Chunks, fences: np.ndarray | None, kind: LossKind
) -> Scaler:
    """A scaler of numbers and of categories after them."""
    scaling, sizes = estimator.scaling, estimator._table.sizes
    n_units = sum(sizes)
    if scaling is not None and not isinstance(scaling, str):
        raise ValueError(
            f"scaling={scaling!r} scales numbers, but X has categories too. Pass one of the named "
            f"scalings, or put it ahead, in a ColumnTransformer."
        )
    bounded = estimator.loss == "log_loss"
    if scaling == "auto":
        scaling = "minmax" if bounded else estimator._autos().scaling
    numbers: Scaler | None = None
    if estimator._table.numbers:
        fences = None if fences is None else fences[:, :-n_units]
        parts = functools.partial(_numbers_alone, chunks, n_units)
        fit = functools.partial(fit_scaler, chunks=parts, bounded=bounded, fences=fences)
        numbers = fit(scaling)
        if estimator.scaling == "auto":
            numbers = _as_losses_need(numbers, fit, kind)
    assert not isinstance(numbers, TransformerScaler)
    return with_categories(numbers, shares_of(chunks(), n_units), sizes, scaling == "mixed")


def _numbers_alone(chunks: Chunks, n_units: int) -> Iterator[tuple[Any, Any]]:
    return ((rows[:, :-n_units], weights) for rows, weights in chunks())


def check_targets(estimator: Any, rows: Rows, kind: LossKind) -> None:
    """Raise ValueError if a loss cannot take the scaled rows."""
    n_numbers = len(estimator._table.numbers) if rows.categories else len(rows.origin)
    low, high = (bound.tolist() for bound in rows.low_and_high())
    for name, (least, most, wanted, remedy) in _TAKES.items():
        own = places_of(name, kind, n_numbers)
        if own and estimator.network == "scattering":
            raise ValueError(
                f"loss={name!r} needs values {wanted}, but network='scattering' rebuilds "
                f"coordinates of images. Pass loss='squared_error'."
            )
        if odd := [j for j in own if low[j] < least or high[j] > most]:
            column = estimator._table.numbers[odd[0]] if rows.categories else odd[0]
            raise ValueError(
                f"loss={name!r} needs values {wanted}; scaled by scaling={estimator.scaling!r}, "
                f"those of column {column} lie in [{low[odd[0]]:g}, {high[odd[0]]:g}]. {remedy}."
            )

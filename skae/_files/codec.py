"""A fitted codec as settings and arrays, for safe files."""

import math
from typing import Any, NamedTuple, TypedDict

import numpy as np
from sklearn.frozen import FrozenEstimator

from skae._coding.entropy import PackedTables, pack, unpack
from skae._coding.quantizer import Quantizer
from skae._coding.residual import Grid
from skae._data.columns import Layout, is_numeric
from skae._estimators.base import BaseAutoencoder
from skae._estimators.sklearn_private import check_parameters
from skae.codec import LatentCodec


class NamedLayout(TypedDict):
    """A ``Layout`` whose columns have strings as names."""

    kind: str
    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    columns: tuple[str, ...] | None


class PackedGrid(NamedTuple):
    steps: np.ndarray
    tables: PackedTables


class CodecState(TypedDict):
    """Everything in a fitted codec except its parameters and its estimator."""

    step: float
    bytes_per_row: float
    fingerprint: str
    weighs_bits: bool
    layout: NamedLayout
    quantizer: Quantizer
    tables: PackedTables
    grid: PackedGrid | None


def state_of(codec: LatentCodec) -> dict[str, Any]:
    """The state of a codec, a ``CodecState``.

    Raises
    ------
    ValueError
        If a file cannot hold the codec.
    """
    if not isinstance(codec.estimator_, BaseAutoencoder):
        raise ValueError(
            f"estimator={codec.estimator!r} is none of skae's. Save the codec with skops or joblib."
        )
    columns = codec._layout.columns or ()
    if not all(type(name) is str for name in columns):
        raise ValueError(
            f"The columns {str(columns)[:80]} are no strings. Name them by strings before fit, or "
            f"save with skops or joblib."
        )
    grid = codec._grid
    return {
        "step": codec.step_,
        "bytes_per_row": codec.bytes_per_row_,
        "fingerprint": codec.fingerprint_,
        "weighs_bits": codec._weighs_bits,
        "layout": vars(codec._layout),
        "quantizer": codec._quantizer,
        "tables": pack(codec._tables),
        "grid": None if grid is None else PackedGrid(grid.steps, pack(grid.tables)),
    }


def codec_of(
    estimator: BaseAutoencoder, parameters: dict[str, Any], state: CodecState
) -> LatentCodec:
    """The fitted codec of a checked state.

    Raises
    ------
    ValueError
        If its tables are not valid, or its fingerprint does not match its parts.
    """
    codec, grid = LatentCodec(FrozenEstimator(estimator), **parameters), state["grid"]
    check_parameters(codec)
    codec.estimator_, codec.step_ = estimator, state["step"]
    codec.bytes_per_row_, codec.fingerprint_ = state["bytes_per_row"], state["fingerprint"]
    codec._weighs_bits = state["weighs_bits"]
    codec._layout, codec._quantizer = Layout(**state["layout"]), state["quantizer"]
    codec._tables = unpack(state["tables"])
    if grid is not None and not (grid.steps > 0).all():
        raise ValueError("the steps of its residuals must be positive.")
    codec._grid = None if grid is None else Grid(grid.steps, unpack(grid.tables))
    if codec._mark().hex() != codec.fingerprint_:
        raise ValueError(f"its parts are not those of the codec {codec.fingerprint_[:80]}.")
    return codec


def shapes_of(
    state: CodecState, n_latents: int, n_features: int
) -> list[tuple[Any, dict[str, Any], str]]:
    """Arrays of a state, the shapes that they must have, and the kind of their dtype.

    Raises
    ------
    ValueError
        If the layout does not fit rows of this number of features.
    """
    layout = state["layout"]
    names, columns = layout["dtypes"], layout["columns"]
    fits = layout["kind"] in ("numpy", "pandas", "polars") and all(map(is_numeric, names))
    fits = fits and math.prod(layout["shape"]) == n_features and len(names) in (1, n_features)
    if not fits or (columns is not None and len(columns) != n_features):
        raise ValueError("the codec's layout is not that of its rows.")
    n_coordinates = len(state["quantizer"].to_latents)
    maps = {
        "center": (n_latents,),
        "to_coordinates": (n_latents, n_coordinates),
        "to_latents": (n_coordinates, n_latents),
    }
    found = [(vars(state["quantizer"]), maps, "f"), _of_tables(state["tables"], n_coordinates)]
    if (grid := state["grid"]) is not None:
        found += [(grid._asdict(), {"steps": (n_features,)}, "f")]
        found += [_of_tables(grid.tables, n_features)]
    return found


def _of_tables(tables: PackedTables, n: int) -> tuple[Any, dict[str, Any], str]:
    one_each = dict.fromkeys(("low", "n_low_bits", "lengths"), (n,))
    return tables._asdict(), one_each | {"frequencies": (tables.frequencies.size,)}, "i"

"""What all pictures share: axes, samples side by side, columns in units that compare."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skae._data.types import FloatArray

# Blue is less, red more than usual; told apart by color-blind readers too.
DEVIATIONS = {"cmap": "RdBu_r", "vmin": -2.5, "vmax": 2.5}

# More names than that cannot be read.
_MOST_NAMES = 30


def axes_for(ax: Any) -> Any:
    """The given axes, or those of a new figure."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Displays are drawn by matplotlib, which is not installed. "
            'Run: pip install "skae[plot]"'
        ) from error
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def kind_of(estimator: Any) -> str:
    """What the estimator was fitted on: "table", "image" or "signal"."""
    given = estimator._input
    return "table" if given.image_shape is None else given.kind


def sample_shape(estimator: Any) -> tuple[int, ...]:
    """Shape of a row of the fit; images and signals have it where they were given as rows, too."""
    given = estimator._input
    return (given.n_features,) if given.image_shape is None else given.sample_shape


def numbers_of(estimator: Any, X: Any) -> FloatArray:
    """Rows as numbers (n_samples, n_features); of a category, one for each value."""
    rows = estimator._check_X(X)
    rows = rows.toarray() if sparse.issparse(rows) else np.asarray(rows[:])
    return rows.astype(float)


def unit_names(estimator: Any) -> NDArray[Any]:
    """A name for each number of a row; of a category, ``column=value`` for each value."""
    table = estimator._table
    given = getattr(estimator, "feature_names_in_", None)
    n_columns = table.n_columns or estimator.n_features_in_
    names = [f"x{i}" for i in range(n_columns)] if given is None else given
    shown = [str(names[i]) for i in (table.numbers if table.n_columns else range(n_columns))]
    for category in table.categories:
        shown += [f"{names[category.column]}={category.values[i]}" for i in category.shown]
    return np.array(shown, dtype=object)


def center_and_scale(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of columns; one where a column is constant or unknown."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0).clip(min=1)
    center = np.where(known, rows, 0.0).sum(axis=0) / count
    scale = np.sqrt((np.where(known, rows - center, 0.0) ** 2).sum(axis=0) / count)
    return center, np.where(scale > 0, scale, 1.0)


def tiled(images: FloatArray) -> FloatArray:
    """Lines of images (n_lines, n, height, width[, channels]) as one picture, a pixel between."""
    n_lines, n, height, width = images.shape[:4]
    tiles = images.reshape(n_lines, n, height, width, -1).astype(float)
    frame = ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0))
    tiles = np.pad(tiles, frame, constant_values=np.nanmin(tiles))
    height, width = height + 1, width + 1
    picture = tiles.transpose(0, 2, 1, 3, 4).reshape(n_lines * height, n * width, -1)
    low, high = np.nanmin(picture), np.nanmax(picture)
    picture = (picture - low) / ((high - low) or 1.0)
    return picture if picture.shape[2] == 3 else picture.mean(axis=2)


def centers(n: int, length: int) -> FloatArray:
    """Where the middle of each of ``n`` tiles of this length lies along an axis."""
    return (np.arange(n) + 0.5) * length - 0.5


def mark_columns(ax: Any, names: Any) -> None:
    """Names of a table's columns below the axes, where they are few enough to be read."""
    if names is None or len(names) > _MOST_NAMES:
        ax.set(xlabel="column")
        return
    ax.set_xticks(np.arange(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")

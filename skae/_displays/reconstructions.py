"""Picture of rows, images or signals beside what an autoencoder makes of them."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import from_caller
from skae._data.types import FloatArray, MatrixLike
from skae._displays.drawing import (
    DEVIATIONS,
    axes_for,
    center_and_scale,
    centers,
    kind_of,
    mark_columns,
    numbers_of,
    sample_shape,
    tiled,
    unit_names,
)

# What is drawn, by the kind of samples.
_KINDS = ("table", "image", "signal")


class ReconstructionDisplay:
    """Samples and their reconstructions: images in two lines, signals as pairs of curves.

    A table is a heat map, originals above: each column in standard deviations from its mean.

    Make it by :meth:`from_estimator`; or of any two arrays, as of what ``PCA`` rebuilds.

    Parameters
    ----------
    originals, rebuilt : ndarray of shape (n_samples, n_features), \
            (n_samples, height, width[, channels]) or (n_samples, length[, channels])
        Samples and reconstructions; NaN is left blank.
    kind : {"table", "image", "signal"}, default="table"
        What the samples are.
    feature_names : ndarray of shape (n_features,), default=None
        Names of the columns of a table.
    units : tuple of ndarray, default=None
        Mean and standard deviation of each column of a table. None takes those of ``originals``.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.inspection import ReconstructionDisplay
    >>> images = load_digits().images
    >>> autoencoder = AutoencoderTransformer(n_components=8, random_state=0).fit(images)
    >>> display = ReconstructionDisplay.from_estimator(autoencoder, images[:10])
    """

    def __init__(
        self,
        originals: FloatArray,
        rebuilt: FloatArray,
        *,
        kind: str = "table",
        feature_names: NDArray[Any] | None = None,
        units: tuple[FloatArray, FloatArray] | None = None,
    ):
        self.originals = originals
        self.rebuilt = rebuilt
        self.kind = kind
        self.feature_names = feature_names
        self.units = units

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: MatrixLike, *, n_samples: int = 10, ax: Any = None
    ) -> Self:
        """Rebuild samples, and draw them beside the originals.

        Parameters
        ----------
        estimator : estimator with ``reconstruct``
            Fitted.
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features), or images \
                or signals
            The samples; a table's columns are shown in units of their spread over all of them.
        n_samples : int, default=10
            How many of them to show, from the first.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_is_fitted(estimator)
        X = from_caller(X)
        kind, shape = kind_of(estimator), sample_shape(estimator)
        rows = numbers_of(estimator, X)
        rebuilt = numbers_of(estimator, estimator.reconstruct(X))
        return cls(
            rows[:n_samples].reshape(-1, *shape),
            rebuilt[:n_samples].reshape(-1, *shape),
            kind=kind,
            feature_names=unit_names(estimator) if kind == "table" else None,
            units=center_and_scale(rows) if kind == "table" else None,
        ).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw on ``ax``, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        ValueError
            If ``kind`` is unknown.
        """
        if self.kind not in _KINDS:
            raise ValueError(f"kind={self.kind!r} must be one of {', '.join(map(repr, _KINDS))}.")
        ax = axes_for(ax)
        {"table": self._table, "image": self._images, "signal": self._signals}[self.kind](ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _images(self, ax: Any) -> None:
        pairs = np.stack([self.originals, self.rebuilt])
        ax.imshow(tiled(pairs), cmap="gray")
        ax.set_yticks(centers(2, pairs.shape[2] + 1), ["original", "rebuilt"])
        ax.set_xticks([])

    def _signals(self, ax: Any) -> None:
        """A line below the other for each signal and channel."""
        originals, rebuilt = (
            np.moveaxis(v.reshape(*v.shape[:2], -1), 2, 1).reshape(-1, v.shape[1])
            for v in (self.originals, self.rebuilt)
        )
        step = 1.2 * (np.nanmax(originals) - np.nanmin(originals)) or 1.0
        shifts = -step * np.arange(len(originals))
        ax.plot((originals + shifts[:, None]).T, color="0.6", linewidth=2.5)
        ax.plot((rebuilt + shifts[:, None]).T, color="C0", linewidth=1)
        ax.set_yticks(shifts + np.nanmean(originals), np.arange(len(originals)))
        ax.set(xlabel="time (steps)", ylabel="signal")
        grey, blue = ax.lines[0], ax.lines[-1]
        ax.legend([grey, blue], ["original", "rebuilt"], loc="upper right")

    def _table(self, ax: Any) -> None:
        center, scale = center_and_scale(self.originals) if self.units is None else self.units
        blank = np.full((1, self.originals.shape[1]), np.nan)
        rows = np.concatenate([self.originals, blank, self.rebuilt])
        picture = ax.imshow(
            (rows - center) / scale, aspect="auto", interpolation="nearest", **DEVIATIONS
        )
        n = len(self.originals)
        ax.set_yticks([(n - 1) / 2, n + 1 + (n - 1) / 2], ["original", "rebuilt"])
        mark_columns(ax, self.feature_names)
        ax.figure.colorbar(picture, ax=ax, label="standard deviations from the column's mean")

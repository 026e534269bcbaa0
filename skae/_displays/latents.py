"""Pictures of latents: how many are enough, and what each stands for."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import from_caller
from skae._data.types import FloatArray, MatrixLike
from skae._displays.drawing import (
    DEVIATIONS,
    axes_for,
    center_and_scale,
    centers,
    kind_of,
    numbers_of,
    sample_shape,
    tiled,
    unit_names,
)


class LatentSizeDisplay:
    """Share of the variance that the first latents explain, by their number.

    Make it by :meth:`from_estimator`.

    Parameters
    ----------
    explained : ndarray of shape (n_components_,)
        Share explained by the first latent, the first two, and so on.
    name : str, default=None
        For the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.inspection import LatentSizeDisplay
    >>> X, _ = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(n_components=3, ordered=True, random_state=0)
    >>> display = LatentSizeDisplay.from_estimator(autoencoder.fit(X))
    """

    def __init__(self, explained: FloatArray, name: str | None = None):
        self.explained = explained
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None, **line_options: Any
    ) -> Self:
        """Draw the curve of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator with ``explained_variance_ratio_``
            An autoencoder with ordered latents, or ``PCA`` for comparison.
        name : str, default=None
            For the legend. None is the name of the class.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **line_options
            For ``Axes.plot``.

        Returns
        -------
        display : LatentSizeDisplay

        Raises
        ------
        ValueError
            If the latents are not ordered.
        ImportError
            Without matplotlib.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "explained_variance_ratio_"):
            raise ValueError(
                f"{type(estimator).__name__} has no explained_variance_ratio_. Fit it with "
                f"ordered=True."
            )
        name = type(estimator).__name__ if name is None else name
        explained = np.cumsum(estimator.explained_variance_ratio_)
        return cls(explained, name).plot(ax=ax, **line_options)

    def plot(self, *, ax: Any = None, **line_options: Any) -> Self:
        """Draw on ``ax``, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure.
        **line_options
            For ``Axes.plot``.

        Returns
        -------
        display : LatentSizeDisplay
        """
        ax = axes_for(ax)
        sizes = np.arange(1, len(self.explained) + 1)
        options = {"marker": "o", "label": self.name} | line_options
        (self.line_,) = ax.plot(sizes, self.explained, **options)
        ax.set(xlabel="number of latents", ylabel="share of the variance explained")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if self.name is not None:
            ax.legend(loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self


class LatentWalkDisplay:
    """What each latent stands for: rows decoded while one latent goes from low to high.

    Images are a line each. Of a table, a heat map shows the columns that each latent moves most, in
    standard deviations from their means. Signals are curves, from dark (low) to bright (high).

    Make it by :meth:`from_estimator`.

    Parameters
    ----------
    walks : ndarray of shape (n_latents, n_steps, n_features), images or signals
        Decoded rows, a walk for each latent. Of a category they hold the probability of each value.
    latents : ndarray of int, shape (n_latents,)
        Which latents they are.
    kind : {"table", "image", "signal"}, default=None
        What the rows are. None takes rows as a table, arrays of more axes as images.
    feature_names : ndarray of shape (n_features,), default=None
        Names of the columns of a table.
    units : tuple of ndarray, default=None
        Mean and standard deviation of each column of a table. None takes those of the walks.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VariationalAutoencoder
    >>> from skae.inspection import LatentWalkDisplay
    >>> images = load_digits().images
    >>> autoencoder = VariationalAutoencoder(n_components=4, random_state=0).fit(images)
    >>> display = LatentWalkDisplay.from_estimator(autoencoder, images)
    """

    def __init__(
        self,
        walks: FloatArray,
        latents: NDArray[np.intp],
        *,
        kind: str | None = None,
        feature_names: NDArray[Any] | None = None,
        units: tuple[FloatArray, FloatArray] | None = None,
    ):
        self.walks = walks
        self.latents = latents
        self.kind = kind
        self.feature_names = feature_names
        self.units = units

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        n_latents: int = 8,
        n_steps: int = 9,
        n_columns: int = 4,
        ax: Any = None,
    ) -> Self:
        """Walk along the latents of a fitted transformer.

        Parameters
        ----------
        estimator : AutoencoderTransformer, DenoisingAutoencoder or VariationalAutoencoder
            Fitted.
        X : array-like of shape (n_samples, n_features), or images
            Rows to start from: the other latents are at their mean over these, and each
            walk goes two standard deviations down and up.
        n_latents : int, default=8
            Most latents to show: those that vary most.
        n_steps : int, default=9
            Rows of each walk.
        n_columns : int, default=4
            Most columns of a table to show for each latent: those that it moves most.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : LatentWalkDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        X = from_caller(X)
        codes = estimator.transform(X)
        codes = codes.toarray() if sparse.issparse(codes) else np.asarray(codes)
        deviation = codes.std(axis=0)
        latents = np.argsort(-deviation, kind="stable")[:n_latents]
        starts = np.tile(codes.mean(axis=0), (len(latents), n_steps, 1))
        for walk, latent in zip(starts, latents, strict=True):
            walk[:, latent] += deviation[latent] * _steps(n_steps)
        # As numbers: a frame would get whole ones, and no walk.
        rows = estimator._model.decode(starts.reshape(-1, codes.shape[1]))
        kind, shape = kind_of(estimator), sample_shape(estimator)
        return cls(
            rows.reshape(len(latents), n_steps, *shape),
            latents,
            kind=kind,
            feature_names=unit_names(estimator) if kind == "table" else None,
            units=center_and_scale(numbers_of(estimator, X)) if kind == "table" else None,
        ).plot(ax, n_columns=n_columns)

    def plot(self, ax: Any = None, *, n_columns: int = 4) -> Self:
        """Draw the walks.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        n_columns : int, default=4
            Most columns of a table to show for each latent: those that it moves most.

        Returns
        -------
        display : LatentWalkDisplay
        """
        ax = axes_for(ax)
        kind = self.kind or ("table" if self.walks.ndim == 3 else "image")
        if kind == "table":
            self._table(ax, n_columns)
        else:
            (self._images if kind == "image" else self._signals)(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _images(self, ax: Any) -> None:
        ax.imshow(tiled(self.walks), cmap="gray")
        height, width = np.add(self.walks.shape[2:4], 1)
        ax.set_yticks(centers(len(self.latents), height), [str(i) for i in self.latents])
        middles = centers(self.walks.shape[1], width)
        self._mark_steps(ax, middles)
        ax.set(ylabel="latent")

    def _table(self, ax: Any, n_columns: int) -> None:
        """Lines of a column each, of a few columns for each latent."""
        columns = self.walks.reshape(-1, self.walks.shape[2])
        center, scale = center_and_scale(columns) if self.units is None else self.units
        walks = (self.walks - center) / scale
        names = self.feature_names
        lines, labels = [], []
        for latent, walk in zip(self.latents, walks, strict=True):
            for place, column in enumerate(np.argsort(-np.ptp(walk, axis=0))[:n_columns]):
                lines.append(walk[:, column])
                name = f"x{column}" if names is None else str(names[column])
                labels.append(f"latent {latent}:  {name}" if place == 0 else name)
        picture = ax.imshow(lines, aspect="auto", interpolation="nearest", **DEVIATIONS)
        ax.set_yticks(np.arange(len(lines)), labels)
        per_latent = len(lines) // len(self.latents)
        for above in np.arange(per_latent, len(lines), per_latent):
            ax.axhline(above - 0.5, color="white", linewidth=4)
        self._mark_steps(ax, centers(self.walks.shape[1], 1))
        ax.figure.colorbar(picture, ax=ax, label="column (standard deviations from its mean)")

    def _signals(self, ax: Any) -> None:
        """The curves of a walk, one latent below the other."""
        from matplotlib import colormaps

        n_latents, n_steps, length = self.walks.shape[:3]
        walks = self.walks.reshape(n_latents, n_steps, length, -1)
        step = 1.1 * float(np.ptp(walks)) or 1.0
        colors = colormaps["viridis"](np.linspace(0, 0.9, n_steps))
        for i, walk in enumerate(walks):
            for curve, color in zip(walk, colors, strict=True):
                ax.plot(curve - i * step, color=color, linewidth=1)
        ax.set_yticks(walks.mean() - step * np.arange(n_latents), [str(i) for i in self.latents])
        ax.set(xlabel="time (steps)", ylabel="latent, from -2 (dark) to 2 deviations (bright)")

    def _mark_steps(self, ax: Any, middles: FloatArray) -> None:
        n_steps = self.walks.shape[1]
        shown = [0, n_steps // 2, n_steps - 1]
        ax.set_xticks(middles[shown], [f"{step:.2g}" for step in _steps(n_steps)[shown]])
        ax.set(xlabel="latent (standard deviations from its mean)")


def _steps(n_steps: int) -> FloatArray:
    """Where a walk goes, in standard deviations."""
    return np.linspace(-2, 2, n_steps)

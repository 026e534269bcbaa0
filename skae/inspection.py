"""Pictures of fitted estimators, after scikit-learn's Display objects. They need matplotlib."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import from_caller
from skae._data.types import FloatArray, MatrixLike

__all__ = ["AnomalyScoreDisplay", "ContributionDisplay", "LatentSizeDisplay", "LatentWalkDisplay"]


def _axes(ax: Any) -> Any:
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Displays are drawn by matplotlib, which is not installed. "
            'Run: pip install "skae[plot]"'
        ) from error
    return plt.subplots(layout="constrained")[1] if ax is None else ax


class AnomalyScoreDisplay:
    """Histogram of the scores of rows, with the detector's threshold.

    Make it by :meth:`from_estimator`.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        What ``score_samples`` gave.
    offset : float
        The threshold.
    y : ndarray of shape (n_samples,), default=None
        Labels of the rows, a histogram each.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderAnomalyDetector
    >>> from skae.inspection import AnomalyScoreDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> detector = AutoencoderAnomalyDetector(random_state=0).fit(X[y == 0])
    >>> display = AnomalyScoreDisplay.from_estimator(detector, X, y)
    """

    def __init__(self, scores: FloatArray, offset: float, y: NDArray[Any] | None = None):
        self.scores = scores
        self.offset = offset
        self.y = y

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        bins: int = 40,
        ax: Any = None,
    ) -> Self:
        """Score rows and draw the histogram.

        Parameters
        ----------
        estimator : fitted outlier detector
            With ``score_samples`` and ``offset_``: ours, or one of scikit-learn's.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Labels of the rows; a histogram is drawn for each.
        bins : int, default=40
            Number of bins.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : AnomalyScoreDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_is_fitted(estimator)
        labels = None if y is None else np.asarray(from_caller(y, "y"))
        return cls(estimator.score_samples(X), float(estimator.offset_), labels).plot(bins, ax)

    def plot(self, bins: int = 40, ax: Any = None) -> Self:
        """Draw the histogram.

        Parameters
        ----------
        bins : int, default=40
            Number of bins.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : AnomalyScoreDisplay
        """
        ax = _axes(ax)
        shown = np.append(self.scores, self.offset)
        edges = np.linspace(shown.min(), shown.max(), bins + 1)
        if self.y is None:
            ax.hist(self.scores, edges)
        else:
            for label in np.unique(self.y):
                ax.hist(self.scores[self.y == label], edges, alpha=0.6, label=str(label))
        ax.axvline(self.offset, color="black", linestyle="--", label="threshold")
        ax.set(xlabel="score (higher is more normal)", ylabel="rows")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


class ContributionDisplay:
    """Bars of the features that contribute most to a row's outlyingness.

    Make it by :meth:`from_estimator`.

    Parameters
    ----------
    contributions : ndarray of shape (n_features,)
        One row of what ``feature_contributions`` gave.
    feature_names : ndarray of shape (n_features,)
        Names of the features.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderAnomalyDetector
    >>> from skae.inspection import ContributionDisplay
    >>> X, _ = load_iris(return_X_y=True, as_frame=True)
    >>> detector = AutoencoderAnomalyDetector(random_state=0).fit(X)
    >>> display = ContributionDisplay.from_estimator(detector, X.iloc[[0]])
    """

    def __init__(self, contributions: FloatArray, feature_names: NDArray[Any]):
        self.contributions = contributions
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: MatrixLike, *, n_features: int = 10, ax: Any = None
    ) -> Self:
        """Draw the contributions of one row.

        Parameters
        ----------
        estimator : AutoencoderAnomalyDetector
            Fitted.
        X : array-like of shape (1, n_features)
            The row.
        n_features : int, default=10
            How many of the features to show.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ContributionDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If ``X`` has more than one row.
        """
        contributions = np.asarray(estimator.feature_contributions(X))
        if len(contributions) != 1:
            raise ValueError(
                f"X has {len(contributions)} rows, but one row is drawn. Pass X[[i]] of an array, "
                f"or X.iloc[[i]] of a DataFrame."
            )
        numbered = [f"x{i}" for i in range(contributions.shape[1])]
        names = getattr(estimator, "feature_names_in_", numbered)
        return cls(contributions[0], np.asarray(names)).plot(n_features, ax)

    def plot(self, n_features: int = 10, ax: Any = None) -> Self:
        """Draw the bars.

        Parameters
        ----------
        n_features : int, default=10
            How many of the features to show.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ContributionDisplay
        """
        ax = _axes(ax)
        top = np.argsort(self.contributions)[::-1][:n_features][::-1]
        ax.barh(self.feature_names[top], self.contributions[top])
        ax.set(xlabel="contribution (robust standard deviations)")
        self.ax_, self.figure_ = ax, ax.figure
        return self


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
        ax = _axes(ax)
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

    Make it by :meth:`from_estimator`.

    Parameters
    ----------
    walks : ndarray of shape (n_latents, n_steps, n_features), or images
        Decoded rows, a walk for each latent. Of a category they hold the probability of each value.
    latents : ndarray of int, shape (n_latents,)
        Which latents they are.

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

    def __init__(self, walks: FloatArray, latents: NDArray[np.intp]):
        self.walks = walks
        self.latents = latents

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        n_latents: int = 8,
        n_steps: int = 9,
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
        codes = estimator.transform(X)
        codes = codes.toarray() if sparse.issparse(codes) else np.asarray(codes)
        deviation = codes.std(axis=0)
        latents = np.argsort(-deviation, kind="stable")[:n_latents]
        starts = np.tile(codes.mean(axis=0), (len(latents), n_steps, 1))
        for walk, latent in zip(starts, latents, strict=True):
            walk[:, latent] += deviation[latent] * np.linspace(-2, 2, n_steps)
        # As numbers: a frame would get whole ones, and no walk.
        rows = estimator._model.decode(starts.reshape(-1, codes.shape[1]))
        # Rows of a fit may hold images. Signals are shown as a table is.
        given = estimator._input
        shape = (-1,) if given.image_shape is None or given.is_signal else given.image_shape
        return cls(rows.reshape(len(latents), n_steps, *shape), latents).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw a line of images for each latent; of a table, a map of its columns.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : LatentWalkDisplay
        """
        ax = _axes(ax)
        n_latents, n_steps, *shape = self.walks.shape
        if len(shape) == 1:
            # A row of the picture for each step, columns in units of their range.
            low, high = self.walks.min(axis=(0, 1)), self.walks.max(axis=(0, 1))
            picture = ((self.walks - low) / np.where(high > low, high - low, 1.0)).reshape(
                -1, *shape
            )
            height = n_steps
            ax.set(xlabel="feature")
        else:
            # A pixel between the images.
            tiles = self.walks.reshape(n_latents, n_steps, *shape[:2], -1)
            frame = ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0))
            tiles = np.pad(tiles, frame, constant_values=tiles.min())
            height, width = tiles.shape[2:4]
            picture = tiles.transpose(0, 2, 1, 3, 4).reshape(
                n_latents * height, n_steps * width, -1
            )
            low, high = picture.min(), picture.max()
            picture = (picture - low) / ((high - low) or 1.0)
            picture = picture if picture.shape[2] == 3 else picture.mean(axis=2)
            ticks = (np.array([0, n_steps // 2, n_steps - 1]) + 0.5) * width - 0.5
            ax.set_xticks(ticks, ["-2", "0", "2"])
            ax.set(xlabel="standard deviations")
        ax.imshow(picture, cmap="gray", aspect="auto" if len(shape) == 1 else None)
        middles = (np.arange(n_latents) + 0.5) * height - 0.5
        ax.set_yticks(middles, [str(latent) for latent in self.latents])
        ax.set(ylabel="latent")
        self.ax_, self.figure_ = ax, ax.figure
        return self

"""Pictures of a detector's scores, and of what makes a row unusual."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import from_caller
from skae._data.types import FloatArray, MatrixLike
from skae._displays.drawing import axes_for


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
        ax = axes_for(ax)
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
        ax = axes_for(ax)
        top = np.argsort(self.contributions)[::-1][:n_features][::-1]
        ax.barh(self.feature_names[top], self.contributions[top])
        ax.set(xlabel="contribution (robust standard deviations)")
        self.ax_, self.figure_ = ax, ax.figure
        return self

"""Picture of a training: the loss by epoch."""

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae._data.types import FloatArray
from skae._displays.drawing import axes_for


class LossCurveDisplay:
    """The loss of each epoch, of the training rows and of rows that were held out.

    Make it by :meth:`from_estimator`.

    Parameters
    ----------
    loss_curve : ndarray of shape (n_epochs,)
        Loss of the training rows.
    validation_loss_curve : ndarray of shape (n_epochs,), default=None
        Loss of rows that were held out; the epoch where it is lowest is marked.
    name : str, default=None
        For the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The curve, and the one of rows that were held out.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.inspection import LossCurveDisplay
    >>> X, _ = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(n_components=2, early_stopping=True, random_state=0)
    >>> display = LossCurveDisplay.from_estimator(autoencoder.fit(X))
    """

    def __init__(
        self,
        loss_curve: FloatArray,
        validation_loss_curve: FloatArray | None = None,
        name: str | None = None,
    ):
        self.loss_curve = loss_curve
        self.validation_loss_curve = validation_loss_curve
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None, **line_options: Any
    ) -> Self:
        """Draw the curves of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator with ``loss_curve_``
            An estimator of this package, or scikit-learn's ``MLPRegressor``. Of a search, pass
            ``best_estimator_``; of a pipeline, its step.
        name : str, default=None
            For the legend. None is the name of the class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **line_options
            For ``Axes.plot``.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator has no ``loss_curve_``.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "loss_curve_"):
            raise TypeError(
                f"{type(estimator).__name__} has no loss_curve_. Pass an autoencoder: of a "
                f"search, best_estimator_; of a pipeline, pipeline[-1]."
            )
        held_out = getattr(estimator, "validation_loss_curve_", None)
        return cls(
            np.asarray(estimator.loss_curve_),
            None if held_out is None else np.asarray(held_out),
            type(estimator).__name__ if name is None else name,
        ).plot(ax=ax, **line_options)

    def plot(self, *, ax: Any = None, **line_options: Any) -> Self:
        """Draw on ``ax``, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **line_options
            For ``Axes.plot``.

        Returns
        -------
        display : LossCurveDisplay
        """
        ax = axes_for(ax)
        curves = {"training rows": self.loss_curve}
        if self.validation_loss_curve is not None:
            curves["rows held out"] = self.validation_loss_curve
        start = "" if self.name is None else f"{self.name}, "
        self.lines_ = []
        for (rows, curve), style in zip(curves.items(), ("-", "--"), strict=False):
            epochs = np.arange(1, len(curve) + 1)
            options = {"label": start + rows, "linestyle": style} | line_options
            self.lines_ += ax.plot(epochs, curve, **options)
        if self.validation_loss_curve is not None:
            best = int(np.argmin(self.validation_loss_curve))
            ax.plot(best + 1, self.validation_loss_curve[best], "ko", label="weights that are kept")
        losses = np.concatenate(list(curves.values()))
        if 0 < 3 * losses.min() < losses.max():
            ax.set_yscale("log")
        ax.set(xlabel="epoch", ylabel="loss (mean of a scaled cell)")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self

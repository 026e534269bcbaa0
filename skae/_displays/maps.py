"""Picture of where images or signals are anomalous."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import from_caller
from skae._data.types import FloatArray, MatrixLike
from skae._displays.drawing import axes_for, centers, numbers_of, sample_shape, tiled


class AnomalyMapDisplay:
    """Images above the maps of their anomaly, with boxes around what a detector finds.

    Signals are curves, in which what it finds is shaded.

    Make it by :meth:`from_estimator`.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, height, width[, channels]), or \
            (n_samples, length[, channels])
        Images, or signals.
    maps : ndarray of shape (n_samples, height, width), or (n_samples, length)
        What ``anomaly_map`` gave.
    boxes : list of ndarray of shape (n_boxes, 5), or (n_boxes, 3)
        What ``detect`` gave.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderAnomalyDetector
    >>> from skae.inspection import AnomalyMapDisplay
    >>> images = load_digits().images
    >>> detector = AutoencoderAnomalyDetector(random_state=0).fit(images)
    >>> scratched = images[:4].copy()
    >>> scratched[:, 0] = 16
    >>> display = AnomalyMapDisplay.from_estimator(detector, scratched)
    """

    def __init__(self, samples: FloatArray, maps: FloatArray, boxes: list[NDArray[np.float64]]):
        self.samples = samples
        self.maps = maps
        self.boxes = boxes

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: MatrixLike, *, threshold: float | None = None, ax: Any = None
    ) -> Self:
        """Map the anomaly of images or signals, and draw it.

        Parameters
        ----------
        estimator : AutoencoderAnomalyDetector
            Fitted on images or signals.
        X : array-like of shape (n_samples, height, width[, channels]), or signals
            A few of them: each is drawn.
        threshold : float, default=None
            As in ``detect``.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : AnomalyMapDisplay

        Raises
        ------
        ImportError
            If matplotlib or scikit-image is not installed.
        """
        check_is_fitted(estimator)
        X = from_caller(X)
        maps, boxes = estimator.anomaly_map(X), estimator.detect(X, threshold)
        samples = numbers_of(estimator, X).reshape(-1, *sample_shape(estimator))
        return cls(samples, maps, boxes).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw on ``ax``, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : AnomalyMapDisplay
        """
        ax = axes_for(ax)
        if self.maps.ndim == 2:
            self._signals(ax)
        else:
            self._images(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _images(self, ax: Any) -> None:
        from matplotlib.patches import Rectangle

        n, height, width = self.maps.shape
        blank = np.full((height + 1, n * (width + 1)), np.nan)
        ax.imshow(tiled(self.samples[None]), cmap="gray", extent=_place(blank, 0))
        # Maps as they are, in their units: below zero all is usual.
        framed = np.pad(self.maps, ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        below = framed.transpose(1, 0, 2).reshape(blank.shape)
        picture = ax.imshow(below, cmap="magma", vmin=0, extent=_place(blank, 1))
        ax.set_facecolor("black")  # Between maps, as between images.
        ax.set(xlim=(-0.5, blank.shape[1] - 0.5), ylim=(2 * len(blank) - 0.5, -0.5), xticks=[])
        ax.set_yticks(centers(2, len(blank)), ["image", "anomaly"])
        for i, found in enumerate(self.boxes):
            for top, left, bottom, right, _ in found:
                for line in range(2):
                    corner = left + i * (width + 1) - 0.5, top + line * len(blank) - 0.5
                    box = Rectangle(corner, right - left, bottom - top, fill=False, edgecolor="C1")
                    ax.add_patch(box).set_linewidth(1.5)
        label = "robust standard deviations"
        ax.figure.colorbar(picture, ax=ax, label=label, orientation="horizontal", shrink=0.6)

    def _signals(self, ax: Any) -> None:
        n, length = self.maps.shape
        curves = self.samples.reshape(n, length, -1)
        low, high = np.nanmin(curves), np.nanmax(curves)
        curves = (curves - low) / ((high - low) or 1.0)
        for i, (channels, found) in enumerate(zip(curves, self.boxes, strict=True)):
            ax.plot(channels * 0.9 - i, color="0.3", linewidth=1)
            for start, stop, _ in found:
                ax.fill_between([start - 0.5, stop - 0.5], -i, 0.9 - i, color="C1", alpha=0.5)
        ax.set_yticks(0.45 - np.arange(n), np.arange(n))
        ax.set(xlabel="time (steps)", ylabel="signal")


def _place(picture: FloatArray, line: int) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a picture in a line of the axes, in pixels."""
    height, width = picture.shape
    return (-0.5, width - 0.5, (line + 1) * height - 0.5, line * height - 0.5)

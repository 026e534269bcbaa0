"""Where in an image the anomaly is: maps and boxes."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skae._anomaly.images import ImageScorer
from skae._anomaly.maps import boxes, loss_maps, smoothed
from skae._data.convert import image_shape_of
from skae._data.types import FloatArray, MatrixLike
from skae._estimators.explanation import ExplainingDetector
from skae._model.model import Coded

# Images whose maps are made at once on the way to boxes.
_MAPS_AT_ONCE = 256


class ImageDetection(ExplainingDetector):
    """Methods of a detector for images; not for use by itself."""

    def anomaly_map(self, X: MatrixLike, smoothing: float | None = None) -> FloatArray:
        """Return maps of where in an image the anomaly is.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images, of the shape of those in the fit; or signals.
        smoothing : float, default=None
            Standard deviation of the Gaussian that smooths the maps, in pixels. None
            is 0 with ``anomaly_score="auto"``, whose maps are smooth, else a 32nd of the
            shorter side, or of a signal's length.

        Returns
        -------
        maps : ndarray of shape (n_samples, height, width), of signals (n_samples, length)
            Higher is more anomalous. With ``anomaly_score="auto"`` an image's
            ``score_samples`` is minus the maximum of its map, and pixels above
            ``-offset_`` are anomalous. With any other the map is the loss of the
            pixels, and its mean the image's mean loss.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` holds rows or images of another shape, or ``smoothing`` is negative.
        """
        check_is_fitted(self)
        rows, shape = self._check_images_of_map(X, "anomaly_map", smoothing)
        maps = self._maps(rows, shape, smoothing)
        return maps[:, :, 0] if self._input.is_signal else maps

    def detect(
        self, X: MatrixLike, threshold: float | None = None, smoothing: float | None = None
    ) -> list[NDArray[np.float64]]:
        """Return boxes around the defects of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images, of the shape of those in the fit; or signals.
        threshold : float, default=None
            Pixels of the :meth:`anomaly_map` above it are anomalous. None takes boxes in the
            images that ``predict`` flags, and in no other: around the pixels above
            ``-offset_`` with ``anomaly_score="auto"``, else above what
            ``contamination="auto"`` would take for the maxima of maps. Pixels below half of
            their map's maximum are then left out.
        smoothing : float, default=None
            As in :meth:`anomaly_map`; the threshold is calibrated for None.

        Returns
        -------
        boxes : list of ndarray of shape (n_boxes, 5)
            One array an image: top, left, bottom and right (bottom and right
            excluded) of each connected region, and the map's maximum in it; the
            highest first. For signals (n_boxes, 3): start, stop and the maximum.

        Raises
        ------
        ImportError
            If scikit-image is not installed (``pip install "skae[image]"``).
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` holds rows or images of another shape, ``smoothing`` is negative or
            ``threshold`` is NaN.
        """
        check_is_fitted(self)
        rows, shape = self._check_images_of_map(X, "detect", smoothing)
        if threshold is not None and np.isnan(threshold):
            raise ValueError(f"threshold={threshold!r} must be a number, or None.")
        parts = [rows[i : i + _MAPS_AT_ONCE] for i in range(0, rows.shape[0], _MAPS_AT_ONCE)]
        found = []
        for part in parts:
            if threshold is not None:
                maps = self._maps(part, shape, smoothing)
                found += [boxes(anomaly_map, threshold) for anomaly_map in maps]
                continue
            scores, maps = self._scored_maps(part, shape, smoothing)
            flagged = scores < self.offset_
            found += [
                boxes(one, self._threshold_within(one)) if is_outlier else _no_boxes()
                for one, is_outlier in zip(maps, flagged, strict=True)
            ]
        return [one[:, [0, 2, 4]] for one in found] if self._input.is_signal else found

    def _threshold_within(self, anomaly_map: FloatArray) -> float:
        """Where the anomaly of a flagged image begins; its highest pixel is always above."""
        of_places = isinstance(self._scorer, ImageScorer)
        lowest = -self.offset_ if of_places else self._pixel_threshold
        assert lowest is not None, "the fit was on images"
        highest = float(anomaly_map.max())
        # Around a strong defect, coarse octaves are unusual far away from it.
        threshold = max(lowest, highest / 2) if highest > 0 else lowest
        return threshold if threshold < highest else highest - abs(highest) / 2

    def _check_images_of_map(
        self, X: MatrixLike, method: str, smoothing: float | None
    ) -> tuple[Any, tuple[int, ...]]:
        shape = self._input.image_shape if self._input.is_signal else image_shape_of(X)
        if shape is None:
            raise ValueError(
                f"{method} needs an array of images (n_samples, height, width[, channels]), but "
                "X holds rows. Reshape them, and fit on images or with image_shape."
            )
        if smoothing is not None and not 0 <= smoothing < np.inf:
            raise ValueError(
                f"smoothing={smoothing!r} must be a number of pixels of at least 0, or None."
            )
        return self._check_X(X), shape

    def _maps(self, rows: Any, shape: tuple[int, ...], smoothing: float | None) -> FloatArray:
        """Anomaly maps of images, as rows, of a shape."""
        return self._smoothed(self._map(rows, self._raw_maps), shape, smoothing)

    def _scored_maps(
        self, rows: Any, shape: tuple[int, ...], smoothing: float | None
    ) -> tuple[FloatArray, FloatArray]:
        """Scores and anomaly maps, by one pass through the networks."""
        parts: list[torch.Tensor] = []

        def of_batch(coded: Coded) -> torch.Tensor:
            maps = self._raw_maps(coded)
            of_places = isinstance(self._scorer, ImageScorer)
            # By places, the score is that of the most unusual one.
            parts.append(maps.flatten(1).amax(1) if of_places else self._judge.outlyingness(coded))
            return maps

        maps = self._smoothed(self._map(rows, of_batch), shape, smoothing)
        scores = -torch.cat(parts).cpu().double().numpy()
        return self._typical_where_nan(scores), maps

    def _raw_maps(self, coded: Coded) -> torch.Tensor:
        return self._scorer.maps(coded) if isinstance(self._scorer, ImageScorer) else coded.shares

    def _smoothed(
        self, maps: FloatArray, shape: tuple[int, ...], smoothing: float | None
    ) -> FloatArray:
        if isinstance(self._scorer, ImageScorer):
            return smoothed(maps, smoothing or 0.0)
        return loss_maps(maps.reshape(-1, *shape), smoothing)


def _no_boxes() -> NDArray[np.float64]:
    return np.empty((0, 5))

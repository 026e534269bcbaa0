"""What is usual, learned in one pass over rows: the scorer, its spread and the threshold."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from skae._anomaly.images import ImageCalibration, ImageScorer
from skae._anomaly.maps import loss_maps
from skae._anomaly.rows import RowCalibration, Scorer
from skae._anomaly.thresholds import Typical, contamination_threshold
from skae._model.model import Coded, Model
from skae._runtime.device import computing

# Images from whose maps a threshold for pixels is made.
_MAPS = 256


class Calibration(NamedTuple):
    """What a detector keeps of a calibration.

    Attributes
    ----------
    scorer : Scorer, ImageScorer or None
        None where the mean loss is the score.
    typical : Typical
        Of the scores of rows that were held out.
    offset : float
        Threshold on the scores: what is unusual.
    pixel_threshold : float or None
        The same for the maxima of maps of losses.
    least : float
        The least score of a row that was held out.
    """

    scorer: Scorer | ImageScorer | None
    typical: Typical
    offset: float
    pixel_threshold: float | None
    least: float

    def offset_of_share(
        self, scores: np.ndarray, weights: np.ndarray | None, share: float
    ) -> float:
        """Threshold below which a share of these scores lies; none of all rows where it is 0."""
        offset = contamination_threshold(scores, weights, share)
        return min(offset, self.least) if share == 0 else offset


def calibrated(
    model: Model,
    X: Any,
    weights: np.ndarray,
    trained: Tensor,
    kind: str,
    seeds: tuple[int, ...],
    image_shape: tuple[int, ...] | None,
) -> Calibration:
    """Learn what is usual.

    Parameters
    ----------
    model : Model
        With K members.
    X : array of shape (n, n_features)
        Rows of the training data.
    weights : ndarray of shape (n,)
    trained : Tensor of shape (K, n), bool
        Which rows each member was trained on.
    kind : str
        A key of ``SCORES``.
    seeds : tuple of int
        One a member.
    image_shape : tuple of int or None
    """
    of_places = kind == "auto" and image_shape is not None
    unseen = trained if bool(trained.all()) else ~trained
    known = unseen.any(0).numpy()
    scores: _ScoreCalibration
    if kind == "reconstruction":
        scores, known = _LossCalibration(len(weights)), np.ones(len(weights), dtype=bool)
    elif of_places:
        assert image_shape is not None
        scores = ImageCalibration(len(weights), seeds, image_shape)
    else:
        scores = RowCalibration(len(weights), seeds)
    collectors: list[_Collector] = [scores]
    pixels = None
    if image_shape is not None and not of_places:
        pixels = _PixelCalibration(image_shape, np.flatnonzero(known)[:_MAPS])
        collectors.append(pixels)
    with computing(model.network.device, model.flops(X)):
        for batch in model.batches(X):
            coded = model.coded(batch)
            for collector in collectors:
                collector.add(batch.part, coded)
    scorer, outlyingness = scores.fit(kind, weights, trained)
    held_out, weights = -outlyingness[known], weights[known]
    typical = Typical.of(held_out, weights, is_error=scorer is None)
    return Calibration(
        scorer,
        typical,
        typical.unusual(held_out, weights),
        None if pixels is None else pixels.threshold(),
        float(held_out.min()),
    )


class _Collector(Protocol):
    """What takes part in the pass."""

    def add(self, part: slice, coded: Coded) -> None: ...


class _ScoreCalibration(_Collector, Protocol):
    """What scores are calibrated by."""

    def fit(self, kind: str, weights: np.ndarray, trained: Tensor) -> tuple[Any, np.ndarray]: ...


class _LossCalibration:
    """The losses of rows are all there is to know."""

    def __init__(self, n_rows: int):
        self._losses = np.empty(n_rows)

    def add(self, part: slice, coded: Coded) -> None:
        self._losses[part] = coded.losses.cpu().numpy()

    def fit(self, kind: str, weights: np.ndarray, trained: Tensor) -> tuple[None, np.ndarray]:
        return None, self._losses


class _PixelCalibration:
    """Maxima of the maps of losses of some images."""

    def __init__(self, image_shape: tuple[int, ...], images: np.ndarray):
        self._shape, self._images = image_shape, images
        self._peaks: list[np.ndarray] = []

    def add(self, part: slice, coded: Coded) -> None:
        inside = (self._images >= part.start) & (self._images < part.stop)
        own = self._images[inside] - part.start
        if len(own):
            losses = coded.shares.cpu().numpy()[own]
            maps = loss_maps(losses.reshape(-1, *self._shape))
            self._peaks.append(maps.max(axis=(1, 2)))

    def threshold(self) -> float:
        """What is unusual."""
        peaks = -np.concatenate(self._peaks)
        return -Typical.of(peaks, None, is_error=True).unusual(peaks, None)

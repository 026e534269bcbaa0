"""What is usual, learned in one pass over rows: the scorer, its spread and the threshold."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from skae._anomaly.images import ImageCalibration, ImageScorer, filled
from skae._anomaly.maps import loss_maps
from skae._anomaly.rows import RowCalibration, Scorer
from skae._anomaly.seen import Seen, evened, keys_of
from skae._anomaly.surroundings import learned_surroundings
from skae._anomaly.thresholds import HeldOut, Typical
from skae._model.model import Coded, Known, Model
from skae._runtime.device import computing
from skae._runtime.tuning import FEWEST_HELD_OUT

# Images from whose maps a threshold for pixels is made.
_MAPS = 256

# Images whose blocks are foretold from the rings around them, at most, and their values.
_RINGED_IMAGES, _RINGED_VALUES = 512, 1 << 23


class Calibration(NamedTuple):
    """What a detector keeps of a calibration.

    Attributes
    ----------
    scorer : Scorer, ImageScorer or None
        None where the mean loss is the score.
    seen : Seen
        The rows, and the members that were trained on them.
    typical : Typical
        Of the scores of rows that were held out.
    held_out : HeldOut
        Scores of the rows that were held out, by which thresholds are set.
    pixel_threshold : float or None
        The same for the maxima of maps of losses.
    span : float
        Difference of the largest and the smallest value of all rows.
    """

    scorer: Scorer | ImageScorer | None
    seen: Seen
    typical: Typical
    held_out: HeldOut
    pixel_threshold: float | None
    span: float


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

    Each row goes through the networks once. Of images, some are scaled before, to learn what
    surroundings tell of pixels.

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
    if int((~trained).any(0).sum()) < FEWEST_HELD_OUT:
        # So few tell nothing of the spread: rows are compared with all others, themselves left out.
        trained = trained | True
    known = (trained if bool(trained.all()) else ~trained).any(0).numpy()
    # A copy, which what collects reads: rows without any value lose their weight, copies some.
    weights, keys = np.array(weights), np.empty(len(weights), dtype=np.int64)
    scores = _scores(kind, weights, seeds, image_shape, model, X)
    span, pixels = Span(), None
    collectors: list[_Collector] = [scores, span]
    if image_shape is not None and not isinstance(scores, ImageCalibration):
        pixels = _PixelCalibration(image_shape, np.flatnonzero(known)[:_MAPS])
        collectors.append(pixels)
    with model.computing(X) as pace:
        for batch in model.batches(X):
            keys[batch.part], own = keys_of(batch), trained[:, batch.part]
            if batch.observed is not None:
                weights[batch.part] *= batch.observed.any(-1).cpu().numpy()
            coded = model.coded(batch, Known(torch.ones_like(own[0]), own))
            for collector in collectors:
                collector.add(batch.part, coded)
            pace.lap()
    if not weights.any():
        raise ValueError(
            "X holds no observed value of a feature that the fit has seen. Pass rows with at "
            "least one value."
        )
    given = weights.copy()
    weights[:] = evened(given, keys)
    # On one thread: bits of what follows, as of LAPACK, depend on how many there are.
    with computing(torch.device("cpu"), flops=0.0):
        scorer, outlyingness = scores.fit(kind, trained)
    found = -outlyingness[known]
    typical = Typical.of(found, weights[known], is_error=scorer is None)
    held_out = HeldOut(found, given[known], typical.unusual(found, weights[known]))
    return Calibration(
        scorer,
        Seen.of(keys, trained),
        typical,
        held_out,
        None if pixels is None else pixels.threshold(),
        span.width,
    )


def is_of_places(kind: str, image_shape: tuple[int, ...] | None) -> bool:
    """Whether images are scored by their most unusual place."""
    return kind == "auto" and image_shape is not None


def _scores(
    kind: str,
    weights: np.ndarray,
    seeds: tuple[int, ...],
    image_shape: tuple[int, ...] | None,
    model: Model,
    X: Any,
) -> "_ScoreCalibration":
    if kind == "reconstruction":
        return _LossCalibration(len(weights))
    if image_shape is not None and is_of_places(kind, image_shape):
        surroundings = learned_surroundings(_some_images(model, X, image_shape), seeds[0])
        return ImageCalibration(weights, seeds, image_shape, surroundings)
    return RowCalibration(weights, seeds, kind)


def _some_images(model: Model, X: Any, shape: tuple[int, ...]) -> Tensor:
    """Some of the images, spread over all, (n, channels, height, width)."""
    n_some = max(1, min(_RINGED_IMAGES, _RINGED_VALUES // X.shape[1]))
    places = np.unique(np.linspace(0, X.shape[0] - 1, n_some).astype(int))
    return torch.cat([filled(model.coded(batch), shape) for batch in model.batches(X[places])])


class _Collector(Protocol):
    """What takes part in the pass."""

    def add(self, part: slice, coded: Coded) -> None: ...


class _ScoreCalibration(_Collector, Protocol):
    """What scores are calibrated by."""

    def fit(self, kind: str, trained: Tensor) -> tuple[Any, np.ndarray]: ...


class _LossCalibration:
    """The losses of rows are all there is to know."""

    def __init__(self, n_rows: int):
        self._losses = np.empty(n_rows)

    def add(self, part: slice, coded: Coded) -> None:
        self._losses[part] = coded.losses.cpu().numpy()

    def fit(self, kind: str, trained: Tensor) -> tuple[None, np.ndarray]:
        return None, self._losses


class Span:
    """The range of all values of some rows."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf

    def add(self, part: slice, coded: Coded) -> None:
        rows = coded.originals
        self._low = min(self._low, float(rows.min()))
        self._high = max(self._high, float(rows.max()))

    @property
    def width(self) -> float:
        return self._high - self._low


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

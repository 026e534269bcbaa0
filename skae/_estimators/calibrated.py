"""Detectors: which rows their members are trained on, and what calibrates their scores."""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch

from skae._anomaly.calibration import Span, calibrated, is_of_places
from skae._anomaly.images import ImageScorer, most_images
from skae._anomaly.losses import LossScorer
from skae._anomaly.rows import Scorer
from skae._anomaly.seen import Seen
from skae._anomaly.thresholds import HeldOut, Typical, just_below, threshold_between
from skae._data.convert import dense_chunks
from skae._data.shards import communicator_of, local, whole
from skae._data.streamed import sample_rows
from skae._data.types import FloatArray, MatrixLike
from skae._estimators.base import BaseAutoencoder
from skae._estimators.fitting import Prepared
from skae._estimators.parameters import Autos
from skae._model.model import Batch, Coded, Known, Model
from skae._networks.factory import Spec
from skae._runtime.communicator import largest
from skae._runtime.randomness import SCORE_STREAM
from skae._runtime.tuning import (
    CALIBRATION_ROWS,
    DETECTOR_EPOCHS,
    DETECTOR_MEMBERS,
    FAR_MARGIN,
    FEWEST_HELD_OUT,
    IMAGE_DETECTOR_EPOCHS,
    MEMBER_ROWS,
    MEMBER_SHARE,
    MEMBER_SHARE_OF_IMAGES,
    MEMBER_SHARE_OF_MANY,
    ROWS_FOR_ALL_MEMBERS,
    SUBSPACE_AXES,
    WIDE_FEATURES,
)
from skae._training import auto
from skae._training.feeds import trained_on
from skae._training.plan import TrainingPlan


class CalibratedDetector(BaseAutoencoder):
    """Members on rows of their own, and calibrated scores; not for use by itself."""

    _fitted_types = {
        **BaseAutoencoder._fitted_types,
        "offset_": float,
        "n_estimators_": int,
        "max_samples_": int,
        "_seeds": tuple[int, ...],
        "_typical": Typical,
        "_held_out": HeldOut,
        "_scorer": Scorer | ImageScorer | None,
        "_seen": Seen | None,
        "_pixel_threshold": float | None,
        "_span": float | None,
    }

    contamination: Any
    n_nonzero_coefs: int | None
    anomaly_score: str
    n_estimators: Any
    max_samples: Any

    offset_: float
    n_estimators_: int
    max_samples_: int
    _seeds: tuple[int, ...]
    _typical: Typical
    _held_out: HeldOut
    _scorer: Scorer | ImageScorer | None
    _seen: Seen | None
    _pixel_threshold: float | None
    _span: float | None

    def _training_rows(
        self, X: MatrixLike, sample_weight: Any, reset: bool
    ) -> tuple[Any, FloatArray | None]:
        rows, weights = super()._training_rows(X, sample_weight, reset)
        if reset:
            self._check_several(rows)
        return rows, weights

    def _check_several(self, rows: Any) -> None:
        if rows.shape[0] == 1:
            raise ValueError(
                f"{type(self).__name__} cannot learn from n_samples=1: one row tells nothing of "
                f"what is usual. Pass more rows of positive weight."
            )

    def _plan(
        self, n_rows: int, product_dtype: torch.dtype, one_pass: bool, starts_as_pca: bool
    ) -> TrainingPlan:
        # Batches of a stream may be short.
        is_number = isinstance(self.max_samples, Integral)
        if is_number and int(self.max_samples) > n_rows and not one_pass:
            warnings.warn(
                f"max_samples={self.max_samples} is more than the {n_rows} rows that there are: "
                f"each autoencoder is trained on all of them. Pass max_samples=1.0 if so meant.",
                UserWarning,
                stacklevel=2,
            )
        return super()._plan(n_rows, product_dtype, one_pass, starts_as_pca)

    def _n_members(self) -> int:
        is_dense = isinstance(self.network, str) and self.network in ("auto", "mlp")
        if isinstance(self.n_estimators, str):
            return DETECTOR_MEMBERS if is_dense else 1
        if self.n_estimators > 1 and not is_dense:
            raise ValueError(
                f"n_estimators={self.n_estimators!r} autoencoders are trained in one pass by the "
                f"dense network only. Pass n_estimators=1 with network={self.network!r}."
            )
        return int(self.n_estimators)

    def _n_rows_of_member(self, n_rows: int) -> int:
        size = self.max_samples
        if isinstance(size, str):
            return self._auto_samples(n_rows)
        if isinstance(size, Integral):
            return min(int(size), n_rows)
        return max(1, int(size * n_rows))

    def _auto_samples(self, n_rows: int) -> int:
        # With more columns than rows, a network knows its few rows by heart: some are left out.
        is_wide = self._input.n_features >= 1.5 * n_rows and n_rows >= FEWEST_HELD_OUT
        if n_rows <= ROWS_FOR_ALL_MEMBERS and not is_wide:
            return n_rows
        if self._input.image_shape is not None:
            return int(self._member_share() * n_rows)
        # Few rows hold few outliers to be learned.
        most = max(MEMBER_ROWS, MEMBER_SHARE_OF_MANY * n_rows)
        return int(min(self._member_share() * n_rows, most))

    def _member_share(self) -> float:
        """So large that every row is still left out by one of several members."""
        n_members = self._n_members()
        if n_members > 1:
            return min(MEMBER_SHARE, 1.0 - 1.0 / n_members)
        # What is usual at each place takes many held-out images to know.
        return MEMBER_SHARE_OF_IMAGES if self._is_of_places() else MEMBER_SHARE

    def _score_kind(self) -> str:
        """Which distances are taken; where rows are said to be clean, "auto" makes use of it."""
        is_clean = self.anomaly_score == "auto" and self._input.image_shape is None
        return "novelty" if is_clean and self.contamination == 0 else self.anomaly_score

    def _is_of_places(self) -> bool:
        """Whether images are scored by their most unusual place."""
        return is_of_places(self.anomaly_score, self._input.image_shape)

    def _builder(self, hidden: Any) -> Callable[..., Any] | None:
        if isinstance(self.network, str) and self.network == "conv":
            raise ValueError(
                "network='conv' finds no outliers: convolutions rebuild what they have never seen "
                "as well as what is usual, and images with defects ranked below chance. Pass "
                "network='auto', whose scores also learn what the surroundings of pixels tell."
            )
        return super()._builder(hidden)

    def _network_spec(self, n_features: int) -> Spec:
        spec = super()._network_spec(n_features)
        if self.n_nonzero_coefs is None:
            return spec
        return dataclasses.replace(spec, n_nonzero=int(self.n_nonzero_coefs))

    def _n_latents(self, n_features: int) -> int:
        if isinstance(self.n_components, str) and self._is_of_places():
            return auto.image_detector_components(n_features)
        return super()._n_latents(n_features)

    def _autos(self) -> Autos:
        # Long training learns the outliers too, and the training rows by heart. PCA knows
        # outlying rows as well, and found them a little worse; of images, few steps from a
        # random start leave a poor reconstruction.
        if self._input.image_shape is None:
            return Autos(
                init="random",
                layers=auto.detector_layers,
                scaling="mixed",
                most_epochs=DETECTOR_EPOCHS,
                limited=False,
                fenced=True,
                margin=FAR_MARGIN,
            )
        # Pixels share a unit: scaled one by one, the noise of a bright ground would outweigh all
        # that happens where an object lies.
        plain = Autos(
            init="random", scaling="common", most_epochs=IMAGE_DETECTOR_EPOCHS, limited=False
        )
        if not self._is_of_places():
            return plain
        rate = auto.image_detector_rate(self._input.n_features)
        return plain._replace(init="pca", learning_rate=rate)

    def _narrow_from(self, X: Any) -> float:
        if self.loss != "squared_error":
            return super()._narrow_from(X)
        fewest = max(X.shape[0], SUBSPACE_AXES) + 1
        if self._input.image_shape is not None or not fewest <= X.shape[1] < WIDE_FEATURES:
            return WIDE_FEATURES
        # Where there are more features than rows, all that is new of a row lies outside. What is
        # missing there would be taken for usual in rows of the fit, and for new in others.
        has_gaps = any(np.isnan(rows).any() for _, rows in dense_chunks(X))
        return WIDE_FEATURES if has_gaps else fewest

    def _learns_from(self, X: Any, y: Any) -> bool:
        return _labels_of(y) is not None or super()._learns_from(X, y)

    def _fit(self, X: MatrixLike, y: Any, sample_weight: Any, **others: Any) -> None:
        if (labels := _labels_of(y)) is None:
            return super()._fit(X, y, sample_weight, **others)
        is_outlier = labels == -1
        if is_outlier.all():
            raise ValueError(
                "y holds -1 (outlier) alone. Pass rows that are normal, or unknown (0)."
            )
        given = 1.0 if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        # Outliers that are known are not learned.
        super()._fit(X, None, np.where(is_outlier, 0.0, given), **others)
        rows = self._check_X(X)
        # Where no row is known to be normal, most of the others are.
        is_normal = labels == 1 if (labels == 1).any() else labels == 0
        known, normal = (self._score_samples(rows[mask]) for mask in (is_outlier, is_normal))
        self.offset_ = threshold_between(known, normal, self._held_out.unusual)

    def _score_samples(self, rows: Any) -> FloatArray:
        scores = -self._map(rows, self._judge.outlyingness).astype(np.float64, copy=False)
        return self._typical_where_nan(scores)

    def _typical_score(self) -> float:
        return self._typical.score if hasattr(self, "_typical") else float("nan")

    @property
    def _judge(self) -> LossScorer | Scorer | ImageScorer:
        """What tells how far out rows are."""
        return LossScorer() if self._scorer is None else self._scorer

    def _map(self, rows: Any, function: Callable[[Coded], torch.Tensor]) -> Any:
        """Apply a function to what the members make of rows, each that has not seen a row."""
        among = None if self._seen is None else self._seen.among
        span = None if self._input.image_shape is None else Span()
        results = self._model.map(rows, _OfMembers(function, self._model, among, span))
        if span is not None and self._span is not None:
            _warn_of_other_units(span.width, self._span)
        return results

    def _attributes_of(self, model: Model) -> dict[str, Any]:
        # While training goes on, there is no calibration yet.
        return super()._attributes_of(model) | {
            "_scorer": None,
            "_seen": None,
            "_span": None,
            "offset_": 0.0,
        }

    def _keep(self, prepared: Prepared, append: bool = False) -> None:
        super()._keep(prepared, append)
        plan, n_rows = prepared.job.plan, prepared.X.shape[0]
        self._seeds, self.n_estimators_ = plan.seeds, len(plan.seeds)
        self.max_samples_ = plan.max_samples or n_rows
        X, weights = self._learned_from(prepared, append)
        some = self._calibration_rows(X, plan.block_length)
        if X is prepared.X:
            trained = trained_on(prepared.job.rows, plan, n_rows, some)
        else:
            # Most of a stream's rows were trained on, in one call or another.
            trained = torch.ones(len(plan.seeds), len(some), dtype=torch.bool)
        self._calibrate(X, weights, some, trained)

    def _calibration_rows(self, X: Any, length: int | None) -> torch.Tensor:
        """Indices of the rows that calibrate."""
        n_rows, n_features = X.shape
        n_some = CALIBRATION_ROWS
        if self._is_of_places():
            n_some = min(n_some, most_images(n_features, len(self._seeds)))
        return sample_rows(n_rows, n_some, length, self._seeds[0], SCORE_STREAM)

    def _calibrate(self, X: Any, weights: Any, some: torch.Tensor, trained: torch.Tensor) -> None:
        """Fit what scores latents and residuals, and the threshold.

        ``trained`` tells which members were trained on each of ``some`` rows.
        """
        sample = whole(X) if len(some) == X.shape[0] else X[some.numpy()]
        own = np.ones(len(some)) if weights is None else weights[some.numpy()]
        shape = self._input.image_shape
        found = calibrated(
            self._model, sample, own, trained, self._score_kind(), self._seeds, shape
        )
        self._scorer, self._seen, self._typical = found.scorer, found.seen, found.typical
        self._pixel_threshold, self._held_out = found.pixel_threshold, found.held_out
        self._span, self.offset_ = found.span, found.held_out.threshold(self.contamination)
        if self.contamination == 0 and len(some) < X.shape[0]:
            # None of all rows is flagged.
            farthest = largest(communicator_of(X), [-self._score_samples(local(X)).min()])
            self.offset_ = min(self.offset_, just_below(-float(farthest[0])))


@dataclass(frozen=True)
class _OfMembers:
    """A function of what the members of a model make of a batch; equal to others of equal parts."""

    function: Callable[[Coded], torch.Tensor]
    model: Model
    among: Callable[[Batch], Known | None] | None
    span: Span | None

    def __call__(self, batch: Batch) -> torch.Tensor:
        coded = self.model.coded(batch, None if self.among is None else self.among(batch))
        if self.span is not None:
            self.span.add(batch.part, coded)
        return self.function(coded)


def _labels_of(y: Any) -> np.ndarray | None:
    """Known outliers (-1), normal (1) and unknown rows (0), if that is what y holds."""
    if y is None:
        return None
    labels = np.asarray(y)
    if labels.ndim != 1 or labels.dtype.kind not in "if" or not np.isin(labels, (-1, 0, 1)).all():
        return None
    return labels if (labels == -1).any() else None


def _warn_of_other_units(span: float, usual: float) -> None:
    """Warn where images are, say, in [0, 1], but were in [0, 255] in the fit."""
    # A constant image has no units; it may have a span by rounding.
    if 1e-4 * usual < span < 0.1 * usual or span > 10 * usual > 0:
        warnings.warn(
            f"The values of X span {span:g}, and those of the fit spanned {usual:g}. Pass images "
            f"in the units of the fit: were they divided by 255?",
            UserWarning,
            stacklevel=2,
        )

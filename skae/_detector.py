"""AutoencoderAnomalyDetector: rows that lie off what the autoencoder has learned."""

import dataclasses
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from scipy.special import expit
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from skae._base import BaseAutoencoder, all_or_nothing
from skae._parameters import documented
from skae._settings import Autos, Interval, Options, RealNotInt, StrOptions
from skae.data.stream import Blocks, block_length, sample_rows
from skae.data.validate import image_shape_of, like_caller
from skae.defects import DefectScorer, calibration_images, fit_defect_scorer
from skae.inference import Model
from skae.maps import anomaly_maps, boxes, smoothed
from skae.randomness import SCORE_STREAM, subsamples
from skae.scoring import CALIBRATION_ROWS, SCORES, Scorer, fit_scorer
from skae.thresholds import Typical, contamination_threshold
from skae.training import defaults
from skae.training.plan import TrainingPlan

# Images whose maps are made at once on the way to boxes, and from which a threshold is made.
_MAPS_AT_ONCE = 256


@documented
class AutoencoderAnomalyDetector(OutlierMixin, BaseAutoencoder):
    """Outlier detection by what an autoencoder makes of a row.

    Stands where :class:`~sklearn.ensemble.IsolationForest` stands, with the same
    signs: scores are higher for more normal rows, and -1 marks an outlier.

    A few autoencoders are trained in one pass, each on its own part of the rows. A row
    is scored by its latents and residuals together: their distances from other rows
    and from the bulk of them, calibrated on rows that were held out, so that a score
    counts robust standard deviations. With ``anomaly_score="reconstruction"`` it is the
    reconstruction error alone (Hawkins et al., "Outlier detection using replicator
    neural networks", 2002).

    An image is scored by its most unusual pixel too. Its networks start as PCA, and
    those of more than 784 values are trained at a ``learning_rate`` that is smaller in
    proportion.

    Parameters
    ----------
    contamination : "auto" or float in [0, 0.5], default="auto"
        Share of outliers in the training rows; sets ``offset_`` and with it the
        labels, never the scores. 0 stands for clean training rows, none of which is
        flagged. "auto" flags what lies more than 2.5 robust standard deviations above
        the median of held-out rows (Leys et al. 2013).
    anomaly_score : {"auto", "isolation", "mahalanobis", "nearest", "reconstruction"}, \
            default="auto"
        What is far out: in the space of latents and residuals, "isolation" is the
        distance to the nearest of 4 random rows, on average over many draws;
        "mahalanobis" the one to the centre, in units of the covariance of the inner 80 %
        of the rows; "nearest" the one to the nearest of 1,024 rows, as it is and in
        units of the covariance. "auto" combines them by a smooth maximum; for
        images also with the energy of the residuals around each pixel, at each scale,
        and the image counts as its most unusual pixel.
    n_estimators : int or "auto", default="auto"
        Autoencoders that are trained in one pass. "auto" is 4; 1 if ``network`` is not
        the dense one, which only trains one.
    max_samples : int, float or "auto", default="auto"
        Rows, or their share, that each of them is trained on, drawn without
        replacement. "auto" is 80 %, at most 1,024 or a tenth where that is more; for
        images 80 %, or half with ``anomaly_score="auto"``; and all of up to 64 rows.
        Rows that are left out calibrate scores and threshold.
    {parameters}

    Attributes
    ----------
    offset_ : float
        Threshold on the scores: ``decision_function = score_samples - offset_``.
    n_estimators_ : int
        Number of autoencoders. ``encoder_``, ``decoder_`` are those of the first,
        ``loss_curve_`` their mean.
    {attributes}

    See Also
    --------
    AutoencoderTransformer : Latents as features.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderAnomalyDetector
    >>> X, _ = load_iris(return_X_y=True)
    >>> detector = AutoencoderAnomalyDetector(n_components=2, random_state=0).fit(X)
    >>> detector.predict(np.array([[5.0, 3.4, 1.5, 0.2], [5.0, 3.4, 6.5, 0.2]])).tolist()
    [1, -1]
    """

    _parameter_constraints = {
        **BaseAutoencoder._parameter_constraints,
        "contamination": [
            StrOptions({"auto"}),
            Interval(Real, 0, 0.5, closed="right"),
            Options(Real, {0}),
        ],
        "anomaly_score": [StrOptions(set(SCORES))],
        "n_estimators": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_samples": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
        ],
    }

    _fitted_types = {
        **BaseAutoencoder._fitted_types,
        "offset_": float,
        "n_estimators_": int,
        "_seeds": tuple[int, ...],
        "_typical": Typical,
        "_scorer": Scorer | DefectScorer | None,
        "_pixel_threshold": float | None,
    }

    def __init__(
        self,
        *,
        contamination="auto",
        anomaly_score="auto",
        n_estimators="auto",
        max_samples="auto",
        n_components="auto",
        hidden_layer_sizes="auto",
        network="auto",
        image_shape=None,
        activation="silu",
        loss="squared_error",
        scaling="auto",
        normalization=None,
        dropout=0.0,
        weight_decay=0.0,
        latent_l1=0.0,
        sparsity=None,
        init="auto",
        optimizer="adam",
        learning_rate=3e-3,
        lr_schedule="one_cycle",
        batch_size="auto",
        max_epochs="auto",
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping="auto",
        validation_fraction=0.1,
        warm_start=False,
        random_state=None,
        device="auto",
        precision="float32",
        compile=False,
        verbose=0,
    ):
        super().__init__(
            n_components=n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            network=network,
            image_shape=image_shape,
            activation=activation,
            loss=loss,
            scaling=scaling,
            normalization=normalization,
            dropout=dropout,
            weight_decay=weight_decay,
            latent_l1=latent_l1,
            sparsity=sparsity,
            init=init,
            optimizer=optimizer,
            learning_rate=learning_rate,
            lr_schedule=lr_schedule,
            batch_size=batch_size,
            max_epochs=max_epochs,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
            precision=precision,
            compile=compile,
            verbose=verbose,
        )
        self.contamination = contamination
        self.anomaly_score = anomaly_score
        self.n_estimators = n_estimators
        self.max_samples = max_samples

    # Up to so many rows, each autoencoder is trained on all of them; else on such a share, and
    # on no more than so many, or such a share: few rows hold few outliers to be learned.
    _few_rows, _share, _many_rows, _share_of_many = 64, 0.8, 1024, 0.1

    # What is usual at each place of an image takes many held-out images to know.
    _image_share = 0.5

    # Features from which on images are trained at a smaller rate: a step of Adam changes
    # what a layer gives in proportion to its inputs.
    _many_features = 784

    _scorer: Scorer | DefectScorer | None
    _typical: Typical
    _pixel_threshold: float | None

    def score_samples(self, X):
        """Score of each row; higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Minus the number of robust standard deviations by which the row lies farther
            out than the median of held-out rows; with
            ``anomaly_score="reconstruction"``, minus the mean loss over the observed
            features, in the scaled space.
        """
        check_is_fitted(self)
        return self._score_samples(self._check_X(X))

    def decision_function(self, X):
        """Score of each row above the threshold; negative for outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Label of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        labels : ndarray of int, shape (n_samples,)
            -1 for outliers, 1 for the others.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def outlier_probability(self, X):
        """Probability that a row is an outlier, by its distance from the threshold.

        A logistic curve (Gao and Tan, "Converting output scores from outlier detection
        algorithms into probability estimates", 2006): one half at the threshold, and
        the log odds grow by one with each robust standard deviation of held-out rows'
        scores.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        probabilities : ndarray of shape (n_samples,)
            In [0, 1]; above one half where ``predict`` gives -1.
        """
        scores = self.score_samples(X)
        typical = self._typical
        return expit(typical.deviations(scores) - typical.deviations(np.array(self.offset_)))

    def feature_contributions(self, X):
        """How much each feature adds to what makes a row unusual.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; a missing cell adds nothing.

        Returns
        -------
        contributions : ndarray or DataFrame of shape (n_samples, n_features)
            Not negative. Each row sums to ``-score_samples``, or to zero where that is
            negative: no farther out than the median row. A feature's share in it grows
            with its residual and with its own distance from the mean, both in units of
            what is usual; with ``anomaly_score="reconstruction"`` it is the feature's
            loss. A DataFrame if ``X`` is one.
        """
        check_is_fitted(self)
        rows = self._check_X(X)
        if self._scorer is None:
            contributions = self._model.contributions(rows)
        else:
            contributions = self._model.map_joint(rows, self._scorer.contributions)
        return like_caller(contributions, X, getattr(self, "feature_names_in_", None))

    def anomaly_map(self, X, smoothing=None):
        """Where in an image the anomaly is.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images, of the shape of those in the fit.
        smoothing : float, default=None
            Standard deviation of the Gaussian that smooths the maps, in pixels. None
            is 0 with ``anomaly_score="auto"``, whose maps are smooth, else a 32nd of the
            shorter side.

        Returns
        -------
        maps : ndarray of shape (n_samples, height, width)
            Higher is more anomalous. With ``anomaly_score="auto"`` an image's
            ``score_samples`` is minus the maximum of its map, and pixels above
            ``-offset_`` are anomalous. With any other the map is the loss of the
            pixels, and its mean the image's mean loss.
        """
        check_is_fitted(self)
        rows, shape = self._check_images_of_map(X, "anomaly_map")
        return self._maps(rows, shape, smoothing)

    def detect(self, X, threshold=None, smoothing=None):
        """Boxes around the defects of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images, of the shape of those in the fit.
        threshold : float, default=None
            Pixels of the :meth:`anomaly_map` above it are anomalous. None takes one that
            is calibrated on the training images, on those that were held out where there
            are: ``-offset_`` with ``anomaly_score="auto"``, so that an image has boxes if,
            and only if, ``predict`` gives -1; else what ``contamination="auto"`` would take
            for the maxima of maps. Pixels below half of their map's maximum are then left
            out.
        smoothing : float, default=None
            As in :meth:`anomaly_map`; the threshold is calibrated for None.

        Returns
        -------
        boxes : list of ndarray of shape (n_boxes, 5)
            One array an image: top, left, bottom and right (bottom and right
            excluded) of each connected region, and the map's maximum in it; the
            highest first.

        Raises
        ------
        ImportError
            If scikit-image is not installed (``pip install "skae[image]"``).
        """
        check_is_fitted(self)
        rows, shape = self._check_images_of_map(X, "detect")
        if threshold is not None and np.isnan(threshold):
            raise ValueError(f"threshold={threshold!r} must be a number, or None.")
        of_places = isinstance(self._scorer, DefectScorer)
        lowest = -self.offset_ if of_places else self._pixel_threshold
        assert lowest is not None, "the fit was on images"

        def found(anomaly_map: np.ndarray) -> np.ndarray:
            # Around a strong defect, coarse octaves are unusual far away from it.
            half = max(lowest, float(anomaly_map.max()) / 2)
            return boxes(anomaly_map, half if threshold is None else threshold)

        parts = (rows[i : i + _MAPS_AT_ONCE] for i in range(0, rows.shape[0], _MAPS_AT_ONCE))
        maps = (self._maps(part, shape, smoothing) for part in parts)
        return [found(anomaly_map) for some in maps for anomaly_map in some]

    @all_or_nothing
    def calibrate(self, X, sample_weight=None) -> Self:
        """Calibrate scores and threshold on other rows, without training.

        For a stream that drifts: :meth:`partial_fit` calibrates on the rows of its last
        call, which may be few. Give it recent rows, a few hundred at least.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows, most of them normal.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        self : object
            The estimator.
        """
        check_is_fitted(self)
        rows, weights = self._check_weights(sample_weight, self._check_X(X))
        length = block_length(rows, self._model.dtype, len(self._seeds))
        n_some = self._n_calibration_rows(rows.shape[1])
        some = sample_rows(rows.shape[0], n_some, length, self._seeds[0], SCORE_STREAM)
        trained = torch.ones((len(self._seeds), len(some)), dtype=torch.bool)
        self._calibrate(rows, weights, self._seeds, some, trained)
        return self

    def _n_members(self) -> int:
        is_dense = isinstance(self.network, str) and self.network in ("auto", "mlp")
        if isinstance(self.n_estimators, str):
            return 4 if is_dense else 1
        if self.n_estimators > 1 and not is_dense:
            raise ValueError(
                f"n_estimators={self.n_estimators!r} autoencoders are trained in one pass by the "
                f"dense network only. Pass n_estimators=1 with network={self.network!r}."
            )
        return int(self.n_estimators)

    def _is_of_places(self) -> bool:
        """Whether images are scored by their most unusual place."""
        return self.anomaly_score == "auto" and self._input.image_shape is not None

    def _autos(self) -> Autos:
        # Long training learns the outliers too, and the training rows by heart. PCA knows
        # outlying rows as well, and found them a little worse; of images, few steps from a
        # random start leave a poor reconstruction.
        if self._input.image_shape is None:
            return Autos("random", defaults.detector_layers, "mixed", most_epochs=20, limited=False)
        init = "pca" if self._is_of_places() else "random"
        return Autos(init, most_epochs=10, limited=False)

    def _plan(self, *args: Any) -> TrainingPlan:
        plan = super()._plan(*args)
        if not self._is_of_places():
            return plan
        share = min(1.0, self._many_features / self._input.n_features)
        rates = tuple(rate * share for rate in plan.learning_rates)
        return dataclasses.replace(plan, learning_rates=rates)

    def _check_images_of_map(self, X, method: str) -> tuple[Any, tuple[int, ...]]:
        shape = image_shape_of(X)
        if shape is None:
            raise ValueError(
                f"{method} needs an array of images (n_samples, height, width[, channels]), but "
                "X holds rows. Reshape them, and fit on images or with image_shape."
            )
        return self._check_X(X), shape

    def _maps(self, rows: Any, shape: tuple[int, ...], smoothing: float | None) -> np.ndarray:
        """Anomaly maps of images, as rows, of a shape."""
        if smoothing is not None and not 0 <= smoothing < np.inf:
            raise ValueError(
                f"smoothing={smoothing!r} must be a number of pixels of at least 0, or None."
            )
        if isinstance(self._scorer, DefectScorer):
            maps = self._model.map_joint(rows, self._scorer.maps)
            return smoothed(maps, smoothing or 0.0)
        smoothing = min(shape[:2]) / 32 if smoothing is None else smoothing
        return anomaly_maps(self._model.contributions(rows).reshape(-1, *shape), smoothing)

    def _n_rows_of_member(self, n_rows: int) -> int:
        size = self.max_samples
        if isinstance(size, str):
            if n_rows <= self._few_rows:
                return n_rows
            if self._input.image_shape is not None:
                return int((self._image_share if self._is_of_places() else self._share) * n_rows)
            most = max(self._many_rows, self._share_of_many * n_rows)
            return int(min(self._share * n_rows, most))
        if isinstance(size, Integral):
            return min(int(size), n_rows)
        return max(1, int(size * n_rows))

    def _score_samples(self, rows: Any) -> np.ndarray:
        if self._scorer is None:
            return -self._model.losses(rows)
        return -self._model.map_joint(rows, self._scorer)

    def _attributes_of(self, model: Model) -> dict[str, Any]:
        # While training goes on, there is no calibration yet.
        return super()._attributes_of(model) | {"_scorer": None}

    def _fitted(self, X: Any, weights: np.ndarray | None, plan: TrainingPlan) -> None:
        self._seeds, self.n_estimators_ = plan.seeds, len(plan.seeds)
        n_rows, length = X.shape[0], plan.block_length
        n_some = self._n_calibration_rows(X.shape[1])
        some = sample_rows(n_rows, n_some, length, plan.seeds[0], SCORE_STREAM)
        n_own = plan.max_samples or n_rows
        if length is not None:
            trained = Blocks(n_rows, length, n_own, plan.seeds).owns(some)
        else:
            own = subsamples(n_rows, n_own, plan.seeds)
            trained = torch.zeros(len(own), n_rows, dtype=torch.bool).scatter_(1, own, True)
            trained = trained[:, some]
        self._calibrate(X, weights, plan.seeds, some, trained)

    def _n_calibration_rows(self, n_features: int) -> int:
        if not self._is_of_places():
            return CALIBRATION_ROWS
        return min(CALIBRATION_ROWS, calibration_images(n_features, len(self._seeds)))

    def _calibrate(
        self,
        X: Any,
        weights: np.ndarray | None,
        seeds: tuple[int, ...],
        some: torch.Tensor,
        trained: torch.Tensor,
    ) -> None:
        """Fit what scores latents and residuals, and the threshold.

        ``trained`` tells which members were trained on each of ``some`` rows.
        """
        sample = X if len(some) == X.shape[0] else X[some.numpy()]
        sample_weights = np.ones(len(some)) if weights is None else weights[some.numpy()]
        if self.anomaly_score == "reconstruction":
            self._scorer, held_out = None, -self._model.losses(sample)
            known = np.ones(len(held_out), dtype=bool)
        else:
            self._scorer, outlyingness = self._fit_scorer(sample, sample_weights, trained, seeds)
            known = ~np.isnan(outlyingness)
            held_out, sample_weights = -outlyingness[known], sample_weights[known]
        self._typical = Typical.of(held_out, sample_weights, is_error=self._scorer is None)
        if isinstance(self.contamination, str):
            self.offset_ = self._typical.unusual(held_out, sample_weights)
        else:
            scores = self._score_samples(X)
            self.offset_ = contamination_threshold(scores, weights, float(self.contamination))
            if self.contamination == 0:
                self.offset_ = min(self.offset_, float(held_out.min()))
        self._pixel_threshold = self._fit_pixel_threshold(sample, known)

    def _fit_scorer(
        self,
        X: Any,
        weights: np.ndarray,
        trained: torch.Tensor,
        seeds: tuple[int, ...],
    ) -> tuple[Scorer | DefectScorer, np.ndarray]:
        shape = self._input.image_shape
        if shape is not None and self._is_of_places():
            return fit_defect_scorer(self._model, X, weights, trained, seeds, shape)
        return fit_scorer(self.anomaly_score, self._model, X, weights, trained, seeds)

    def _fit_pixel_threshold(self, X: Any, held_out: np.ndarray) -> float | None:
        """For maps of losses: what is unusual for their maxima."""
        shape = self._input.image_shape
        if shape is None or isinstance(self._scorer, DefectScorer):
            return None
        some = X[np.flatnonzero(held_out)[:_MAPS_AT_ONCE]]
        peaks = -self._maps(some, shape, None).max(axis=(1, 2))
        return -Typical.of(peaks, None, is_error=True).unusual(peaks, None)

"""AutoencoderAnomalyDetector: rows that the autoencoder cannot reconstruct."""

from typing import Any

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from skae._base import BaseAutoencoder, Interval, Real, StrOptions
from skae._parameters import documented
from skae.data.validate import image_shape_of, like_caller
from skae.maps import anomaly_maps, boxes
from skae.scoring import contamination_threshold, robust_threshold


@documented
class AutoencoderAnomalyDetector(OutlierMixin, BaseAutoencoder):
    """Outlier detection by the reconstruction error of an autoencoder.

    Stands where :class:`~sklearn.ensemble.IsolationForest` stands, with the same
    signs: scores are higher for more normal rows, and -1 marks an outlier
    (Hawkins et al., "Outlier detection using replicator neural networks", 2002).

    Parameters
    ----------
    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of outliers in the training rows; sets ``offset_`` and with it the
        labels, never the scores. "auto" flags rows the cube root of whose error
        lies more than 2.5 robust standard deviations above the training rows' median.
    {parameters}

    Attributes
    ----------
    offset_ : float
        Threshold on the scores: ``decision_function = score_samples - offset_``.
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
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
    }

    def __init__(
        self,
        *,
        contamination="auto",
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

    # Long training learns the outliers too, and the training rows by heart.
    _most_epochs = 30

    def score_samples(self, X):
        """Score of each row; higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Minus the mean loss over the observed features, in the scaled space.
        """
        check_is_fitted(self)
        return -self._model.losses(self._check_X(X))

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

    def feature_contributions(self, X):
        """How much each feature adds to a row's error.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; a missing cell adds nothing.

        Returns
        -------
        contributions : ndarray or DataFrame of shape (n_samples, n_features)
            Not negative; each row sums to ``-score_samples``. A DataFrame if ``X``
            is one.
        """
        check_is_fitted(self)
        contributions = self._model.contributions(self._check_X(X))
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
            is a 32nd of the shorter side.

        Returns
        -------
        maps : ndarray of shape (n_samples, height, width)
            Higher is more anomalous. The mean of a map is ``-score_samples``; its
            maximum is a score that minds a small defect.
        """
        check_is_fitted(self)
        shape = image_shape_of(X)
        if shape is None:
            raise ValueError(
                "anomaly_map needs an array of images (n_samples, height, width[, channels]), but "
                "X holds rows. Reshape them, and fit on images or with image_shape."
            )
        smoothing = min(shape[:2]) / 32 if smoothing is None else smoothing
        return anomaly_maps(self.feature_contributions(X), smoothing)

    def detect(self, X, threshold=None, smoothing=None):
        """Boxes around the defects of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images, of the shape of those in the fit.
        threshold : float, default=None
            Pixels of the :meth:`anomaly_map` above it are anomalous. None takes the
            threshold that flags an image among ``X`` by the maximum of its map, as
            ``contamination="auto"`` does by its score: most of ``X`` should then be
            normal.
        smoothing : float, default=None
            As in :meth:`anomaly_map`.

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
        maps = self.anomaly_map(X, smoothing)
        if threshold is None:
            threshold = -robust_threshold(-maps.max(axis=(1, 2)), None)
        return [boxes(anomaly_map, threshold) for anomaly_map in maps]

    def _fitted(self, X: Any, weights: np.ndarray | None) -> None:
        scores = -self._model.losses(X)
        if isinstance(self.contamination, str):
            self.offset_ = robust_threshold(scores, weights)
        else:
            self.offset_ = contamination_threshold(scores, weights, float(self.contamination))

"""AutoencoderAnomalyDetector: rows that lie off what the autoencoder has learned."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from skae._anomaly.rows import SCORES
from skae._data.streamed import block_length, recent_rows
from skae._data.types import Auto, Device, FloatArray, MatrixLike, NetworkBuilder, RandomState
from skae._estimators.base import all_or_nothing
from skae._estimators.image_detection import ImageDetection
from skae._estimators.sklearn_private import Interval, Options, RealNotInt, StrOptions


class AutoencoderAnomalyDetector(OutlierMixin, ImageDetection):
    """Outlier detection by what an autoencoder makes of a row.

    Stands where :class:`~sklearn.ensemble.IsolationForest` stands, with the same
    signs: scores are higher for more normal rows, and -1 marks an outlier.

    A few autoencoders are trained in one pass, each on its own part of the rows. A row
    is scored by its latents and residuals together: their distances from other rows
    and from the bulk of them, calibrated on rows that were held out, so that a score
    counts robust standard deviations. With ``anomaly_score="reconstruction"`` it is the
    reconstruction error alone (Hawkins et al., "Outlier detection using replicator
    neural networks", 2002).

    An image is scored by its most unusual pixel too: by the residuals around it, and by what the
    pixels around it do not tell of it. Its networks start as PCA; "conv" is refused.

    Parameters
    ----------
    contamination : "auto" or float in [0, 0.5], default="auto"
        Share of outliers in the training rows; sets ``offset_`` and with it the labels;
        :meth:`set_contamination` changes it later. 0 stands for clean training rows: none of
        them is flagged, and ``anomaly_score="auto"`` is "novelty" for tables. No other value
        changes scores. "auto" flags what lies more than 2.5 robust standard deviations above
        the median of held-out rows (Leys et al. 2013).
    anomaly_score : {"auto", "novelty", "isolation", "mahalanobis", "nearest", \
            "reconstruction"}, default="auto"
        Method of scoring: what is far out. In the space of latents and residuals, "isolation" is
        the distance to the nearest of 4 random rows, on average over many draws; "mahalanobis" the
        one to the center, in units of the covariance of the inner 80 % of the rows; "nearest" the
        one to the nearest of 1,024 rows, as it is and in units of the covariance. "auto" combines
        them by a smooth maximum, also with the distance to the nearest of the inner 80 % of the
        rows themselves; for images with the energy of the residuals around each pixel, at each
        scale, and the image counts as its most unusual pixel. "novelty" is for clean training
        rows: the mean of all of these and the distance to the nearest of all rows.
    n_estimators : int or "auto", default="auto"
        Autoencoders that are trained in one pass. "auto" is 4; 1 if ``network`` is not the dense
        one, which only trains one.
    max_samples : int, float or "auto", default="auto"
        Rows, or their share, that each of them is trained on, such that others are left out by
        each. "auto" is 75 %, of a table at most 1,024 or a tenth where that is more; 80 % for a
        single one, half of images; and all of up to 64 rows, unless there are 1.5 times as many
        columns. Rows that are left out calibrate scores and threshold.
    n_components : int or "auto", default="auto"
        Number of latents. "auto" is half of the features, at most 32; for images with
        ``anomaly_score="auto"`` the root of the number of values where that is more, at most 64.
    hidden_layer_sizes : array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. "auto" is 64 and 32 for
        tables; for images two layers, the second half as wide as the first, from 128 and 64 up to
        512 and 256.
    network : {"auto", "mlp", "conv", "conv1d"} or callable, default="auto"
        "mlp" (the choice of "auto") is the dense network of ``hidden_layer_sizes``. "conv" is a
        convolutional network for images: ``hidden_layer_sizes`` are the channels of its stages,
        each of which halves height and width ("auto" is 32, 64 and 64, or one stage less than the
        image allows). "conv1d" is the same along time, for signals: ``X`` holds rows
        ``(n_samples, length)`` or an array ``(n_samples, length, channels)``, of a length from 8
        on. A callable ``(input_shape, n_components) -> (encoder, decoder)`` returns a pair of
        ``torch.nn.Module``; ``input_shape`` is ``(n_features,)``, or ``(channels, height, width)``
        where ``image_shape`` is given.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of the image that each row holds, for a
        ``network`` or a noise that needs images. An array of images has its shape by itself. With
        "conv1d" or "unet1d" it is ``(length,)`` or ``(length, channels)`` of the signal.
    categorical_features : array-like of {bool, int, str} or "from_dtype" or None, \
            default="from_dtype"
        Columns that are categories: a mask, indices or names. "from_dtype" takes those of a data
        frame that are of a categorical dtype or hold text; of an array it takes none, as None does
        of anything. Inside, a category is one unit for each of its values (at most 255: the rarest
        ones share one), and its loss is the cross-entropy of the values; outside, it is one column,
        that counts once. Values that the fit has not seen count as missing.
    activation : {"relu", "tanh", "logistic", "elu", "gelu", "silu"}, default="silu"
        Activation of the hidden layers.
    loss : str, callable or dict, default="squared_error"
        Loss of each scaled feature: "squared_error", "absolute_error", "huber" (linear beyond one
        unit), "log_loss" for features in [0, 1], or "poisson" for counts, whose means are rebuilt
        (``scaling="auto"`` divides them by their mean). A function ``(output, target)`` of two
        tensors returns the loss of each element, and is differentiated by autograd. A dict gives
        columns, by name or number, a loss each; the others have the squared error.
    scaling : {"auto", "standard", "common", "minmax", "robust", "mixed"}, transformer or \
            None, default="auto"
        Scaling of the features, undone in everything that is returned in the user's units. "common"
        centers each feature and divides all by one scale; "mixed" takes half of the range for the
        scale of features of at most 32 values (flags, counts, grades) and is "standard" for the
        others. "auto" takes "minmax" for "log_loss"; "common" for data that look like pixels (all
        features start at one minimum and at least half of them reach half of the common range)
        and for images; else "mixed".
    output_bounds : {"nonnegative"}, tuple or None, default=None
        Bounds of the rows that are given back, in the user's units: ``(low, high)``, each a number,
        one for each column, or None for no bound. "nonnegative" is ``(0, None)``. Categories have
        none.
    normalization : {"auto", "batch", "layer"} or None, default="auto"
        Normalization of the hidden layers. "auto" is none.
    dropout : float in [0, 1), default=0.0
        Share of hidden units that are set to zero in training.
    weight_decay : float, default=0.0
        Weight decay of the optimizer; biases are left out.
    latent_l1 : float, default=0.0
        Weight of the sum of the absolute latents in the loss.
    init : {"auto", "pca", "random"}, default="auto"
        Initial weights. "pca": the network begins as PCA of the scaled rows (of 4,096 of them at
        most), passed through pairs of hidden units, with all other units random; for activations
        "relu", "silu" and "gelu", without ``normalization``, sparse latents and "log_loss". "auto"
        is "pca" for images with ``anomaly_score="auto"`` where that is possible, and "random" for
        tables.
    n_nonzero_coefs : int, default=None
        Number of latents of a row that are kept, the largest ones; the others are set to zero. So
        that all latents are used, training keeps all at first, and fewer and fewer over its first
        half (not with ``lr_schedule="constant"`` and in ``partial_fit``). None keeps all.
    optimizer : {"adam", "adamw", "sgd"}, default="adam"
        "sgd" has Nesterov momentum of 0.9 and needs a rate of 0.1 to 0.3: the loss is a mean over
        all cells.
    learning_rate : float or "auto", default="auto"
        Learning rate; the highest one where a schedule is used. "auto" is 0.003; for images of more
        than 784 values, with ``anomaly_score="auto"``, it is smaller in proportion.
    lr_schedule : {"constant", "cosine", "one_cycle"}, default="one_cycle"
        Course of the learning rate over the training steps.
    batch_size : int or "auto", default="auto"
        Rows per step. "auto" is a power of two from 32 to 256 that makes about 64 batches an epoch.
    max_epochs : int or "auto", default="auto"
        Passes over the data. "auto" is as many as 3,000 steps take, at least 15 and at most 20, so
        that the outliers are not learned too; 10 for images.
    tol : float, default=1e-4
        A loss that falls by less than this counts as no improvement.
    n_iter_no_change : int or None, default=10
        Stop after this many epochs without improvement of the validation loss, or, with
        ``lr_schedule="constant"`` and no validation, of the training loss.
    early_stopping : bool or "auto", default="auto"
        Hold out ``validation_fraction`` of the rows and keep the weights of the epoch that is best
        on them. "auto" does so from 10,000 rows on, if ``lr_schedule="constant"``: a schedule ends
        by itself. With "auto", what a network from PCA learned is kept only as far as it helps on
        other rows: unless the gain is clear, a second one is trained without a tenth of the rows,
        which tell.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows that is held out.
    warm_start : bool, default=False
        Whether :meth:`fit` goes on from the last fit's weights.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the batches and the noise. The global random state is never used; None
        takes fresh entropy.
    device : str or torch.device, default="auto"
        "cpu", "cuda", "cuda:1", "xpu", "mps", ... "auto" is an accelerator if there is one.
    precision : {"float32", "bfloat16", "float64", "auto"}, default="float32"
        "bfloat16" trains with products in half precision, on float32 weights; "auto" does so on
        accelerators that compute it natively. Results are float32, with "float64" float64. On a
        CPU, at most 256 rows that make one batch are always trained in float64, so that neither
        their order nor a weight in place of a repetition changes the result.
    verbose : int, default=0
        Whether to show losses and remaining time; a bar where tqdm is installed.

    Attributes
    ----------
    offset_ : float
        Threshold on the scores: ``decision_function = score_samples - offset_``.
    n_estimators_ : int
        Number of autoencoders. ``encoder_``, ``decoder_`` are those of the first, ``loss_curve_``
        their mean.
    max_samples_ : int
        Number of rows that each of them was trained on.
    encoder_, decoder_ : torch.nn.Module
        The fitted network, from scaled rows to latents and back.
    n_components_ : int
        Number of latents.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where they all are strings.
    loss_curve_ : list of float
        Mean training loss of each epoch, in the scaled space.
    validation_loss_curve_ : list of float or None
        Mean loss on the held-out rows after each epoch.
    best_loss_ : float
        Lowest validation loss, or training loss where no rows were held out.
    n_iter_ : int
        Number of epochs.
    device_ : str
        Device that holds the network.

    See Also
    --------
    AutoencoderTransformer : Latents as features.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits, load_iris
    >>> from skae import AutoencoderAnomalyDetector
    >>> X, _ = load_iris(return_X_y=True)
    >>> detector = AutoencoderAnomalyDetector(n_components=2, random_state=0).fit(X)
    >>> rows = np.array([[5.0, 3.4, 1.5, 0.2], [5.0, 3.4, 6.5, 0.2]])
    >>> detector.predict(rows).tolist()
    [1, -1]
    >>> normal, unusual = detector.score_samples(rows)
    >>> bool(unusual < detector.offset_ < normal)
    True
    >>> (detector.decision_function(rows) > 0).tolist()
    [True, False]
    >>> (detector.outlier_probability(rows) > 0.5).tolist()
    [False, True]
    >>> int(detector.feature_contributions(rows)[1].argmax())
    2
    >>> bool(detector.reconstruct(rows)[1, 2] < 6.5)
    True
    >>> detector.explain(rows[1:]).index[0]
    'x2'
    >>> detector = detector.calibrate(X[50:])

    On images it says where:

    >>> images = load_digits().images
    >>> detector = AutoencoderAnomalyDetector(random_state=0).fit(images)
    >>> scratched = images[:1].copy()
    >>> scratched[0, :, 0] = 16
    >>> detector.anomaly_map(scratched).shape
    (1, 8, 8)
    >>> boxes = detector.detect(scratched)  # doctest: +SKIP
    """

    _parameter_constraints = {
        **ImageDetection._parameter_constraints,
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
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        *,
        contamination: float | Auto = "auto",
        anomaly_score: str = "auto",
        n_estimators: int | Auto = "auto",
        max_samples: int | float | Auto = "auto",
        n_components: int | float | Auto = "auto",
        hidden_layer_sizes: ArrayLike | Auto = "auto",
        network: str | NetworkBuilder = "auto",
        image_shape: tuple[int, ...] | None = None,
        categorical_features: ArrayLike | str | None = "from_dtype",
        activation: str = "silu",
        loss: str = "squared_error",
        scaling: Any = "auto",
        output_bounds: str | tuple[Any, Any] | None = None,
        normalization: str | None = "auto",
        dropout: float = 0.0,
        weight_decay: float = 0.0,
        latent_l1: float = 0.0,
        init: str = "auto",
        n_nonzero_coefs: int | None = None,
        optimizer: str = "adam",
        learning_rate: float | Auto = "auto",
        lr_schedule: str = "one_cycle",
        batch_size: int | Auto = "auto",
        max_epochs: int | Auto = "auto",
        tol: float = 1e-4,
        n_iter_no_change: int | None = 10,
        early_stopping: bool | Auto = "auto",
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: RandomState = None,
        device: Device = "auto",
        precision: str = "float32",
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_components=n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            network=network,
            image_shape=image_shape,
            categorical_features=categorical_features,
            activation=activation,
            loss=loss,
            scaling=scaling,
            output_bounds=output_bounds,
            normalization=normalization,
            dropout=dropout,
            weight_decay=weight_decay,
            latent_l1=latent_l1,
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
            verbose=verbose,
        )
        self.contamination = contamination
        self.anomaly_score = anomaly_score
        self.n_estimators = n_estimators
        self.max_samples = max_samples
        self.n_nonzero_coefs = n_nonzero_coefs

    def score_samples(self, X: MatrixLike) -> FloatArray:
        """Return the score of each row; higher is more normal.

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

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        check_is_fitted(self)
        return self._score_samples(self._check_X(X))

    def decision_function(self, X: MatrixLike) -> FloatArray:
        """Return the score of each row above the threshold; negative for outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: MatrixLike) -> NDArray[np.int64]:
        """Return the label of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        labels : ndarray of int, shape (n_samples,)
            -1 for outliers, 1 for the others.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def outlier_probability(self, X: MatrixLike) -> FloatArray:
        """Return the probability that a row is an outlier, by its distance from the threshold.

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

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        scores = self.score_samples(X)
        typical = self._typical
        return expit(typical.deviations(scores) - typical.deviations(np.array(self.offset_)))

    @all_or_nothing
    def calibrate(self, X: MatrixLike, sample_weight: Any = None) -> Self:
        """Calibrate scores and threshold on other rows, without training.

        For a stream that drifts: :meth:`partial_fit` calibrates on its last 256 rows, or on
        those of its last call if they are more. Give it recent rows, a few hundred at least.

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

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has one row, other columns than the training rows or infinite values.
        """
        check_is_fitted(self)
        rows, weights = self._training_rows(X, sample_weight, reset=False)
        self._check_several(rows)
        length = block_length(rows, self._model.dtype, len(self._seeds))
        self._recent = recent_rows(rows, None, length, self._seeds[0])
        some = self._calibration_rows(rows, length)
        trained = torch.ones((len(self._seeds), len(some)), dtype=torch.bool)
        self._calibrate(rows, weights, some, trained)
        return self

    @all_or_nothing
    def set_contamination(self, contamination: float | Auto) -> Self:
        """Move the threshold, as if the detector had been fitted with another contamination.

        Scores stay as they are, also with 0. It sets the parameter ``contamination``, too.

        Parameters
        ----------
        contamination : "auto" or float in [0, 0.5]
            Share of outliers; see the class. With 0 none of the rows that were held out for
            the calibration is flagged.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``contamination`` is neither "auto" nor a number in [0, 0.5].

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderAnomalyDetector
        >>> X = load_iris().data
        >>> detector = AutoencoderAnomalyDetector(random_state=0).fit(X)
        >>> few = (detector.set_contamination(0.02).predict(X) == -1).sum()
        >>> bool((detector.set_contamination(0.2).predict(X) == -1).sum() > few)
        True
        """
        check_is_fitted(self)
        self.contamination = contamination
        self._validate_params()
        self.offset_ = self._held_out.threshold(contamination)
        return self

"""AutoencoderTransformer: latents as features."""

import copy
import dataclasses
import functools
import warnings
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skae._data.streamed import sampled
from skae._data.types import Auto, Device, NetworkBuilder, RandomState
from skae._estimators.fitting import Prepared
from skae._estimators.latent import LatentAutoencoder
from skae._estimators.parameters import Autos
from skae._estimators.sklearn_private import Interval, RealNotInt, StrOptions
from skae._model.density import Mixture, Pending
from skae._model.variance import explained_variance
from skae._networks.dense import DenseNetwork, DenseSpec
from skae._networks.factory import Spec, with_n_nonzero
from skae._runtime.randomness import SCORE_STREAM
from skae._runtime.tuning import FAR_MARGIN, USUAL_UNITS, WIDE_FEATURES
from skae._training import auto
from skae._training.plan import truncated_state

# Rows from which the explained variance is computed, at most.
_VARIANCE_ROWS = 10_000

# A latent that takes less than this share away adds nothing: so much is left by rounding, and by
# the last steps of training.
_NO_LOSS = 1e-4


class AutoencoderTransformer(LatentAutoencoder):
    """Features from the latents of an autoencoder.

    Stands in a pipeline where :class:`~sklearn.decomposition.PCA` stands: a
    nonlinear reduction to ``n_components`` latents from which the rows are
    reconstructed with the least loss (Hinton and Salakhutdinov, "Reducing the
    dimensionality of data with neural networks", Science 2006).

    Parameters
    ----------
    n_components : int, float in (0, 1) or "auto", default="auto"
        Number of latents. "auto" is half of the features, at most 32. A share of the variance, as
        for ``PCA``, orders the latents and keeps as many as explain that share of the training
        rows, or 64 if fewer do not.
    hidden_layer_sizes : array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. "auto" is two layers, the
        second half as wide as the first: 128 and 64 for tables, up to 512 and 256 for rows of
        hundreds of features.
    network : {"auto", "mlp", "conv", "scattering", "conv1d"} or callable, default="auto"
        "mlp" (the choice of "auto") is the dense network of ``hidden_layer_sizes``. "conv" is a
        convolutional network for images: ``hidden_layer_sizes`` are the channels of its stages,
        each of which halves height and width ("auto" is 32, 64 and 64, or one stage less than the
        image allows). "conv1d" is the same along time, for signals: ``X`` holds rows
        ``(n_samples, length)`` or an array ``(n_samples, length, channels)``, of a length from 8
        on. "scattering", for features of images, is the dense network behind a fixed wavelet
        transform (Bruna and Mallat, "Invariant scattering convolution networks", PAMI 2013). A
        callable ``(input_shape, n_components) -> (encoder, decoder)`` returns a pair of
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
        features start at one minimum and at least half of them reach half of the common range) or
        like TF-IDF (nine tenths are zero, and rows have one norm or from 4,096 features on any);
        else "standard", but the scale of features of zeros and ones (flags) is the root of a half.
        With "auto", rows that look like pixels are reconstructed within the range seen: over the
        last tenth of the training, and in all predictions, outputs are cut off where it ends.
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
        Initial weights. "pca": fixed linear maps beside encoder and decoder rebuild rows as PCA of
        the scaled rows does (of 16,384 of them at most), and the layers learn what to add; not with
        sparse latents, ``latent_l1`` and "log_loss". "auto" is "pca" where that is possible.
    ordered : bool, default=False
        Whether to order the latents by importance: each row is trained with its first latents
        alone, a random number of them (nested dropout: Rippel, Gelbart and Adams, "Learning ordered
        representations with nested dropout", ICML 2014). One fit then serves every size: see
        :meth:`truncate`. Dense network only.
    n_nonzero_coefs : int, default=None
        Number of latents of a row that are kept, the largest ones; the others are set to zero. So
        that all latents are used, training keeps all at first, and fewer and fewer over its first
        half (not with ``lr_schedule="constant"`` and in ``partial_fit``). None keeps all.
    sparse_output : bool, default=False
        Whether :meth:`transform` gives a CSR matrix; useful where most latents are zero.
    latent_density : {"auto", "gaussian", "gmm"} or estimator, default="auto"
        Density that :meth:`sample` draws latents from, fitted on those of training rows when rows
        are first drawn, or the estimator is pickled or saved: a normal distribution, a mixture of
        them, or a scikit-learn estimator with ``sample`` (Ghosh et al., "From variational to
        deterministic autoencoders", ICLR 2020), each of at most 20,000 rows. "auto" is a mixture of
        at most 2,000 rows, which is fitted in a second or two; that of more draws better images.
    optimizer : {"adam", "adamw", "sgd"}, default="adam"
        "sgd" has Nesterov momentum of 0.9 and needs a rate of 0.1 to 0.3: the loss is a mean over
        all cells.
    learning_rate : float or "auto", default="auto"
        Learning rate; the highest one where a schedule is used. "auto" is 0.003.
    lr_schedule : {"constant", "cosine", "one_cycle"}, default="one_cycle"
        Course of the learning rate over the training steps.
    batch_size : int or "auto", default="auto"
        Rows per step. "auto" is a power of two from 32 to 256 that makes about 64 batches an epoch.
    max_epochs : int or "auto", default="auto"
        Passes over the data. "auto" is as many as 3,000 steps take, at least 15 and at most 300, or
        20 with ``init="pca"``; where rows are changed at random (noise, ``dropout``, ``ordered``)
        6,000 steps and 300 epochs.
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
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Share of the variance of the scaled training rows that each latent adds, with those before
        it; negative where it takes more than 0.0001 away. From at most 10,000 rows. Only where
        latents are ordered.
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
    DenoisingAutoencoder : Learns to undo noise; imputes missing cells.
    AutoencoderAnomalyDetector : Scores and flags outliers.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(n_components=10, random_state=0).fit(X)
    >>> Z = autoencoder.transform(X)
    >>> Z.shape
    (1797, 10)
    >>> autoencoder.inverse_transform(Z).shape == autoencoder.reconstruct(X).shape == X.shape
    True
    >>> autoencoder.score(X) > 0.85
    True
    >>> worst = autoencoder.score_samples(X).argmin()
    >>> autoencoder.sample(2, random_state=0).shape
    (2, 64)
    >>> autoencoder.interpolate(X[:1], X[1:2], steps=5).shape
    (5, 64)

    One fit with ordered latents serves every size; of sparse latents more can be kept
    than in training; a convolutional network has features of every pixel.

    >>> ordered = AutoencoderTransformer(n_components=8, ordered=True, max_epochs=5).fit(X)
    >>> ordered.truncate(3).transform(X).shape
    (1797, 3)
    >>> sparse = AutoencoderTransformer(n_nonzero_coefs=2, max_epochs=5).fit(X)
    >>> sparse.with_n_nonzero_coefs(4).n_nonzero_coefs
    4
    >>> images = X[:50].reshape(-1, 8, 8)
    >>> conv = AutoencoderTransformer(network="conv", max_epochs=1, random_state=0).fit(images)
    >>> conv.pixel_features(images[:1]).shape
    (1, 8, 8, 97)
    """

    _parameter_constraints = {
        **LatentAutoencoder._parameter_constraints,
        "n_components": [
            *LatentAutoencoder._parameter_constraints["n_components"],
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "network": [StrOptions({"auto", "mlp", "conv", "scattering", "conv1d"}), callable],
        "ordered": ["boolean"],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
    }

    _fitted_types = {
        **LatentAutoencoder._fitted_types,
        "explained_variance_ratio_": np.ndarray,
    }

    explained_variance_ratio_: np.ndarray

    def __init__(
        self,
        *,
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
        ordered: bool = False,
        n_nonzero_coefs: int | None = None,
        sparse_output: bool = False,
        latent_density: Any = "auto",
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
        self.ordered = ordered
        self.n_nonzero_coefs = n_nonzero_coefs
        self.sparse_output = sparse_output
        self.latent_density = latent_density

    def truncate(self, n_components: int) -> Self:
        """Return a fitted copy that keeps the first latents.

        Parameters
        ----------
        n_components : int
            How many to keep; at most ``n_components_``.

        Returns
        -------
        truncated : estimator
            A fitted copy: its ``transform`` gives the first columns of this one's, and
            training goes on with it by ``partial_fit``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the latents are not ordered, or there are fewer.
        """
        check_is_fitted(self)
        if not self._has_order():
            raise ValueError(
                "truncate needs latents in order of importance. Fit with ordered=True, or with a "
                "share of the variance as n_components."
            )
        size = self._checked_size("n_components", n_components)
        smaller = copy.copy(self)
        smaller._truncate(size)
        smaller._truncate_density(size)
        return smaller.set_params(n_components=size, ordered=True)

    def with_n_nonzero_coefs(self, n_nonzero_coefs: int) -> Self:
        """Return a fitted copy that keeps another number of latents of each row.

        For a classifier it pays to keep some more than in training (Makhzani and Frey,
        "k-sparse autoencoders", 2013). Rows are reconstructed worse then.

        Parameters
        ----------
        n_nonzero_coefs : int
            How many to keep; at most ``n_components_``.

        Returns
        -------
        changed : estimator
            A fitted copy with that ``n_nonzero_coefs``. It draws the same samples.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the latents are not sparse, or there are fewer.
        """
        check_is_fitted(self)
        network = self._model.network
        if network.spec.n_nonzero is None:
            raise ValueError(
                "with_n_nonzero_coefs needs sparse latents. Fit with n_nonzero_coefs=k."
            )
        size = self._checked_size("n_nonzero_coefs", n_nonzero_coefs)
        changed = copy.copy(self)
        changed._model = self._model.with_network(with_n_nonzero(network, size))
        return changed.set_params(n_nonzero_coefs=size)

    def _checked_size(self, name: str, size: Any) -> int:
        whole = isinstance(size, Integral) and not isinstance(size, bool)
        if not whole or not 1 <= size <= self.n_components_:
            raise ValueError(
                f"{name}={size!r} must be a whole number from 1 to n_components_="
                f"{self.n_components_}."
            )
        return int(size)

    def _is_ordered(self) -> bool:
        """Whether the first latents are to be the best ones; a share of the variance needs it."""
        return bool(self.ordered) or not isinstance(self.n_components, (str, Integral))

    def _has_order(self) -> bool:
        return bool(getattr(self._model.network.spec, "ordered", False))

    def _truncate(self, size: int) -> None:
        network = self._model.network
        assert isinstance(network, DenseNetwork)
        smaller = network.truncated(size)
        self._model = self._model.with_network(smaller)
        if hasattr(self, "_train_state"):  # see skae.io.for_prediction
            self._train_state = truncated_state(self._train_state, network.spec, smaller.spec)
        self.n_components_ = size
        self.explained_variance_ratio_ = self.explained_variance_ratio_[:size]

    def _truncate_density(self, size: int) -> None:
        """Of the first latents alone; another estimator's cannot be cut."""
        density = self._density
        cut = functools.partial(_first_latents, size=size)
        self._density = density.then(cut) if isinstance(density, Pending) else cut(density)

    def _choose_latents(self, prepared: Prepared) -> None:
        if self._has_order():
            self._measure_latents(prepared)
        elif hasattr(self, "explained_variance_ratio_"):  # of an earlier fit
            del self.explained_variance_ratio_

    def _measure_latents(self, prepared: Prepared) -> None:
        """What each latent explains; a share of the variance keeps as many as explain it."""
        plan = prepared.job.plan
        place = plan.block_length, plan.seeds[0], SCORE_STREAM
        some, own = sampled(prepared.X, prepared.weights, _VARIANCE_ROWS, *place)
        sizes = range(1, self.n_components_ + 1)
        shares = explained_variance(self._model, some, own, sizes)
        added = np.diff(shares, prepend=0.0)
        self.explained_variance_ratio_ = np.where((added < 0) & (added > -_NO_LOSS), 0.0, added)
        if not isinstance(self.n_components, (str, Integral)):
            enough = np.flatnonzero(shares >= self.n_components)
            if not len(enough):
                warnings.warn(
                    f"n_components={self.n_components!r} asks for latents that explain that share "
                    f"of the variance, but {len(shares)} explain {shares[-1]:.3f}. All are kept; "
                    f"pass a smaller share, or a number of latents.",
                    UserWarning,
                    stacklevel=2,
                )
            self._truncate(int(enough[0]) + 1 if len(enough) else len(shares))

    def _draws(self) -> bool:
        return super()._draws() or self._is_ordered()

    def _autos(self) -> Autos:
        # As PCA does, it follows new rows far; who repairs rows is more careful.
        return super()._autos()._replace(margin=FAR_MARGIN, usual=USUAL_UNITS)

    def _narrow_from(self, X: Any) -> float:
        return WIDE_FEATURES if self.loss == "squared_error" else super()._narrow_from(X)

    def _n_latents(self, n_features: int) -> int:
        if not isinstance(self.n_components, (str, Integral)):
            return auto.most_components(n_features)
        return super()._n_latents(n_features)

    def _network_spec(self, n_features: int) -> Spec:
        spec, n_nonzero = super()._network_spec(n_features), self.n_nonzero_coefs
        if n_nonzero is not None:
            spec = dataclasses.replace(spec, n_nonzero=int(n_nonzero))
        if not self._is_ordered():
            return spec
        if not isinstance(spec, DenseSpec) or n_nonzero is not None:
            raise ValueError(
                f"Latents are put in order (ordered={self.ordered!r}, n_components="
                f"{self.n_components!r}) by the dense network without n_nonzero_coefs alone. Pass "
                f"network='mlp' and n_nonzero_coefs=None, or ordered=False and a whole number."
            )
        return dataclasses.replace(spec, ordered=True)


def _first_latents(density: Any, size: int) -> Mixture | None:
    return density.truncated(size) if isinstance(density, Mixture) else None

"""DenoisingAutoencoder: learns to undo noise on its input."""

import dataclasses
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import from_caller
from skae._data.spec import as_columns, without_column
from skae._data.types import (
    Auto,
    Device,
    FloatArray,
    MatrixLike,
    NetworkBuilder,
    Output,
    RandomState,
)
from skae._estimators.filling import impute
from skae._estimators.inputs import check_image_array, check_noises, check_pixels, weighted_rows
from skae._estimators.pairs import PairedAutoencoder
from skae._estimators.parameters import Autos
from skae._estimators.sklearn_private import Interval, StrOptions
from skae._images.patches import draw_patches, patch_shape
from skae._images.tiles import restore_images
from skae._networks.conv import BUILDERS
from skae._runtime.randomness import draw_seed
from skae._runtime.tuning import NEAR_MARGIN
from skae._training.noise import IMAGE_NOISES, NOISES
from skae._training.plan import TrainingPlan


class DenoisingAutoencoder(PairedAutoencoder):
    """Autoencoder whose input is corrupted in training, and whose target is clean.

    What it learns is robust to the corruption: better features where the noise
    is what a classifier should ignore, restored rows, and values for missing
    cells (Vincent et al., "Stacked denoising autoencoders", JMLR 2010).

    Parameters
    ----------
    noise : {"masking", "gaussian", "salt_and_pepper", "swap", "affine", "block_masking"}, \
            callable or tuple, default="masking"
        Corruption of the scaled input in training: cells set to the feature's center (whole pixels,
        of images with channels), normal noise added, cells set to the feature's extremes, or cells
        taken from another row; for images also "affine", which turns, scales and shifts them, and
        "block_masking", which masks square blocks. A callable ``(rows, generator) -> rows`` gets a
        float tensor of shape (1, n, n_features) and a ``torch.Generator``. Those of a tuple act one
        after another. Signals are not turned by "affine", but stretched and shifted in time.
    noise_level : float or tuple of float, default=0.2
        Share of the corrupted cells; for "gaussian" the standard deviation, in units of the scaled
        features. For "affine" the strength: it turns by up to ``noise_level`` quarter turns, scales
        by up to ``1 + noise_level``, and shifts by up to half of ``noise_level`` of height and
        width. For a tuple of noises one number, or one each.
    patch_size : int or tuple of int, default=None
        Height and width of the random patches of the images to train on, or the length of those of
        signals, eight times as many as would cover them. :meth:`denoise`, :meth:`reconstruct`,
        :meth:`impute` and :meth:`inpaint` then take images and signals of any size, in overlapping
        tiles that are blended; all else takes patches. None trains on whole images.
    n_components : int, float in (0, 1) or "auto", default="auto"
        Number of latents. "auto" is half of the features, at most 32. A share of the variance, as
        for ``PCA``, orders the latents and keeps as many as explain that share of the training
        rows, or 64 if fewer do not.
    hidden_layer_sizes : array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. "auto" is two layers, the
        second half as wide as the first: 128 and 64 for tables, up to 512 and 256 for rows of
        hundreds of features.
    network : {"auto", "mlp", "conv", "scattering", "unet", "conv1d", "unet1d"} or callable, \
            default="auto"
        "mlp" (the choice of "auto") is the dense network of ``hidden_layer_sizes``. "conv" is a
        convolutional network for images: ``hidden_layer_sizes`` are the channels of its stages,
        each of which halves height and width ("auto" is 32, 64 and 64, or one stage less than the
        image allows). "scattering", for features of images, is the dense network behind a fixed
        wavelet transform (Bruna and Mallat, "Invariant scattering convolution networks", PAMI
        2013), which noise then acts on. "unet" adds a learned correction to the image, whose
        missing pixels are first filled in as smoothly as possible; it has no bottleneck, and its
        latents are the restored image. "conv1d" and "unet1d" are the same along time, for signals:
        ``X`` holds rows ``(n_samples, length)`` or an array ``(n_samples, length, channels)``, of a
        length from 8 on. A callable ``(input_shape, n_components) -> (encoder, decoder)`` returns a
        pair of ``torch.nn.Module``; ``input_shape`` is ``(n_features,)``, or ``(channels, height,
        width)`` where ``image_shape`` is given.
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
        Normalization of the hidden layers. "auto" is "batch" for "unet" and "unet1d", else none.
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
        is "pca" where that is possible.
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
    AutoencoderTransformer : The same without noise.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenoisingAutoencoder
    >>> X, _ = load_digits(return_X_y=True)
    >>> noisy = X + np.random.default_rng(0).normal(scale=3.0, size=X.shape)
    >>> settings = {"n_components": 16, "max_epochs": 20, "random_state": 0}
    >>> autoencoder = DenoisingAutoencoder(noise="gaussian", noise_level=0.5, **settings).fit(X)
    >>> bool(np.square(autoencoder.denoise(noisy) - X).mean() < 0.5 * np.square(noisy - X).mean())
    True

    Masked cells in training are what missing cells are filled in by:

    >>> autoencoder = DenoisingAutoencoder(**settings).fit(X)
    >>> holes = np.where(np.arange(64) == 20, np.nan, X)
    >>> filled = autoencoder.impute(holes)
    >>> bool(np.square(filled - X)[:, 20].mean() < 0.5 * X[:, 20].var())
    True
    >>> bool((autoencoder.inpaint(X, np.isnan(holes)) == filled).all())
    True
    """

    _parameter_constraints = {
        **PairedAutoencoder._parameter_constraints,
        "network": [StrOptions({"auto", "mlp", "scattering", *BUILDERS}), callable],
        "patch_size": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "noise": [StrOptions({*NOISES, *IMAGE_NOISES}), callable, tuple],
        "noise_level": [Interval(Real, 0, None, closed="left"), tuple],
    }

    def __init__(
        self,
        *,
        noise: Any = "masking",
        noise_level: float | tuple[float, ...] = 0.2,
        patch_size: int | tuple[int, int] | None = None,
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
            ordered=ordered,
            n_nonzero_coefs=n_nonzero_coefs,
            sparse_output=sparse_output,
            latent_density=latent_density,
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
        self.noise = noise
        self.noise_level = noise_level
        self.patch_size = patch_size

    def denoise(self, X: MatrixLike, out: Any = None) -> Output:
        """Reconstruct rows from a noisy version of them.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Noisy rows; NaN means missing, and is filled in.
        out : array of the shape of ``X``, default=None
            Where to write the rows, batch by batch, if they are too many for memory.

        Returns
        -------
        X_clean : ndarray or DataFrame of shape (n_samples, n_features)
            In the units of the training data; a DataFrame if ``X`` is one or
            ``set_output`` asks for one; ``out``, if it was given.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values,
            or if ``out`` is no writable array of floats of that shape.
        """
        return self.reconstruct(X, out)

    def impute(self, X: MatrixLike) -> Output:
        """Fill in missing cells, and leave the observed ones as they are.

        The cells are taken from one reconstruction of the row, in which they are
        masked as in training. (Feeding them back for further reconstructions was
        measured, and is worse.)

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN means missing.

        Returns
        -------
        X_filled : ndarray or DataFrame of shape (n_samples, n_features)
            In the units of the training data; a DataFrame if ``X`` is one or ``set_output``
            asks for one. Float64 if ``X`` is, so that observed cells are the same bits.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        check_is_fitted(self)
        return impute(self, from_caller(X))

    def inpaint(self, X: MatrixLike, mask: ArrayLike) -> Output:
        """Replace the cells under a mask, and leave the others as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features), \
                or images
            Rows or images; NaN cells are replaced too.
        mask : array-like of bool, of the shape of ``X``
            True where the value is to be replaced. For images and signals with channels
            it may leave the channels out.

        Returns
        -------
        X_repaired : ndarray or DataFrame of the shape of ``X``
            In the units of the training data; a DataFrame if ``X`` is one or ``set_output``
            asks for one. Float32, or float64 if ``X`` holds float64 or wider integers.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``mask`` is not boolean or of another shape, if ``X`` has other columns than
            the training rows, or holds infinite values.
        """
        check_is_fitted(self)
        return impute(self, from_caller(X), np.asarray(from_caller(mask, "mask")))

    def _training_rows(
        self, X: MatrixLike, sample_weight: Any, reset: bool
    ) -> tuple[Any, FloatArray | None]:
        if self.patch_size is None:
            return super()._training_rows(X, sample_weight, reset)
        is_signal, images = self._takes_signals(), check_image_array(X)
        size = patch_shape(self.patch_size, self.image_shape, images.shape[1:], is_signal)
        images, weights = weighted_rows(images, sample_weight)
        check_pixels(images)
        if is_signal:
            images = as_columns(np.asarray(images[:]))
        patches, sources = draw_patches(images, size, draw_seed(self.random_state))
        if is_signal:
            patches = patches.reshape(len(patches), *without_column(patches.shape[1:]))
        rows = self._check_X(patches, reset)
        self._input = dataclasses.replace(self._input, is_patch=True)
        return rows, None if weights is None else weights[sources]

    def _rebuilt(self, X: MatrixLike, out: Any = None) -> Any:
        if not self._input.is_tiled(X):
            return super()._rebuilt(X, out)
        return restore_images(self._model, check_image_array(X), self._input, out)

    def _n_latents(self, n_features: int) -> int:
        if self._has_bottleneck():
            return super()._n_latents(n_features)
        if self.n_components != "auto":
            raise ValueError(
                f"network={self.network!r} has no bottleneck: n_components={self.n_components!r} "
                f"must be 'auto'. Pass network='conv' or 'conv1d' for that number of latents."
            )
        return n_features

    def _has_bottleneck(self) -> bool:
        return self.network not in ("unet", "unet1d")

    def _draws(self) -> bool:
        return True

    def _autos(self) -> Autos:
        # One cell that is far off must not take the others along.
        return super()._autos()._replace(margin=NEAR_MARGIN, usual=0.0)

    def _validate_params(self) -> None:
        super()._validate_params()
        name = type(self).__name__
        kinds = self.noise if isinstance(self.noise, tuple) else (self.noise,)
        known = {*NOISES, *IMAGE_NOISES}
        if not kinds or not all(callable(kind) or kind in known for kind in kinds):
            raise ValueError(
                f"The 'noise' parameter of {name} must hold callables and names among "
                f"{sorted(known)}. Got {self.noise!r} instead."
            )
        given: Any = self.noise_level
        levels = given if isinstance(given, tuple) else (given,) * len(kinds)
        if len(levels) != len(kinds) or not all(_is_level(level) for level in levels):
            raise ValueError(
                f"The 'noise_level' parameter of {name} must be a number of at least 0, or one "
                f"for each of noise={self.noise!r}. Got {self.noise_level!r}."
            )
        for kind, level in zip(kinds, levels, strict=True):
            if isinstance(kind, str) and kind != "gaussian" and level > 1:
                raise ValueError(
                    f"The 'noise_level' parameter of {name} is a share for noise={kind!r}, and "
                    f"must be in the range [0, 1]. Got {level!r}."
                )

    def _plan(self, *args: Any) -> TrainingPlan:
        kinds = self.noise if isinstance(self.noise, tuple) else (self.noise,)
        check_noises(set(kinds) & set(IMAGE_NOISES), self.network, self._input)
        plan = super()._plan(*args)
        return dataclasses.replace(plan, noise=self.noise, noise_level=self.noise_level)


def _is_level(value: Any) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    return is_number and 0.0 <= float(value) < np.inf

"""VariationalAutoencoder: latents drawn from a posterior, near to a common prior."""

import dataclasses
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skae._data.types import (
    Auto,
    Device,
    FloatArray,
    MatrixLike,
    NetworkBuilder,
    RandomState,
)
from skae._estimators.fitting import Prepared
from skae._estimators.latent import LatentAutoencoder
from skae._estimators.sklearn_private import HasMethods, Interval, StrOptions
from skae._model.evidence import evidence_bounds
from skae._model.model import Model
from skae._networks.conv import ImageBuilder
from skae._networks.factory import Spec
from skae._training.plan import TrainingPlan


class VariationalAutoencoder(LatentAutoencoder):
    """Autoencoder that gives each row a distribution of latents, near to a common prior.

    The encoder gives mean and variance of a normal distribution, from which latents
    are drawn in training; its Kullback-Leibler divergence from the standard normal
    distribution is part of the loss (Kingma and Welling, "Auto-encoding variational
    Bayes", ICLR 2014). The losses count against it as the likelihood does whose noise
    fits them best, which is followed in training (Rybkin et al., "Simple and effective
    VAE training with calibrated decoders", ICML 2021). Neighboring latents then decode
    to similar rows. What :meth:`transform` gives is the mean, without chance.

    Parameters
    ----------
    beta : float, default=1.0
        Weight of the divergence against the surprise at a row (Higgins et al., "beta-VAE", ICLR
        2017): 1 is the evidence lower bound, for data of any scale. Less reconstructs rows better,
        more brings latents nearer to the prior, and leaves those that are not needed without
        content.
    kl_warm_up : float in [0, 1], default=0.25
        Share of the training over which that weight rises from zero (Bowman et al., "Generating
        sentences from a continuous space", CoNLL 2016), so that latents are not given up before
        they are learned. :meth:`partial_fit` has the full weight.
    n_components : int or "auto", default="auto"
        Number of latents. "auto" is half of the features, at most 32.
    hidden_layer_sizes : array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder mirrors them. "auto" is two layers, the
        second half as wide as the first: 128 and 64 for tables, up to 512 and 256 for rows of
        hundreds of features.
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
    init : {"auto", "random"}, default="auto"
        Initial weights; both are random.
    sparse_output : bool, default=False
        Whether :meth:`transform` gives a CSR matrix; useful where most latents are zero.
    latent_density : {"auto", "prior", "gaussian", "gmm"} or estimator, default="gmm"
        What :meth:`sample` draws latents from: a density that is fitted on the latents of at most
        20,000 training rows when rows are first drawn, or the estimator is pickled or saved: a
        normal distribution, a mixture of them, or a scikit-learn estimator with ``sample`` (Ghosh
        et al., "From variational to deterministic autoencoders", ICLR 2020). "auto" is a mixture of
        at most 2,000 rows. "prior" is the standard normal distribution, for study: latents are
        pressed towards it, but do not fill it, and what it draws is far worse. Another default than
        for the other estimators, since drawing is what this one is for, and a mixture of many rows
        draws best; its fit takes seconds.
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
        Passes over the data. "auto" is as many as 6,000 steps take, at least 15 and at most 300.
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
    beta_ : float
        The weight of the divergence that the scores count with: ``beta`` of the fit.
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
    AutoencoderTransformer : Without the prior.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VariationalAutoencoder
    >>> images = load_digits().images
    >>> autoencoder = VariationalAutoencoder(n_components=8, random_state=0).fit(images)
    >>> autoencoder.sample(5, random_state=0).shape
    (5, 8, 8)
    >>> autoencoder.interpolate(images[:1], images[1:2], steps=3).shape
    (3, 8, 8)
    >>> Z = autoencoder.transform(images)
    >>> bool((autoencoder.inverse_transform(Z) == autoencoder.reconstruct(images)).all())
    True
    >>> autoencoder.score(images) > 0.5
    True
    >>> unlikely = autoencoder.score_samples(images).argmin()

    The stages of a convolutional network are features of every pixel.

    >>> conv = VariationalAutoencoder(network="conv", max_epochs=1, random_state=0).fit(images[:50])
    >>> conv.pixel_features(images[:1]).shape
    (1, 8, 8, 97)
    """

    _parameter_constraints = {
        **LatentAutoencoder._parameter_constraints,
        "init": [StrOptions({"auto", "random"})],
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warm_up": [Interval(Real, 0, 1, closed="both")],
        "latent_density": [
            StrOptions({"auto", "prior", "gaussian", "gmm"}),
            HasMethods(["fit", "sample"]),
        ],
    }

    _fitted_types = {**LatentAutoencoder._fitted_types, "beta_": float}

    beta_: float

    def __init__(
        self,
        *,
        beta: float = 1.0,
        kl_warm_up: float = 0.25,
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
        sparse_output: bool = False,
        latent_density: Any = "gmm",
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
        self.sparse_output = sparse_output
        self.latent_density = latent_density
        self.beta = beta
        self.kl_warm_up = kl_warm_up

    def score_samples(self, X: MatrixLike) -> FloatArray:
        """Return a lower bound of each row's log-likelihood, per feature; higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Minus what training minimizes: the surprise at the observed features, over
            32 draws of latents that are the same in every call, and ``beta_`` times
            the divergence, divided by the number of these features. With ``beta=1``
            it is the evidence lower bound of the scaled features in nats, but for a
            constant. Of a row without any value, the mean of the training.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        check_is_fitted(self)
        return self._typical_where_nan(-evidence_bounds(self._model, self._check_X(X), self.beta_))

    def _draws(self) -> bool:
        return True

    def _network_spec(self, n_features: int) -> Spec:
        return dataclasses.replace(super()._network_spec(n_features), variational=True)

    def _builder(self, hidden: Any) -> Callable[..., Any] | None:
        builder = super()._builder(hidden)
        return builder.for_draws() if isinstance(builder, ImageBuilder) else builder

    def _plan(
        self, n_rows: int, product_dtype: torch.dtype, one_pass: bool, starts_as_pca: bool
    ) -> TrainingPlan:
        plan = super()._plan(n_rows, product_dtype, one_pass, starts_as_pca)
        warm_up = 0.0 if one_pass else float(self.kl_warm_up)
        return dataclasses.replace(plan, beta=float(self.beta), kl_warm_up=warm_up)

    def _keep(self, prepared: Prepared, append: bool = False) -> None:
        super()._keep(prepared, append)
        self.beta_ = float(self.beta)

    def _attributes_of(self, model: Model) -> dict[str, Any]:
        return super()._attributes_of(model) | {"beta_": float(self.beta)}

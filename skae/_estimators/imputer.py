"""AutoencoderImputer: missing cells filled in, as a step of a pipeline."""

import dataclasses
import math
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skae._data.columns import Ranges
from skae._data.convert import dense_rows, from_caller, image_shape_of
from skae._data.frames import arranged
from skae._data.streamed import sampled
from skae._data.types import (
    Auto,
    Device,
    FloatArray,
    MatrixLike,
    NetworkBuilder,
    Output,
    RandomState,
)
from skae._estimators.base import BaseAutoencoder
from skae._estimators.filling import impute
from skae._estimators.fitting import Prepared
from skae._estimators.output import asked_for, feature_names
from skae._estimators.parameters import Autos
from skae._estimators.sklearn_private import Interval, StrOptions, check_feature_names_in
from skae._model.spread import Spread, observed_cells
from skae._networks.gaps import GapBuilder
from skae._runtime.randomness import DENSITY_STREAM, draw_seed
from skae._runtime.tuning import (
    DENSITY_ROWS,
    FEWEST_EPOCHS,
    GAP_BATCH,
    GAP_EPOCHS,
    GAP_EPOCHS_OF_ROWS,
    GAP_LAYERS,
    GAP_STEPS,
    HELD_OUT_FOR_ERRORS,
    IMPUTER_EPOCHS,
)
from skae._training.losses import is_of_values
from skae._training.plan import TrainingPlan


class AutoencoderImputer(TransformerMixin, BaseAutoencoder):
    """Missing cells filled in by a network that learns to fill in masked ones.

    Stands where :class:`~sklearn.impute.KNNImputer` stands: :meth:`transform` imputes, so that it
    is a step of a pipeline. Training masks cells at random, which the network learns to fill
    in from the others (Gondara and Wang, "MIDA: Multiple imputation using denoising
    autoencoders", PAKDD 2018). It begins with what a Gaussian expects of them, and learns what
    is to be added. Data frames may hold text, categories, flags and counts, and come back with
    their dtypes.

    Parameters
    ----------
    noise_level : float in (0, 1), default=0.2
        Share of the cells that training masks, at random and anew each time a row is seen.
    add_indicator : bool, default=False
        Whether to append a flag for each column that had a gap in the fit: where it is missing.
    keep_empty_features : bool, default=False
        Whether to keep columns without any value in the fit: numbers are filled with zeros, and
        categories stay missing. Otherwise they are dropped.
    sample_posterior : bool, default=False
        Whether to draw cells from where they may lie, in place of the most likely values: numbers
        with an error of those that were made on a tenth of the rows, which is held out of the
        training and masked for this; values of a category in proportion to their probabilities.
        Fits or calls of several ``random_state`` are multiple imputations.
    n_components : int or "auto", default="auto"
        Number of latents of the networks that have a bottleneck: "auto" is half of the features,
        at most 32.
    hidden_layer_sizes : array-like of int or "auto", default="auto"
        Widths of the hidden layers: of "gaps" all of them, of the other networks the encoder's,
        which the decoder mirrors. "auto" is two layers: 256 and 256 for "gaps"; for "mlp" 128 and
        64 for tables, up to 512 and 256 for rows of hundreds of features.
    network : {"auto", "gaps", "mlp", "conv", "conv1d"} or callable, default="auto"
        "gaps" (the choice of "auto", unless ``n_components`` is a number, ``init="pca"`` or a loss
        "log_loss", "poisson" or a function) has no bottleneck. A Gaussian with few factors, learned
        first, fills the gaps; a network that is told which cells are missing, and how far each
        number has passed each of a dozen quantiles, adds a correction. "mlp" is the dense
        autoencoder of ``hidden_layer_sizes``. "conv" is a
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
        features start at one minimum and at least half of them reach half of the common range);
        else "standard". With "auto", rows that look like pixels are reconstructed within the range
        seen: over the last tenth of the training, and in all predictions, outputs are cut off where
        it ends.
    output_bounds : {"nonnegative"}, tuple or None, default=None
        Bounds of the rows that are given back, in the user's units: ``(low, high)``, each a number,
        one for each column, or None for no bound. "nonnegative" is ``(0, None)``. Categories have
        none.
    normalization : {"auto", "batch", "layer"} or None, default="auto"
        Normalization of the hidden layers. "auto" is none.
    dropout : float in [0, 1), default=0.2
        Share of hidden units that are set to zero in training. Another default than for the other
        estimators: cells that are filled in from few rows are otherwise learned by heart.
    weight_decay : float, default=0.0
        Weight decay of the optimizer; biases are left out.
    latent_l1 : float, default=0.0
        Weight of the sum of the absolute latents in the loss.
    init : {"auto", "pca", "random"}, default="auto"
        Initial weights. "pca": the network begins as PCA of the scaled rows (of 4,096 of them at
        most), passed through pairs of hidden units, with all other units random; for activations
        "relu", "silu" and "gelu", without ``normalization``, sparse latents and "log_loss". "auto"
        is "pca" where that is possible.
    optimizer : {"adam", "adamw", "sgd"}, default="adam"
        "sgd" has Nesterov momentum of 0.9 and needs a rate of 0.1 to 0.3: the loss is a mean over
        all cells.
    learning_rate : float or "auto", default="auto"
        Learning rate; the highest one where a schedule is used. "auto" is 0.003.
    lr_schedule : {"constant", "cosine", "one_cycle"}, default="one_cycle"
        Course of the learning rate over the training steps.
    batch_size : int or "auto", default="auto"
        Rows per step. "auto" is 128 for "gaps", else a power of two from 32 to 256 that makes about
        64 batches an epoch.
    max_epochs : int or "auto", default="auto"
        Passes over the data. "auto" is as many as 2,000 steps take for "gaps", at least 15 and at
        most 100, or a tenth of the rows where that is more; else as many as 6,000 steps take, at
        least 15 and at most 1,000.
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
    encoder_, decoder_ : torch.nn.Module
        The fitted network, from scaled rows to latents and back.
    n_components_ : int
        Number of latents; for "gaps", of features.
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
    DenoisingAutoencoder : Also has latents, and restores images.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderImputer
    >>> X, _ = load_wine(return_X_y=True)
    >>> holes = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    >>> imputer = AutoencoderImputer(max_epochs=50, random_state=0).fit(holes)
    >>> filled = imputer.transform(holes)
    >>> bool((filled == X)[~np.isnan(holes)].all())
    True
    >>> error = ((filled - X) / X.std(axis=0))[np.isnan(holes)]
    >>> bool((error**2).mean() < 0.6)
    True
    >>> imputer.get_feature_names_out()[:2].tolist()
    ['x0', 'x1']
    """

    _parameter_constraints = {
        **BaseAutoencoder._parameter_constraints,
        "network": [StrOptions({"auto", "gaps", "mlp", "conv", "conv1d"}), callable],
        "noise_level": [Interval(Real, 0, 1, closed="neither")],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        "sample_posterior": ["boolean"],
    }

    _fitted_types = {
        **BaseAutoencoder._fitted_types,
        "_ranges": Ranges,
        "_spread": Spread | None,
        "_observed": np.ndarray,
        "_gaps": np.ndarray,
        "_kept": np.ndarray,
        "_flagged": np.ndarray,
    }

    _ranges: Ranges
    _spread: Spread | None
    _observed: NDArray[np.bool_]
    _gaps: NDArray[np.bool_]
    _kept: NDArray[np.bool_]
    _flagged: NDArray[np.bool_]
    _held_out: FloatArray | None

    def __init__(
        self,
        *,
        noise_level: float = 0.2,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        sample_posterior: bool = False,
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
        dropout: float = 0.2,
        weight_decay: float = 0.0,
        latent_l1: float = 0.0,
        init: str = "auto",
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
        self.noise_level = noise_level
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.sample_posterior = sample_posterior

    def transform(self, X: MatrixLike) -> Output:
        """Fill in missing cells, and leave the observed ones as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN, None, ``pd.NA`` and null mean missing.

        Returns
        -------
        X_filled : ndarray or DataFrame of shape (n_samples, n_features_out)
            The rows, in their dtypes, and flags of what was missing with ``add_indicator``. A
            DataFrame if ``set_output`` asks for one, or if ``X`` is one whose columns are not all
            of floats.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        check_is_fitted(self)
        X = from_caller(X)
        filled = impute(self, X, change=self._changed)
        if self._table.is_plain and asked_for(self) == "default":
            filled = np.asarray(filled)  # as scikit-learn's imputers give floats
        missing = np.zeros((len(filled), 0), dtype=bool)
        names = self._flag_names(feature_names(self))
        if names:
            rows = self._check_X(X)
            missing = self._table.missing(np.asarray(rows[:]))[:, self._flagged]
        return arranged(filled, np.flatnonzero(self._kept), missing, names)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns that :meth:`transform` gives.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns in the fit, where these had none.

        Returns
        -------
        names : ndarray of str
            Those of the kept columns, and with ``add_indicator`` those of the flagged ones behind
            ``"missingindicator_"``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If other names are given than those of the fit.
        """
        check_is_fitted(self)
        names = check_feature_names_in(self, input_features)
        return np.array([*names[self._kept], *self._flag_names(names)], dtype=object)

    def _flag_names(self, names: Any) -> list[str]:
        return [f"missingindicator_{name}" for name in np.asarray(names)[self._flagged]]

    def _changed(self, rebuilt: FloatArray) -> FloatArray:
        """Rebuilt rows, with errors if these are drawn, and zeros where nothing is known."""
        if self._spread is not None:
            rebuilt = self._spread.drawn(rebuilt, self._table, draw_seed(self.random_state))
        empty = self._table.by_unit(~self._observed[None])
        return np.where(empty, 0.0, rebuilt)

    def _training_rows(
        self, X: MatrixLike, sample_weight: Any, reset: bool
    ) -> tuple[Any, FloatArray | None]:
        X = from_caller(X)
        if image_shape_of(X) is not None:
            raise ValueError(
                "X holds images, but AutoencoderImputer takes rows. Pass them to impute of a "
                "DenoisingAutoencoder."
            )
        rows, weights = super()._training_rows(X, sample_weight, reset)
        self._held_out = None
        if not self.sample_posterior:
            return rows, weights
        n_rows = rows.shape[0]
        order = np.random.default_rng(draw_seed(self.random_state)).permutation(n_rows)
        n_held_out = min(DENSITY_ROWS, round(HELD_OUT_FOR_ERRORS * n_rows))
        if n_held_out == 0:
            raise ValueError(
                f"sample_posterior=True holds a tenth of the rows out, but X has n_samples = "
                f"{n_rows}. Pass more rows, or sample_posterior=False."
            )
        held_out, own = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
        self._held_out = dense_rows(rows[held_out], slice(None))
        return rows[own], None if weights is None else weights[own]

    def _keep(self, prepared: Prepared, append: bool = False) -> None:
        earlier = self._ranges if append else None
        super()._keep(prepared, append)
        held_out, seed = self._held_out, prepared.job.plan.seeds[0]
        del self._held_out
        self._spread = None
        if held_out is not None:
            share = float(self.noise_level)
            self._spread = Spread.of(self._model, held_out, self._table, share, seed)
        place = prepared.job.plan.block_length, seed, DENSITY_STREAM
        some, _ = sampled(prepared.X, None, DENSITY_ROWS, *place)
        ranges = Ranges.of(some, sum(self._table.sizes))
        self._ranges = ranges if earlier is None else earlier.united(ranges)
        observed, gaps = observed_cells(prepared.X, self._table)
        if append:
            observed, gaps = observed | self._observed, gaps | self._gaps
        self._observed, self._gaps = observed, gaps
        self._kept = observed | bool(self.keep_empty_features)
        self._flagged = gaps & bool(self.add_indicator)

    def _autos(self) -> Autos:
        return Autos(scaling="flags", most_epochs=IMPUTER_EPOCHS)

    def _fills_gaps(self) -> bool:
        """Whether the network is the one for rows with gaps, and not an autoencoder."""
        if self.network != "auto":
            return self.network == "gaps"
        bottleneck = not isinstance(self.n_components, str) or self.init == "pca"
        return not bottleneck and is_of_values(self._loss())

    def _n_latents(self, n_features: int) -> int:
        if not self._fills_gaps():
            return super()._n_latents(n_features)
        if not is_of_values(self._loss()):
            raise ValueError(
                f"network='gaps' gives values, but loss={self.loss!r} takes logits, logarithms or "
                f"what a function says. Pass network='mlp'."
            )
        if self.n_components != "auto":
            raise ValueError(
                f"network='gaps' has no bottleneck: n_components={self.n_components!r} must be "
                f"'auto'. Pass network='mlp' for that number of latents."
            )
        return n_features

    def _auto_batch(self, n_rows: int) -> int:
        return GAP_BATCH if self._fills_gaps() else super()._auto_batch(n_rows)

    def _auto_epochs(self, n_rows: int, batch_size: int, starts_as_pca: bool) -> int:
        if not self._fills_gaps():
            return super()._auto_epochs(n_rows, batch_size, starts_as_pca)
        passes = math.ceil(GAP_STEPS * batch_size / max(n_rows, batch_size))
        # In more passes a small table is learned by heart.
        most = max(GAP_EPOCHS, int(GAP_EPOCHS_OF_ROWS * n_rows))
        return min(most, max(FEWEST_EPOCHS, passes))

    def _builder(self, hidden: Any) -> Any:
        if not self._fills_gaps():
            return super()._builder(hidden)
        return GapBuilder(
            GAP_LAYERS if isinstance(hidden, str) else hidden,
            self.activation,
            None if self.normalization == "auto" else self.normalization,
            float(self.dropout),
            sum(self._table.sizes),
        )

    def _draws(self) -> bool:
        return True

    def _plan(self, *args: Any) -> TrainingPlan:
        plan = super()._plan(*args)
        return dataclasses.replace(plan, noise="masking", noise_level=float(self.noise_level))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = False
        return tags

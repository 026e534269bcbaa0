"""AutoencoderFeatures: many nonlinear features of a table, for a linear classifier."""

import dataclasses
from numbers import Real
from typing import Any

import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import check_out
from skae._data.loaded import load_rows
from skae._data.streamed import sampled
from skae._data.types import Auto, Device, MatrixLike, Output, RandomState
from skae._estimators.base import BaseAutoencoder
from skae._estimators.fitting import Prepared
from skae._estimators.parameters import Autos
from skae._estimators.sklearn_private import Interval
from skae._networks.features import FeaturesNetwork, FeaturesSpec
from skae._runtime.device import computing
from skae._runtime.randomness import FRONT_STREAM
from skae._runtime.tuning import FEATURE_EPOCHS, FEATURE_ROWS, FEATURE_UNITS
from skae._training.plan import TrainingPlan

# What is no choice here: the network is the one of these features.
_FIXED = {
    *("hidden_layer_sizes", "network", "image_shape", "activation", "loss", "scaling"),
    *("output_bounds", "normalization", "dropout", "latent_l1", "init"),
}


class AutoencoderFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseAutoencoder):
    """Many nonlinear features of a table, from the hidden layer of a denoising autoencoder.

    Stands where :class:`~sklearn.kernel_approximation.Nystroem` and
    :class:`~sklearn.kernel_approximation.RBFSampler` stand: ahead of a linear classifier or
    regressor, which then finds what bends and what columns have in common. Each column is cut into
    up to eight pieces at its quantiles, and gives one coordinate a piece (Gorishniy, Rubachev and
    Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS 2022). A
    denoising autoencoder of these coordinates (Vincent et al., "Stacked denoising autoencoders",
    JMLR 2010) learns which go together. The features are the coordinates and the activations of
    its hidden layer; :class:`AutoencoderTransformer` gives few latents in place of many features.

    Pass the features on as they are, without a ``StandardScaler``: in sum they vary as five
    standardized columns do, so that a penalty such as that of ``LogisticRegression`` is of use.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of hidden units, all of which are features. "auto" is 256.
    noise_level : float in [0, 1), default=0.3
        Share of the coordinates that training sets to their lowest or highest value.
    categorical_features : array-like of {bool, int, str} or "from_dtype" or None, \
            default="from_dtype"
        Columns that are categories: a mask, indices or names. "from_dtype" takes those of a data
        frame that are of a categorical dtype or hold text; of an array it takes none, as None does
        of anything. Inside, a category is one unit for each of its values (at most 255: the rarest
        ones share one), and its loss is the cross-entropy of the values; outside, it is one column,
        that counts once. Values that the fit has not seen count as missing.
    weight_decay : float, default=0.0
        Weight decay of the optimizer; biases are left out.
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
        Passes over the data. "auto" is as many as 3,000 steps take, at least 15 and at most 100.
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
        The fitted network, from scaled rows to features and back.
    n_components_ : int
        Number of hidden units.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where they all are strings.
    loss_curve_ : list of float
        Mean training loss of each epoch, of the standardized coordinates.
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
    AutoencoderTransformer : Few latents, from which rows can be rebuilt.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from skae import AutoencoderFeatures
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> features = AutoencoderFeatures(random_state=0)
    >>> pipeline = make_pipeline(features, LogisticRegression(max_iter=1000))
    >>> pipeline.fit(X_train, y_train).score(X_test, y_test) > 0.95
    True
    >>> pipeline[0].transform(X_test).shape
    (143, 496)
    """

    # Nothing that a meta-estimator would pass on.
    __metadata_request__transform = {"out": UNUSED}

    _parameter_constraints = {
        name: allowed
        for name, allowed in BaseAutoencoder._parameter_constraints.items()
        if name not in _FIXED
    } | {
        "noise_level": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        n_components: int | Auto = "auto",
        noise_level: float = 0.3,
        categorical_features: ArrayLike | str | None = "from_dtype",
        weight_decay: float = 0.0,
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
            categorical_features=categorical_features,
            weight_decay=weight_decay,
            scaling="standard",
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

    def transform(self, X: MatrixLike, out: Any = None) -> Output:
        """Give the features of rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN means missing, and counts as the mean of a column's coordinates.
        out : array of shape (n_samples, n_features_out), default=None
            Where to write the features, batch by batch, if they are too many for memory.

        Returns
        -------
        Z : ndarray or DataFrame of shape (n_samples, n_features_out), float32
            First the coordinates, column by column, then the hidden units (float64 with
            ``precision="float64"``); ``out``, if it was given.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values,
            or if ``out`` is no writable array of floats of that shape.
        """
        check_is_fitted(self)
        rows = self._check_X(X)
        if out is not None:
            check_out(out, (rows.shape[0], self._n_features_out))
        return self._model.encode(rows, out)

    @property
    def _n_features_out(self) -> int:
        spec = self._model.network.spec
        assert isinstance(spec, FeaturesSpec)
        return spec.n_outputs

    def _keep(self, prepared: Prepared, append: bool = False) -> None:
        super()._keep(prepared, append)
        network, scaler = self._model.network, self._model.scaler
        assert isinstance(network, FeaturesNetwork)
        X, weights = self._learned_from(prepared, append)
        place = prepared.job.plan.block_length, prepared.job.plan.seeds[0], FRONT_STREAM
        some, own = sampled(X, weights, FEATURE_ROWS, *place)
        rows = load_rows(some, None, scaler, network.parameters.dtype, network.device, False)
        with computing(network.device, float(network.flops * len(rows))):
            # In full precision, in which a weight does as much as repetitions of a row.
            given = None if own is None else torch.as_tensor(own, device=network.device)
            network.fit_gain(rows.values, given)

    def _autos(self) -> Autos:
        return Autos(init="random", scaling="flags", most_epochs=FEATURE_EPOCHS)

    def _draws(self) -> bool:
        return True

    def _n_latents(self, n_features: int) -> int:
        return FEATURE_UNITS if isinstance(self.n_components, str) else int(self.n_components)

    def _network_spec(self, n_features: int) -> FeaturesSpec:
        sizes = (), (self._n_latents(n_features),)
        return FeaturesSpec(n_features, *sizes, "relu", activated=True, pieces=(1,) * n_features)

    def _plan(self, *args: Any) -> TrainingPlan:
        plan = super()._plan(*args)
        noise = "salt_and_pepper"  # A piece is mostly full or empty, as those of another row are.
        return dataclasses.replace(plan, noise=noise, noise_level=float(self.noise_level))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        dtype = "float64" if self.precision == "float64" else "float32"
        tags.transformer_tags.preserves_dtype = [dtype]
        return tags

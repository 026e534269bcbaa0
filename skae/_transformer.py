"""AutoencoderTransformer: latents as features."""

import copy
from numbers import Integral
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from skae._base import BaseAutoencoder
from skae._parameters import documented
from skae._sampling import SamplingAutoencoder
from skae._settings import HasMethods, Interval, RealNotInt, StrOptions
from skae.data.spec import sizes_of
from skae.data.stream import sampled
from skae.data.validate import check_out, dense_chunks, image_shape_of, like_caller
from skae.maps import pixel_features
from skae.randomness import SCORE_STREAM
from skae.training.plan import TrainingPlan, truncated_state

# Rows from which the explained variance is computed, at most.
_VARIANCE_ROWS = 10_000

# Rows whose latents are dense at once on their way to a sparse output.
_SPARSE_ROWS = 4096


@documented
class AutoencoderTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, SamplingAutoencoder
):
    """Features from the latents of an autoencoder.

    Stands in a pipeline where :class:`~sklearn.decomposition.PCA` stands: a
    nonlinear reduction to ``n_components`` latents from which the rows are
    reconstructed with the least loss (Hinton and Salakhutdinov, "Reducing the
    dimensionality of data with neural networks", Science 2006).

    Parameters
    ----------
    {latent_parameters}
    {density_parameter}
    {parameters}

    Attributes
    ----------
    {latent_attributes}
    {attributes}

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
    >>> autoencoder.transform(X).shape
    (1797, 10)
    >>> autoencoder.score(X) > 0.85
    True
    """

    # Nothing that a meta-estimator would pass on.
    __metadata_request__transform = {"out": UNUSED}

    _parameter_constraints = {
        **BaseAutoencoder._parameter_constraints,
        "n_components": [
            *BaseAutoencoder._parameter_constraints["n_components"],
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "ordered": ["boolean"],
        "sparse_output": ["boolean"],
        "latent_density": [StrOptions({"gaussian", "gmm"}), HasMethods(["fit", "sample"])],
    }

    _fitted_types = {
        **SamplingAutoencoder._fitted_types,
        "explained_variance_ratio_": np.ndarray,
    }

    explained_variance_ratio_: np.ndarray

    def __init__(
        self,
        *,
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
        ordered=False,
        sparse_output=False,
        latent_density="gaussian",
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
        self.ordered = ordered
        self.sparse_output = sparse_output
        self.latent_density = latent_density

    def transform(self, X, out=None):
        """Encode rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN means missing.
        out : array of shape (n_samples, n_components_), default=None
            Where to write the latents, batch by batch, if they are too many for
            memory: a memory map, say, or a dataset of h5py. None makes an array.

        Returns
        -------
        Z : ndarray or CSR matrix of shape (n_samples, n_components_), float32
            Latents (float64 with ``precision="float64"``); ``out``, if it was given.
        """
        check_is_fitted(self)
        rows = self._check_X(X)
        if out is not None:
            check_out(out, (rows.shape[0], self.n_components_))
        if not self.sparse_output or out is not None:
            return self._model.encode(rows, out)
        parts = dense_chunks(rows, _SPARSE_ROWS)
        return sparse.vstack([sparse.csr_array(self._model.encode(part)) for _, part in parts])

    def inverse_transform(self, X):
        """Decode latents.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Latents, as :meth:`transform` gives them.

        Returns
        -------
        X_original : ndarray or DataFrame of shape (n_samples, n_features_in_)
            Rows in the units of the training data; a DataFrame if ``X`` is one.
        """
        values = self._model.decode(self._check_latents(X))
        values = values.reshape(-1, *self._input.caller_shape)
        return like_caller(values, X, self._columns())

    def reconstruct(self, X, out=None):
        """Encode and decode rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN means missing, and is filled in.
        out : array of the shape of ``X``, default=None
            Where to write the rows, batch by batch, if they are too many for memory.

        Returns
        -------
        X_reconstructed : ndarray or DataFrame of shape (n_samples, n_features)
            In the units of the training data; a DataFrame if ``X`` is one, and ``out``,
            if it was given.
        """
        check_is_fitted(self)
        if out is None:
            return like_caller(self._rebuilt(X), X, self._columns())
        check_out(out, tuple(np.shape(X)))
        return self._rebuilt(X, out)

    def score_samples(self, X):
        """Negative reconstruction loss of each row; higher is more normal.

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

    def score(self, X, y=None, sample_weight=None):
        """Share of the variance of ``X`` that its reconstruction explains.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.
        y : None
            Ignored; here for the API's sake.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        score : float
            ``1 - SSE / SST`` in the scaled space; at most 1, higher is better.
        """
        check_is_fitted(self)
        rows, weights = self._check_weights(sample_weight, self._check_X(X))
        return float(self._model.explained_variance(rows, weights)[0])

    def truncate(self, n_components) -> Self:
        """The autoencoder with its first latents alone.

        Parameters
        ----------
        n_components : int
            How many; at most ``n_components_``.

        Returns
        -------
        truncated : estimator
            A fitted copy: its ``transform`` gives the first columns of this one's, and
            training goes on with it by ``partial_fit``.

        Raises
        ------
        ValueError
            If the latents are not ordered.
        """
        check_is_fitted(self)
        if not self._has_order():
            raise ValueError(
                "truncate needs latents in order of importance. Fit with ordered=True, or with a "
                "share of the variance as n_components."
            )
        size = self._checked_size("n_components", n_components)
        self._settle()
        smaller = copy.copy(self)
        smaller._truncate(size)
        smaller._truncate_density(size)
        return smaller.set_params(n_components=size, ordered=True)

    def with_sparsity(self, sparsity) -> Self:
        """The autoencoder with another number of latents that are kept of a row.

        For a classifier it pays to keep some more than in training (Makhzani and Frey,
        "k-sparse autoencoders", 2013). Rows are rebuilt worse then.

        Parameters
        ----------
        sparsity : int
            How many; at most ``n_components_``.

        Returns
        -------
        changed : estimator
            A fitted copy, of that ``sparsity``. It draws the same samples.

        Raises
        ------
        ValueError
            If the latents are not sparse.
        """
        check_is_fitted(self)
        if self._model.network.spec.sparsity is None:
            raise ValueError("with_sparsity needs sparse latents. Fit with sparsity=k.")
        size = self._checked_size("sparsity", sparsity)
        changed = copy.copy(self)
        changed._model = self._model.with_sparsity(size)
        return changed.set_params(sparsity=size)

    def _checked_size(self, name: str, size: Any) -> int:
        whole = isinstance(size, Integral)
        if not whole or not 1 <= size <= self.n_components_:
            raise ValueError(
                f"{name}={size!r} must be a whole number from 1 to n_components_="
                f"{self.n_components_}."
            )
        return int(size)

    def _has_order(self) -> bool:
        return getattr(self._model.network.spec, "ordered", False)

    def _truncate(self, size: int) -> None:
        before = self._model.network.spec
        self._model = self._model.truncated(size)
        self._train_state = truncated_state(self._train_state, before, self._model.network.spec)
        self.n_components_ = size
        self.explained_variance_ratio_ = self.explained_variance_ratio_[:size]

    def _fitted(self, X: Any, weights: np.ndarray | None, plan: TrainingPlan) -> None:
        self._order(X, weights, plan)
        self._fit_density(X, weights, plan.seeds[0])

    def _order(self, X: Any, weights: np.ndarray | None, plan: TrainingPlan) -> None:
        """What each latent explains, where they are in order."""
        if not self._has_order():
            if hasattr(self, "explained_variance_ratio_"):  # of an earlier fit
                del self.explained_variance_ratio_
            return
        place = plan.block_length, plan.seeds[0], SCORE_STREAM
        some, own = sampled(X, weights, _VARIANCE_ROWS, *place)
        shares = self._model.explained_variance(some, own, range(1, self.n_components_ + 1))
        self.explained_variance_ratio_ = np.diff(shares, prepend=0.0)
        if not isinstance(self.n_components, (str, Integral)):
            enough = np.flatnonzero(shares >= self.n_components)
            self._truncate(int(enough[0]) + 1 if len(enough) else len(shares))

    def pixel_features(self, X, scales=(1, 2, 4)):
        """Features of every pixel, for segmentation.

        Of a model of patches (``patch_size``) with a bottleneck: the pixel, and for each
        scale the latents of the patch around it, their spreads in a window of a quarter of
        the patch, the pixel as it is rebuilt, and the largest and smallest curvature of the
        rebuilt image, over one and two pixels. Of a convolutional network: the scaled
        pixel, and what each stage makes of it, interpolated to the image's resolution.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images; of any size for a model of patches.
        scales : tuple of int, default=(1, 2, 4)
            For a model of patches: how many times as large the patches are taken,
            from the image smoothed by half as much.

        Returns
        -------
        features : ndarray of shape (n_samples, height, width, n_pixel_features), float32
            Up to a few hundred numbers a pixel: pass few images at a time.
        """
        check_is_fitted(self)
        shape = image_shape_of(X)
        if shape is None:
            raise ValueError(
                "pixel_features needs an array of images (n_samples, height, width[, channels]), "
                "but X holds rows. Reshape them, and fit on images or with image_shape."
            )
        if self._input.is_patch:
            images = self._image_array(X)
        else:
            images = np.asarray(self._check_X(X)[:]).reshape(-1, *shape)
        scales = sizes_of("scales", scales)
        return np.stack(list(pixel_features(self._model, images, self._input, scales)))

    def _rebuilt(self, X, out=None):
        return self._model.reconstruct(self._check_X(X), out)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        dtype = "float64" if self.precision == "float64" else "float32"
        tags.transformer_tags.preserves_dtype = [dtype]
        return tags

    def _columns(self):
        return getattr(self, "feature_names_in_", None)

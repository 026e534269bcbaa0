"""Estimators that turn rows into latents, and latents into rows."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import check_out, dense_chunks, from_caller, image_shape_of
from skae._data.spec import sizes_of
from skae._data.types import FloatArray, MatrixLike, Output
from skae._estimators.inputs import check_image_array, check_latents, weighted_rows
from skae._estimators.output import like_input
from skae._estimators.sampling import SamplingAutoencoder
from skae._estimators.sklearn_private import HasMethods, StrOptions
from skae._images.pixel_features import pixel_features
from skae._model.variance import explained_variance

# Rows whose latents are dense at once on their way to a sparse output.
_SPARSE_ROWS = 4096


class LatentAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SamplingAutoencoder):
    """What all transformers share; not for use by itself."""

    # Nothing that a meta-estimator would pass on.
    __metadata_request__transform = {"out": UNUSED}

    _parameter_constraints = {
        **SamplingAutoencoder._parameter_constraints,
        "sparse_output": ["boolean"],
        "latent_density": [
            StrOptions({"auto", "gaussian", "gmm"}),
            HasMethods(["fit", "sample"]),
        ],
    }

    sparse_output: bool

    def transform(self, X: MatrixLike, out: Any = None) -> Output:
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
            check_out(out, (rows.shape[0], self.n_components_))
        if not self.sparse_output or out is not None:
            return self._model.encode(rows, out)
        parts = dense_chunks(rows, _SPARSE_ROWS)
        return sparse.vstack([sparse.csr_array(self._model.encode(part)) for _, part in parts])

    def inverse_transform(self, X: MatrixLike) -> Output:
        """Decode latents.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Latents, as :meth:`transform` gives them.

        Returns
        -------
        X_original : ndarray or DataFrame of shape (n_samples, n_features_in_)
            Rows in the units of the training data; a DataFrame if ``X`` is one or
            ``set_output`` asks for one.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has another number of columns, or holds values that are not finite.
        """
        check_is_fitted(self)
        X = from_caller(X)
        values = self._model.decode(check_latents(self, X))
        return like_input(self, values.reshape(-1, *self._input.caller_shape), X)

    def reconstruct(self, X: MatrixLike, out: Any = None) -> Output:
        """Encode and decode rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN means missing, and is filled in.
        out : array of the shape of ``X``, default=None
            Where to write the rows, batch by batch, if they are too many for memory. Of
            unsigned integers (images of bytes) it gets rounded values within their range.

        Returns
        -------
        X_reconstructed : ndarray or DataFrame of shape (n_samples, n_features)
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
        check_is_fitted(self)
        X = from_caller(X)
        if out is None:
            return like_input(self, self._rebuilt(X), X)
        if self._table.categories:
            raise ValueError(
                "out takes numbers alone, but the training rows had categories. Pass X in parts, "
                "and leave out=None."
            )
        check_out(out, tuple(np.shape(X)), "fu")
        return self._rebuilt(X, out)

    def score_samples(self, X: MatrixLike) -> FloatArray:
        """Return minus the reconstruction loss of each row; higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Minus the mean loss over the observed features, in the scaled space; of a row
            without any, minus the mean loss of the training.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        check_is_fitted(self)
        return self._typical_where_nan(-self._model.losses(self._check_X(X)))

    def score(self, X: MatrixLike, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of the variance of ``X`` that its reconstruction explains.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN cells are left out.
        y : None
            Ignored, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        score : float
            ``1 - SSE / SST`` in the scaled space; at most 1, higher is better.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values, or
            if all weights are zero.
        """
        check_is_fitted(self)
        rows, weights = weighted_rows(self._check_X(X), sample_weight)
        return float(explained_variance(self._model, rows, weights)[0])

    def pixel_features(self, X: MatrixLike, scales: tuple[int, ...] = (1, 2, 4)) -> FloatArray:
        """Return features of every pixel, for segmentation.

        A model of patches (``patch_size``) with a bottleneck gives the pixel, and for each
        scale the latents of the patch around it, their spreads in a window of a quarter of
        the patch, the pixel as it is reconstructed, and the largest and smallest curvature
        of the reconstructed image, over one and two pixels. A convolutional network gives
        the scaled pixel, and what each stage makes of it, interpolated to the image's
        resolution.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or \
                (n_samples, height, width, channels)
            Images, or signals; of any size for a model of patches.
        scales : tuple of int, default=(1, 2, 4)
            For a model of patches: how many times as large the patches are taken,
            from the image smoothed by half as much.

        Returns
        -------
        features : ndarray of shape (n_samples, height, width, n_pixel_features), float32
            Up to a few hundred numbers a pixel: pass few images at a time. Those of signals
            have the shape (n_samples, length, n_pixel_features).

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` holds rows, or the network has neither patches nor stages.
        """
        check_is_fitted(self)
        X = from_caller(X)
        is_signal = self._input.is_signal
        if image_shape_of(X) is None and not is_signal:
            raise ValueError(
                "pixel_features needs an array of images (n_samples, height, width[, channels]), "
                "but X holds rows. Reshape them, and fit on images or with image_shape."
            )
        images = check_image_array(X) if self._input.is_patch else np.asarray(self._check_X(X)[:])
        scales = sizes_of("scales", scales)
        features = np.stack(list(pixel_features(self._model, images, self._input, scales)))
        return features[:, :, 0] if is_signal else features

    def _rebuilt(self, X: MatrixLike, out: Any = None) -> Any:
        return self._model.reconstruct(self._check_X(X), out)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        dtype = "float64" if self.precision == "float64" else "float32"
        tags.transformer_tags.preserves_dtype = [dtype]
        return tags

"""AutoencoderTransformer: latents as features."""

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from skae._base import BaseAutoencoder
from skae._parameters import documented
from skae.data.validate import check_out, image_shape_of, like_caller
from skae.maps import pixel_features


@documented
class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseAutoencoder):
    """Features from the latents of an autoencoder.

    Stands in a pipeline where :class:`~sklearn.decomposition.PCA` stands: a
    nonlinear reduction to ``n_components`` latents from which the rows are
    reconstructed with the least loss (Hinton and Salakhutdinov, "Reducing the
    dimensionality of data with neural networks", Science 2006).

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
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
        Z : ndarray of shape (n_samples, n_components_), float32
            Latents (float64 with ``precision="float64"``); ``out``, if it was given.
        """
        check_is_fitted(self)
        rows = self._check_X(X)
        if out is not None:
            check_out(out, (rows.shape[0], self.n_components_))
        return self._model.encode(rows, out)

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
        return self._model.explained_variance(rows, weights)

    def pixel_features(self, X, scales=(1, 2, 4)):
        """Features of every pixel, for segmentation.

        Of a model of patches (``patch_size``) with a bottleneck: the pixel, and the
        latents of the patches around it. Of a convolutional network: the scaled pixel,
        and what each stage makes of it, interpolated to the image's resolution.

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

"""DenoisingAutoencoder: learns to undo noise on its input."""

import dataclasses
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from skae._parameters import documented
from skae._settings import Interval, StrOptions
from skae._transformer import AutoencoderTransformer
from skae.data.patches import draw_patches
from skae.data.spec import sizes_of
from skae.data.validate import as_rows, image_shape_of, like_caller
from skae.maps import restore_images
from skae.noise import IMAGE_NOISES, NOISES
from skae.randomness import draw_seed
from skae.training.plan import TrainingPlan


def _is_level(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and float(value) >= 0


@documented
class DenoisingAutoencoder(AutoencoderTransformer):
    """Autoencoder whose input is corrupted in training, and whose target is clean.

    What it learns is robust to the corruption: better features where the noise
    is what a classifier should ignore, restored rows, and values for missing
    cells (Vincent et al., "Stacked denoising autoencoders", JMLR 2010).

    Parameters
    ----------
    noise : {"masking", "gaussian", "salt_and_pepper", "swap", "affine", \
            "block_masking"}, callable or tuple, default="masking"
        Corruption of the scaled input in training: cells set to the feature's
        centre (whole pixels, of images with channels), normal noise added, cells set
        to the feature's extremes, or cells taken from another row; for images also
        "affine", which turns, scales and shifts them, and "block_masking", which
        masks square blocks. A callable
        ``(rows, generator) -> rows`` gets a float tensor of shape (1, n, n_features)
        and a ``torch.Generator``. Those of a tuple act one after another.
    noise_level : float or tuple of float, default=0.2
        Share of the corrupted cells; for "gaussian" the standard deviation, in
        units of the scaled features. For "affine" the strength: it turns by up to
        ``noise_level`` quarter turns, scales by up to ``1 + noise_level``, and shifts
        by up to half of ``noise_level`` of height and width. For a tuple of noises
        one number, or one each.
    patch_size : int or tuple of int, default=None
        Height and width of the random patches of the images to train on, eight
        times as many as would cover them. :meth:`denoise`, :meth:`reconstruct`,
        :meth:`impute` and :meth:`inpaint` then take images of any size, in
        overlapping tiles that are blended; all else takes patches. None trains on
        whole images.
    {latent_parameters}
    {parameters}

    Attributes
    ----------
    {latent_attributes}
    {attributes}

    See Also
    --------
    AutoencoderTransformer : The same without noise.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skae import DenoisingAutoencoder
    >>> X, _ = load_iris(return_X_y=True)
    >>> autoencoder = DenoisingAutoencoder(n_components=2, random_state=0).fit(X)
    >>> X[0, 2] = np.nan
    >>> bool(1.0 < autoencoder.impute(X[:1])[0, 2] < 2.0)
    True
    """

    _parameter_constraints = {
        **AutoencoderTransformer._parameter_constraints,
        "network": [StrOptions({"auto", "mlp", "conv", "unet"}), callable],
        "patch_size": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "noise": [StrOptions({*NOISES, *IMAGE_NOISES}), callable, tuple],
        "noise_level": [Interval(Real, 0, None, closed="left"), tuple],
    }

    def __init__(
        self,
        *,
        noise="masking",
        noise_level=0.2,
        patch_size=None,
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
            ordered=ordered,
            sparse_output=sparse_output,
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
        self.noise = noise
        self.noise_level = noise_level
        self.patch_size = patch_size

    def denoise(self, X):
        """Reconstruct rows from a noisy version of them.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Noisy rows; NaN means missing, and is filled in.

        Returns
        -------
        X_clean : ndarray or DataFrame of shape (n_samples, n_features)
            In the units of the training data; a DataFrame if ``X`` is one.
        """
        return self.reconstruct(X)

    def impute(self, X):
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
            In the units of the training data; a DataFrame if ``X`` is one. Of ``X``'s
            own precision if that is float64, so that observed cells are the same bits.
        """
        check_is_fitted(self)
        return like_caller(self._filled(self._values(X)), X, self._columns())

    def inpaint(self, X, mask):
        """Replace the cells under a mask, and leave the others as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features), \
                or images
            Rows or images; NaN cells are replaced too.
        mask : array-like of bool, of the shape of ``X``
            True where the value is to be replaced. For images with channels it may
            leave the channels out.

        Returns
        -------
        X_repaired : ndarray or DataFrame of the shape of ``X``
            In the units of the training data; a DataFrame if ``X`` is one. Float32,
            or float64 if ``X`` holds float64 or wider integers.
        """
        check_is_fitted(self)
        values, mask = self._values(X), np.asarray(mask)
        values = values.astype(np.result_type(values, np.float32))
        if mask.dtype != bool or mask.shape not in (values.shape, values.shape[:3]):
            raise ValueError(
                f"mask must be boolean and of X's shape {values.shape}, got {mask.dtype} of shape "
                f"{mask.shape}."
            )
        values[mask] = np.nan
        return like_caller(self._filled(values), X, self._columns())

    def _values(self, X) -> np.ndarray:
        """All values at once, dense, in the caller's shape."""
        shape = image_shape_of(X)
        if shape is not None and self._input.is_patch:
            return self._image_array(X)
        rows = self._check_X(X)
        dense = rows.toarray() if sparse.issparse(rows) else np.asarray(rows[:])
        return dense if shape is None else dense.reshape(-1, *shape)

    def _filled(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind != "f" or not (missing := np.isnan(values)).any():
            return values.copy()
        if values.ndim > 2 and self._input.is_patch:
            rebuilt = restore_images(self._model, values, self._input)
        else:
            rebuilt = self._model.reconstruct(as_rows(values)).reshape(values.shape)
        return np.where(missing, rebuilt, values).astype(values.dtype)

    def _training_rows(self, X, sample_weight, reset: bool) -> tuple[Any, np.ndarray | None]:
        if self.patch_size is None:
            return super()._training_rows(X, sample_weight, reset)
        size = self._patch_shape(image_shape_of(X))
        images, weights = self._check_weights(sample_weight, self._image_array(X))
        patches, sources = draw_patches(images, size, draw_seed(self.random_state))
        rows = self._check_X(patches, reset)
        self._input = dataclasses.replace(self._input, is_patch=True)
        return rows, None if weights is None else weights[sources]

    def _patch_shape(self, shape: tuple[int, ...] | None) -> tuple[int, int]:
        """Height and width of a patch, checked against the images' shape."""
        assert self.patch_size is not None
        if shape is None or self.image_shape is not None:
            raise ValueError(
                f"patch_size={self.patch_size!r} needs an array of images (n_samples, height, "
                f"width[, channels]), and image_shape=None."
            )
        height, width = (sizes_of("patch_size", self.patch_size) * 2)[:2]
        if height > shape[0] or width > shape[1]:
            raise ValueError(
                f"patch_size={self.patch_size!r} is larger than the images of {shape[0]} x "
                f"{shape[1]} pixels. Pass a smaller one."
            )
        return height, width

    def _rebuilt(self, X):
        if image_shape_of(X) is None or not self._input.is_patch:
            return super()._rebuilt(X)
        return restore_images(self._model, self._image_array(X), self._input)

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
        if self._input.image_shape is None and (of_images := set(kinds) & set(IMAGE_NOISES)):
            raise ValueError(
                f"noise={min(of_images)!r} needs images, but X holds rows. Pass an array of shape "
                f"(n_samples, height, width[, channels]), or the image_shape of the rows."
            )
        return super()._plan(*args)

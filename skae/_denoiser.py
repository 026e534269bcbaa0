"""DenoisingAutoencoder: learns to undo noise on its input."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from skae._base import BaseAutoencoder, Interval, Real, StrOptions
from skae._parameters import documented
from skae._transformer import AutoencoderTransformer
from skae.data.validate import like_caller
from skae.noise import NOISES


@documented
class DenoisingAutoencoder(AutoencoderTransformer):
    """Autoencoder whose input is corrupted in training, and whose target is clean.

    What it learns is robust to the corruption: better features where the noise
    is what a classifier should ignore, restored rows, and values for missing
    cells (Vincent et al., "Stacked denoising autoencoders", JMLR 2010).

    Parameters
    ----------
    noise : {"masking", "gaussian", "salt_and_pepper", "swap"} or callable, default="masking"
        Corruption of the scaled input in training: cells set to the feature's
        centre, normal noise added, cells set to the feature's extremes, or cells
        taken from another row. A callable ``(rows, generator) -> rows`` gets a
        float tensor of shape (1, n, n_features) and a ``torch.Generator``.
    noise_level : float, default=0.2
        Share of the corrupted cells; for "gaussian" the standard deviation, in
        units of the scaled features.
    {parameters}

    Attributes
    ----------
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
        **BaseAutoencoder._parameter_constraints,
        "noise": [StrOptions(set(NOISES)), callable],
        "noise_level": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        noise="masking",
        noise_level=0.2,
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
        return like_caller(self._filled(self._dense(X)), X, self._columns())

    def inpaint(self, X, mask):
        """Replace the cells under a mask, and leave the others as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows.
        mask : array-like of bool, shape (n_samples, n_features)
            True where the value is to be replaced.

        Returns
        -------
        X_repaired : ndarray or DataFrame of shape (n_samples, n_features)
            In the units of the training data; a DataFrame if ``X`` is one.
        """
        check_is_fitted(self)
        rows, mask = self._dense(X), np.asarray(mask)
        rows = rows.astype(np.result_type(rows, np.float32))
        if mask.shape != rows.shape or mask.dtype != bool:
            raise ValueError(
                f"mask must be boolean and of X's shape {rows.shape}, got {mask.dtype} of shape "
                f"{mask.shape}."
            )
        rows[mask] = np.nan
        return like_caller(self._filled(rows), X, self._columns())

    def _dense(self, X) -> np.ndarray:
        rows = self._check_X(X)
        return rows.toarray() if sparse.issparse(rows) else np.asarray(rows)

    def _validate_params(self) -> None:
        super()._validate_params()
        if isinstance(self.noise, str) and self.noise != "gaussian" and self.noise_level > 1:
            raise ValueError(
                f"The 'noise_level' parameter of {type(self).__name__} is a share of the cells for "
                f"noise={self.noise!r}, and must be in the range [0, 1]. Got {self.noise_level!r}."
            )

    def _filled(self, rows: np.ndarray) -> Any:
        if rows.dtype.kind != "f" or not (missing := np.isnan(rows)).any():
            return rows.copy()
        return np.where(missing, self._model.reconstruct(rows), rows).astype(rows.dtype)

"""Fits on pairs: noisy rows, and the same rows without their noise."""

from numbers import Integral
from typing import Any, Self

import numpy as np

from skae._data.sources import source_of
from skae._data.types import MatrixLike
from skae._estimators.base import all_or_nothing, is_like
from skae._estimators.sklearn_private import fit_context
from skae._estimators.transformer import AutoencoderTransformer


class PairedAutoencoder(AutoencoderTransformer):
    """An autoencoder that may be given what it is to make of its rows; not for use by itself."""

    patch_size: Any

    @all_or_nothing
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: MatrixLike,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: MatrixLike | None = None,
        X_clean: MatrixLike | None = None,
    ) -> Self:
        """Fit the autoencoder.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Training rows, in memory or in a file that is sliced by rows; NaN means missing.
        y : None or array-like of the shape of ``X``
            Of the shape of X, it is ``X_clean``. Else it is not used, and present for API
            consistency; one of another length than X is an error.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, in the scaling and in the thresholds.
            Rows of weight zero are left out.
        X_val : {array-like, sparse matrix, DataFrame} of shape (n_val, n_features), default=None
            Rows to hold out in place of some of ``X``: training stops, and keeps the weights
            of the epoch, by the loss on them, unless ``early_stopping=False``, which refuses
            them. Not together with ``X_clean``.
        X_clean : array-like or DataFrame of the shape of ``X``, default=None
            The rows of ``X`` without noise, where they were measured: the network gets ``X``,
            and is to give ``X_clean``. No other noise is added then.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is unusable, or if training diverges
            (:class:`skae.exceptions.DivergenceError`). The estimator is then as
            it was before the call.
        """
        return self._fit_anew(X, y, sample_weight, X_val=X_val, X_clean=X_clean)

    def _fit(
        self, X: MatrixLike, y: Any, sample_weight: Any, *, X_clean: Any = None, **others: Any
    ) -> None:
        if X_clean is None and is_like(X, y):
            X_clean, y = y, None
        if X_clean is None:
            return super()._fit(X, y, sample_weight, **others)
        self._check_pairs(X, X_clean, others)
        return super()._fit(X_clean, y, sample_weight, X_noisy=X, **others)

    def _check_pairs(self, X: Any, X_clean: Any, others: dict[str, Any]) -> None:
        if not is_like(X, X_clean):
            raise ValueError(
                f"X_clean has shape {np.shape(X_clean)}, and X {np.shape(X)}. Pass the rows of X, "
                f"in the same order, without their noise."
            )
        if source_of(X) is not None or source_of(X_clean) is not None:
            raise ValueError(
                "X_clean needs both kinds of rows in memory, but one is a file. Pass np.asarray "
                "of it, or batches to partial_fit."
            )
        if "X_val" in others:
            raise ValueError(
                "X_val has no clean rows of its own beside X_clean. Leave it out, and pass "
                "early_stopping=True to hold out some of the pairs."
            )
        if self.patch_size is not None and not isinstance(self.random_state, Integral):
            raise ValueError(
                f"patch_size={self.patch_size!r} draws the same patches of X and of X_clean by a "
                f"seed, but random_state={self.random_state!r}. Pass an integer."
            )

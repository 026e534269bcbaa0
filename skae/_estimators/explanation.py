"""Why a row is unusual: what is expected in its place, and the features' parts in its score."""

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import dense_rows, from_caller
from skae._data.types import FloatArray, MatrixLike, Output
from skae._estimators.calibrated import CalibratedDetector
from skae._estimators.output import contributions_like_input, feature_names, like_input
from skae._model.model import Coded


class ExplainingDetector(CalibratedDetector):
    """What a detector tells of single rows; not for use by itself."""

    def feature_contributions(self, X: MatrixLike) -> Output:
        """Return how much each feature adds to what makes a row unusual.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; a missing cell adds nothing.

        Returns
        -------
        contributions : ndarray or DataFrame of shape (n_samples, n_features)
            Not negative. Each row sums to ``-score_samples``, or to zero where that is
            negative: no farther out than the median row. A feature's share in it grows
            with its residual and with its own distance from the mean, both in units of
            what is usual; with ``anomaly_score="reconstruction"`` it is the feature's
            loss. A DataFrame if ``X`` is one.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        check_is_fitted(self)
        X = from_caller(X)
        contributions = self._map(self._check_X(X), self._judge.contributions)
        return contributions_like_input(self, contributions, X)

    def reconstruct(self, X: MatrixLike) -> Output:
        """Return what the autoencoders expect in place of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows; NaN means missing, and is filled in.

        Returns
        -------
        X_expected : ndarray or DataFrame of shape (n_samples, n_features)
            Mean reconstruction, in the units of the training data; a DataFrame if ``X`` is
            one.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows or holds infinite values.
        """
        check_is_fitted(self)
        X = from_caller(X)
        return like_input(self, self._expected(self._check_X(X)), X)

    def explain(self, X: MatrixLike) -> Output:
        """Return why one row is unusual: each feature's value, what is expected, its part.

        Parameters
        ----------
        X : {array-like, DataFrame} of shape (1, n_features)
            The row.

        Returns
        -------
        explanation : DataFrame of shape (n_features, 3)
            Columns "value", "expected" and "contribution", in the order of the contributions,
            the largest first; the features are the index.

        Raises
        ------
        ImportError
            If pandas is not installed.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has more than one row or other columns than the training rows.
        """
        check_is_fitted(self)
        pandas = _pandas()
        rows = self._check_X(X)
        if rows.shape[0] != 1:
            raise ValueError(
                f"X has {rows.shape[0]} rows, but one row is explained. Pass X[[i]] of an array, "
                f"or X.iloc[[i]] of a DataFrame."
            )
        value, expected = dense_rows(rows, slice(0, 1)), self._expected(rows)
        if self._table.categories:
            value, expected = self._table.array(value), self._table.array(expected)
        parts = {
            "value": value[0],
            "expected": expected[0],
            "contribution": np.asarray(self.feature_contributions(X)).reshape(-1),
        }
        frame = pandas.DataFrame(parts, index=feature_names(self))
        return frame.sort_values("contribution", ascending=False, kind="stable")

    def _expected(self, rows: Any) -> FloatArray:
        """What members that have not seen a row expect in its place, in the caller's units."""

        def rebuilt(coded: Coded) -> torch.Tensor:
            return coded.average(coded.rows)

        return self._model.scaler.inverse_transform(self._map(rows, rebuilt))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "explain gives a DataFrame, which needs pandas. Install it with: pip install pandas"
        ) from error
    return pandas

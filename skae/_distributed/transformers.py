"""The transformers for Dask collections."""

from typing import Any

from sklearn.utils.validation import check_is_fitted

from skae._data.convert import is_dask
from skae._distributed.base import (
    CLUSTER_CONSTRAINTS,
    DaskEstimator,
    explained_share,
    standing_for,
)
from skae._estimators import denoiser, transformer


class DaskTransformer(DaskEstimator):
    """Lazy methods of the transformers; not for use by itself."""

    def transform(self, X: Any) -> Any:
        """Encode rows, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        Z : dask Array of shape (n_samples, n_components_), or DataFrame
            Latents; a DataFrame if ``X`` is one and ``set_output`` asks for pandas.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("transform", X)

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and encode the same rows when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Training rows; NaN means missing. Persist them before, if they take long to compute.
        y : None
            Not used, present for API consistency.
        sample_weight : dask Array or Series, or array, of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        Z : dask Array of shape (n_samples, n_components_), or DataFrame
            Latents, as from :meth:`transform`.
        """
        return self.fit(X, y, sample_weight).transform(X)

    def inverse_transform(self, X: Any) -> Any:
        """Decode latents, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_components_)
            Latents, as :meth:`transform` gives them.

        Returns
        -------
        X_original : dask Array or DataFrame of shape (n_samples, n_features_in_)
            Rows in the units of the training data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("inverse_transform", X)

    def reconstruct(self, X: Any) -> Any:
        """Encode and decode rows, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        X_reconstructed : dask Array or DataFrame of shape (n_samples, n_features)
            In the units of the training data, missing cells filled in.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("reconstruct", X)

    def score_samples(self, X: Any) -> Any:
        """Return minus the reconstruction loss of each row, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        scores : dask Array of shape (n_samples,)
            Minus the mean loss over the observed features, in the scaled space.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("score_samples", X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of the variance of ``X`` that its reconstruction explains.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. It is computed, one partition at a time on each worker.
        y : None
            Ignored, present for API consistency.
        sample_weight : dask Array or Series, or array, of shape (n_samples,), default=None
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
            If ``X`` has other columns than the training rows, or no rows.
        """
        check_is_fitted(self)
        if not is_dask(X):
            return float(self.to_local().score(X, y, sample_weight))
        return explained_share(self._plain(), X, sample_weight, self.client)


@standing_for(transformer.AutoencoderTransformer)
class AutoencoderTransformer(DaskTransformer, transformer.AutoencoderTransformer):  # type: ignore[misc]
    """Autoencoder for Dask collections, whose latents are features.

    It fits on the workers of a cluster that hold the rows, and predicts lazily. In all else it is
    :class:`skae.AutoencoderTransformer`.

    Parameters
    ----------
    **parameters
        Those of :class:`skae.AutoencoderTransformer`, with its defaults.
    client : distributed.Client, default=None
        Client of the cluster. It is shared by clones, and left out of pickles. None is the client
        that was connected last.
    timeout : float, default=300
        Seconds that the workers wait for each other: until all of them have a free thread when
        a fit starts, and in each step.

    See Also
    --------
    skae.AutoencoderTransformer : For data in memory; its attributes are those of this one.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client, LocalCluster
    >>> from sklearn.datasets import load_iris
    >>> from skae.dask import AutoencoderTransformer
    >>> cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False,
    ...                        dashboard_address=":0")
    >>> client = Client(cluster)
    >>> X = da.from_array(load_iris().data, chunks=(50, 4))
    >>> autoencoder = AutoencoderTransformer(n_components=2, max_epochs=20, random_state=0)
    >>> Z = autoencoder.fit_transform(X)
    >>> Z.chunks
    ((50, 50, 50), (2,))
    >>> Z.compute().shape
    (150, 2)
    >>> autoencoder.inverse_transform(Z).chunks == autoencoder.reconstruct(X).chunks == X.chunks
    True
    >>> autoencoder.score(X) > 0.9
    True
    >>> autoencoder.score_samples(X).shape
    (150,)
    >>> type(autoencoder.to_local())
    <class 'skae._estimators.transformer.AutoencoderTransformer'>
    >>> autoencoder = autoencoder.partial_fit(X)
    >>> client.close(), cluster.close()
    (None, None)
    """

    _parameter_constraints = {
        **transformer.AutoencoderTransformer._parameter_constraints,
        **CLUSTER_CONSTRAINTS,
    }

    def __init__(self, *, client: Any = None, timeout: float = 300, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.client = client
        self.timeout = timeout


@standing_for(denoiser.DenoisingAutoencoder)
class DenoisingAutoencoder(DaskTransformer, denoiser.DenoisingAutoencoder):  # type: ignore[misc]
    """Autoencoder for Dask collections whose input is corrupted in training.

    It fits on the workers of a cluster that hold the rows, and predicts lazily. In all else it is
    :class:`skae.DenoisingAutoencoder`.

    Parameters
    ----------
    **parameters
        Those of :class:`skae.DenoisingAutoencoder`, with its defaults.
    client : distributed.Client, default=None
        Client of the cluster. It is shared by clones, and left out of pickles. None is the client
        that was connected last.
    timeout : float, default=300
        Seconds that the workers wait for each other: until all of them have a free thread when
        a fit starts, and in each step.

    See Also
    --------
    skae.DenoisingAutoencoder : For data in memory; its attributes are those of this one.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client, LocalCluster
    >>> from sklearn.datasets import load_iris
    >>> from skae.dask import DenoisingAutoencoder
    >>> cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False,
    ...                        dashboard_address=":0")
    >>> client = Client(cluster)
    >>> X = da.from_array(load_iris().data, chunks=(50, 4))
    >>> autoencoder = DenoisingAutoencoder(n_components=2, max_epochs=20, random_state=0).fit(X)
    >>> autoencoder.denoise(X).shape
    (150, 4)
    >>> holes = da.where(X > 6.5, float("nan"), X)
    >>> bool(da.isnan(autoencoder.impute(holes)).any().compute())
    False
    >>> autoencoder.fit_transform(X).shape
    (150, 2)
    >>> autoencoder.to_local().denoise(load_iris().data).shape
    (150, 4)
    >>> client.close(), cluster.close()
    (None, None)
    """

    _parameter_constraints = {
        **denoiser.DenoisingAutoencoder._parameter_constraints,
        **CLUSTER_CONSTRAINTS,
    }

    def __init__(self, *, client: Any = None, timeout: float = 300, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.client = client
        self.timeout = timeout

    def denoise(self, X: Any) -> Any:  # type: ignore[override]
        """Reconstruct rows from a noisy version of them, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        X_clean : dask Array or DataFrame of shape (n_samples, n_features)
            In the units of the training data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("denoise", X)

    def impute(self, X: Any) -> Any:
        """Fill in missing cells, when it is computed; the observed ones stay as they are.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        X_filled : dask Array or DataFrame of shape (n_samples, n_features)
            In the units of the training data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("impute", X)

"""The detector for Dask collections."""

from typing import Any

from skae._distributed.base import CLUSTER_CONSTRAINTS, DaskEstimator, standing_for
from skae._estimators import detector


@standing_for(detector.AutoencoderAnomalyDetector)
class AutoencoderAnomalyDetector(  # type: ignore[misc]
    DaskEstimator, detector.AutoencoderAnomalyDetector
):
    """Outlier detection in Dask collections, by what an autoencoder makes of a row.

    It fits on the workers of a cluster that hold the rows, and predicts lazily. In all else it is
    :class:`skae.AutoencoderAnomalyDetector`.

    Parameters
    ----------
    **parameters
        Those of :class:`skae.AutoencoderAnomalyDetector`, with its defaults.
    client : distributed.Client, default=None
        Client of the cluster. It is shared by clones, and left out of pickles. None is the client
        that was connected last.
    timeout : float, default=300
        Seconds that the workers wait for each other: until all of them have a free thread when
        a fit starts, and in each step.

    See Also
    --------
    skae.AutoencoderAnomalyDetector : For data in memory; its attributes are those of this one.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client, LocalCluster
    >>> from sklearn.datasets import load_iris
    >>> from skae.dask import AutoencoderAnomalyDetector
    >>> cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False,
    ...                        dashboard_address=":0")
    >>> client = Client(cluster)
    >>> X = da.from_array(load_iris().data, chunks=(50, 4))
    >>> detector = AutoencoderAnomalyDetector(n_components=2, random_state=0).fit(X)
    >>> labels = detector.predict(X)
    >>> labels.dtype, labels.chunks
    (dtype('int64'), ((50, 50, 50),))
    >>> bool(((detector.decision_function(X) < 0) == (labels == -1)).all().compute())
    True
    >>> bool((detector.score_samples(X) < detector.offset_).sum().compute() < 15)
    True
    >>> bool((detector.outlier_probability(X) <= 1).all().compute())
    True
    >>> detector.feature_contributions(X).shape
    (150, 4)
    >>> detector.reconstruct(X).shape
    (150, 4)
    >>> detector.to_local().explain(load_iris().data[:1]).shape
    (4, 3)
    >>> client.close(), cluster.close()
    (None, None)
    """

    _parameter_constraints = {
        **detector.AutoencoderAnomalyDetector._parameter_constraints,
        **CLUSTER_CONSTRAINTS,
    }

    def __init__(self, *, client: Any = None, timeout: float = 300, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.client = client
        self.timeout = timeout

    def score_samples(self, X: Any) -> Any:
        """Return the score of each row, when it is computed; higher is more normal.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        scores : dask Array of shape (n_samples,)
            As those of the plain detector.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("score_samples", X)

    def decision_function(self, X: Any) -> Any:
        """Return the score of each row above the threshold, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        scores : dask Array of shape (n_samples,)
            ``score_samples(X) - offset_``; negative for outliers.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("decision_function", X)

    def predict(self, X: Any) -> Any:
        """Return the label of each row, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        labels : dask Array of int, shape (n_samples,)
            -1 for outliers, 1 for the others.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("predict", X)

    def outlier_probability(self, X: Any) -> Any:
        """Return the probability that a row is an outlier, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        probabilities : dask Array of shape (n_samples,)
            In [0, 1]; above one half where ``predict`` gives -1.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("outlier_probability", X)

    def feature_contributions(self, X: Any) -> Any:
        """Return what each feature adds to a row's score, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        contributions : dask Array of shape (n_samples, n_features)
            As those of the plain detector.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("feature_contributions", X)

    def reconstruct(self, X: Any) -> Any:
        """Return what is expected in place of each row, when it is computed.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Rows; NaN means missing. Data in memory give results in memory, at once.

        Returns
        -------
        X_reconstructed : dask Array or DataFrame of shape (n_samples, n_features)
            In the units of the training data.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``X`` has other columns than the training rows. What is wrong with a value is
            told when it is computed.
        """
        return self._lazy("reconstruct", X)

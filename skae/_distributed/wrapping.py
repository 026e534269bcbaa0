"""From plain fitted estimators to those for Dask collections."""

from typing import Any

from sklearn.utils.validation import check_is_fitted

from skae._distributed.base import take_fit
from skae._distributed.detector import AutoencoderAnomalyDetector
from skae._distributed.transformers import AutoencoderTransformer, DenoisingAutoencoder

_CLASSES: tuple[Any, ...] = (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
)


def wrap(estimator: Any, client: Any = None, timeout: float = 300) -> Any:
    """Return an estimator for Dask collections that predicts as a plain fitted one does.

    Parameters
    ----------
    estimator : estimator
        A fitted ``AutoencoderTransformer``, ``DenoisingAutoencoder`` or
        ``AutoencoderAnomalyDetector`` of :mod:`skae`.
    client : distributed.Client, default=None
        Client of the cluster, for further training; predictions need none.
    timeout : float, default=300
        Seconds that workers wait for each other in a fit.

    Returns
    -------
    estimator : estimator
        The one of the same name in :mod:`skae.dask`. It shares its arrays with the plain one.

    Raises
    ------
    TypeError
        If there is none for this class.
    NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn.datasets import load_iris
    >>> import skae
    >>> from skae.dask import wrap
    >>> X = load_iris().data
    >>> detector = skae.AutoencoderAnomalyDetector(random_state=0).fit(X)
    >>> scores = wrap(detector).score_samples(da.from_array(X, chunks=(50, 4)))
    >>> bool((scores.compute() == detector.score_samples(X)).all())
    True
    """
    found = [cls for cls in _CLASSES if cls._local is type(estimator)]
    if not found:
        names = " or ".join(cls.__name__ for cls in _CLASSES)
        raise TypeError(
            f"estimator is of type {type(estimator).__name__}. Pass a fitted {names} of skae; "
            f"others predict by X.map_blocks(estimator.transform, dtype=..., chunks=...)."
        )
    check_is_fitted(estimator)
    of_cluster = {"client": client, "timeout": timeout}
    return take_fit(estimator, found[0](**of_cluster, **estimator.get_params(deep=False)))

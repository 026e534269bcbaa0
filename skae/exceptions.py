"""Errors that are more than a plain ``ValueError`` or ``TypeError``."""

__all__ = ["DivergenceError"]


class DivergenceError(ValueError):
    """Training ended in numbers that are not finite, or in a network that is of no use.

    It is a ``ValueError``: data and parameters do not fit each other. The
    estimator is left as it was before the call that raised it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer
    >>> from skae.exceptions import DivergenceError
    >>> autoencoder = AutoencoderTransformer(optimizer="sgd", learning_rate=1e12, max_epochs=5)
    >>> try:
    ...     autoencoder.fit(load_iris().data)
    ... except DivergenceError:
    ...     print("take a smaller learning rate")
    take a smaller learning rate
    """

"""Errors that are more than a plain ``ValueError`` or ``TypeError``."""

__all__ = ["DivergenceError"]


class DivergenceError(ValueError):
    """Training produced a loss or weights that are not finite.

    It is a ``ValueError``: data and parameters do not fit each other. The
    estimator is left as it was before the call that raised it.
    """

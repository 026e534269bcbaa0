"""What the estimators for Dask collections share."""

import copy
import inspect
from collections.abc import Callable
from functools import reduce
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skae._data.convert import is_dask
from skae._distributed import gang
from skae._distributed.collections import check_collection, mapped, partitions
from skae._estimators.base import BaseAutoencoder
from skae._estimators.sklearn_private import Interval
from skae._model.variance import VarianceSums, variance_sums
from skae._runtime.randomness import draw_seed

# Parameters that are about the cluster, and not the fit.
_OF_CLUSTER = ("client", "timeout")

CLUSTER_CONSTRAINTS: dict[str, Any] = {
    "client": "no_validation",
    "timeout": [Interval(Real, 0, None, closed="neither")],
}


def standing_for(local: type) -> Callable[[Any], Any]:
    """Give a class the parameters of the plain estimator that it stands for."""

    def with_signature(cls: Any) -> Any:
        own = inspect.signature(cls.__init__).parameters
        parameters = [p for p in own.values() if p.kind is not p.VAR_KEYWORD]
        parameters[1:1] = inspect.signature(local).parameters.values()
        cls.__init__.__signature__ = inspect.Signature(parameters)
        cls._local = local
        return cls

    return with_signature


def take_fit(source: Any, target: Any) -> Any:
    """Give an estimator all that another one has but its parameters, and nothing else."""
    own = {name: vars(target)[name] for name in target.get_params(deep=False)}
    taken = vars(source).keys() - source.get_params(deep=False).keys()
    target.__dict__ = own | {name: vars(source)[name] for name in taken}
    return target


class DaskEstimator(BaseAutoencoder):
    """Fits on the workers that hold the rows; not for use by itself.

    Everything else is the plain estimator's, which it inherits from.
    """

    _local: ClassVar[type]

    client: Any
    timeout: float

    # Rows to hold out would be in memory, which these are not.
    def fit(  # type: ignore[override]
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> Self:
        """Fit on all workers that hold partitions of ``X``; this waits until it is done.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Training rows; NaN means missing. An array of images has more axes. The partitions
            are computed, and stay where they are.
        y : None
            Not used, present for API consistency.
        sample_weight : dask Array or Series, or array, of shape (n_samples,), default=None
            Weight of each row, in partitions like those of ``X``. Rows of weight zero are left
            out.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError
            If ``X`` is no Dask collection.
        ValueError
            If a parameter or the data is unusable, there is no client, or training diverges
            (:class:`skae.exceptions.DivergenceError`).
        TimeoutError
            If not all workers have a free thread within ``timeout`` seconds.
        RuntimeError
            If a worker is lost. The estimator is then, as after any error, as it was before.
        """
        return super().fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over the rows, going on from where training stands.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Training rows; NaN means missing.
        y : None
            Not used, present for API consistency.
        sample_weight : dask Array or Series, or array, of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        TypeError
            If ``X`` is no Dask collection.
        ValueError
            As :meth:`fit`, and if a parameter of the network changed since the last call.
        TimeoutError, RuntimeError
            As :meth:`fit`.
        """
        return super().partial_fit(X, y, sample_weight)

    def to_local(self) -> Any:
        """Return the plain estimator, for data in memory, for files and for export.

        Returns
        -------
        estimator : estimator
            The one of the same name in :mod:`skae`, fitted if this one is. It shares its
            arrays with this one.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(self)
        return self._plain()

    def _plain(self) -> Any:
        parameters = self.get_params(deep=False)
        plain = self._local(**{k: v for k, v in parameters.items() if k not in _OF_CLUSTER})
        return take_fit(self, plain)

    def _fit(  # type: ignore[override]
        self, X: Any, y: Any, sample_weight: Any, *, resume: bool, one_pass: bool = False
    ) -> None:
        parts = partitions(X, sample_weight)
        plain = self._plain()
        # All workers draw the same numbers.
        if not isinstance(self.random_state, int):
            plain.random_state = draw_seed(self.random_state)
        how = {"resume": resume, "one_pass": one_pass}
        client = self._client()
        with client.as_current():
            fitted, _ = gang.train(client, plain, parts, float(self.timeout), **how)
        take_fit(fitted, self)

    def _client(self) -> Any:
        from distributed import get_client

        if self.client is not None:
            check_client(self.client)
            return self.client
        try:
            return get_client()
        except ValueError:
            raise ValueError(
                "client=None, and no client of Dask is connected. Pass one, or connect one before: "
                "distributed.Client(), which starts workers on this machine."
            ) from None

    def _lazy(self, method: str, X: Any, **arguments: Any) -> Any:
        """What a method of the plain estimator gives, for each partition when it is computed."""
        if not is_dask(X):
            return getattr(self.to_local(), method)(X, **arguments)
        check_is_fitted(self)
        return mapped(self._plain(), method, X, **arguments)

    def __sklearn_clone__(self) -> Self:
        cloned: Self = BaseEstimator.__sklearn_clone__(self._without_client())
        cloned.client = self.client
        return cloned

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self._without_client().__dict__, memo))
        copied.client = self.client
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "client": None}

    def _without_client(self) -> Self:
        bare = type(self).__new__(type(self))
        bare.__dict__.update(self.__dict__)
        bare.client = None
        return bare


def check_client(client: Any) -> None:
    from distributed import Client

    if not isinstance(client, Client):
        raise TypeError(
            f"client={client!r} is no client of Dask. Pass distributed.Client(...) of the cluster "
            f"or its address."
        )


def explained_share(estimator: Any, X: Any, sample_weight: Any, client: Any) -> float:
    """The share of the variance of a Dask collection that a plain estimator explains."""
    from dask.base import compute
    from dask.delayed import delayed

    plain = delayed(estimator, pure=False)
    summed = delayed(_sums_of, pure=False)
    parts = [summed(plain, part) for part in partitions(check_collection(X), sample_weight)]
    if client is None:
        found = compute(*parts)
    else:
        check_client(client)
        found = client.gather(client.compute(parts))
    sums = [of_part for of_part in found if of_part is not None]
    if not sums:
        raise ValueError("X has n_samples = 0 rows of positive weight. Pass at least one.")
    return float(reduce(VarianceSums.plus, sums).explained()[0])


def _sums_of(estimator: Any, part: tuple[Any, np.ndarray | None]) -> VarianceSums | None:
    X, weights = part
    return variance_sums(estimator._model, estimator._check_X(X), weights) if len(X) else None

"""Fits that a search collects, trains together, and hands out where they are asked for.

Estimators are fitted deep inside pipelines and other meta-estimators. So a search
fits them twice: at first each autoencoder's ``fit`` only leaves a note of itself and its rows
here, and gives up; then, after all of them were trained, it finds its result here. What is
not found is trained on the spot.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import joblib
from sklearn.base import clone

from skae._data.loaded import Rows
from skae._estimators.fitting import Prepared, prepare
from skae._runtime.device import sparing
from skae._training.monitor import SearchProgress
from skae._training.proof import prove
from skae._training.stack import in_passes, trained

# Of a fit: its estimator, rows and weights.
_Key = tuple[str, str, str]


class NotedError(BaseException):
    """Ends a fit of which the search took note; not an ``Exception``, so that nobody catches it."""


class SharedFits:
    """The fits of one search.

    Attributes
    ----------
    seconds : float
        How long it took to train them.
    """

    def __init__(self) -> None:
        self._noted: dict[_Key, tuple[Any, Any, Any]] = {}
        self._fitted: dict[_Key, dict[str, Any]] = {}
        self._data: dict[str, Any] = {}
        self.seconds = 0.0

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """In this thread, let autoencoders leave a note and raise :class:`NotedError`."""
        token = _collecting.set(self)
        try:
            yield
        finally:
            _collecting.reset(token)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Hand out the results, in any thread."""
        _serving.append(self)
        try:
            yield
        finally:
            _serving.remove(self)

    def note(self, estimator: Any, X: Any, sample_weight: Any) -> None:
        key = _key(estimator, X, sample_weight)
        if key is not None:
            # Folds are many times the same; one copy will do.
            X = self._data.setdefault(key[1], X)
            self._noted[key] = (estimator, X, sample_weight)

    def hand_out(self, estimator: Any, X: Any, sample_weight: Any) -> bool:
        """Give the estimator what its fit would, if that is known."""
        key = _key(estimator, X, sample_weight) if self._fitted else None
        fitted = self._fitted.pop(key, None) if key is not None else None
        if fitted is not None:
            vars(estimator).update(fitted)
        return fitted is not None

    @sparing()
    def train(self, name: str, verbose: bool) -> None:
        """Train all that was noted; tell how far it is, by name, if any fit or the search does."""
        start = time.perf_counter()
        prepared = self._prepared()
        keys = {id(fit.job): key for key, fit in prepared.items()}
        progress = None
        if prepared and (verbose or any(noted[0].verbose for noted in self._noted.values())):
            progress = SearchProgress(name, [fit.job.monitor for fit in prepared.values()])
        try:
            for one_pass in in_passes(fit.job for fit in prepared.values()):
                done = trained(one_pass)
                prove(done)
                for job in done:
                    self._keep(keys[id(job)], prepared.pop(keys[id(job)]))
        finally:
            if progress is not None:
                progress.close()
        self._noted.clear()
        self._data.clear()
        self.seconds = time.perf_counter() - start

    def _prepared(self) -> dict[_Key, Prepared]:
        fits: dict[_Key, Prepared] = {}
        loaded: dict[Any, list[Rows]] = {}
        for key, (estimator, X, sample_weight) in self._noted.items():
            try:
                fit = prepare(estimator, X, sample_weight, resume=False, one_pass=False)
            except Exception:
                continue  # Its own fit will say what is wrong.
            rows = _shared(fit.job.rows, loaded.setdefault(key[1:], []))
            fit.job = fit.job._replace(rows=rows)
            fits[key] = fit
        return fits

    def _keep(self, key: _Key, fit: Prepared) -> None:
        estimator = self._noted[key][0]
        try:
            estimator._keep(fit)
        except Exception:
            return
        unfitted = vars(clone(estimator))
        self._fitted[key] = {k: v for k, v in vars(estimator).items() if k not in unfitted}


def _shared(rows: Rows, loaded: list[Rows]) -> Rows:
    """Rows of the same content that are loaded already, or these, which are then."""
    # By content: scaling, loss, network, noise and class all decide what the rows become.
    for other in loaded:
        if other.is_same(rows):
            return other
    loaded.append(rows)
    return rows


_collecting: ContextVar[SharedFits | None] = ContextVar("collecting", default=None)
_serving: list[SharedFits] = []


def already_fitted(estimator: Any, X: Any, sample_weight: Any) -> bool:
    """Whether a search under way had this very fit in store; it is then done.

    Raises
    ------
    NotedError
        If a search is collecting fits.
    """
    collecting = _collecting.get()
    if collecting is not None:
        collecting.note(estimator, X, sample_weight)
        raise NotedError
    return any(shared.hand_out(estimator, X, sample_weight) for shared in list(_serving))


def _key(estimator: Any, X: Any, sample_weight: Any) -> _Key | None:
    """Equal for fits of equal parameters and rows; None for those that must go alone."""
    if getattr(estimator, "_skl_callbacks", None):
        return None
    try:
        settings = (type(estimator), estimator.get_params())
        return joblib.hash(settings), joblib.hash(X), joblib.hash(sample_weight)
    except Exception:
        return None  # A parameter that cannot be pickled, say.

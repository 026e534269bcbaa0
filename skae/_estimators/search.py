"""AutoencoderSearchCV: a grid search with the networks of all candidates side by side."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Self

import joblib
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import indexable

from skae._data.types import MatrixLike
from skae._estimators.base import BaseAutoencoder
from skae._estimators.shared_fits import NotedError, SharedFits
from skae._estimators.sklearn_private import check_method_params, safe_split


class AutoencoderSearchCV(GridSearchCV):
    """Grid search in which all networks that may are trained in one pass.

    The same results as :class:`~sklearn.model_selection.GridSearchCV`, to rounding,
    and the same interface: each candidate is trained on each fold as it would be
    alone, from the same weights and with the same batches. But the networks lie side
    by side and learn together, which saves time where they are small, and most of the
    time of a step goes into everything but arithmetic.

    A pass is shared by all folds of equal size and by all candidates that differ in
    ``n_components``, ``learning_rate``, ``weight_decay`` or ``random_state``; with
    noise or missing values, by the candidates of a fold. Other parameters take passes
    of their own. Convolutional networks, the user's own, and autoencoders with
    callbacks are trained one by one.

    Parameters
    ----------
    estimator : estimator object
        One of the autoencoders, or a pipeline (or another estimator made of
        estimators) that holds one. Steps of a pipeline ahead of it are fitted once a
        fold, unless the pipeline has a ``memory`` of its own.
    param_grid : dict or list of dict
        Names of parameters, and lists of the values to try.
    scoring : str, callable, list, tuple or dict, default=None
        As in ``GridSearchCV``.
    n_jobs : int, default=None
        Threads for everything but the networks, such as classifiers behind them.
        The networks take the threads that torch has.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate on all rows; as in ``GridSearchCV``.
    cv : int, cross-validation generator or iterable, default=None
        As in ``GridSearchCV``.
    verbose : int, default=0
        As in ``GridSearchCV``; and one bar tells how far all fits are, where tqdm is installed
        (else a line for each that ends). ``verbose`` of the autoencoder shows the bar alone.
    pre_dispatch : int or str, default="2*n_jobs"
        As in ``GridSearchCV``.
    error_score : "raise" or float, default=nan
        Score of a candidate that cannot be fitted. One that diverges does not disturb
        the others.
    return_train_score : bool, default=False
        Whether to score on the training rows too.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        As in ``GridSearchCV``. The fit times include equal shares of the pass.
    best_estimator_ : estimator
        The best candidate, fitted on all rows. Only with ``refit``.
    best_score_ : float
        Its mean score over the folds.
    best_params_ : dict
        Its parameters.
    best_index_ : int
        Its place in ``cv_results_``.
    scorer_ : callable or dict
        What scored.
    n_splits_ : int
        Number of folds.
    refit_time_ : float
        Seconds that the last fit took. Only with ``refit``.
    multimetric_ : bool
        Whether there are several scores.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : Fits candidates one by one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skae import AutoencoderTransformer
    >>> from skae.model_selection import AutoencoderSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> pipeline = make_pipeline(AutoencoderTransformer(random_state=0), LogisticRegression())
    >>> grid = {"autoencodertransformer__n_components": [1, 2, 3]}
    >>> search = AutoencoderSearchCV(pipeline, grid, cv=3).fit(X, y)
    >>> bool(search.best_score_ > 0.8)
    True
    """

    estimator: Any

    def fit(self, X: MatrixLike, y: Any = None, **params: Any) -> Self:
        """Search, and fit the best candidate on all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Rows, or whatever the estimator takes.
        y : array-like of shape (n_samples,), default=None
            What the estimator is to predict, if anything.
        **params : dict of str -> object
            For the estimator's ``fit``, the scorer and the splitter, as in
            ``GridSearchCV``; ``sample_weight``, say.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If no candidate can be fitted, or with ``error_score="raise"`` the error of
            the first that cannot.
        """
        given = self.estimator
        self._arguments = X, y, params
        try:
            self.estimator = _with_memory(given)
            # Only threads of this process find what was trained together.
            with joblib.parallel_config(backend="threading"):
                super().fit(X, y, **params)
        finally:
            self.estimator = given
            del self._arguments
        if isinstance(given, Pipeline) and hasattr(self, "best_estimator_"):
            self.best_estimator_.set_params(memory=given.memory)
        return self

    def _run_search(
        self, evaluate_candidates: Callable[..., Any], callback_ctx: Any = None
    ) -> None:
        X, y, params = self._arguments
        X, y = indexable(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GridSearchCV itself has warned.
            routed = self._get_routed_params_for_fit(check_method_params(X, params=params))

        def evaluate(candidates: Iterable[dict[str, Any]], **context: Any) -> dict[str, Any]:
            candidates = list(candidates)
            splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
            splits = list(splitter.split(X, y, **routed.splitter.split))
            shared = self._trained_together(candidates, splits, X, y, routed.estimator.fit)
            with shared.serving():
                results = evaluate_candidates(candidates, cv=check_cv(splits), **context)
            results["mean_fit_time"] += shared.seconds / (len(candidates) * len(splits))
            return results

        # scikit-learn < 1.9 has no callbacks.
        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}
        super()._run_search(evaluate, **context)

    def _trained_together(
        self,
        candidates: list[dict[str, Any]],
        splits: list[Any],
        X: Any,
        y: Any,
        params: dict[str, Any],
    ) -> SharedFits:
        shared = SharedFits()
        with shared.collecting():
            for train, _ in splits:
                rows = safe_split(self.estimator, X, y, train)
                own_params = check_method_params(X, params=params, indices=train)
                for estimator in self._with_autoencoders(candidates):
                    _note(estimator, rows, own_params)
        shared.train(type(self).__name__, self.verbose > 0)
        return shared

    def _with_autoencoders(self, candidates: list[dict[str, Any]]) -> Iterator[Any]:
        for candidate in candidates:
            estimator = clone(self.estimator).set_params(**clone(candidate, safe=False))
            parts = [estimator, *estimator.get_params().values()]
            if any(isinstance(part, BaseAutoencoder) for part in parts):
                yield estimator


def _note(estimator: Any, rows: tuple[Any, Any], params: dict[str, Any]) -> None:
    """Fit up to the autoencoder, which takes note of itself."""
    # Errors and warnings come again, and are told, when the result is asked for.
    with suppress(NotedError, Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(*rows, **params)


def _with_memory(estimator: Any) -> Any:
    """A pipeline that remembers its first steps, in place of one without a memory."""
    if not isinstance(estimator, Pipeline) or estimator.memory is not None:
        return estimator
    return clone(estimator).set_params(memory=_StepMemory())


class _StepMemory:
    """What fits of a pipeline's first steps gave; with the interface of ``joblib.Memory``."""

    def __init__(self) -> None:
        self._results: dict[str, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "_StepMemory":
        """One memory for all clones of a pipeline."""
        return self

    def cache(self, function: Callable[..., Any], ignore: Iterable[str] = ()) -> Callable[..., Any]:
        def remembered(transformer: Any, *args: Any, **kwargs: Any) -> Any:
            named = {name: value for name, value in kwargs.items() if name not in ignore}
            try:
                key = joblib.hash((transformer, args, named))
            except Exception:  # It cannot be pickled.
                return function(transformer, *args, **kwargs)
            if key not in self._results:
                self._results[key] = function(transformer, *args, **kwargs)
            return self._results[key]

        def call(transformer: Any, *args: Any, **kwargs: Any) -> Any:
            own = isinstance(transformer, BaseAutoencoder)
            return (function if own else remembered)(transformer, *args, **kwargs)

        return call

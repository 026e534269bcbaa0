"""What all estimators share: fit, partial_fit, tags, the fitted network."""

import copy
import functools
import warnings
from collections.abc import Callable
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from torch import nn

from skae._data.convert import is_dask
from skae._data.shards import ShardedRows
from skae._data.spec import InputSpec
from skae._data.streamed import recent_rows
from skae._data.table import Table
from skae._data.types import FloatArray, MatrixLike
from skae._estimators.callbacks import CallbackSupportMixin, train_watched
from skae._estimators.fitting import Prepared, prepare
from skae._estimators.inputs import check_rows, weighted_rows
from skae._estimators.notebook import FittedHTMLMixin
from skae._estimators.parameters import AutoencoderParameters
from skae._estimators.shared_fits import already_fitted
from skae._estimators.sklearn_private import fit_context
from skae._model.model import Model
from skae._runtime.device import sparing
from skae._training.job import Job
from skae._training.plan import SavedState

_Method = TypeVar("_Method", bound=Callable[..., Any])


def all_or_nothing(method: _Method) -> _Method:
    """On any error, and on Ctrl-C, leave the estimator as it was before the call."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(vars(self))
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return cast(_Method, guarded)


def _check_length(X: Any, y: Any) -> None:
    """Refuse targets of another length, as of other data; nothing else is asked of them."""
    known = [v for v in (X, y) if hasattr(v, "__len__") or hasattr(v, "shape")]
    # To ask a Dask collection for its length may compute it.
    check_consistent_length(*(v for v in known if not is_dask(v)))


def is_like(X: Any, y: Any) -> bool:
    """Whether targets are rows as X is: of two axes or more, and of its shape."""
    shape = getattr(y, "shape", None)
    if shape is None and isinstance(y, (list, tuple)):
        shape = np.shape(y)
    return shape is not None and len(shape) > 1 and tuple(shape) == tuple(np.shape(X))


class BaseAutoencoder(FittedHTMLMixin, CallbackSupportMixin, AutoencoderParameters):
    """Base of the estimators; not for use by itself."""

    # What a fit leaves behind, by type: what skae.io stores. What is not in every fitted
    # estimator is named there.
    _fitted_types: dict[str, Any] = {
        "n_features_in_": int,
        "feature_names_in_": np.ndarray,
        "n_components_": int,
        "n_iter_": int,
        "loss_curve_": list[float],
        "validation_loss_curve_": list[float] | None,
        "best_loss_": float,
        "_input": InputSpec,
        "_table": Table,
        "_model": Model,
        "_train_state": SavedState,
        "_recent": np.ndarray,
        "_sklearn_output_config": dict[str, str],
    }

    n_components_: int
    n_features_in_: int
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    _table: Table
    _model: Model
    _train_state: SavedState
    _recent: np.ndarray

    @all_or_nothing
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: MatrixLike,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: MatrixLike | None = None,
    ) -> Self:
        """Fit the autoencoder.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Training rows, in memory or in a file that is sliced by rows; NaN means missing.
        y : None
            Not used, present for API consistency; one of another length than X is an error.
            (Detectors use labels -1, 0 and 1 that are known of some rows: outliers, which
            are left out of the training, unknown and normal ones. They set the threshold.)
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, in the scaling and in the thresholds.
            Rows of weight zero are left out.
        X_val : {array-like, sparse matrix, DataFrame} of shape (n_val, n_features), default=None
            Rows to hold out in place of some of ``X``: training stops, and keeps the weights
            of the epoch, by the loss on them, unless ``early_stopping=False``, which refuses
            them.

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
        return self._fit_anew(X, y, sample_weight, X_val=X_val)

    def _fit_anew(self, X: MatrixLike, y: Any, sample_weight: Any, **others: Any) -> Self:
        """As :meth:`fit`, with whatever other rows it takes."""
        _check_length(X, y)
        resume = self.warm_start and self._is_fitted()
        others = {name: rows for name, rows in others.items() if rows is not None}
        # A search trains fits together that know nothing but X and its weights.
        is_alone = not resume and not others and not self._learns_from(X, y)
        if not is_alone or not already_fitted(self, X, sample_weight):
            self._fit(X, y, sample_weight, resume=resume, **others)
        return self

    @all_or_nothing
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: MatrixLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over a batch of rows, going on from where training stands.

        The first call on an unfitted estimator fits the scaling and draws the
        weights; later calls keep the scaling and continue with the optimizer's
        moments, also after a pickle. The learning rate is constant. What is usual
        (thresholds, ranges, the density of latents) is learned from the last 256 rows
        of all calls where a batch has fewer.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Training rows, in memory or in a file that is sliced by rows; NaN means missing.
        y : None
            Ignored, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            As :meth:`fit`, and if a parameter of the network changed since the last call.
        """
        # scikit-learn validates parameters in the first call alone.
        self._validate_params()
        _check_length(X, y)
        self._fit(X, y, sample_weight, resume=self._is_fitted(), one_pass=True)
        return self

    @all_or_nothing
    @fit_context(prefer_skip_nested_validation=True)
    def _fit_recorded(
        self, X: MatrixLike, y: Any, sample_weight: Any, record: Callable[[Job], None]
    ) -> None:
        """As :meth:`fit`; ``record`` sees what is to be trained before it is."""
        _check_length(X, y)
        resume = self.warm_start and self._is_fitted()
        self._fit(X, y, sample_weight, resume=resume, record=record)

    def _fit(
        self,
        X: MatrixLike,
        y: Any,
        sample_weight: Any,
        *,
        resume: bool,
        one_pass: bool = False,
        record: Callable[[Job], None] | None = None,
        **others: Any,
    ) -> None:
        if "X_val" in others and self.early_stopping is False:
            raise ValueError(
                "X_val is for stopping early, but early_stopping=False. Pass "
                "early_stopping='auto', or no X_val."
            )
        if "X_noisy" not in others and y is not X and is_like(X, y):
            warnings.warn(
                f"y has the shape of X, but {type(self).__name__} learns to give X again, and "
                f"does not use it. Pass pairs to DenoisingAutoencoder.fit(X, X_clean=...).",
                UserWarning,
                stacklevel=2,
            )
        with sparing():
            prepared = prepare(self, X, sample_weight, resume=resume, one_pass=one_pass, **others)
            if record is not None:
                record(prepared.job)
            train_watched(self, prepared, (X, y, sample_weight))
            self._keep(prepared, append=one_pass and resume)

    def _learns_from(self, X: Any, y: Any) -> bool:
        """Whether targets have a part in the fit."""
        return is_like(X, y)

    @property
    def encoder_(self) -> nn.Module:
        """The encoder as a torch module, from scaled rows to latents."""
        return self._modules()[0]

    @property
    def decoder_(self) -> nn.Module:
        """The decoder as a torch module, from latents to scaled rows.

        Logits for "log_loss"; of pixels, they are not yet cut off at the ends of their range.
        """
        return self._modules()[1]

    @property
    def device_(self) -> str:
        """The device that holds the fitted network."""
        check_is_fitted(self)
        return str(self._model.network.device)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_is_fitted__(self) -> bool:
        return self._is_fitted()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        tags.requires_fit = True
        return tags

    def _is_fitted(self) -> bool:
        return hasattr(self, "_model")

    def _modules(self) -> tuple[nn.Module, nn.Module]:
        check_is_fitted(self)
        with torch.inference_mode(False), torch.no_grad():
            return self._model.network.modules()

    def _typical_where_nan(self, scores: FloatArray) -> FloatArray:
        """Scores, in which a row that nothing is known of is as normal as a typical one."""
        unknown = np.isnan(scores)
        return np.where(unknown, self._typical_score(), scores) if unknown.any() else scores

    def _typical_score(self) -> float:
        # While training goes on, nothing is typical yet.
        return -self.loss_curve_[-1] if hasattr(self, "loss_curve_") else float("nan")

    def _check_X(self, X: MatrixLike, reset: bool = False) -> Any:
        """Rows as an array of numbers, a source or a CSR matrix, in the caller's dtype."""
        return check_rows(self, X, reset)

    def _of_input(self) -> dict[str, Any]:
        """Fitted attributes that tell what rows look like."""
        names = ("n_features_in_", "feature_names_in_", "_input", "_table")
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def _training_rows(self, X: MatrixLike, sample_weight: Any, reset: bool) -> tuple[Any, Any]:
        """What is trained on: the rows of positive weight."""
        if isinstance(X, ShardedRows):  # checked where each of its partitions is
            return X, sample_weight
        return weighted_rows(self._check_X(X, reset), sample_weight)

    def _attributes_of(self, model: Model) -> dict[str, Any]:
        """Fitted attributes of an estimator that could predict with this model now."""
        return self._of_input() | {
            "_model": copy.deepcopy(model),
            "n_components_": self._n_latents(model.n_features),
        }

    def _keep(self, prepared: Prepared, append: bool = False) -> None:
        """Take what was trained; ``append`` goes on with the loss curve."""
        monitor = prepared.job.monitor
        self._model = prepared.model()
        self._train_state = prepared.job.state.to_arrays()
        self.n_components_ = self._n_latents(self._model.n_features)
        place = prepared.job.plan.block_length, prepared.job.plan.seeds[0]
        self._recent = recent_rows(prepared.X, self._recent if append else None, *place)
        losses = [sum(loss) / len(loss) for loss in monitor.losses]
        self.loss_curve_ = [*self.loss_curve_, *losses] if append else losses
        validation_losses = [sum(loss) / len(loss) for loss in monitor.validation_losses]
        self.validation_loss_curve_ = validation_losses or None
        self.best_loss_ = min(self.validation_loss_curve_ or self.loss_curve_)
        self.n_iter_ = len(self.loss_curve_)

    def _learned_from(self, prepared: Prepared, append: bool) -> tuple[Any, FloatArray | None]:
        """The rows that tell what is usual, and weights: of a stream, enough of the last ones."""
        if append and prepared.X.shape[0] < len(self._recent):
            return self._recent, None
        return prepared.X, prepared.weights

    def _settle(self) -> None:
        """Compute what of the fit was put off until it is asked for."""

"""What all estimators share: fit, partial_fit and validation.

With ``_settings.py``, ``_callbacks.py`` and ``model_selection.py`` all that touches what
scikit-learn keeps private.
"""

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_is_fitted,
    validate_data,
)
from torch import nn

from skae._callbacks import CallbackEpochs, CallbackSupportMixin
from skae._settings import AutoencoderSettings
from skae._together import already_fitted
from skae.data.batches import Rows, load_rows
from skae.data.scale import Scaler, fit_pixel_scaler, fit_scaler, needs_all_rows
from skae.data.sources import source_of
from skae.data.spec import InputSpec, with_channels
from skae.data.stream import block_length, sampled, scaled_rows, scaling_sample
from skae.data.validate import as_rows, image_shape_of, weighted_chunks
from skae.device import computing, resolve_device, resolve_precision, trains_exactly
from skae.inference import Model
from skae.networks.build import (
    Network,
    Spec,
    arrays_of,
    as_dtype,
    differences,
    initialize,
    restore,
)
from skae.networks.conv import BUILDERS
from skae.networks.dense import DenseNetwork
from skae.networks.principal import start_as_pca
from skae.randomness import START_STREAM
from skae.training.monitor import Monitor, ProgressPrinter
from skae.training.plan import SavedState, TrainingPlan, TrainState
from skae.training.stack import Job, run

# Rows whose principal axes a network starts with.
_START_ROWS = 4096


def all_or_nothing(method: Callable) -> Callable:
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

    return guarded


class BaseAutoencoder(CallbackSupportMixin, AutoencoderSettings):
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
        "_model": Model,
        "_train_state": SavedState,
        "_sklearn_output_config": dict[str, str],
    }

    loss_curve_: list[float]

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None) -> Self:
        """Fit the autoencoder.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Training rows, in memory or in a file that is sliced by rows; NaN means missing.
        y : None
            Ignored; here for the API's sake.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, in the scaling and in the thresholds.
            Rows of weight zero are left out.

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
        resume = self.warm_start and self._is_fitted()
        if resume or not already_fitted(self, X, sample_weight):
            self._train(X, y, sample_weight, resume=resume, one_pass=False)
        return self

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None) -> Self:
        """Train for one pass over a batch of rows, going on from where training stands.

        The first call on an unfitted estimator fits the scaling and draws the
        weights; later calls keep the scaling and continue with the optimizer's
        moments, also after a pickle. The learning rate is constant.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_samples, n_features)
            Training rows, in memory or in a file that is sliced by rows; NaN means missing.
        y : None
            Ignored; here for the API's sake.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        self : object
            The estimator.
        """
        # scikit-learn validates parameters in the first call alone.
        self._validate_params()
        self._train(X, y, sample_weight, resume=self._is_fitted(), one_pass=True)
        return self

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def _fit_recorded(self, X, y, sample_weight, record: Callable[[Job], None]) -> None:
        """As :meth:`fit`; ``record`` sees what is to be trained before it is."""
        resume = self.warm_start and self._is_fitted()
        self._train(X, y, sample_weight, resume=resume, one_pass=False, record=record)

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

    def __sklearn_tags__(self):
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

    def _check_X(self, X, reset: bool = False) -> Any:
        """Rows as an array of numbers, a source or a CSR matrix, in the caller's dtype."""
        if (source := source_of(X)) is None:
            return self._check_array(X, reset)
        self._check_array(np.asarray(X[:1]), reset)  # scikit-learn would read all of it.
        return source

    def _check_array(self, X, reset: bool) -> Any:
        shape = image_shape_of(X)
        if shape is not None:
            return self._check_images(X, shape, reset)
        rows = validate_data(
            self, X, reset=reset, accept_sparse="csr", dtype="numeric", ensure_all_finite=False
        )
        if reset:
            self._input = InputSpec(rows.shape[1], self._given_shape())
        # scikit-learn converts objects, but not those of a polars frame with text in it.
        return rows.astype(np.float64) if rows.dtype.kind == "O" else rows

    def _check_images(self, X, shape: tuple[int, ...], reset: bool) -> Any:
        """Images (n, height, width[, channels]) as rows."""
        expected = self._given_shape() or shape if reset else self._input.image_shape
        if expected is None or with_channels(shape) != with_channels(expected):
            wanted = expected or f"rows of {self._input.n_features} features"
            raise ValueError(
                f"X holds images of shape {shape}, but {type(self).__name__} expects {wanted}. "
                f"Pass such data, or fit on images of this shape, with image_shape=None."
            )
        if reset:
            self._input = InputSpec(math.prod(shape), expected, as_rows=False)
            self.n_features_in_ = self._input.n_features
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        return as_rows(self._image_array(X))

    def _image_array(self, X) -> Any:
        some = X if source_of(X) is None else np.asarray(X[:1])
        checked = check_array(some, dtype="numeric", allow_nd=True, ensure_all_finite=False)
        return checked if some is X else X

    def _check_latents(self, Z) -> np.ndarray:
        check_is_fitted(self)
        Z = check_array(Z, dtype=[np.float32, np.float64])
        if Z.shape[1] != self.n_components_:
            raise ValueError(
                f"Z has {Z.shape[1]} columns, but {type(self).__name__} was fitted with "
                f"n_components_={self.n_components_}. Pass what transform returned."
            )
        return Z

    def _check_weights(self, sample_weight, X) -> tuple[Any, np.ndarray | None]:
        """The rows that have a positive weight, with their weights."""
        if sample_weight is None:
            return X, None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        positive = weights > 0
        if not positive.any():
            raise ValueError(
                "Sample weights must contain at least one non-zero number; all are zero."
            )
        return (X, weights) if positive.all() else (X[positive], weights[positive])

    def _training_rows(self, X, sample_weight, reset: bool) -> tuple[Any, np.ndarray | None]:
        """What is trained on: the rows of positive weight."""
        return self._check_weights(sample_weight, self._check_X(X, reset))

    def _train(
        self,
        X,
        y,
        sample_weight,
        resume: bool,
        one_pass: bool,
        record: Callable[[Job], None] | None = None,
    ) -> None:
        for job, fitted_model in self._training(X, sample_weight, resume, one_pass):
            if record is not None:
                record(job)
            self._run(job, fitted_model, (X, y, sample_weight))

    def _training(
        self, X, sample_weight, resume: bool, one_pass: bool
    ) -> Iterator[tuple[Job, Callable[[], Model]]]:
        """A fit in two halves: yields what is to be trained, then keeps the result."""
        if (resume or one_pass) and not isinstance(self.n_components, (str, Integral)):
            raise ValueError(
                f"n_components={self.n_components!r} is a share of the variance, by which fit "
                f"chooses a size. Pass a whole number, or train what truncate(n_components_) gives."
            )
        checked, weights = self._training_rows(X, sample_weight, reset=not resume)
        device = resolve_device(self.device)
        dtype, product_dtype = resolve_precision(self.precision, device)
        spec = self._network_spec(checked.shape[1])
        starts_as_pca = self._starts_as_pca(spec)
        plan = self._plan(checked.shape[0], product_dtype, one_pass, starts_as_pca)
        plan = dataclasses.replace(plan, block_length=block_length(checked, dtype, len(plan.seeds)))
        train_dtype = dtype
        # Convolutions have no fast kernels in float64.
        exact = trains_exactly(checked.shape[0], plan.batch_size, device)
        if exact and self.network not in BUILDERS:
            train_dtype = torch.float64
            plan = dataclasses.replace(plan, product_dtype=train_dtype)
        if resume:
            scaler = self._model.scaler.widened(weighted_chunks(checked, None))
        else:
            scaler = self._fit_scaler(checked, weights, plan)
        with computing(device, 0.0):
            if resume:
                network = self._resumed_network(spec, dtype, train_dtype)
                state = TrainState.from_arrays(self._train_state, network.parameters)
            else:
                network = initialize(spec, plan.seeds, train_dtype, device)
                state = TrainState()
        order = (plan.block_length, len(plan.seeds), plan.batch_size)
        rows = scaled_rows(checked, weights, scaler, train_dtype, device, self._draws(), *order)
        if not resume:
            self._check_targets(rows)
            if starts_as_pca:
                self._start(network, checked, weights, scaler, plan)

        def fitted_model() -> Model:
            with computing(device, 0.0):
                return Model(as_dtype(network, dtype), scaler, self.loss, checked.shape[1])

        monitor = Monitor(plan, network)
        yield Job(network, rows, plan, state, monitor), fitted_model
        self._store(fitted_model(), state, monitor, one_pass and resume)
        self._fitted(checked, weights, plan)

    def _run(self, job: Job, fitted_model: Callable[[], Model], data: tuple[Any, Any, Any]) -> None:
        """Train, and tell callbacks and progress bar about it."""
        progress, max_epochs = None, job.plan.max_epochs - job.state.epoch
        if self.verbose:
            progress = ProgressPrinter(type(self).__name__, max_epochs)
        epochs = CallbackEpochs(self, max_epochs, data, lambda: self._attributes_of(fitted_model()))

        def epoch_done(monitor: Monitor, stop: bool) -> bool:
            if progress is not None:
                progress.update(monitor)
            return epochs.next(stop)

        job.monitor.callback = epoch_done
        try:
            run(job)
            epochs.close()
        finally:
            if progress is not None:
                progress.close()

    def _start(self, network: Network, X, weights, scaler: Scaler, plan: TrainingPlan) -> None:
        """Let the network begin as PCA of the rows, or of some of them."""
        assert isinstance(network, DenseNetwork)
        place = plan.block_length, plan.seeds[0], START_STREAM
        some, own = sampled(X, weights, _START_ROWS, *place)
        cpu = torch.device("cpu")
        rows = load_rows(some, own, scaler, network.parameters.dtype, cpu, False)
        with computing(cpu, 2.0 * rows.values.numel() * X.shape[1]):
            start_as_pca(network, rows.values, rows.weights, plan.seeds)

    def _attributes_of(self, model: Model) -> dict[str, Any]:
        """Fitted attributes of an estimator that could predict with this model now."""
        names = ("n_features_in_", "feature_names_in_", "_input")
        return {name: getattr(self, name) for name in names if hasattr(self, name)} | {
            "_model": copy.deepcopy(model),
            "n_components_": self._n_latents(model.n_features),
            "offset_": 0.0,
        }

    def _store(self, model: Model, state: TrainState, monitor: Monitor, append: bool) -> None:
        self._model = model
        self._train_state = state.to_arrays()
        self.n_components_ = self._n_latents(model.n_features)
        losses = [sum(loss) / len(loss) for loss in monitor.losses]
        self.loss_curve_ = [*self.loss_curve_, *losses] if append else losses
        validation_losses = [sum(loss) / len(loss) for loss in monitor.validation_losses]
        self.validation_loss_curve_ = validation_losses or None
        self.best_loss_ = min(self.validation_loss_curve_ or self.loss_curve_)
        self.n_iter_ = len(self.loss_curve_)

    def _fitted(self, X: Any, weights: np.ndarray | None, plan: TrainingPlan) -> None:
        """What else an estimator learns from its training rows."""

    def _settle(self) -> None:
        """Compute what of the fit was put off until it is asked for."""

    def _fit_scaler(self, X: Any, weights: np.ndarray | None, plan: TrainingPlan) -> Scaler:
        if needs_all_rows(self.scaling):
            X, weights = scaling_sample(X, weights, plan.block_length, plan.seeds[0])
        chunks = functools.partial(weighted_chunks, X, weights)
        bounded = self.loss == "log_loss"
        if self._input.is_patch or (self.network in BUILDERS and self.scaling == "auto"):
            return fit_pixel_scaler(self.scaling, chunks, bounded, self._input.network_shape[0])
        autos = self._autos()
        return fit_scaler(self.scaling, chunks, bounded, autos.scaling, autos.limited)

    def _check_targets(self, rows: Rows) -> None:
        if self.loss != "log_loss":
            return
        low, high = rows.low_and_high()
        if float(low.min()) < 0.0 or float(high.max()) > 1.0 + 1e-6:
            raise ValueError(
                f"loss='log_loss' needs values in [0, 1]; scaled by scaling={self.scaling!r} they "
                f"lie in [{float(low.min()):g}, {float(high.max()):g}]. Pass scaling='minmax'."
            )

    def _resumed_network(self, spec: Spec, dtype: torch.dtype, train_dtype: torch.dtype) -> Network:
        """A copy of the fitted network, to be trained on."""
        old = self._model.network
        if spec != old.spec or dtype != old.parameters.dtype:
            raise ValueError(
                f"The network changed since the last fit: {differences(old.spec, spec)}. "
                "Pass warm_start=False, or clone the estimator, to train a new network."
            )
        return restore(spec, arrays_of(old.state()), resolve_device(self.device), train_dtype)

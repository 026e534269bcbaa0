"""Training watched: scikit-learn's callbacks (from 1.9 on), and the progress bar."""

from collections.abc import Callable
from typing import Any

__all__ = ["CallbackSupportMixin", "train_watched"]

from skae._estimators.fitting import Prepared
from skae._training.job import run
from skae._training.monitor import Monitor, ProgressPrinter
from skae._training.proof import prove

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks yet."""


def train_watched(estimator: Any, prepared: Prepared, data: tuple[Any, Any, Any]) -> None:
    """Train, and tell callbacks and progress bar about it.

    Parameters
    ----------
    estimator : BaseAutoencoder
    prepared : Prepared
    data : tuple
        X, y and sample_weight, as the caller passed them.
    """
    job, progress = prepared.job, None
    max_epochs = job.plan.max_epochs - job.state.epoch
    if estimator.verbose:
        progress = ProgressPrinter(type(estimator).__name__, max_epochs)
    epochs = CallbackEpochs(
        estimator, max_epochs, data, lambda: estimator._attributes_of(prepared.model())
    )

    def epoch_done(monitor: Monitor, stop: bool) -> bool:
        if progress is not None:
            progress.update(monitor)
        return epochs.next(stop)

    job.monitor.callback = epoch_done
    try:
        run(job)
        prove([job])
        epochs.close()
    finally:
        # Without this reference a fit is freed when it ends.
        job.monitor.callback = None
        if progress is not None:
            progress.close()


class CallbackEpochs:
    """One fit's callbacks; does nothing where there are none."""

    def __init__(
        self,
        estimator: Any,
        max_epochs: int,
        data: tuple[Any, Any, Any],
        attributes: Callable[[], dict[str, Any]],
    ) -> None:
        self._context: Any = None
        if not hasattr(estimator, "_init_callback_context"):
            return
        X, y, sample_weight = data
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._arguments = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._attributes = attributes
        self._context = estimator._init_callback_context(max_subtasks=max_epochs)
        self._context.call_on_fit_task_begin(**self._arguments)
        self._n_left = max_epochs
        self._begin()

    def _begin(self) -> None:
        self._epoch = self._context.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._arguments)

    def next(self, is_last: bool) -> bool:
        """End this epoch's task and begin the next one; True if a callback asks to stop."""
        if self._context is None:
            return False
        stop = self._epoch.call_on_fit_task_end(
            **self._arguments, reconstruction_attributes=self._attributes
        )
        self._n_left -= 1
        if self._n_left and not stop and not is_last:
            self._begin()
        return bool(stop)

    def close(self) -> None:
        if self._context is not None:
            self._context.call_on_fit_task_end(
                **self._arguments, reconstruction_attributes=self._attributes
            )

"""Loss curves, early stopping, best weights, progress."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from skae._data.loaded import Rows
from skae._networks.factory import Network, arrays_of
from skae._training.divergence import Seen, check_finite, check_useful
from skae._training.plan import TrainingPlan

# Called after each epoch with the monitor and whether training stops here anyway.
# Returns True to stop training.
EpochCallback = Callable[["Monitor", bool], bool]


class SavedMonitor(TypedDict):
    """A :class:`Monitor` as plain arrays."""

    losses: np.ndarray
    validation_losses: np.ndarray
    best: float
    best_network: dict[str, np.ndarray]
    n_stalled: int


@dataclass
class Monitor:
    """Watches one training run.

    Attributes
    ----------
    losses, validation_losses : list of list of float
        One entry per epoch, with one value per member.
    recorder : callable, optional
        Called after each epoch except the last one.
    """

    plan: TrainingPlan
    network: Network
    callback: EpochCallback | None = None
    recorder: Callable[[], None] | None = None
    losses: list[list[float]] = field(default_factory=list)
    validation_losses: list[list[float]] = field(default_factory=list)
    _best: float = float("inf")
    _best_state: dict[str, Tensor] | None = None
    _n_stalled: int = 0

    def epoch_done(self, loss: list[float], validation_loss: list[float] | None) -> bool:
        """Record an epoch; return whether training should stop.

        Raises
        ------
        DivergenceError
            If a loss is not finite.
        """
        self.losses.append(loss)
        watched = loss
        if validation_loss is not None:
            self.validation_losses.append(validation_loss)
            watched = validation_loss
        finite = all(abs(value) < float("inf") for value in [*loss, *watched])
        check_finite(finite, self.plan, f"in epoch {len(self.losses)}")
        stop = self._stalled(sum(watched) / len(watched), validation_loss is not None)
        if self.callback is not None:
            stop = self.callback(self, stop) or stop
        if self.recorder is not None and not stop and len(self.losses) < self.plan.max_epochs:
            self.recorder()
        return stop

    def to_arrays(self) -> SavedMonitor:
        return {
            "losses": np.array(self.losses),
            "validation_losses": np.array(self.validation_losses),
            "best": self._best,
            "best_network": arrays_of(self._best_state or {}),
            "n_stalled": self._n_stalled,
        }

    def restore(self, saved: SavedMonitor) -> None:
        """Continue from the arrays of :meth:`to_arrays`."""
        self.losses = saved["losses"].tolist()
        self.validation_losses = saved["validation_losses"].tolist()
        self._best, self._n_stalled = saved["best"], saved["n_stalled"]
        best = {k: torch.from_numpy(v) for k, v in saved["best_network"].items()}
        self._best_state = best or None

    def _stalled(self, value: float, is_validation: bool) -> bool:
        self._n_stalled = 0 if value < self._best - self.plan.tol else self._n_stalled + 1
        if value < self._best:
            self._best = value
            if is_validation:
                self._best_state = {k: v.clone() for k, v in self.network.state().items()}
        # While a schedule holds the rate high, the training loss stalls: let the schedule finish.
        counts = is_validation or self.plan.lr_schedule == "constant"
        patience = self.plan.n_iter_no_change
        return counts and patience is not None and self._n_stalled >= patience

    def finish(self, rows: Rows, seen: Seen | None) -> None:
        """Restore the weights of the best validation loss, if there was one.

        Raises
        ------
        DivergenceError
            If a weight is not finite, or the network is of no use on the training ``rows``, of
            which some were ``seen`` last.
        """
        if self._best_state is not None:
            self.network.load_state(self._best_state)
        finite = bool(self.network.parameters.isfinite().all())
        check_finite(finite, self.plan, "after the last epoch")
        if seen is not None:
            check_useful(self.network, rows, self.plan, seen)


class ProgressPrinter:
    """Shows losses and remaining time: a tqdm bar, or plain lines without tqdm."""

    def __init__(self, name: str, max_epochs: int):
        self._start, self._name, self._max_epochs = time.monotonic(), name, max_epochs
        self._done = 0
        self._bar = _bar(name, max_epochs)

    def update(self, monitor: Monitor) -> None:
        self._done += 1
        done = self._done
        losses = {"loss": monitor.losses[-1]}
        if monitor.validation_losses:
            losses["validation_loss"] = monitor.validation_losses[-1]
        shown = {name: f"{sum(values) / len(values):.4g}" for name, values in losses.items()}
        if self._bar is not None:
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update()
            return
        remaining = (time.monotonic() - self._start) / done * (self._max_epochs - done)
        text = ", ".join(f"{name} {value}" for name, value in shown.items())
        print(f"{self._name}: epoch {done}/{self._max_epochs}, {text}, {remaining:.0f} s left")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class SearchProgress:
    """Shows how far fits that are trained together are: a bar, or a line for each without tqdm."""

    def __init__(self, name: str, monitors: list[Monitor]):
        self._start, self._name, self._monitors = time.monotonic(), name, monitors
        self._n_ended = 0
        n_epochs = sum(monitor.plan.max_epochs for monitor in monitors)
        self._bar = _bar(f"{name}, {len(monitors)} fits", n_epochs)
        for monitor in monitors:
            monitor.callback = self._epoch_done

    def _epoch_done(self, monitor: Monitor, stop: bool) -> bool:
        n_left = monitor.plan.max_epochs - len(monitor.losses)
        ends = stop or n_left == 0
        if self._bar is not None:
            self._bar.update(1 + n_left if ends else 1)
        elif ends:
            self._n_ended += 1
            seconds = time.monotonic() - self._start
            of_all = f"{self._n_ended}/{len(self._monitors)}"
            print(f"{self._name}: {of_all} fits trained, {seconds:.0f} s")
        return False

    def close(self) -> None:
        # Without these references a fit is freed when it ends.
        for monitor in self._monitors:
            monitor.callback = None
        if self._bar is not None:
            self._bar.close()


def _bar(name: str, n_epochs: int) -> Any:
    """A bar of epochs; None without tqdm."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=n_epochs, desc=name, unit="epoch")

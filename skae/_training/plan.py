"""The settings of a training run, and its state."""

import math
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from skae._networks.dense import truncated
from skae._runtime.tuning import ONE_CYCLE_START, ONE_CYCLE_WARM_UP
from skae._training.losses import LossKind
from skae._training.noise import Noise


@dataclass(frozen=True)
class TrainingPlan:
    """All settings of the training loop, with every "auto" resolved.

    ``path_weight`` weighs the error of the rows that the decoder's linear path alone gives, where
    the network starts as PCA.

    ``beta`` weighs the divergence of drawn latents; this weight rises to ``beta`` over a
    share ``kl_warm_up`` of the steps. It is None if latents are not drawn.

    Rates have one entry per member. Each member is trained on ``max_samples`` rows of its
    own, or on all rows. If members have different data, ``first_rows`` says where each
    member's rows begin. Rows that are read in blocks have a ``block_length``.
    """

    loss: LossKind
    optimizer: str
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    lr_schedule: str
    batch_size: int
    max_epochs: int
    tol: float
    n_iter_no_change: int | None
    early_stopping: bool
    validation_fraction: float
    latent_l1: float
    seeds: tuple[int, ...]
    product_dtype: torch.dtype
    noise: Noise | tuple[Noise, ...] | None = None
    noise_level: float | tuple[float, ...] = 0.0
    image_shape: tuple[int, ...] | None = None
    beta: float | None = None
    kl_warm_up: float = 0.0
    path_weight: float = 0.0
    max_samples: int | None = None
    places: tuple[tuple[int, float], ...] = ()
    first_rows: tuple[int, ...] = ()
    block_length: int | None = None

    @property
    def windows(self) -> tuple[tuple[int, float], ...]:
        """Where the rows of each member lie among the shuffled rows: a seed and a share."""
        return self.places or tuple((seed, 0.0) for seed in self.seeds)


class SavedState(TypedDict):
    """A :class:`TrainState` as plain arrays."""

    moments: dict[str, np.ndarray]
    n_steps: int
    n_epochs: int


@dataclass
class TrainState:
    """The state of a training run; with the weights, all that it needs to continue.

    Attributes
    ----------
    moments : dict of Tensor
        The optimizer's running moments, flat like the parameters.
    n_steps, n_epochs : int
        Steps and epochs done since the weights were drawn.
    epoch : int
        Epochs done in this run, on which schedules depend.
    """

    moments: dict[str, Tensor] = field(default_factory=dict)
    n_steps: int = 0
    n_epochs: int = 0
    epoch: int = 0

    def to_arrays(self) -> SavedState:
        arrays = {name: value.cpu().numpy().copy() for name, value in self.moments.items()}
        return {"moments": arrays, "n_steps": self.n_steps, "n_epochs": self.n_epochs}

    @classmethod
    def from_arrays(cls, saved: SavedState, like: Tensor) -> "TrainState":
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        moments = {k: torch.tensor(v, **options) for k, v in saved["moments"].items()}
        return cls(moments, saved["n_steps"], saved["n_epochs"])


def truncated_state(saved: SavedState, before: Any, after: Any) -> SavedState:
    """The state for a dense network of which only the first latents are kept."""
    moments = {
        name: truncated(before, torch.from_numpy(values), after).numpy()
        for name, values in saved["moments"].items()
    }
    return {**saved, "moments": moments}


def _constant(progress: float) -> float:
    return 1.0


def _cosine(progress: float) -> float:
    """Loshchilov and Hutter 2017, without restarts."""
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def _one_cycle(
    progress: float, warm_up: float = ONE_CYCLE_WARM_UP, start: float = ONE_CYCLE_START
) -> float:
    """Up for a quarter of the run, down for the rest (Smith and Topin 2019)."""
    if progress < warm_up:
        return start + (1.0 - start) * 0.5 * (1.0 - math.cos(math.pi * progress / warm_up))
    return max(_cosine((progress - warm_up) / (1.0 - warm_up)), 1e-4)


SCHEDULES = {"constant": _constant, "cosine": _cosine, "one_cycle": _one_cycle}

"""When training has failed: numbers that are not finite, or a network that is of no use."""

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import torch
from torch import Tensor

from skae._data.loaded import Rows
from skae._networks.factory import Network
from skae._runtime.randomness import EPOCH_STREAM, generator
from skae._runtime.tuning import DIVERGED_ERROR
from skae._training.evaluation import outputs_of
from skae._training.feeds import make_feed
from skae._training.losses import loss_of
from skae._training.plan import TrainingPlan
from skae.exceptions import DivergenceError


class Seen(NamedTuple):
    """Some of the rows that each member was trained on.

    Attributes
    ----------
    rows : Tensor of shape (K, n, n_features)
        Scaled, with NaN where a value is missing.
    weights : Tensor of shape (K, n, 1) or None
    before : dict of Tensor or None
        The network's state when training went on from an earlier one.
    """

    rows: Tensor
    weights: Tensor | None
    before: dict[str, Tensor] | None = None

    def of(self, members: slice) -> "Seen":
        """The rows of some of the members."""
        return Seen(self.rows[members], None if self.weights is None else self.weights[members])


def check_finite(holds: bool, plan: TrainingPlan, where: str) -> None:
    """Raise a DivergenceError unless losses and weights are finite."""
    if not holds:
        _fail(plan, f"loss={plan.loss!r} or the weights are no longer finite {where}")


def check_useful(network: Network, rows: Rows, plan: TrainingPlan, seen: Seen) -> None:
    """Raise a DivergenceError if a member's outputs are far off all that it could have learned.

    An output of zero, from which networks start, is off by the value itself. Lost is a network
    that is off by more than ten times as much, or by ten units if that is more, on average; if
    it was so before this training, it must have become ten times worse. ``seen`` raises the
    suspicion; all training rows decide, since a few far out may be what the others were given
    up for.
    """
    if _within(*rows.total(torch.stack(_losses(network, rows, plan, seen)))):
        return
    found, most = _all_losses(network, rows, plan)
    if seen.before is not None:
        now = {name: value.clone() for name, value in network.state().items()}
        network.load_state(seen.before)
        earlier, _ = _all_losses(network, rows, plan)
        network.load_state(now)
        most = torch.maximum(most, DIVERGED_ERROR * earlier)
    if not _within(found, most):
        _fail(
            plan,
            f"loss={plan.loss!r} is as if each value were off by more than {DIVERGED_ERROR:g} "
            f"times its size",
        )


def _all_losses(network: Network, rows: Rows, plan: TrainingPlan) -> tuple[Tensor, Tensor]:
    """As :func:`_losses`, of all training rows."""
    parts = [_losses(network, rows, plan, part) for part in _training_rows(network, rows, plan)]
    found, most = rows.total(torch.stack([torch.stack(part) for part in parts]).sum(0))
    return found, most


def _losses(network: Network, rows: Rows, plan: TrainingPlan, seen: Seen) -> tuple[Tensor, Tensor]:
    """Each member's loss, and its loss if all outputs were as far off as they may be, (K,)."""
    loss, observed = loss_of(plan.loss, rows.categories), ~seen.rows.isnan()
    target, given = seen.rows.nan_to_num(0.0), seen.rows.nan_to_num(network.missing)
    far = DIVERGED_ERROR * target.abs().clamp(min=1.0)
    values = loss.value(outputs_of(network, given, rows.categories), target)
    most = loss.of_outputs_off(far, target)
    counts = observed.double() if seen.weights is None else observed * seen.weights.double()
    # By a choice, since zero times infinity is no number.
    found = (values.where(observed, 0.0) * counts).sum((1, 2))
    return found, (most * counts).sum((1, 2))


def _within(found: Tensor, most: Tensor) -> bool:
    """Whether losses are within their limits; NaN is not."""
    return bool((found <= most).all())


def _training_rows(network: Network, rows: Rows, plan: TrainingPlan) -> Iterator[Seen]:
    """The training rows of all members, in batches."""
    feed = make_feed(rows, plan)
    generators = [generator(seed, EPOCH_STREAM) for seed in plan.seeds]
    with closing(feed.epoch(generators)) as orders:
        for order in orders:
            for index in order.split(max(1, (1 << 19) // network.row_width), 1):
                target = torch.empty(
                    *index.shape,
                    rows.values.shape[1],
                    dtype=network.parameters.dtype,
                    device=network.device,
                )
                rows.take(index.reshape(-1), target.view(-1, target.shape[2]))
                weights = None if rows.weights is None else rows.weights[index][..., None]
                yield Seen(target, weights)


def _fail(plan: TrainingPlan, what: str) -> None:
    rates = ", ".join(f"{rate:g}" for rate in sorted(set(plan.learning_rates)))
    raise DivergenceError(
        f"Training diverged: {what}. Pass a smaller learning_rate (it was {rates}), or "
        f"scaling='standard' if scaling is off."
    )

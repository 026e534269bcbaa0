"""Losses of rows as a trained network sees them: without noise and dropout."""

import torch
from torch import Tensor

from skae._data.loaded import Rows, within
from skae._networks.factory import Network
from skae._networks.latents import divergence
from skae._training.losses import loss_of
from skae._training.plan import TrainingPlan

# Numbers that a network holds at once.
_MOST_NUMBERS = 1 << 19


def row_losses(network: Network, rows: Rows, plan: TrainingPlan, index: Tensor) -> Tensor:
    """The loss of each member for its rows at ``index``, both (K, n): a sum over the cells."""
    parts = index.split(max(1, _MOST_NUMBERS // network.row_width), 1)
    return torch.cat([_losses(network, rows, plan, part) for part in parts], 1)


def _losses(network: Network, rows: Rows, plan: TrainingPlan, index: Tensor) -> Tensor:
    loss, like = loss_of(plan.loss, rows.categories), network.parameters
    target = like.new_empty(*index.shape, rows.values.shape[1])
    rows.take(index.reshape(-1), target.view(-1, target.shape[2]))
    given, observed = target, None
    if rows.has_missing:
        observed = ~target.isnan()
        given, target = target.nan_to_num(network.missing), target.nan_to_num_(0.0)
    if rows.noisy is not None:
        given = torch.empty_like(target)
        rows.noisy.take(index.reshape(-1), given.view(-1, target.shape[2]))
        given = given.nan_to_num_(network.missing)
    output = within(network.decode(network.encode(given)), rows.bounds)
    values = loss.value(output, target)
    values = values if observed is None else values * observed
    losses = values.sum(-1)
    if plan.beta is not None:
        losses = loss.surprises(values, observed, network.dispersion)
        losses += plan.beta * divergence(*network.posterior(given))
    return losses

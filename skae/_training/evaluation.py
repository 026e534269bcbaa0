"""Losses of rows as a trained network sees them: without noise and dropout."""

import torch
from torch import Tensor

from skae._data.categories import Categories, columns_of_units
from skae._data.loaded import Rows, within
from skae._networks.factory import Network
from skae._networks.latents import divergence
from skae._runtime.tuning import GAP_PARTS
from skae._training.losses import loss_of
from skae._training.plan import TrainingPlan

# Numbers that a network holds at once.
_MOST_NUMBERS = 1 << 19


def row_losses(network: Network, rows: Rows, plan: TrainingPlan, index: Tensor) -> Tensor:
    """The loss of each member for its rows at ``index``, both (K, n): a sum over the cells."""
    parts = index.split(max(1, _MOST_NUMBERS // network.row_width), 1)
    return torch.cat([_losses(network, rows, plan, part) for part in parts], 1)


def outputs_of(network: Network, given: Tensor, categories: Categories | None) -> Tensor:
    """What the network gives for rows (K, n, n_features).

    If it fills gaps, each cell is one in turn: a part of the columns is hidden at a time.
    """
    if not network.fills_gaps:
        return network.decode(network.encode(given))
    sizes = () if categories is None else categories.sizes
    part = columns_of_units(sizes, given.shape[-1]).to(given.device) % GAP_PARTS
    outputs = torch.empty_like(given)
    for i in range(GAP_PARTS):
        hidden = part == i
        own = network.decode(network.encode(given.masked_fill(hidden, torch.nan)))
        outputs[..., hidden] = own[..., hidden]
    return outputs


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
    output = within(outputs_of(network, given, rows.categories), rows.bounds)
    values = loss.value(output, target)
    values = values if observed is None else values * observed
    losses = values.sum(-1)
    if plan.beta is not None:
        losses = loss.surprises(values, observed, network.dispersion)
        losses += plan.beta * divergence(*network.posterior(given))
    return losses

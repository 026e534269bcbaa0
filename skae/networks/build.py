"""From a spec to a network and its training steps."""

import numpy as np
import torch
from torch import Tensor

from skae.networks.dense import DenseNetwork, DenseSpec
from skae.networks.modules import ModuleNetwork, ModuleSpec, ModuleStep
from skae.networks.step import DenseStep
from skae.randomness import isolated_globals

Spec = DenseSpec | ModuleSpec
Network = DenseNetwork | ModuleNetwork
Step = DenseStep | ModuleStep


def initialize(
    spec: Spec, seeds: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Network:
    """A network with random weights, drawn from one seed a member."""
    if isinstance(spec, DenseSpec):
        return DenseNetwork.initialize(spec, seeds, dtype, device)
    with isolated_globals(seeds[0], torch.device("cpu")):
        return ModuleNetwork(spec, dtype, device)


def restore(
    spec: Spec,
    arrays: dict[str, np.ndarray],
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> Network:
    """A network with the weights that :func:`arrays_of` gave, in their dtype or another."""
    dtype = torch.from_numpy(arrays["parameters"]).dtype if dtype is None else dtype
    state = {name: torch.tensor(array, device=device) for name, array in arrays.items()}
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    if isinstance(spec, DenseSpec):
        return DenseNetwork(spec, state["parameters"], state["buffers"])
    network = initialize(spec, (0,), dtype, device)
    network.load_state(state)
    return network


def as_dtype(network: Network, dtype: torch.dtype) -> Network:
    """The network itself, or a copy with weights of another dtype."""
    if network.parameters.dtype == dtype:
        return network
    return restore(network.spec, arrays_of(network.state()), network.device, dtype)


def arrays_of(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors as plain arrays."""
    return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}


def make_step(
    network: Network,
    gradients: Tensor,
    batch_size: int,
    dtype: torch.dtype,
    latent_penalty: bool = False,
) -> Step:
    """The network's training step for batches of one size."""
    if isinstance(network, DenseNetwork):
        return DenseStep(network, gradients, batch_size, dtype, latent_penalty)
    return ModuleStep(network, gradients, batch_size, dtype, latent_penalty)

"""From a spec to a network and its training steps."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from skae._networks.conv import ImageBuilder, UnetBuilder
from skae._networks.dense import DenseNetwork, DenseSpec, n_buffers, n_parameters
from skae._networks.dense_step import DenseStep
from skae._networks.modules import ModuleNetwork, ModuleSpec, ModuleStep
from skae._runtime.randomness import WEIGHTS_STREAM, generator, isolated_globals

# Arrays of NumPy, by name.
Arrays = dict[str, Any]

Spec = DenseSpec | ModuleSpec
Network = DenseNetwork | ModuleNetwork
Step = DenseStep | ModuleStep


def initialize(
    spec: Spec, seeds: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Network:
    """A network with random weights, drawn from one seed a member."""
    if isinstance(spec, DenseSpec):
        return DenseNetwork.initialize(spec, seeds, dtype, device)
    if isinstance(spec.builder, ImageBuilder):
        network = ModuleNetwork(spec, dtype, device)
        spec.builder.draw(network.pair.modules(), generator(seeds[0], WEIGHTS_STREAM))
        return network
    with isolated_globals(seeds[0], torch.device("cpu")):
        return ModuleNetwork(spec, dtype, device)


def state_shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays that :func:`restore` takes; for our own networks without memory."""
    if isinstance(spec, DenseSpec):
        return {"parameters": (n_parameters(spec),), "buffers": (n_buffers(spec),)}
    if not isinstance(spec.builder, ImageBuilder):
        network = initialize(spec, (0,), torch.float32, torch.device("cpu"))
        return {name: tuple(value.shape) for name, value in network.state().items()}
    with torch.device("meta"):
        encoder, decoder = spec.builder.build(spec.input_shape, spec.n_components)
    pair = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    n_values = sum(math.prod(parameter.shape) for parameter in pair.parameters())
    buffers = {f"buffer.{name}": tuple(value.shape) for name, value in pair.named_buffers()}
    drawn = {"dispersion": (1, 1)} if spec.variational else {}
    return {"parameters": (n_values,), **buffers, **drawn}


def draws_globally(network: Network) -> bool:
    """Whether training draws from torch's global generator, as a user's modules may."""
    if isinstance(network, DenseNetwork):
        return False
    builder = network.spec.builder
    return not isinstance(builder, ImageBuilder) or builder.dropout > 0


def restore(
    spec: Spec,
    arrays: Arrays,
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


def copied(
    network: Network,
    spec: Spec | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """A copy of the network, with another spec, device or dtype where one is given."""
    device = network.device if device is None else device
    return restore(spec or network.spec, arrays_of(network.state()), device, dtype)


def resized(network: Network, input_shape: tuple[int, ...]) -> Network:
    """The same weights for images (channels, height, width) of another size."""
    n_values = math.prod(input_shape)
    assert isinstance(network.spec, ModuleSpec)
    return copied(
        network, dataclasses.replace(network.spec, input_shape=input_shape, n_components=n_values)
    )


def with_n_nonzero(network: Network, n_nonzero: int) -> Network:
    """The same weights, with another number of latents that are kept of a row."""
    return copied(network, dataclasses.replace(network.spec, n_nonzero=n_nonzero))


def takes_any_size(network: Network) -> bool:
    """Whether images of another size than those it was trained on may be given to it."""
    return isinstance(network.spec, ModuleSpec) and isinstance(network.spec.builder, UnetBuilder)


def has_stages(network: Network) -> bool:
    """Whether the network is one of our convolutional ones."""
    return isinstance(network.spec, ModuleSpec) and isinstance(network.spec.builder, ImageBuilder)


def as_dtype(network: Network, dtype: torch.dtype) -> Network:
    """The network itself, or a copy with weights of another dtype."""
    return network if network.parameters.dtype == dtype else copied(network, dtype=dtype)


def differences(old: Spec, new: Spec) -> str:
    """Which parameters of two networks differ, in words."""
    if type(old) is not type(new):
        return "network was of another kind"
    before, after = vars(old), vars(new)
    changes = [f"{k} was {before[k]!r}, is {after[k]!r}" for k in after if before[k] != after[k]]
    return "; ".join(changes) or "precision was another"


def arrays_of(state: dict[str, Tensor]) -> Arrays:
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

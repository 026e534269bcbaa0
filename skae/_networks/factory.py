"""Builds networks and their training steps from a spec."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from skae._networks.builders import Builder
from skae._networks.conv import ImageBuilder, UnetBuilder
from skae._networks.dense import DenseNetwork, DenseSpec, n_buffers, n_parameters
from skae._networks.dense_step import DenseStep
from skae._networks.features import FeaturesNetwork, FeaturesSpec, features_shapes
from skae._networks.fronted import FrontedNetwork
from skae._networks.modules import ModuleNetwork, ModuleSpec, ModuleStep
from skae._networks.scattered import ScatteredNetwork, ScatteredSpec, front_shapes
from skae._networks.subspace import SubspaceNetwork, SubspaceSpec, subspace_shapes
from skae._runtime.randomness import WEIGHTS_STREAM, generator, isolated_globals

# Arrays of NumPy, by name.
Arrays = dict[str, Any]

Spec = DenseSpec | ModuleSpec
Network = DenseNetwork | ModuleNetwork
Step = DenseStep | ModuleStep


def initialize(
    spec: Spec, seeds: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Network:
    """A network with random weights, drawn from one seed per member."""
    if isinstance(spec, DenseSpec):
        dense = DenseNetwork.initialize(spec, seeds, dtype, device)
        return _dense(spec, dense.parameters, dense.buffers)
    if isinstance(spec.builder, Builder):
        network = ModuleNetwork(spec, dtype, device)
        spec.builder.draw(network.pair.modules(), generator(seeds[0], WEIGHTS_STREAM))
        return network
    with isolated_globals(seeds[0], torch.device("cpu")):
        return ModuleNetwork(spec, dtype, device)


def state_shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays that :func:`restore` takes.

    Only a network of the user's own is built for this; others allocate no memory.
    """
    if isinstance(spec, DenseSpec):
        shapes = {"parameters": (n_parameters(spec),), "buffers": (n_buffers(spec),)}
        if isinstance(spec, SubspaceSpec):
            return shapes | subspace_shapes(spec)
        if isinstance(spec, FeaturesSpec):
            return shapes | features_shapes(spec)
        return shapes | (front_shapes(spec) if isinstance(spec, ScatteredSpec) else {})
    if not isinstance(spec.builder, Builder):
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
    return not isinstance(builder, Builder) or builder.draws_globally


def restore(
    spec: Spec,
    arrays: Arrays,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> Network:
    """A network with the weights from :func:`arrays_of`, in their dtype or in ``dtype``."""
    dtype = torch.from_numpy(arrays["parameters"]).dtype if dtype is None else dtype
    state = {name: torch.tensor(array, device=device) for name, array in arrays.items()}
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    if isinstance(spec, DenseSpec):
        network: Network = _dense(spec, state["parameters"], state["buffers"])
    else:
        network = initialize(spec, (0,), dtype, device)
    network.load_state(state)
    return network


def _dense(spec: DenseSpec, parameters: Tensor, buffers: Tensor) -> DenseNetwork:
    if isinstance(spec, ScatteredSpec):
        return ScatteredNetwork(spec, parameters, buffers)
    if isinstance(spec, SubspaceSpec):
        return SubspaceNetwork(spec, parameters, buffers)
    if isinstance(spec, FeaturesSpec):
        return FeaturesNetwork(spec, parameters, buffers)
    return DenseNetwork(spec, parameters, buffers)


def trained_part(network: Network) -> Network:
    """What training sees of a network, behind a front that is fixed."""
    return network.dense if isinstance(network, FrontedNetwork) else network


def copied(
    network: Network,
    spec: Spec | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """A copy of the network, with another spec, device or dtype if one is given."""
    device = network.device if device is None else device
    return restore(spec or network.spec, arrays_of(network.state()), device, dtype)


def resized(network: Network, input_shape: tuple[int, ...]) -> Network:
    """A copy with the same weights for another size (channels, height, width) of images."""
    n_values = math.prod(input_shape)
    assert isinstance(network.spec, ModuleSpec)
    return copied(
        network, dataclasses.replace(network.spec, input_shape=input_shape, n_components=n_values)
    )


def with_n_nonzero(network: Network, n_nonzero: int) -> Network:
    """A copy with the same weights that keeps ``n_nonzero`` latents of each row."""
    return copied(network, dataclasses.replace(network.spec, n_nonzero=n_nonzero))


def takes_any_size(network: Network) -> bool:
    """Whether the network takes images of other sizes than it was trained on."""
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

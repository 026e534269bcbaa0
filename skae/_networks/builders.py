"""Modules that are built from settings alone, and draw their weights from a local generator."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

Shape = tuple[int, ...]


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Builder:
    """How to build a pair of modules, encoder and decoder; not for use by itself."""

    # Value of missing cells in the network's input.
    missing = 0.0

    def __call__(self, input_shape: Shape, n_components: int) -> tuple[nn.Module, nn.Module]:
        # On the meta device, modules draw no random numbers.
        with torch.device("meta"):
            pair = self.build(input_shape, n_components)
        for module in pair:
            module.to_empty(device="cpu")
        return pair

    def build(self, input_shape: Shape, n_components: int) -> tuple[nn.Module, nn.Module]:
        raise NotImplementedError

    def for_draws(self) -> "Builder":
        """The builder of a variational network."""
        raise NotImplementedError

    @property
    def draws_globally(self) -> bool:
        """Whether training draws from torch's global generator."""
        return False

    def draw(self, modules: Iterable[nn.Module], rng: torch.Generator) -> None:
        """Fill in the first weights: uniform up to 1 / sqrt(fan in), biases zero."""
        for module in modules:
            if isinstance(module, _NORMS):
                module.reset_parameters()
            elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                bound = _fan_in(module) ** -0.5
                drawn = torch.empty(module.weight.shape, dtype=torch.float32)
                module.weight.data.copy_(drawn.uniform_(-bound, bound, generator=rng))
                if module.bias is not None:
                    module.bias.data.zero_()


def _fan_in(module: nn.Module) -> float:
    """Number of inputs that one output of a layer sums over."""
    assert isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    if isinstance(module, nn.Linear):
        return module.in_features
    area = float(module.kernel_size[0] * module.kernel_size[1])
    if isinstance(module, nn.ConvTranspose2d):
        area /= module.stride[0] * module.stride[1]
    return module.in_channels * area

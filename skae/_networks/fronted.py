"""A dense network behind a fixed front.

The front maps rows to coordinates, and the back maps coordinates to rows. The dense network takes
and rebuilds the coordinates. It is trained on them as on any rows, so that the front runs once for
each row and not in each epoch.
"""

import dataclasses
from typing import Any, Self

import torch
from torch import Tensor, nn

from skae._networks.dense import DenseNetwork, DenseSpec


class FrontedNetwork(DenseNetwork):
    """A dense autoencoder of coordinates, as one of rows; not for use by itself.

    Attributes
    ----------
    front, back : Module
        From scaled rows to coordinates, and from coordinates to scaled rows.
    dense : DenseNetwork
        The network of coordinates alone, which is trained; its weights are the same memory.
    """

    front: Any
    back: nn.Module

    def __init__(self, spec: DenseSpec, parameters: Tensor, buffers: Tensor):
        super().__init__(spec, parameters, buffers)
        self.front, self.back = self._ends()
        self.dense = DenseNetwork(spec, parameters, buffers)

    def _ends(self) -> tuple[nn.Module, nn.Module]:
        raise NotImplementedError

    def ends_of(self, member: int) -> tuple[nn.Module, nn.Module]:
        """Front and back of one member."""
        return self.front, self.back

    @property
    def flops(self) -> int:
        return super().flops + int(self.front.flops)

    def products(self, n_rows: int, dtype: torch.dtype | None = None) -> None:
        """None: those of the front are others."""

    def state(self) -> dict[str, Tensor]:
        return super().state() | self.front.state_dict()

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, value in self.state().items():
            value.copy_(state[name])

    def truncated(self, n_latents: int) -> Self:
        smaller = self.dense.truncated(n_latents)
        spec = dataclasses.replace(self.spec, n_components=smaller.spec.n_components)
        network = type(self)(spec, smaller.parameters, smaller.buffers)
        network.front.load_state_dict(self.front.state_dict())
        return network

    def encode(self, x: Tensor) -> Tensor:
        """Latents (K, n, n_latents) of scaled rows (n, n_given)."""
        return super().encode(self.front(x))

    def decode(self, z: Tensor) -> Tensor:
        """Scaled rows (K, n, n_given) of latents."""
        return self.back(super().decode(z))

    def modules(self, member: int = 0) -> tuple[nn.Sequential, nn.Sequential]:
        """Encoder of scaled rows and decoder as torch modules."""
        (encoder, decoder), (front, back) = super().modules(member), self.ends_of(member)
        pair = nn.Sequential(front, *encoder), nn.Sequential(*decoder, back)
        return pair[0].eval(), pair[1].eval()

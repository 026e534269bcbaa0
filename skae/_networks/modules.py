"""Encoders and decoders given as torch modules, trained by autograd.

The classes have the same interface as :class:`~skae._networks.dense.DenseNetwork`
and :class:`~skae._networks.dense_step.DenseStep`, so that one loop trains both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skae._networks.builders import Builder
from skae._networks.dense import top_k_mask
from skae._networks.gaps import GapBuilder, RowDropout
from skae._networks.latents import (
    LatentControls,
    Mean,
    NormalDraws,
    divergence,
    drawn,
    halves,
)


@dataclass(frozen=True)
class ModuleSpec:
    """How to rebuild a pair of modules.

    Attributes
    ----------
    builder : callable
        ``builder(input_shape, n_components)`` returns (encoder, decoder).
    input_shape : tuple of int
        (n_features,), or (channels, height, width) for images.
    n_components : int
    n_nonzero : int or None
    variational : bool
        The encoder gives means and log variances, from which latents are drawn.
    """

    builder: Callable[[tuple[int, ...], int], tuple[nn.Module, nn.Module]]
    input_shape: tuple[int, ...]
    n_components: int
    n_nonzero: int | None = None
    variational: bool = False

    @property
    def n_latents(self) -> int:
        return self.n_components


class ModuleNetwork:
    """One encoder and one decoder whose parameters share a flat vector.

    Parameters
    ----------
    spec : ModuleSpec
    dtype : torch.dtype
    device : torch.device
    """

    n_members = 1

    def __init__(self, spec: ModuleSpec, dtype: torch.dtype, device: torch.device):
        self.spec = spec
        self.pair = _build(spec).to(device=device, dtype=dtype).eval()
        self._check_shapes(dtype, device)
        modules = list(self.pair.parameters())
        flat = [p.detach().reshape(-1) for p in modules]
        self.parameters = torch.cat(flat) if flat else torch.zeros(0, dtype=dtype, device=device)
        _point(modules, self.parameters, "data")
        self.dispersion = self.parameters.new_zeros(int(spec.variational), 1)

    @property
    def device(self) -> torch.device:
        return self.parameters.device

    @property
    def flops(self) -> int:
        return 2 * self.parameters.numel()

    def products(self, n_rows: int, dtype: torch.dtype | None = None) -> None:
        """None: gradients of convolutions depend on the number of threads."""

    @property
    def n_decayed(self) -> int:
        return self.parameters.numel()

    @property
    def missing(self) -> float:
        """Value of missing cells in the input."""
        return self.spec.builder.missing if isinstance(self.spec.builder, Builder) else 0.0

    @property
    def fills_gaps(self) -> bool:
        """Whether observed cells pass through it, so that its loss is one of hidden cells."""
        return isinstance(self.spec.builder, GapBuilder)

    @property
    def row_width(self) -> int:
        # The layers are unknown; networks for images commonly widen before they narrow.
        return 64 * int(torch.Size(self.spec.input_shape).numel())

    def state(self) -> dict[str, Tensor]:
        buffers = {f"buffer.{name}": value for name, value in self.pair.named_buffers()}
        drawn = {"dispersion": self.dispersion} if self.spec.variational else {}
        return {"parameters": self.parameters, **buffers, **drawn}

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, value in self.state().items():
            value.copy_(state[name])

    def encode(self, x: Tensor) -> Tensor:
        """Latents (1, n, n_components) of rows (n, n_features)."""
        self.train(False)
        return self.codes(x)[None]

    def decode(self, z: Tensor) -> Tensor:
        """Outputs (1, n, n_features) of latents (n, n_components)."""
        self.train(False)
        return self.outputs(z.reshape(-1, self.spec.n_components))[None]

    def codes(self, x: Tensor, n_kept: int = 0) -> Tensor:
        """Latents (n, n_components); sparse ones keep ``n_kept`` per row (0: ``n_nonzero``)."""
        z = self.encoded(x)
        if self.spec.variational:
            return halves(z)[0]
        if self.spec.n_nonzero is None:
            return z
        return z * top_k_mask(z.detach(), n_kept or self.spec.n_nonzero)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents, (1, n, n_components) each."""
        self.train(False)
        return halves(self.encoded(x)[None])

    def encoded(self, x: Tensor) -> Tensor:
        """Output of the encoder, twice as wide as the latents if they are drawn."""
        return self.pair["encoder"](self.shaped(x.reshape(-1, *x.shape[-1:])))

    def outputs(self, z: Tensor) -> Tensor:
        y = self.pair["decoder"](z)
        if len(self.spec.input_shape) == 3:
            y = y.reshape(-1, *self.spec.input_shape).permute(0, 2, 3, 1)
        return y.reshape(z.shape[0], -1)

    def train(self, mode: bool) -> None:
        if self.pair.training != mode:
            self.pair.train(mode)

    def modules(self, member: int = 0) -> tuple[nn.Module, nn.Module]:
        self.train(False)
        encoder = self.pair["encoder"]
        if self.spec.variational:
            encoder = nn.Sequential(encoder, Mean()).eval()
        return encoder, self.pair["decoder"]

    def shaped(self, x: Tensor) -> Tensor:
        """Rows in the shape of the network's input; images change to channels first."""
        if len(self.spec.input_shape) != 3:
            return x
        channels, height, width = self.spec.input_shape
        return x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)

    def _check_shapes(self, dtype: torch.dtype, device: torch.device) -> None:
        shape, latents = self.spec.input_shape, self.spec.n_components
        rows = torch.zeros(2, int(torch.Size(shape).numel()), dtype=dtype, device=device)
        wide = f"(2, n_components) = (2, {latents})"
        if self.spec.variational:
            wide = f"(2, 2 * n_components) = (2, {2 * latents}), means and log variances"
        z = self._probe("encoder", self.shaped(rows), wide)
        if z.shape != (2, latents * (1 + self.spec.variational)):
            self._refuse("encoder", z.shape, wide)
        z = z[:, :latents]
        expected = f"the input's shape, {(2, *shape)}"
        y = self._probe("decoder", z, expected)
        if y.shape[:1] != (2,) or y.numel() != rows.numel():
            self._refuse("decoder", y.shape, expected)

    def _probe(self, name: str, x: Tensor, expected: str) -> Tensor:
        try:
            y = self.pair[name](x)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"The {name} of network={self.spec.builder!r} does not take a batch of shape "
                f"{tuple(x.shape)}: {error}"
            ) from error
        if not isinstance(y, Tensor):
            self._refuse(name, type(y).__name__, expected)
        return y

    def _refuse(self, name: str, found: object, expected: str) -> None:
        found = tuple(found) if isinstance(found, torch.Size) else found
        raise ValueError(
            f"The {name} of network={self.spec.builder!r} gives {found} for 2 rows; it must "
            f"give {expected}."
        )


def _build(spec: ModuleSpec) -> nn.ModuleDict:
    built: Any = spec.builder(spec.input_shape, spec.n_components)
    if not (
        isinstance(built, tuple)
        and len(built) == 2
        and all(isinstance(module, nn.Module) for module in built)
    ):
        raise TypeError(
            f"network={spec.builder!r} must return a pair (encoder, decoder) of "
            f"torch.nn.Module, got {built!r}."
        )
    return nn.ModuleDict({"encoder": built[0], "decoder": built[1]})


def _point(parameters: list[nn.Parameter], flat: Tensor, attribute: str) -> None:
    """Make each parameter's ``data`` or ``grad`` a view of one flat vector."""
    start = 0
    for parameter in parameters:
        view = flat[start : start + parameter.numel()].view(parameter.shape)
        setattr(parameter, attribute, view)
        start += parameter.numel()


class ModuleStep:
    """The counterpart of :class:`~skae._networks.dense_step.DenseStep`, using autograd."""

    def __init__(
        self,
        network: ModuleNetwork,
        gradients: Tensor,
        batch_size: int,
        dtype: torch.dtype,
        latent_penalty: bool = False,
    ):
        self.network = network
        self._gradients = gradients
        self._latent_penalty = latent_penalty
        self.controls = LatentControls(network.spec.n_nonzero or 0)
        _point(list(network.pair.parameters()), gradients, "grad")
        n_features = int(torch.Size(network.spec.input_shape).numel())
        like = network.parameters
        self._autocast = dtype if dtype != like.dtype else None
        self.input = torch.empty(1, batch_size, n_features, dtype=like.dtype, device=like.device)
        self.gradient = torch.empty_like(self.input)
        self.latent_gradient = self.input.new_zeros(1, batch_size, network.spec.n_components)
        self.offsets = torch.zeros(batch_size, dtype=torch.int64, device=like.device)
        self._drops = [m for m in network.pair.modules() if isinstance(m, RowDropout)]
        if network.spec.variational:
            self.posterior = ModulePosterior(network, self.offsets, self.latent_gradient)

    def forward(self) -> None:
        self.network.train(True)
        for module in self._drops:
            module.offsets = self.offsets
        # No cache: it would keep the first step's weights, because it is emptied only at the end
        # of the outermost context, and one such context (device.computing) holds the whole fit.
        half = torch.autocast(
            self.input.device.type,
            dtype=self._autocast,
            enabled=self._autocast is not None,
            cache_enabled=False,
        )
        with torch.enable_grad(), half:
            if self.network.spec.variational:
                self._z = self.posterior.draw(self.network, self.input[0])
            else:
                self._z = self.network.codes(self.input[0], self.controls.n_kept)
            self.latents = self._z.detach()[None]
            self._y = self.network.outputs(self._overwritten())
        self.output = self._y.detach()[None]

    def _overwritten(self) -> Tensor:
        """The latents to decode; gradients pass as if ``on_latents`` had not changed them."""
        if self.controls.on_latents is None:
            return self._z
        self.latents = self.latents.clone()
        self.controls.on_latents(self.latents)
        return self._z + (self.latents[0] - self._z).detach()

    def backward(self) -> None:
        self._gradients.zero_()
        roots, gradients = [self._y], [self.gradient[0].to(self._y.dtype)]
        if self._latent_penalty:
            roots.append(self._z)
            gradients.append(self.latent_gradient[0].to(self._z.dtype))
        if self.network.spec.variational:
            roots.append(self.posterior.divergences)
            gradients.append(self.posterior.divergence_gradient[0, :, 0])
        torch.autograd.backward(roots, gradients)


class ModulePosterior:
    """The counterpart of :class:`~skae._networks.latents.Posterior`, using autograd."""

    def __init__(self, network: ModuleNetwork, offsets: Tensor, latents: Tensor):
        self._offsets, self._noise = offsets, torch.empty_like(latents[0])
        self._draws = NormalDraws(network.spec.n_components, latents)
        self.divergence_gradient = latents.new_zeros(*latents.shape[:-1], 1)

    def draw(self, network: ModuleNetwork, x: Tensor) -> Tensor:
        self._draws.fill(self._offsets, self._noise)
        mean, log_variance = (half.to(x.dtype) for half in halves(network.encoded(x)))
        self.divergences = divergence(mean, log_variance)
        return drawn(mean, log_variance, self._noise)

    def divergence(self) -> Tensor:
        return self.divergences.detach()[None]

"""Dense autoencoders, K of them stacked along a leading member axis.

One flat vector holds the weights of all members, a second one their gradients.
A layer's weights are a (K, out, in) view of the first vector. A single
autoencoder is the case K = 1 of the same code.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from skae._networks.activations import ACTIVATIONS
from skae._networks.latents import halves
from skae._networks.products import Products, RowProduct
from skae._runtime.randomness import WEIGHTS_STREAM, generator

NORMALIZATION_EPSILON = 1e-5


@dataclass(frozen=True)
class DenseSpec:
    """The architecture of a stack of dense autoencoders.

    The decoder mirrors the encoder. The output layer is linear, and so is the latent layer, if it
    is not activated.

    Attributes
    ----------
    n_features : int
        Width of input and output.
    hidden_layer_sizes : tuple of int
        Widths of the encoder's hidden layers.
    n_components : tuple of int
        Number of latents, one entry per member. The latent layer of the stack is as
        wide as the largest; members with fewer latents mask the rest.
    activation : str
        A key of ``ACTIVATIONS``.
    normalization : {None, "batch", "layer"}
        Applied to hidden layers, before the activation.
    dropout : float
        Share of hidden units set to zero in training.
    n_nonzero : int or None
        Keep this many of the largest latents of each row, and set the others to zero.
    ordered : bool
        Train each row with only its first latents, a random number of them.
    variational : bool
        The encoder gives means and log variances, from which latents are drawn.
    linear_path : bool
        Fixed linear maps beside encoder and decoder, whose results are added to theirs.
    activated : bool
        Whether latents are activations, as those of a hidden layer are.
    """

    n_features: int
    hidden_layer_sizes: tuple[int, ...]
    n_components: tuple[int, ...]
    activation: str = "relu"
    normalization: str | None = None
    dropout: float = 0.0
    n_nonzero: int | None = None
    ordered: bool = False
    variational: bool = False
    linear_path: bool = False
    activated: bool = False

    @property
    def n_members(self) -> int:
        return len(self.n_components)

    @property
    def n_latents(self) -> int:
        return max(self.n_components)

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of every layer from input to output."""
        hidden = self.hidden_layer_sizes
        return (self.n_features, *hidden, self.n_latents, *reversed(hidden), self.n_features)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Outputs and inputs of every linear layer."""
        shapes = [(b, a) for a, b in zip(self.widths, self.widths[1:], strict=False)]
        if self.variational:
            outputs, inputs = shapes[self.depth - 1]
            shapes[self.depth - 1] = (2 * outputs, inputs)
        return shapes

    @property
    def depth(self) -> int:
        """Number of linear layers of the encoder (and of the decoder)."""
        return len(self.hidden_layer_sizes) + 1

    def is_hidden(self, layer: int) -> bool:
        return layer not in (self.depth - 1, 2 * self.depth - 1)

    def is_activated(self, layer: int) -> bool:
        return self.is_hidden(layer) or (self.activated and layer == self.depth - 1)

    @property
    def flops(self) -> int:
        """Operations of one member's forward pass of one row."""
        path = 2 * self.n_latents * self.n_features if self.linear_path else 0
        return 2 * (sum(a * b for a, b in self.shapes) + path)


class Layer(NamedTuple):
    """Views of one layer's values: (K, out, in) for weight and path, (K, 1, out) for the others."""

    weight: Tensor
    bias: Tensor
    # Tensors if the layer is normalized, else None.
    gain: Any = None
    shift: Any = None
    # The fixed map from the encoder's or decoder's input, if it ends in this layer, else None.
    path: Any = None


class Moments(NamedTuple):
    """Running mean and variance of a batch-normalized layer, each (K, 1, out)."""

    mean: Tensor
    variance: Tensor


def parameter_shapes(spec: DenseSpec) -> Iterator[tuple[int, str, tuple[int, int, int]]]:
    """Layer, name and shape of every parameter in the order of the flat vector.

    Weights come first, so that weight decay acts on one leading slice; what is not trained
    comes last.
    """
    k, shapes = spec.n_members, spec.shapes
    for i, (outputs, inputs) in enumerate(shapes):
        yield i, "weight", (k, outputs, inputs)
    for i, (outputs, _) in enumerate(shapes):
        yield i, "bias", (k, 1, outputs)
    if spec.normalization:
        for i in filter(spec.is_hidden, range(len(shapes))):
            yield i, "gain", (k, 1, shapes[i][0])
            yield i, "shift", (k, 1, shapes[i][0])
    if spec.linear_path:
        yield spec.depth - 1, "path", (k, spec.n_latents, spec.n_features)
        yield 2 * spec.depth - 1, "path", (k, spec.n_features, spec.n_latents)


def split(spec: DenseSpec, flat: Tensor) -> list[Layer]:
    """Views of a flat vector, layer by layer."""
    views: list[dict[str, Tensor]] = [{} for _ in range(2 * spec.depth)]
    start = 0
    for i, name, shape in parameter_shapes(spec):
        size = shape[0] * shape[1] * shape[2]
        views[i][name] = flat[start : start + size].view(shape)
        start += size
    return [Layer(**view) for view in views]


def n_parameters(spec: DenseSpec) -> int:
    return sum(math.prod(shape) for _, _, shape in parameter_shapes(spec))


def paired(
    spec: DenseSpec, flat: Tensor, other: DenseSpec, other_flat: Tensor, first: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each parameter, views of its values in ``flat`` and of the same ones in ``other_flat``.

    The other network may have more latents and more members. Its member ``first`` is our
    first one.
    """
    start = other_start = 0
    shapes = zip(parameter_shapes(spec), parameter_shapes(other), strict=True)
    for (_, _, (k, a, b)), (_, _, (n, c, d)) in shapes:
        whole = other_flat[other_start : other_start + n * c * d].view(n, c, d)
        yield flat[start : start + k * a * b].view(k, a, b), whole[first : first + k, :a, :b]
        start, other_start = start + k * a * b, other_start + n * c * d


def truncated(spec: DenseSpec, flat: Tensor, smaller: DenseSpec) -> Tensor:
    """The part of a flat vector that a network with fewer latents keeps."""
    values = flat.new_empty(n_parameters(smaller))
    for own, whole in paired(smaller, values, spec, flat):
        own.copy_(whole)
    return values


def n_buffers(spec: DenseSpec) -> int:
    """Number of running means and variances, and of dispersions where latents are drawn."""
    n_units = 0
    if spec.normalization == "batch":
        n_units = sum(w for i, w in enumerate(spec.widths[1:]) if spec.is_hidden(i))
    return spec.n_members * (2 * n_units + spec.variational)


def member_values(spec: DenseSpec, values: Tensor) -> Tensor:
    """A flat vector in which each member's value is repeated for all of its parameters."""
    return torch.cat(
        [
            values[:, None].expand(-1, a * b).reshape(-1)
            for _, _, (_, a, b) in parameter_shapes(spec)
        ]
    )


class DenseNetwork:
    """K dense autoencoders of one shape.

    Parameters
    ----------
    spec : DenseSpec
    parameters : Tensor of shape (n_parameters,)
    buffers : Tensor
        Running means and variances of batch normalization, and dispersions.

    Attributes
    ----------
    dispersion : Tensor of shape (K, 1), or (0, 1)
        Dispersion of the losses where latents are drawn; zero before training.
    """

    # Value of missing cells in the input.
    missing = 0.0

    def __init__(self, spec: DenseSpec, parameters: Tensor, buffers: Tensor):
        self.spec = spec
        self.parameters = parameters
        self.buffers = buffers
        self.layers = split(spec, parameters)
        self.moments = self._split_buffers()
        self.dispersion = buffers[len(buffers) - spec.n_members * spec.variational :, None]
        self.latent_mask = self._latent_mask()
        self.activation = ACTIVATIONS[spec.activation]
        self._made: tuple[int | None, list[tuple[RowProduct, RowProduct | None]]] = (-1, [])

    @classmethod
    def zeros(cls, spec: DenseSpec, dtype: torch.dtype, device: torch.device) -> "DenseNetwork":
        """All values zero."""
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        sizes = n_parameters(spec), n_buffers(spec)
        return cls(spec, *(torch.zeros(size, **options) for size in sizes))

    @classmethod
    def initialize(
        cls, spec: DenseSpec, seeds: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> "DenseNetwork":
        """Random weights from one seed per member; a member gets the same ones in any stack."""
        network = cls.zeros(spec, dtype, torch.device("cpu"))
        for layer in network.layers:
            if layer.gain is not None:
                layer.gain.fill_(1.0)
        for moments in network.moments.values():
            moments.variance.fill_(1.0)
        for member, seed in enumerate(seeds):
            network._draw_weights(member, generator(seed, WEIGHTS_STREAM))
        return cls(spec, network.parameters.to(device), network.buffers.to(device))

    def _draw_weights(self, member: int, rng: torch.Generator) -> None:
        """Uniform between plus and minus 1 / sqrt(fan-in) (LeCun et al. 1998).

        On MNIST the final error is 14 % lower than with the larger variance of He et al.
        (2015). Only ReLU gets random biases, to spread its kinks (the error is 7 % lower on
        a table of 30 columns); for smooth activations, zero biases gave better features.
        """
        latents = self.spec.n_components[member]
        for i, layer in enumerate(self.layers):
            weight = layer.weight[member]
            if i == self.spec.depth - 1:
                weight = weight[: latents * (1 + self.spec.variational)]
            elif i == self.spec.depth:
                weight = weight[:, :latents]
            bound = weight.shape[1] ** -0.5
            bias = layer.bias[member, 0, : weight.shape[0]]
            for values in (weight, bias) if self.spec.activation == "relu" else (weight,):
                # Contiguous float32 draws are the same for every stack and dtype.
                drawn = torch.empty(values.shape, dtype=torch.float32)
                values.copy_(drawn.uniform_(-bound, bound, generator=rng))

    def _split_buffers(self) -> dict[int, Moments]:
        if self.spec.normalization != "batch":
            return {}
        k, moments, start = self.spec.n_members, {}, 0
        for i, width in enumerate(self.spec.widths[1:]):
            if self.spec.is_hidden(i):
                pair = self.buffers[start : start + 2 * k * width].view(2, k, 1, width)
                moments[i] = Moments(pair[0], pair[1])
                start += 2 * k * width
        return moments

    def _latent_mask(self) -> Tensor | None:
        """Ones and zeros (K, 1, n_latents), or None if all members have equally many latents."""
        sizes = torch.tensor(self.spec.n_components, device=self.parameters.device)
        if len(set(self.spec.n_components)) == 1:
            return None
        columns = torch.arange(self.spec.n_latents, device=self.parameters.device)
        return (columns < sizes[:, None]).to(self.parameters.dtype)[:, None]

    @property
    def device(self) -> torch.device:
        return self.parameters.device

    # Whether observed cells pass through it, so that its loss is one of hidden cells.
    fills_gaps = False

    @property
    def n_members(self) -> int:
        return self.spec.n_members

    @cached_property
    def flops(self) -> int:
        return self.spec.flops * self.spec.n_members

    def products(self, n_rows: int, dtype: torch.dtype | None = None) -> Products | None:
        """Those of predictions for so many rows, or of training in a dtype."""
        spec, trains = self.spec, dtype is not None
        n_rows = n_rows if trains else 1 << (n_rows - 1).bit_length()
        dtype = dtype or self.parameters.dtype
        return Products(tuple(spec.shapes), spec.n_members, n_rows, dtype, trains)

    @property
    def n_decayed(self) -> int:
        """Length of the leading slice of parameters that weight decay acts on: the weights."""
        return sum(layer.weight.numel() for layer in self.layers)

    @cached_property
    def row_width(self) -> int:
        """How many numbers a prediction holds in memory for each row."""
        return 2 * max(self.spec.widths) * self.spec.n_members

    def state(self) -> dict[str, Tensor]:
        return {"parameters": self.parameters, "buffers": self.buffers}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.parameters.copy_(state["parameters"])
        self.buffers.copy_(state["buffers"])

    def truncated(self, n_latents: int) -> "DenseNetwork":
        """A copy with only the first ``n_latents`` latents."""
        sizes = tuple(min(size, n_latents) for size in self.spec.n_components)
        spec = dataclasses.replace(self.spec, n_components=sizes)
        values = truncated(self.spec, self.parameters, spec)
        return DenseNetwork(spec, values, self.buffers.clone())

    def encode(self, x: Tensor) -> Tensor:
        """Latents (K, n, n_latents) of rows (n, n_features) or (K, n, n_features)."""
        if self.spec.variational:
            return self.posterior(x)[0]
        z = self._forward(range(self.spec.depth), self._stacked(x))
        if self.spec.n_nonzero is not None:
            return z.mul_(top_k_mask(z, self.spec.n_nonzero, self.latent_mask))
        return z if self.latent_mask is None else z.mul_(self.latent_mask)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents, (K, n, n_latents) each."""
        return halves(self._forward(range(self.spec.depth), self._stacked(x)))

    def decode(self, z: Tensor) -> Tensor:
        """Outputs (K, n, n_features) of latents (n, n_latents) or (K, n, n_latents)."""
        return self._forward(range(self.spec.depth, 2 * self.spec.depth), self._stacked(z))

    def _stacked(self, x: Tensor) -> Tensor:
        return x.expand(self.n_members, *x.shape[-2:])

    def _forward(self, layers: range, x: Tensor) -> Tensor:
        given, products = x, self._row_products()
        for i in layers:
            layer, (of_layer, beside) = self.layers[i], products[i]
            z = of_layer(x)
            if beside is not None:
                z += beside(given)
            if self.spec.is_activated(i):
                if layer.gain is not None:
                    z = self._normalized(i, z)
                self.activation.forward(z, z)()
            x = z
        return x

    def _row_products(self) -> list[tuple[RowProduct, RowProduct | None]]:
        """Of each layer, and of the linear path beside it; made anew once weights have changed."""
        # Tensors of the caller's inference mode do not count their changes.
        version = None if self.parameters.is_inference() else self.parameters._version
        if version is None or self._made[0] != version:
            self._made = (
                version,
                [
                    (
                        RowProduct(layer.bias, layer.weight),
                        None
                        if layer.path is None
                        else RowProduct(torch.zeros_like(layer.bias), layer.path),
                    )
                    for layer in self.layers
                ],
            )
        return self._made[1]

    def _normalized(self, i: int, z: Tensor) -> Tensor:
        if i in self.moments:
            mean, variance = self.moments[i]
        else:
            mean, variance = moments_over(z, 2)
        z = (z - mean) * (variance + NORMALIZATION_EPSILON).rsqrt()
        return z.mul_(self.layers[i].gain).add_(self.layers[i].shift)

    def modules(self, member: int = 0) -> tuple[nn.Sequential, nn.Sequential]:
        """Encoder and decoder of one member as torch modules, for use outside skae."""
        depth, latents = self.spec.depth, self.spec.n_components[member]
        encoder = self._chain(range(depth), member)
        decoder = self._chain(range(depth, 2 * depth), member)
        if self.spec.linear_path:
            into, out = (self.layers[i].path[member] for i in (depth - 1, 2 * depth - 1))
            encoder = nn.Sequential(Beside(encoder, into[:latents]))
            decoder = nn.Sequential(Beside(decoder, out[:, :latents]))
        if self.spec.n_nonzero is not None:
            encoder.append(TopK(self.spec.n_nonzero))
        return encoder.eval(), decoder.eval()

    def _chain(self, layers: range, member: int) -> nn.Sequential:
        return nn.Sequential(*(m for i in layers for m in self._linear_modules(i, member)))

    def _linear_modules(self, i: int, member: int) -> list[nn.Module]:
        spec, layer = self.spec, self.layers[i]
        latents = spec.n_components[member]
        weight, bias = layer.weight[member], layer.bias[member, 0]
        if i == spec.depth - 1:
            weight, bias = weight[:latents], bias[:latents]
        elif i == spec.depth:
            weight = weight[:, :latents]
        options: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
        linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], **options)
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
        modules: list[nn.Module] = [linear]
        if not spec.is_activated(i):
            return modules
        if layer.gain is not None:
            width = weight.shape[0]
            if i in self.moments:
                norm: Any = nn.BatchNorm1d(width, eps=NORMALIZATION_EPSILON, **options)
                norm.running_mean.copy_(self.moments[i].mean[member, 0])
                norm.running_var.copy_(self.moments[i].variance[member, 0])
            else:
                norm = nn.LayerNorm(width, eps=NORMALIZATION_EPSILON, **options)
            norm.weight.copy_(layer.gain[member, 0])
            norm.bias.copy_(layer.shift[member, 0])
            modules.append(norm)
        modules.append(self.activation.module())
        if spec.dropout and spec.is_hidden(i):
            modules.append(nn.Dropout(spec.dropout))
        return modules


def moments_over(z: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance along one axis, which is kept."""
    variance, mean = torch.var_mean(z, dim=dim, keepdim=True, correction=0)
    return mean, variance


def top_k_mask(z: Tensor, k: int, allowed: Tensor | None = None) -> Tensor:
    """Ones at the ``k`` largest latents of each row (Makhzani and Frey 2013).

    Where ``allowed`` is zero, a latent neither competes nor is kept.
    """
    ranked = z if allowed is None else z.masked_fill(allowed == 0, -torch.inf)
    largest = torch.topk(ranked, min(k, z.shape[-1]), dim=-1, sorted=False).indices
    mask = torch.zeros_like(z).scatter_(-1, largest, 1.0)
    return mask if allowed is None else mask.mul_(allowed)


class Beside(nn.Module):
    """Adds a fixed linear map of the input to what a module makes of it."""

    path: Tensor

    def __init__(self, module: nn.Module, path: Tensor):
        super().__init__()
        self.module = module
        self.register_buffer("path", path.clone())

    def extra_repr(self) -> str:
        n_out, n_in = self.path.shape
        return f"fixed, in_features={n_in}, out_features={n_out}"

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x) + functional.linear(x, self.path)


class TopK(nn.Module):
    """Keeps the ``k`` largest values of each row, and sets the others to zero."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def forward(self, z: Tensor) -> Tensor:
        return z * top_k_mask(z, self.k)

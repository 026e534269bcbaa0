"""One training step of stacked dense autoencoders, with backward passes written by hand.

A step is built once for each batch size. Building allocates all buffers and
makes every choice; the result is two lists of bound operations, which training
calls in order. While training, no branch is taken and no view is made.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skae._networks.dense import (
    NORMALIZATION_EPSILON,
    DenseNetwork,
    Layer,
    moments_over,
    split,
    top_k_mask,
)
from skae._networks.latents import LatentControls, Posterior
from skae._networks.products import add_product, input_gradient, product, weight_gradient
from skae._runtime.randomness import (
    DROPOUT_SALT,
    ORDERED_SALT,
    TABLE_STREAM,
    RandomTable,
    generator,
    table_offsets,
)

# Takes the gradient with respect to a block's output, binds the block's backward
# operations, and returns the buffer for the gradient with respect to its input.
Backward = Callable[[Tensor], Tensor | None]

# Share of the newest batch in the running moments, as in torch.
_MOMENTUM = 0.1


class DenseStep:
    """Buffers and operations of a training step of ``batch_size`` rows.

    Attributes
    ----------
    input : Tensor of shape (K, batch_size, n_features)
        Filled by the caller before :meth:`forward`.
    latents, output : Tensor
        Written by :meth:`forward`.
    latent_gradient : Tensor
        Gradient of a penalty with respect to the latents; filled by the caller before
        :meth:`backward`, and read only if built with ``latent_penalty``.
    beside : Tensor
        What the encoder's layers add to its path; written by :meth:`forward` if built with
        ``latent_penalty``.
    gradient : Tensor
        Gradient of the loss with respect to ``output``; filled by the caller before
        :meth:`backward`.
    offsets : Tensor of shape (K * batch_size,)
        Random offsets of the rows, read by dropout and by the draws of latents.
    controls : LatentControls
        Settings of the latents that the caller may change.
    posterior : Posterior
        Draws the latents of a variational network.
    """

    def __init__(
        self,
        network: DenseNetwork,
        gradients: Tensor,
        batch_size: int,
        dtype: torch.dtype,
        latent_penalty: bool = False,
    ):
        self.network = network
        self._latent_penalty = latent_penalty
        self.controls = LatentControls(network.spec.n_nonzero or 0)
        self._size = (network.n_members, batch_size)
        self._options: dict[str, Any] = {"dtype": dtype, "device": network.device}
        self._forward: list[Callable[[], object]] = []
        self._backward: list[Callable[[], object]] = []
        parameters, own_gradients = network.parameters, gradients
        if dtype != parameters.dtype:
            # Half-precision products work on a copy of weights and gradients.
            parameters = torch.empty_like(parameters, dtype=dtype)
            own_gradients = torch.zeros_like(gradients, dtype=dtype)
            self._forward.append(partial(parameters.copy_, network.parameters))
        self._ones = torch.ones(network.n_members, 1, batch_size, **self._options)
        self.input = self._new(network.spec.n_features)
        n_rows = network.n_members * batch_size
        self.offsets = torch.zeros(n_rows, dtype=torch.int64, device=network.device)
        blocks = self._build_forward(
            split(network.spec, parameters), split(network.spec, own_gradients)
        )
        self.gradient = self._new(network.spec.n_features)
        gradient: Tensor | None = self.gradient
        for block in reversed(blocks):
            assert gradient is not None
            gradient = block(gradient)
        if dtype != network.parameters.dtype:
            self._backward.append(partial(gradients.copy_, own_gradients))

    def forward(self) -> None:
        for operation in self._forward:
            operation()

    def backward(self) -> None:
        for operation in self._backward:
            operation()

    def _new(self, width: int) -> Tensor:
        return torch.empty(*self._size, width, **self._options)

    def _build_forward(self, layers: list[Layer], gradients: list[Layer]) -> list[Backward]:
        spec, blocks = self.network.spec, []
        x = source = self.input
        for i, (layer, gradient) in enumerate(zip(layers, gradients, strict=True)):
            x, block = self._linear(layer, gradient, x, is_first=i == 0)
            blocks.append(block)
            if layer.path is not None:
                if self._latent_penalty and i == spec.depth - 1:
                    self.beside = torch.empty_like(x)
                    self._forward.append(partial(self.beside.copy_, x))
                self._forward.append(add_product(source, layer.path, x))
            if i == spec.depth - 1:
                if spec.activated:
                    x, block = self._activate(x)
                    blocks.append(block)
                if spec.variational:
                    x, block = self._draw(x)
                    blocks.append(block)
                block = self._latent(x, layers[-1].path)
                self.latents = source = x
                blocks.append(block)
            elif spec.is_hidden(i):
                if spec.normalization:
                    x, block = self._normalize(i, layer, gradient, x)
                    blocks.append(block)
                x, block = self._activate(x)
                blocks.append(block)
                if spec.dropout:
                    x, block = self._drop(i, x)
                    blocks.append(block)
        self.output = x
        return blocks

    def _linear(
        self, layer: Layer, gradients: Layer, x: Tensor, is_first: bool
    ) -> tuple[Tensor, Backward]:
        z = self._new(layer.weight.shape[1])
        self._forward.append(product(layer.bias, x, layer.weight, z))

        def backward(g: Tensor) -> Tensor | None:
            self._backward.append(weight_gradient(g, x, gradients.weight))
            # A product with ones sums over the rows faster than torch.sum.
            self._backward.append(partial(torch.bmm, self._ones, g, out=gradients.bias))
            if is_first:
                return None
            gx = self._new(x.shape[2])
            self._backward.append(input_gradient(g, layer.weight, gx))
            return gx

        return z, backward

    def _activate(self, z: Tensor) -> tuple[Tensor, Backward]:
        activation = self.network.activation
        a = torch.empty_like(z) if activation.saves_input else z
        self._forward.append(activation.forward(z, a))

        def backward(g: Tensor) -> Tensor:
            saved = z if activation.saves_input else a
            self._backward.append(activation.backward(g, saved))
            return g

        return a, backward

    def _draw(self, codes: Tensor) -> tuple[Tensor, Backward]:
        """Draw latents from the means and log variances that the encoder gives."""
        self.posterior = posterior = Posterior(codes, self.offsets)
        self._forward.append(posterior.forward)

        def backward(g: Tensor) -> Tensor:
            self._backward.append(partial(posterior.backward, g))
            return posterior.gradient

        return posterior.latents, backward

    def _latent(self, z: Tensor, path: Tensor | None) -> Backward:
        """Mask the latents in place; on the way back, add what a path and a penalty ask for."""
        spec, mask = self.network.spec, self.network.latent_mask
        k, self.latent_gradient = spec.n_nonzero, torch.zeros_like(z)
        controls = self.controls  # A reference to the step itself would be a cycle.
        kept = mask
        if k is not None or spec.ordered:
            kept = chosen = torch.empty_like(z)
            choose = self._first_latents(chosen)
            if k is not None:
                choose = lambda: chosen.copy_(top_k_mask(z, controls.n_kept, mask))  # noqa: E731
            self._forward.append(choose)
        if kept is not None:
            self._forward.append(partial(z.mul_, kept))
        self._forward.append(lambda: controls.on_latents and controls.on_latents(z))

        def backward(g: Tensor) -> Tensor:
            if path is not None:
                self._backward.append(add_product(self.gradient, path.mT, g))
            if self._latent_penalty:
                self._backward.append(partial(g.add_, self.latent_gradient))
            if kept is not None:
                self._backward.append(partial(g.mul_, kept))
            return g

        return backward

    def _first_latents(self, kept: Tensor) -> Callable[[], object]:
        """Nested dropout (Rippel et al. 2014): ones for the first latents of a row.

        Each row draws the number of its ones; all numbers are equally likely.
        """
        uniform, offsets = _uniform_table(kept), self.offsets
        sizes = uniform.new_tensor(self.network.spec.n_components)
        position = torch.arange(kept.shape[2]).to(uniform) / sizes[:, None, None]
        table = RandomTable(uniform, 1)
        drawn = uniform.new_empty(kept.shape[0] * kept.shape[1], 1)

        def forward() -> None:
            table.rows(table_offsets(offsets, ORDERED_SALT), drawn)
            torch.lt(position, drawn.view(*kept.shape[:2], 1), out=kept)

        return forward

    def _drop(self, i: int, a: Tensor) -> tuple[Tensor, Backward]:
        """Zero units at random and scale the others up (Srivastava et al. 2014)."""
        table = dropout_table(self.network.spec.dropout, a)
        y, mask, offsets = torch.empty_like(a), torch.empty_like(a), self.offsets

        def forward() -> None:
            table.rows(table_offsets(offsets, DROPOUT_SALT + i), mask.view(-1, a.shape[2]))
            torch.mul(a, mask, out=y)

        self._forward.append(forward)

        def backward(g: Tensor) -> Tensor:
            self._backward.append(partial(g.mul_, mask))
            return g

        return y, backward

    def _normalize(
        self, i: int, layer: Layer, gradients: Layer, z: Tensor
    ) -> tuple[Tensor, Backward]:
        """Batch (Ioffe and Szegedy 2015) or layer (Ba et al. 2016) normalization.

        They differ only in the axis: rows (1) or units (2).
        """
        axis = 1 if self.network.spec.normalization == "batch" else 2
        y, unit, inverse = torch.empty_like(z), torch.empty_like(z), z.new_empty(0)
        running = self.network.moments.get(i)

        def forward() -> None:
            nonlocal inverse
            mean, variance = moments_over(z, axis)
            inverse = (variance + NORMALIZATION_EPSILON).rsqrt_()
            torch.sub(z, mean, out=unit).mul_(inverse)
            torch.mul(unit, layer.gain, out=y).add_(layer.shift)
            if running is not None:
                n = z.shape[1]
                running.mean.lerp_(mean.to(running.mean.dtype), _MOMENTUM)
                unbiased = variance.to(running.mean.dtype) * (n / max(n - 1, 1))
                running.variance.lerp_(unbiased, _MOMENTUM)

        self._forward.append(forward)

        def backward(g: Tensor) -> Tensor:
            def operation() -> None:
                torch.sum(g * unit, 1, keepdim=True, out=gradients.gain)
                torch.sum(g, 1, keepdim=True, out=gradients.shift)
                g.mul_(layer.gain)
                along = (g * unit).mean(axis, keepdim=True)
                g.sub_(g.mean(axis, keepdim=True)).sub_(unit * along).mul_(inverse)

            self._backward.append(operation)
            return g

        return y, backward


def _uniform_table(like: Tensor) -> Tensor:
    """Not in half precision: what is compared with it would be a little more or less likely."""
    rng, dtype = generator(0, TABLE_STREAM), torch.promote_types(like.dtype, torch.float32)
    values = torch.rand(RandomTable.SIZE, generator=rng, dtype=torch.float32)
    return values.to(like.device, dtype)


def dropout_table(rate: float, like: Tensor) -> RandomTable:
    """Zeros with probability ``rate``, else 1 / (1 - rate)."""
    values = (_uniform_table(like) >= rate).to(like.dtype).div_(1.0 - rate)
    return RandomTable(values, like.shape[-1])

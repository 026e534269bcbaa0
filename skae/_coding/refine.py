"""Further training for a quantizer: least error at a given price per bit.

The integers are simulated (Ballé et al., "End-to-end optimized image compression",
2017). The rate is that of coordinates with uniform noise added, under one density for each
coordinate, which is learned at the same time. The decoder sees rounded coordinates, and
the slope of the rounding is taken to be one.
"""

import copy
import dataclasses
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from skae._coding.quantizer import BIT_PRICE, Quantizer
from skae._data.convert import dense_chunks
from skae._data.loaded import scaled_bounds, within
from skae._model.model import Model
from skae._networks.dense import DenseSpec
from skae._networks.factory import Network, copied, make_step, trained_part
from skae._runtime.device import computing
from skae._runtime.randomness import EPOCH_STREAM, generator
from skae._runtime.tuning import (
    CODEC_BATCH,
    CODEC_DENSITY_RATE,
    CODEC_FEWEST_EPOCHS,
    CODEC_LOGISTICS,
    CODEC_MOST_EPOCHS,
    CODEC_RATE,
    CODEC_UPDATES,
)
from skae._training.losses import loss_of
from skae._training.optimizers import Optimizer
from skae._training.plan import SCHEDULES


def epochs_for(n_rows: int) -> int:
    """The value of ``max_epochs="auto"``."""
    return min(
        max(CODEC_FEWEST_EPOCHS, math.ceil(CODEC_UPDATES * CODEC_BATCH / n_rows)), CODEC_MOST_EPOCHS
    )


def first_density(u: Tensor) -> Tensor:
    """Mixtures of logistic densities for coordinates (n, d): a tensor of shape (3, d, k).

    It holds the centers, the logarithms of the scales and the logarithms of the shares.
    """
    points = torch.linspace(0.1, 0.9, CODEC_LOGISTICS, dtype=u.dtype, device=u.device)
    center = u.quantile(points, dim=0).T
    spread = u.std(0, correction=0).clamp(min=0.1)[:, None].expand_as(center)
    return torch.stack([center, (0.4 * spread).log(), torch.zeros_like(center)])


def density_bits(density: Tensor, u: Tensor) -> Tensor:
    """How many bits the unit intervals around ``u`` (n, d) take."""
    center, log_scale, logit = density
    inverse = torch.exp(-log_scale.clamp(min=-4.0))
    low = (u[:, :, None] - center - 0.5) * inverse
    high = low + inverse
    # Take the difference in the lower tail, where it is exact.
    side = torch.where(low + high > 0, -1.0, 1.0)
    mass = (torch.sigmoid(side * high) - torch.sigmoid(side * low)).abs()
    return -torch.log2((mass * functional.softmax(logit, -1)).sum(-1).clamp(min=1e-9))


def refine(
    model: Model, quantizer: Quantizer, step: float, X: Any, n_epochs: int, seed: int
) -> Model:
    """A copy of the model, trained further.

    Parameters
    ----------
    model : Model
    quantizer : Quantizer
    step : float
        The quantizer's step, in units of the scaled rows.
    X : array or CSR matrix of shape (n_samples, n_features)
        Training rows; NaN means missing.
    n_epochs : int
    seed : int
        Seed of the order of the rows and of the noise.
    """
    model = copy.copy(model)
    model.network = _trainable(model.network)
    rows = torch.empty(X.shape, dtype=model.dtype)
    for part, chunk in dense_chunks(X):
        model.scaler.transform(chunk, rows[part].numpy())
    size = min(CODEC_BATCH, len(rows))
    with computing(model.network.device, 3.0 * model.network.flops * size):
        training = _Training(model, quantizer, step, rows[: 16 * CODEC_BATCH], size)
        n_batches = len(rows) // size
        for epoch in range(n_epochs):
            rng = generator(seed, EPOCH_STREAM + epoch)
            order = torch.randperm(len(rows), generator=rng)[: n_batches * size]
            for i, batch in enumerate(order.view(n_batches, size)):
                progress = (epoch + i / n_batches) / n_epochs
                training.update(rows[batch], progress, rng)
    return model


def _trainable(network: Network) -> Network:
    """A copy in which no latent and no unit is dropped."""
    if trained_part(network) is not network:
        raise ValueError(
            "network='scattering' is trained on coordinates of images, not on pixels, and cannot "
            "be trained on for fewer bytes. Pass max_epochs=0; or network='mlp', which rebuilds "
            "pixels better."
        )
    spec = network.spec
    if isinstance(spec, DenseSpec):
        spec = dataclasses.replace(spec, dropout=0.0, ordered=False)
    return copied(network, spec)


class _Training:
    """Updates of a model and of the densities of its coordinates."""

    def __init__(self, model: Model, quantizer: Quantizer, step: float, first: Tensor, size: int):
        network = model.network
        gradients = torch.zeros_like(network.parameters)
        self._step = make_step(network, gradients, size, model.dtype, latent_penalty=True)
        self._step.controls.on_latents = self._quantize
        self._link = loss_of(model.loss, None).link
        self._bounds = scaled_bounds(model.scaler, model.dtype, network.device)
        self._price = BIT_PRICE * step**2
        like = network.parameters
        self._center, self._forward, self._back = (
            torch.tensor(array, dtype=like.dtype, device=like.device)
            for array in (quantizer.center, quantizer.to_coordinates, quantizer.to_latents)
        )
        latents = network.encode(first.nan_to_num(0.0).to(like.device))[0]
        self._density = first_density((latents - self._center) @ self._forward)
        self._slope = torch.zeros_like(self._density)
        self._optimizers = [
            _adam(network.parameters, gradients, CODEC_RATE),
            _adam(self._density.view(-1), self._slope.view(-1), CODEC_DENSITY_RATE),
        ]
        self._n_updates = 0

    def update(self, rows: Tensor, progress: float, rng: torch.Generator) -> None:
        step = self._step
        rows = rows.to(self._center.device)
        step.input[0] = rows.nan_to_num(0.0)
        step.offsets.copy_(torch.randint(2**62, step.offsets.shape, generator=rng))
        step.forward()
        noise = torch.rand(self._u.shape, generator=rng, dtype=rows.dtype) - 0.5
        output = within(step.output, self._bounds)
        variables = [t.detach().requires_grad_() for t in (output[0], self._u, self._density)]
        with torch.enable_grad():
            loss = self._loss(rows, noise.to(rows.device), *variables)
        slopes = torch.autograd.grad(loss, variables)
        step.gradient[0] = slopes[0]
        step.latent_gradient[0] = slopes[1] @ self._forward.T
        self._slope.copy_(slopes[2])
        step.backward()
        self._n_updates += 1
        for optimizer in self._optimizers:
            optimizer.step(self._n_updates, SCHEDULES["one_cycle"](progress))

    def _loss(
        self, rows: Tensor, noise: Tensor, output: Tensor, u: Tensor, density: Tensor
    ) -> Tensor:
        """Bits per row, plus the squared error in bits."""
        error = self._link(output) - rows
        # A missing cell has no error.
        error = torch.where(rows.isnan(), 0.0, error).square().sum()
        return (error / self._price + density_bits(density, u + noise).sum()) / len(rows)

    def _quantize(self, latents: Tensor) -> None:
        self._u = (latents[0] - self._center) @ self._forward
        latents[0] = self._u.round() @ self._back + self._center


def _adam(parameters: Tensor, gradients: Tensor, rate: float) -> Optimizer:
    return Optimizer("adam", parameters, gradients, {}, rate, 0.0, 0)

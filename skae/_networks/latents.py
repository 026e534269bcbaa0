"""Latents that are drawn: a normal distribution for each row (Kingma and Welling 2014).

The encoder gives its mean and the logarithm of its variance, side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skae._runtime.randomness import TABLE_STREAM, RandomTable, generator, table_offsets

# Which draw of a row this is, beside those of dropout and of ordered latents.
_DRAW = -2

# Largest logarithm of a variance, up and down: beyond, exp would leave float32.
_MOST = 20.0


@dataclass
class LatentControls:
    """What may be set between the steps of a training run.

    Attributes
    ----------
    n_kept : int
        Sparse latents that are kept of a row.
    on_latents : callable or None
        Called with the latents, which it may overwrite before they are decoded. Going
        backward, they count as what they were.
    """

    n_kept: int = 0
    on_latents: Callable[[Tensor], object] | None = None


def halves(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance, (..., n_latents) each, of what the encoder gives."""
    mean, log_variance = codes.chunk(2, -1)
    return mean.contiguous(), log_variance.clamp(-_MOST, _MOST)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the standard normal distribution, (...,)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(-1)


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    return mean + (0.5 * log_variance).exp() * noise


class NormalDraws:
    """Standard normal numbers for the rows of a batch, by their random offsets."""

    def __init__(self, n_latents: int, like: Tensor):
        rng = generator(0, TABLE_STREAM)
        values = torch.randn(RandomTable.SIZE, generator=rng, dtype=torch.float32)
        self._table = RandomTable(values.to(like.dtype).to(like.device), n_latents)

    def fill(self, offsets: Tensor, out: Tensor) -> None:
        self._table.rows(table_offsets(offsets, _DRAW), out.view(-1, out.shape[-1]))


class Posterior:
    """The stage of a step that draws latents, forward and backward written out.

    Attributes
    ----------
    latents : Tensor of shape (K, n, n_latents)
        Written by :meth:`forward`.
    divergence_gradient : Tensor of shape (K, n, 1)
        Gradient of the loss by each row's divergence; filled by the caller before
        :meth:`backward`.
    """

    def __init__(self, codes: Tensor, offsets: Tensor):
        n_latents = codes.shape[-1] // 2
        self._codes, self._offsets, self._gradient = codes, offsets, torch.empty_like(codes)
        self.latents = codes.new_empty(*codes.shape[:-1], n_latents)
        self.divergence_gradient = codes.new_zeros(*codes.shape[:-1], 1)
        self._noise = torch.empty_like(self.latents)
        self._draws = NormalDraws(n_latents, codes)

    def forward(self) -> None:
        self._draws.fill(self._offsets, self._noise)
        self._mean, self._log_variance = halves(self._codes)
        # The noise becomes what is added to the mean.
        self._noise.mul_((0.5 * self._log_variance).exp_())
        torch.add(self._mean, self._noise, out=self.latents)

    def divergence(self) -> Tensor:
        return divergence(self._mean, self._log_variance)

    def backward(self, g: Tensor) -> None:
        """Write the gradient by the encoder's output, given that by the latents."""
        by_mean, by_log_variance = self._gradient.chunk(2, -1)
        weight, log_variance = self.divergence_gradient, self._log_variance
        torch.addcmul(g, weight, self._mean, out=by_mean)
        torch.mul(weight, log_variance.exp().sub_(1.0), out=by_log_variance)
        by_log_variance.addcmul_(g, self._noise).mul_(0.5)
        # Nothing passes where the logarithm was cut off.
        by_log_variance.mul_(log_variance.abs() < _MOST)

    @property
    def gradient(self) -> Tensor:
        """Gradient by the encoder's output, (K, n, 2 * n_latents)."""
        return self._gradient


class Mean(nn.Module):
    """The posterior mean, of what an encoder gives."""

    def forward(self, codes: Tensor) -> Tensor:
        return halves(codes)[0]

"""Latents drawn from a normal distribution for each row (Kingma and Welling 2014).

The encoder gives the means and the logarithms of the variances, side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skae._runtime.randomness import (
    DRAWN_SALT,
    TABLE_STREAM,
    RandomTable,
    generator,
    table_offsets,
)

# Largest absolute log variance: beyond it, exp would leave the range of float32.
_MOST = 20.0


@dataclass
class LatentControls:
    """Settings of the latents that may change between training steps.

    Attributes
    ----------
    n_kept : int
        Number of latents that are kept of each row, if they are sparse.
    on_latents : callable or None
        Called with the latents, which it may overwrite before they are decoded. The
        backward pass ignores the change.
    """

    n_kept: int = 0
    on_latents: Callable[[Tensor], object] | None = None


def halves(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Split the encoder's output into mean and log variance, (..., n_latents) each."""
    mean, log_variance = codes.chunk(2, -1)
    return mean.contiguous(), log_variance.clamp(-_MOST, _MOST)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the standard normal distribution, (...,)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(-1)


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    return mean + (0.5 * log_variance).exp() * noise


class NormalDraws:
    """Standard normal numbers for the rows of a batch, chosen by the rows' random offsets."""

    def __init__(self, n_latents: int, like: Tensor):
        rng = generator(0, TABLE_STREAM)
        values = torch.randn(RandomTable.SIZE, generator=rng, dtype=torch.float32)
        self._table = RandomTable(values.to(like.dtype).to(like.device), n_latents)

    def fill(self, offsets: Tensor, out: Tensor) -> None:
        self._table.rows(table_offsets(offsets, DRAWN_SALT), out.view(-1, out.shape[-1]))


class Posterior:
    """The stage of a step that draws latents, with a backward pass written by hand.

    Attributes
    ----------
    latents : Tensor of shape (K, n, n_latents)
        Written by :meth:`forward`.
    divergence_gradient : Tensor of shape (K, n, 1)
        Gradient of the loss with respect to each row's divergence; filled by the caller
        before :meth:`backward`.
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
        # From here on, the noise is the difference of the latents from their mean.
        self._noise.mul_((0.5 * self._log_variance).exp_())
        torch.add(self._mean, self._noise, out=self.latents)

    def divergence(self) -> Tensor:
        return divergence(self._mean, self._log_variance)

    def backward(self, g: Tensor) -> None:
        """From the gradient ``g`` of the latents, compute that of the encoder's output."""
        by_mean, by_log_variance = self._gradient.chunk(2, -1)
        weight, log_variance = self.divergence_gradient, self._log_variance
        torch.addcmul(g, weight, self._mean, out=by_mean)
        torch.mul(weight, log_variance.exp().sub_(1.0), out=by_log_variance)
        by_log_variance.addcmul_(g, self._noise).mul_(0.5)
        # No gradient passes where the log variance was clamped.
        by_log_variance.mul_(log_variance.abs() < _MOST)

    @property
    def gradient(self) -> Tensor:
        """Gradient with respect to the encoder's output, (K, n, 2 * n_latents)."""
        return self._gradient


class Mean(nn.Module):
    """Takes the posterior mean from an encoder's output."""

    def forward(self, codes: Tensor) -> Tensor:
        return halves(codes)[0]

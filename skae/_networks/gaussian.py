"""What a Gaussian expects of missing cells, given the observed ones of the row."""

import torch
from torch import Tensor, nn

from skae._networks.principal import principal_axes
from skae._runtime.tuning import FACTOR_PASSES, FACTOR_PRIOR, LEAST_FACTOR_NOISE


class FactorGaussian(nn.Module):
    """A factor model: ``center + loadings @ factors``, and independent noise in each feature.

    Factors are standard normal. A row's observed cells tell their mean, and this what the others
    are expected to be; the cost grows with the number of features, not with its cube.

    Attributes
    ----------
    center, noise : Tensor of shape (n_features,)
        Means, and variances of the noise.
    loadings : Tensor of shape (n_features, n_factors)
    """

    center: Tensor
    noise: Tensor
    loadings: Tensor

    def __init__(self, n_features: int, n_factors: int):
        super().__init__()
        self.register_buffer("center", torch.zeros(n_features))
        self.register_buffer("noise", torch.ones(n_features))
        self.register_buffer("loadings", torch.zeros(n_features, n_factors))

    def know_nothing(self) -> None:
        """Nothing is known: zeros are expected."""
        for value, buffer in ((0.0, self.center), (1.0, self.noise), (0.0, self.loadings)):
            buffer.fill_(value)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (n, n_features) as they are expected to be; NaN means missing."""
        with torch.autocast(x.device.type, enabled=False):
            weights = (~x.isnan()).to(x.dtype)
            return self.center + self._factors(x, weights)[0] @ self.loadings.T

    def _factors(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Means (n, n_factors) and precisions (n, n_factors, n_factors) of the rows' factors."""
        n_factors = self.loadings.shape[1]
        scaled = weights / self.noise
        pairs = _pairs(self.loadings)
        precision = (scaled @ pairs).view(-1, n_factors, n_factors)
        precision = precision + torch.eye(n_factors, dtype=x.dtype, device=x.device)
        told = (scaled * (x.nan_to_num(0.0) - self.center)) @ self.loadings
        return torch.linalg.solve(precision, told), precision

    def fit(self, x: Tensor, weights: Tensor | None, seed: int) -> None:
        """Learn from rows with gaps, by expectation maximization from principal axes on.

        A normal prior of the loadings keeps few rows from being learned by heart (Rubin and
        Thayer, "EM algorithms for ML factor analysis", 1982).
        """
        observed = (~x.isnan()).double()
        if weights is not None:
            observed *= weights.double()[:, None]
        total = observed.sum(0).clamp(min=1e-30)
        x = x.double().nan_to_num(0.0)
        center = (observed * x).sum(0) / total
        x = (x - center) * (observed > 0)
        variance = (observed * x.square()).sum(0) / total
        own = FactorGaussian(*self.loadings.shape).double()
        start = principal_axes(x, weights, self.loadings.shape[1], seed)
        own.loadings[:, : len(start.axes)] = (start.axes * start.deviations[:, None]).T
        least = (LEAST_FACTOR_NOISE * variance).clamp(min=1e-12)
        own.noise.copy_((variance - own.loadings.square().sum(1)).maximum(least))
        for _ in range(FACTOR_PASSES):
            own._improve(x, observed, least)
        own.center.add_(center)
        for mine, found in zip(self.buffers(), own.buffers(), strict=True):
            mine.copy_(found)

    def _improve(self, x: Tensor, weights: Tensor, least: Tensor) -> None:
        """One pass; ``weights`` are those of the cells, zero where they are missing.

        ``least`` is the smallest noise of each feature.
        """
        n_factors = self.loadings.shape[1]
        factors, precision = self._factors(x, (weights > 0).to(x.dtype))
        spread = torch.linalg.inv(precision).flatten(1)
        moments = (weights.T @ (spread + _pairs(factors))).view(-1, n_factors, n_factors)
        prior = FACTOR_PRIOR * weights.amax(1).sum()
        moments += prior * torch.eye(n_factors, dtype=x.dtype)
        told = (weights * (x - self.center)).T @ factors
        self.loadings.copy_(torch.linalg.solve(moments, told))
        rest = weights * (x - self.center - factors @ self.loadings.T)
        total = weights.sum(0).clamp(min=1e-30)
        squares = (rest.square() / weights.clamp(min=1e-30)).sum(0)
        squares += (_pairs(self.loadings) * (weights.T @ spread)).sum(1)
        self.noise.copy_((squares / total).maximum(least))
        self.center.add_(rest.sum(0) / total)


def _pairs(x: Tensor) -> Tensor:
    """Products of all pairs of columns, (n, k * k)."""
    return (x[:, :, None] * x[:, None, :]).flatten(1)

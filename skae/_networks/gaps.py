"""A network that fills the gaps of rows: what a Gaussian expects there, and what it adds to it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skae._data.categories import Categories
from skae._networks.activations import ACTIVATIONS
from skae._networks.builders import Builder, Shape
from skae._networks.dense_step import dropout_table
from skae._networks.gaussian import FactorGaussian
from skae._runtime.randomness import DROPOUT_SALT, RandomTable, table_offsets
from skae._runtime.tuning import (
    FACTORS,
    GAP_LEVELS,
    GAP_LEVELS_OF_ALL,
    LEAST_SHARE,
)


@dataclass(frozen=True)
class GapBuilder(Builder):
    """How to build the network for rows of numbers, and of categories after them.

    Attributes
    ----------
    layers : tuple of int
        Widths of the hidden layers.
    activation : str
    normalization : {"batch", "layer"} or None
    dropout : float
        Share of hidden units set to zero in training.
    n_units : int
        Features of categories; they come last.
    """

    layers: tuple[int, ...]
    activation: str = "silu"
    normalization: str | None = None
    dropout: float = 0.0
    n_units: int = 0

    missing = math.nan

    def __call__(self, input_shape: Shape, n_components: int) -> tuple[nn.Module, nn.Module]:
        pair = super().__call__(input_shape, n_components)
        assert isinstance(pair[0], Gaps)
        pair[0].know_nothing()
        return pair

    def build(self, input_shape: Shape, n_components: int) -> tuple[nn.Module, nn.Module]:
        return Gaps(self, input_shape[0]), nn.Identity()

    def draw(self, modules: Iterable[nn.Module], rng: torch.Generator) -> None:
        modules = list(modules)
        super().draw(modules, rng)
        for module in modules:
            if isinstance(module, Gaps):
                # Training starts at what the Gaussian expects.
                module.exit.weight.data.zero_()

    def after(self, i: int, width: int) -> list[nn.Module]:
        """The layers that follow a hidden linear one."""
        modules: list[nn.Module] = []
        if self.normalization is not None:
            kind = nn.BatchNorm1d if self.normalization == "batch" else nn.LayerNorm
            modules.append(kind(width))
        modules.append(ACTIVATIONS[self.activation].module())
        if self.dropout:
            modules.append(RowDropout(self.dropout, i))
        return modules


class RowDropout(nn.Module):
    """Dropout as of dense networks: what is dropped follows from a row's offset, not its place."""

    offsets: Tensor | None = None

    def __init__(self, rate: float, layer: int):
        super().__init__()
        self.rate, self.layer = rate, layer
        self._table: RandomTable | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.offsets is None:
            return x
        if self._table is None:
            self._table = dropout_table(self.rate, x)
        offsets = table_offsets(self.offsets, DROPOUT_SALT + self.layer)
        return x * self._table.rows(offsets, torch.empty_like(x))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class Gaps(nn.Module):
    """Maps rows, in which NaN means missing, to the outputs for all cells.

    Each number also enters by how far it has passed each of a few levels, its quantiles, so that
    the first layer bends where the data do (Gorishniy et al., "On embeddings for numerical
    features in tabular deep learning", 2022).

    Attributes
    ----------
    levels : Tensor of shape (n_levels, n_numbers)
    shares, scale : Tensor of shape (n_units,)
        Share of each value of a category, and what its unit was divided by.
    """

    levels: Tensor
    shares: Tensor
    scale: Tensor

    def __init__(self, builder: GapBuilder, n_features: int):
        super().__init__()
        self.n_numbers = n_features - builder.n_units
        most = GAP_LEVELS_OF_ALL // max(self.n_numbers, 1)
        self.gaussian = FactorGaussian(n_features, min(FACTORS, n_features))
        self.register_buffer("levels", torch.zeros(min(GAP_LEVELS, most) + 1, self.n_numbers))
        self.register_buffer("shares", torch.ones(builder.n_units))
        self.register_buffer("scale", torch.ones(builder.n_units))
        width, layers = 2 * n_features + self.levels[1:].numel(), list[nn.Module]()
        for i, after in enumerate(builder.layers):
            layers += [nn.Linear(width, after), *builder.after(i, after)]
            width = after
        self.layers = nn.Sequential(*layers)
        self.exit = nn.Linear(width, n_features)

    def know_nothing(self) -> None:
        """Set what is not trained to plain values."""
        self.gaussian.know_nothing()
        for value, buffer in ((0.0, self.levels), (1.0, self.shares), (1.0, self.scale)):
            buffer.fill_(value)

    def fit(
        self, x: Tensor, weights: Tensor | None, categories: Categories | None, seed: int
    ) -> None:
        """Learn what is not trained from scaled rows (n, n_features) with gaps."""
        if categories is not None:
            self.shares.copy_(categories.center)
            self.scale.copy_(categories.scale)
        self.gaussian.fit(x, weights, seed)
        if len(self.levels) > 1:
            self.levels.copy_(quantiles(x[:, : self.n_numbers], weights, len(self.levels)))

    def forward(self, x: Tensor) -> Tensor:
        observed = ~x.isnan()
        filled = torch.where(observed, x, self.gaussian(x))
        given = torch.cat([filled, observed.to(filled.dtype), self._passed(filled)], 1)
        correction = torch.where(observed, 0.0, self.exit(self.layers(given)))
        return self._as_outputs(filled) + correction

    def _passed(self, x: Tensor) -> Tensor:
        """How far numbers have passed from each level to the next, in [0, 1]."""
        low, high = self.levels[:-1], self.levels[1:]
        steps = (x[:, None, : self.n_numbers] - low) / (high - low).clamp(min=1e-9)
        return steps.clamp(0.0, 1.0).flatten(1)

    def _as_outputs(self, x: Tensor) -> Tensor:
        """Numbers as they are, and of categories logits that give these shares."""
        numbers, units = x[:, : self.n_numbers], x[:, self.n_numbers :]
        shares = units * self.scale + self.shares
        return torch.cat([numbers, shares.clamp(min=LEAST_SHARE).log()], 1)


def quantiles(x: Tensor, weights: Tensor | None, n: int) -> Tensor:
    """Values (n, n_features) at equal steps of the weight below them; zero where all are NaN."""
    values, order = x.sort(0)  # NaN is last
    own = torch.ones_like(x) if weights is None else weights.to(x)[:, None].expand_as(x)
    below = (own.gather(0, order) * ~values.isnan()).cumsum(0)
    steps = torch.linspace(0.0, 1.0, n, dtype=x.dtype, device=x.device)
    # What is short of a step by rounding alone has reached it.
    wanted = (steps[:, None] * below[-1] * (1.0 - 1e-9)).T.contiguous()
    places = torch.searchsorted(below.T.contiguous(), wanted).T
    return values.gather(0, places).nan_to_num(0.0)

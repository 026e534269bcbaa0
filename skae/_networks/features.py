"""A dense network that gives many features of a row: steps of its columns, and hidden activations.

Each column is cut into pieces at quantiles, and each piece gives a coordinate that rises from zero
to one along it (Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular
deep learning", NeurIPS 2022), so that a linear model of coordinates bends at the cuts. The network
reads and rebuilds them by one layer, whose activations join columns.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skae._networks.dense import DenseSpec
from skae._networks.fronted import FrontedNetwork
from skae._networks.products import padded
from skae._runtime.tuning import COLUMN_PIECES, FEATURES_VARIANCE

# Cuts are found in so many coordinates at most, about; columns of wider rows have fewer pieces.
_MOST_COORDINATES = 4096

# Weights that are lost in rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class FeaturesSpec(DenseSpec):
    """The architecture of the dense network, whose features are coordinates of pieces.

    Attributes
    ----------
    pieces : tuple of int
        Pieces of each column.
    """

    pieces: tuple[int, ...] = (1,)

    @property
    def n_given(self) -> int:
        return len(self.pieces)

    @property
    def n_outputs(self) -> int:
        """Features that are given: all coordinates and all hidden units."""
        return self.n_features + self.n_latents


def features_shapes(spec: FeaturesSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a :class:`Pieces`, and of the gains of the hidden units."""
    names, each = ("start", "length", "center", "scale"), spec.n_features
    return {**dict.fromkeys(names, (each,)), "gain": (spec.n_latents,)}


def cuts_of(rows: Tensor, weights: Tensor | None) -> list[Tensor]:
    """Where the pieces of each column begin and end; a column that never varies has one piece.

    The cuts are quantiles, or the values themselves where there are few.
    """
    most = max(1, min(COLUMN_PIECES, _MOST_COORDINATES // rows.shape[1]))
    shares = torch.arange(most + 1, dtype=torch.float64, device=rows.device) / most
    weights = torch.ones_like(rows[:, 0]) if weights is None else weights
    return [_cuts(column, weights.double(), shares) for column in rows.T]


def _cuts(column: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    observed = ~column.isnan()
    values, order = column[observed].sort()
    cuts = values.unique_consecutive()
    if len(cuts) > len(shares):
        below = weights[observed][order].cumsum(0)
        # As many rows as a weight says would do, whatever the rounding of the sum.
        places = torch.searchsorted(below, below[-1] * (shares - _ROUNDING).clamp(min=0))
        cuts = values[places.clamp(max=len(values) - 1)].unique_consecutive()
    if len(cuts) < 2:
        start = cuts[0] if len(cuts) else column.new_zeros(())
        cuts = torch.stack([start, start + 1])
    return cuts


class Pieces(nn.Module):
    """From scaled rows to coordinates of mean zero and variance one; zero where a cell is missing.

    Attributes
    ----------
    start, length : Tensor of shape (n_coordinates,)
        Of each piece.
    center, scale : Tensor of shape (n_coordinates,)
        Mean and standard deviation of each share of a piece.
    owner : Tensor of shape (n_coordinates,)
        The column of each piece.
    """

    start: Tensor
    length: Tensor
    center: Tensor
    scale: Tensor
    owner: Tensor

    def __init__(self, spec: FeaturesSpec, like: Tensor):
        super().__init__()
        for name in ("start", "length", "center", "scale"):
            self.register_buffer(name, like.new_ones(spec.n_features))
        pieces = torch.tensor(spec.pieces, device=like.device)
        owner = torch.arange(len(pieces), device=like.device).repeat_interleave(pieces)
        self.register_buffer("owner", owner, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        return ((self._shares(rows) - self.center) / self.scale).nan_to_num(0.0)

    def _shares(self, rows: Tensor) -> Tensor:
        """How much of each piece lies below a row's value."""
        return ((rows[..., self.owner] - self.start) / self.length).clamp(0.0, 1.0)

    @property
    def flops(self) -> int:
        """Operations for one row."""
        return 6 * len(self.start)

    def fit(self, rows: Tensor, weights: Tensor | None) -> None:
        """Learn the pieces from scaled rows."""
        cuts = cuts_of(rows, weights)
        self.start.copy_(torch.cat([cut[:-1] for cut in cuts]))
        self.length.copy_(torch.cat([cut.diff() for cut in cuts]))
        shares = self._shares(rows)
        mean, variance = moments_of(shares, weights)
        self.center.copy_(mean)
        self.scale.copy_(torch.where(variance > 0, variance, 1.0).sqrt())


def moments_of(rows: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance of each column, in float64, without missing cells."""
    observed = (~rows.isnan()).double()
    if weights is not None:
        observed *= weights.double()[:, None]
    rows, count = rows.double().nan_to_num(0.0), observed.sum(0).clamp(min=1e-30)
    mean = (observed * rows).sum(0) / count
    return mean, (observed * (rows - mean).square()).sum(0) / count


class _Whole(nn.Module):
    """From coordinates to scaled rows: the start of a column's first piece, and shares of all."""

    first: Tensor

    def __init__(self, pieces: Pieces, spec: FeaturesSpec):
        super().__init__()
        self.pieces = pieces
        first = torch.tensor([0, *itertools.accumulate(spec.pieces[:-1])])
        self.register_buffer("first", first.to(pieces.owner), persistent=False)

    def forward(self, coordinates: Tensor) -> Tensor:
        pieces = self.pieces
        lengths = (coordinates * pieces.scale + pieces.center) * pieces.length
        start = pieces.start[self.first].expand(*coordinates.shape[:-1], -1)
        return start.index_add(-1, pieces.owner, lengths)


class _Joined(nn.Module):
    """Coordinates and hidden units, which together vary as a given number of columns do."""

    gain: Tensor

    def __init__(self, hidden: nn.Module, gain: Tensor):
        super().__init__()
        self.hidden = hidden
        self.register_buffer("gain", gain)

    def forward(self, coordinates: Tensor) -> Tensor:
        return joined(coordinates, self.hidden(coordinates), self.gain)


class _Hidden(nn.Module):
    """The hidden units among the features."""

    gain: Tensor

    def __init__(self, gain: Tensor):
        super().__init__()
        self.register_buffer("gain", gain)

    def forward(self, features: Tensor) -> Tensor:
        return features[..., -len(self.gain) :] / self.gain


def joined(coordinates: Tensor, hidden: Tensor, gain: Tensor) -> Tensor:
    """Coordinates, which have half of the variance, and hidden units with their gain."""
    share = (FEATURES_VARIANCE / 2 / coordinates.shape[-1]) ** 0.5
    return torch.cat([coordinates * share, hidden * gain], -1)


class FeaturesNetwork(FrontedNetwork):
    """A dense autoencoder of coordinates, whose hidden layer is given beside them.

    Attributes
    ----------
    front : Pieces
    back : Module
    gain : Tensor of shape (n_latents,)
        What hidden units are multiplied by, so that each varies as much as the others.
    """

    spec: FeaturesSpec
    # The front knows what stands for a missing cell.
    missing = float("nan")

    def __init__(self, spec: FeaturesSpec, parameters: Tensor, buffers: Tensor):
        super().__init__(spec, parameters, buffers)
        self.gain = parameters.new_ones(spec.n_latents)

    def _ends(self) -> tuple[nn.Module, nn.Module]:
        front = Pieces(self.spec, self.parameters)
        return front, _Whole(front, self.spec)

    def fit_gain(self, rows: Tensor, weights: Tensor | None) -> None:
        """Let hidden units of scaled rows have the other half of the variance, in equal parts."""
        hidden = self.dense.encode(padded(self.front(rows)))[0, : len(rows)]
        _, variance = moments_of(hidden, weights)
        share = FEATURES_VARIANCE / 2 / self.spec.n_latents
        self.gain.copy_((share / torch.where(variance > 0, variance, 1.0)).sqrt())

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"gain": self.gain}

    def encode(self, x: Tensor) -> Tensor:
        """Features (1, n, n_outputs) of scaled rows (n, n_given)."""
        coordinates = self.front(x)
        hidden = self.dense.encode(coordinates)
        return joined(coordinates.expand(*hidden.shape[:-1], -1), hidden, self.gain)

    def decode(self, z: Tensor) -> Tensor:
        """Scaled rows (1, n, n_given) of features."""
        return self.back(self.dense.decode(z[..., -len(self.gain) :] / self.gain))

    def modules(self, member: int = 0) -> tuple[nn.Sequential, nn.Sequential]:
        """From scaled rows to features and back, as torch modules."""
        encoder, decoder = self.dense.modules(member)
        first = nn.Sequential(self.front, _Joined(encoder, self.gain))
        last = nn.Sequential(_Hidden(self.gain), *decoder, self.back)
        return first.eval(), last.eval()

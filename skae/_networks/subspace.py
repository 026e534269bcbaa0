"""A dense network of wide rows: it learns in their principal subspace.

Rows of many thousands of features vary in few directions. The front gives a row's scores on the
leading principal axes; the network takes and rebuilds these, and the back makes rows of them. What
lies outside the subspace no network could rebuild better than its mean.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from skae._networks.dense import DenseSpec
from skae._networks.fronted import FrontedNetwork
from skae._networks.principal import axes_of_blocks

# Features of a row that count like one number that a prediction holds.
_FEATURES = 4


@dataclass(frozen=True)
class SubspaceSpec(DenseSpec):
    """The architecture of the dense network, whose features are scores on principal axes.

    Attributes
    ----------
    n_given : int
        Features of a row.
    """

    n_given: int = 1


def subspace_shapes(spec: SubspaceSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a :class:`Projection`."""
    k, n_axes, n_given = spec.n_members, spec.n_features, spec.n_given
    return {"center": (k, 1, n_given), "axes": (k, n_axes, n_given)}


class Projection(nn.Module):
    """From scaled rows to scores on each member's orthonormal axes.

    Parameters
    ----------
    center : Tensor of shape (K, 1, n_given)
    axes : Tensor of shape (K, n_axes, n_given)
        The last ones are zero where the rows vary in fewer directions.
    """

    center: Tensor
    axes: Tensor

    def __init__(self, center: Tensor, axes: Tensor):
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("axes", axes)

    def forward(self, rows: Tensor) -> Tensor:
        """Scores (K, n, n_axes) of rows (n, n_given)."""
        return (rows - self.center) @ self.axes.mT

    @property
    def flops(self) -> int:
        """Operations for one row."""
        return 2 * self.axes.numel()

    def fit(
        self, member: int, blocks: Callable[[], Iterable[tuple[Tensor, Tensor | None]]], seed: int
    ) -> None:
        """Learn the axes of a member from blocks of scaled rows with their weights."""
        _, n_axes, n_features = self.axes.shape
        found = axes_of_blocks(blocks, n_axes, n_features, seed)
        self.center[member] = found.mean
        self.axes[member, : len(found.axes)] = found.axes.to(self.axes)


class Rebuilding(nn.Module):
    """From each member's scores to scaled rows."""

    center: Tensor
    axes: Tensor

    def __init__(self, center: Tensor, axes: Tensor):
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("axes", axes)

    def forward(self, scores: Tensor) -> Tensor:
        """Rows (K, n, n_given) of scores (K, n, n_axes)."""
        return scores @ self.axes + self.center


class SubspaceNetwork(FrontedNetwork):
    """A dense autoencoder of scores, as one of rows.

    Attributes
    ----------
    front : Projection
    back : Rebuilding
    """

    spec: SubspaceSpec

    def _ends(self) -> tuple[nn.Module, nn.Module]:
        arrays = {n: self.parameters.new_zeros(s) for n, s in subspace_shapes(self.spec).items()}
        return Projection(**arrays), Rebuilding(**arrays)

    def ends_of(self, member: int) -> tuple[nn.Module, nn.Module]:
        center, axes = self.front.center[member], self.front.axes[member]
        return Projection(center, axes), Rebuilding(center, axes)

    def outside(self, residuals: Tensor) -> Tensor:
        """The size of residuals (K, n, n_given) outside of the subspace, (K, n, 1)."""
        inside = residuals @ self.front.axes.to(residuals).mT
        squares = residuals.square().sum(-1, keepdim=True) - inside.square().sum(-1, keepdim=True)
        return squares.clamp_(min=0.0).sqrt_()

    @property
    def row_width(self) -> int:
        return max(super().row_width, self.n_members * self.spec.n_given // _FEATURES)

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
    return {"center": (spec.n_given,), "axes": (spec.n_features, spec.n_given)}


class Projection(nn.Module):
    """From scaled rows to scores on orthonormal axes.

    Attributes
    ----------
    center : Tensor of shape (n_given,)
    axes : Tensor of shape (n_axes, n_given)
        The last ones are zero where the rows vary in fewer directions.
    """

    center: Tensor
    axes: Tensor

    def __init__(self, spec: SubspaceSpec, like: Tensor):
        super().__init__()
        for name, shape in subspace_shapes(spec).items():
            self.register_buffer(name, like.new_zeros(shape))

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.center) @ self.axes.T

    @property
    def flops(self) -> int:
        """Operations for one row."""
        return 2 * self.axes.numel()

    def fit(self, blocks: Callable[[], Iterable[tuple[Tensor, Tensor | None]]], seed: int) -> None:
        """Learn the axes from blocks of scaled rows with their weights."""
        n_axes, n_features = self.axes.shape
        found = axes_of_blocks(blocks, n_axes, n_features, seed)
        self.center.copy_(found.mean)
        self.axes[: len(found.axes)] = found.axes.to(self.axes)


class Rebuilding(nn.Module):
    """From scores to scaled rows."""

    center: Tensor
    axes: Tensor

    def __init__(self, projection: Projection):
        super().__init__()
        self.register_buffer("center", projection.center)
        self.register_buffer("axes", projection.axes)

    def forward(self, scores: Tensor) -> Tensor:
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
        front = Projection(self.spec, self.parameters)
        return front, Rebuilding(front)

    @property
    def row_width(self) -> int:
        return max(super().row_width, self.n_members * self.spec.n_given // _FEATURES)

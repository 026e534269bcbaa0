"""From latents to integers and back, with the same step for all latents.

An error of the latents matters through the error of the decoded row. To first order, the
metric ``G`` measures this: the mean of ``J.T @ J`` over the decoder's Jacobians ``J``. A
linear map turns the latents into uncorrelated coordinates in which ``G`` is the identity.
There, one step serves all coordinates, and the error of a row is the error of its
coordinates. For PCA the map is a rotation, and the method is transform coding (Goyal,
"Theoretical foundations of transform coding", 2001).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from skae._coding.entropy import Table

# Squared error, in steps, that one bit is worth. At this price, the slopes of step ** 2 / 12
# and of -log2(step) balance.
BIT_PRICE = np.log(2.0) / 6.0

# Coordinates are clipped to this many steps.
_MOST = 2**30

# Rows of each product. With other numbers of rows, other kernels might round differently.
_ROWS = 64


@dataclass(frozen=True)
class Quantizer:
    """Latents as integers.

    Attributes
    ----------
    center : ndarray of shape (n_components,)
    to_coordinates : ndarray of shape (n_components, n_coordinates)
        From centered latents to coordinates, in steps.
    to_latents : ndarray of shape (n_coordinates, n_components)
    """

    center: np.ndarray
    to_coordinates: np.ndarray
    to_latents: np.ndarray

    def coordinates(self, latents: np.ndarray) -> np.ndarray:
        """Coordinates (n, n_coordinates), float64; they are stored rounded to integers."""
        u = (latents.astype(np.float64) - self.center) @ self.to_coordinates
        return np.clip(u, -_MOST, _MOST)

    def latents(self, integers: np.ndarray) -> np.ndarray:
        """Latents (n, n_components), float64; those of a row are the same in any batch."""
        padded = np.zeros((-(-len(integers) // _ROWS) * _ROWS, integers.shape[1]))
        padded[: len(integers)] = integers
        blocks = padded.reshape(-1, _ROWS, integers.shape[1])
        latents = (blocks @ self.to_latents).reshape(len(padded), -1)
        return latents[: len(integers)] + self.center


def rounded(u: np.ndarray, tables: list[Table]) -> np.ndarray:
    """Coordinates (n, d) as integers.

    With tables, the next integer towards zero is taken where the bits that it saves are worth
    more than the error that it adds.
    """
    nearest = np.rint(u).astype(np.int64)
    if not tables:
        return nearest
    integers = np.empty_like(nearest)
    for j, table in enumerate(tables):
        choice = np.stack([nearest[:, j], nearest[:, j] - np.sign(nearest[:, j])])
        cost = (u[:, j] - choice) ** 2 + BIT_PRICE * table.bits(choice)
        integers[:, j] = np.where(cost[0] <= cost[1], *choice)
    return integers


def decoder_metric(
    decode: Callable[[np.ndarray], np.ndarray], latents: np.ndarray, weights: np.ndarray | float
) -> np.ndarray:
    """Mean of ``J.T @ J``, (d, d), by central differences.

    Parameters
    ----------
    decode : callable
        From latents (n, d) to rows (n, n_features).
    latents : ndarray of shape (n, d)
        Where to take the Jacobian.
    weights : ndarray of shape (n_features,) or float
        How much an error of one in each feature counts.
    """
    n_latents = latents.shape[1]
    widths = 0.05 * latents.std(axis=0)
    widths[widths == 0.0] = 1.0
    metric = np.zeros((n_latents, n_latents))
    for row in latents:
        moves = np.diag(widths)
        slopes = (decode(row + moves) - decode(row - moves)) * weights
        slopes = slopes.reshape(n_latents, -1) / (2.0 * widths[:, None])
        metric += slopes @ slopes.T
    return metric / len(latents)


def fit_quantizer(latents: np.ndarray, metric: np.ndarray, step: float) -> Quantizer:
    """The quantizer for a ``step`` in units of the decoded rows.

    Except for the first, coordinates that move the decoded rows by less than a hundredth of a
    step are left out.
    """
    center = latents.mean(axis=0, dtype=np.float64)
    covariance = np.atleast_2d(np.cov(latents, rowvar=False, dtype=np.float64))
    values, vectors = linalg.eigh(metric)
    kept = values > 1e-9 * values[-1]
    kept[-1] = True
    # The metric of a constant decoder is zero.
    roots = np.sqrt(values[kept]) if values[-1] > 0 else np.ones(1)
    variances, rotation = linalg.eigh(
        (roots * vectors[:, kept]).T @ covariance @ (vectors[:, kept] * roots)
    )
    order = np.argsort(-variances)
    order = order[: max(1, int((variances > (0.01 * step) ** 2).sum()))]
    to_coordinates = vectors[:, kept] * roots @ rotation[:, order] / step
    return Quantizer(
        center, to_coordinates, step * (vectors[:, kept] / roots @ rotation[:, order]).T
    )

"""Distances of rows from references, in the space of latents and residuals.

All members' are computed at once: a row alone would otherwise wait for the many small operations.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from skae._anomaly.thresholds import median_deviation, weighted_quantile
from skae._networks.products import ROW_BLOCK, by_blocks

# Distances that are in memory at once, so that they stay in the caches.
_DISTANCES = 1 << 18


class View(NamedTuple):
    """Where distances are taken.

    Attributes
    ----------
    references : {"few", "many", "center", "none"}
        Which of the member's references; the center alone is one. With none, the distance is the
        first column itself.
    center, basis : ndarray of shape (d,) and (d, d), or None
        What maps a row to where distances are taken.
    share : float
        Weight of one row in the covariance behind the basis.
    unit : float
        The median distance in the training data.
    location, scale : float
        Of the logarithm of the distances in this unit.
    """

    references: str
    center: np.ndarray | None = None
    basis: np.ndarray | None = None
    share: float = 0.0
    unit: float = 1.0
    location: float = 0.0
    scale: float = 1.0

    def calibrated(self, distances: Tensor, weights: Tensor) -> "View":
        """The view with unit, location and scale as these distances have them."""
        unit = weighted_quantile(distances.numpy(), weights.numpy(), 0.5)
        view = self._replace(unit=unit if unit > 0.0 else float(distances.mean()) or 1.0)
        logs = in_deviations(distances, view.unit, 0.0, 1.0).numpy()
        location = weighted_quantile(logs, weights.numpy(), 0.5)
        deviation = median_deviation(logs, location, weights.numpy())
        spread = float(np.sqrt(np.cov(logs, aweights=weights.numpy(), ddof=0)))
        # Never narrower than half of the standard deviation: where more than half of the
        # rows are copies, the others are not infinitely unusual.
        return view._replace(location=location, scale=max(deviation, 0.5 * spread, 1e-9))


class Member(NamedTuple):
    """What is usual for one autoencoder.

    Attributes
    ----------
    few : ndarray of shape (n_draws, n_few, d), or None
    many : ndarray of shape (1, n_many, d), or None
        Latents and residuals of training rows, float32, where a view needs them.
    views : list of View
    """

    few: np.ndarray | None
    many: np.ndarray | None
    views: list[View]

    def calibrated(self, distances: Tensor, weights: Tensor) -> "Member":
        """With views as these distances (n_views, n) have them."""
        pairs = zip(self.views, distances, strict=True)
        return self._replace(views=[view.calibrated(d, weights) for view, d in pairs])

    def references(self, view: View) -> Tensor:
        """The references of a view, (n_draws, n_references, d), in float64."""
        rows = {"few": self.few, "many": self.many, "center": view.center}[view.references]
        assert rows is not None
        references = torch.from_numpy(rows).double()
        return references.view(1, 1, -1) if rows.ndim == 1 else references


def in_deviations(distances: Tensor, unit: Any, location: Any, scale: Any) -> Tensor:
    """Distances in robust deviations from the median of the training data, by logarithm."""
    # A hundredth of the unit is as near as it gets: a copy of a reference is not
    # infinitely normal.
    return ((distances / unit + 0.01).log() - location) / scale


def first_column(rows: Tensor, alone: Tensor | None = None) -> Tensor:
    """The distances of a view without references, (K, n) of rows (K, n, d)."""
    return rows[..., 0]


class Distances:
    """The distances of one view of each member, with what depends on the fit alone computed once.

    Parameters
    ----------
    members : list of Member
    views : list of View
        One a member, all of one kind.
    """

    def __init__(self, members: list[Member], views: list[View]):
        each = [member.references(view) for member, view in zip(members, views, strict=True)]
        most = max(references.shape[1] for references in each)
        if len(each[0]) == 1:  # MKL rounds by the place of a row otherwise.
            most += -most % ROW_BLOCK
        # Fewer ones are filled up by copies, which are no nearer.
        each = [functional.pad(r, (0, 0, 0, most - r.shape[1]), mode="replicate") for r in each]
        self._shape = each[0].shape[:2]
        self._move = _move(views)
        references = self._moved(even(torch.stack(each).flatten(1, 2))).mT
        # A row's result has the same bits in parts of whole blocks.
        self._length = max(1, _DISTANCES // references[:, 0].numel() // ROW_BLOCK) * ROW_BLOCK
        self._norms = (references**2).sum(1, keepdim=True)
        # Rows, followed by two ones, times these are the squared distances less the rows' norms.
        factors = [-2.0 * references, self._norms, torch.zeros_like(self._norms)]
        self._factors = torch.cat(factors, 1).contiguous()
        # Below, a reference is the row itself. References are kept in float32.
        self._rounding = float(1e-9 * self._norms.mean())
        shares = [view.share for view in views]
        self._share = torch.tensor(shares, dtype=torch.float64).view(-1, 1, 1)

    def __call__(self, rows: Tensor, alone: Tensor | None = None) -> Tensor:
        """Distance of rows (K, n, d) from the nearest reference, on average over draws, (K, n).

        Rows that are ``alone`` leave themselves out of the references, and of the covariance.
        """
        rows = even(rows)
        if torch.compiler.is_exporting() or rows.shape[1] <= self._length:
            return self._of(rows, alone)
        parts = rows.split(self._length, 1)
        if alone is None:
            return torch.cat([self._of(part, None) for part in parts], 1)
        pairs = zip(parts, alone.split(self._length), strict=True)
        return torch.cat([self._of(*pair) for pair in pairs], 1)

    def _of(self, rows: Tensor, alone: Tensor | None) -> Tensor:
        rows = self._moved(rows)
        own = rows.square().sum(2, keepdim=True)
        # The row's own norm is added to the least of them alone.
        squares = by_blocks(functional.pad(rows, (0, 2), value=1.0), self._factors)
        if alone is not None:
            itself = squares <= self._rounding - own
            squares.masked_fill_(itself & alone[:, None], torch.inf)
            squares += self._without_itself(squares, own) * alone[:, None]
        nearest = squares.view(len(squares), -1, *self._shape).amin(3) + own
        if alone is not None:  # It may be the row itself for all references.
            nearest.masked_fill_(nearest.isinf(), 0.0)
        distances = torch.threshold(nearest, self._rounding, 0.0).sqrt()
        return distances[..., 0] if self._shape[0] == 1 else distances.mean(2)

    def _moved(self, rows: Tensor) -> Tensor:
        """Rows (K, n, d) where distances are taken."""
        if self._move is None:
            return rows
        center, basis = self._move
        return by_blocks(rows - center, basis)

    def _without_itself(self, squares: Tensor, own: Tensor) -> Tensor:
        """What squared distances gain if a row has no part in the covariance.

        By the formula of Sherman and Morrison (1950) for the inverse of a matrix less a row's.
        """
        along = own - (self._norms - squares) / 2
        gain = self._share * along**2 / (1.0 - self._share * own).clamp(min=0.01)
        return gain.nan_to_num(0.0, 0.0, 0.0)


def _move(views: list[View]) -> tuple[Tensor, Tensor] | None:
    """What moves rows of each member: a center (K, 1, d) and a basis (K, d, d)."""
    centers = [view.center for view in views if view.center is not None]
    bases = [view.basis for view in views if view.basis is not None]
    if not bases:
        return None
    center, basis = torch.from_numpy(np.stack(centers)), torch.from_numpy(np.stack(bases))
    return even(center.double()[:, None]), even(even(basis.double()).mT).mT.contiguous()


def even(rows: Tensor) -> Tensor:
    """Rows with a column of zeros more if their number is odd.

    The bits of a product depend on whether a row of float64 begins at a multiple of 16 bytes.
    """
    return functional.pad(rows, (0, 1)) if rows.shape[-1] % 2 else rows

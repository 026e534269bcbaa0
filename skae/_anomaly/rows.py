"""Outlyingness of rows: calibrated distances in the space of latents and residuals.

A row's latents tell where it lies on what the autoencoder has learned, its residuals
how far off that. A *view* takes distances from a row's latents and residuals, each
the one to the nearest of some reference rows:

- "isolation": of 4 random rows, on average over 16 such draws. So few rows hardly ever
  hold an outlier, and a cluster of outliers is as far from them as a single one (Pang
  et al., "LeSiNN", 2015; after the subsamples of Liu et al., "Isolation forest", 2008);
- "mahalanobis": of the center alone, in units of the covariance of the innermost rows
  (Rousseeuw and Van Driessen 1999, with one trimming in place of their search);
- "nearest": of 1,024 rows (Sugiyama and Borgwardt 2013);
- "whitened": the same, in units of the covariance of all rows.

The logarithm of each distance is centered and scaled on rows that the member was not
trained on and averaged over the members. A smooth maximum combines the views: what one
of them finds far out is far out. docs/outliers.md tells what was tried.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skae._anomaly.thresholds import median_deviation, weighted_quantile
from skae._model.model import Coded
from skae._runtime.device import computing
from skae._runtime.randomness import SCORE_STREAM, generator
from skae._runtime.tuning import (
    COVARIANCE_RIDGE,
    ISOLATION_DRAWS,
    ISOLATION_ROWS,
    NEAREST_ROWS,
    TRIMMED_SHARE,
    VIEW_DIMENSIONS,
    VIEW_SHARPNESS,
)

# Which views each kind of score combines; "reconstruction" is the loss itself.
SCORES = {
    "auto": ("isolation", "mahalanobis", "nearest", "whitened"),
    "isolation": ("isolation",),
    "mahalanobis": ("mahalanobis",),
    "nearest": ("nearest", "whitened"),
    "reconstruction": (),
}

# Cells that are looked at for the moments of the features.
_MOMENT_VALUES = 1 << 22


class View(NamedTuple):
    """Where distances are taken.

    Attributes
    ----------
    references : ndarray of shape (n_draws, n_references, d)
        In the basis, if there is one.
    center, basis : ndarray of shape (d,) and (d, d), or None
        What maps a row there.
    unit : float
        The median distance in the training data.
    location, scale : float
        Of the logarithm of the distances in this unit.
    """

    references: np.ndarray
    center: np.ndarray | None = None
    basis: np.ndarray | None = None
    unit: float = 1.0
    location: float = 0.0
    scale: float = 1.0

    def distances(self, rows: Tensor, leave_out_self: bool = False) -> Tensor:
        """Distance of rows (n, d) from the nearest reference, on average over the draws, (n,)."""
        if self.basis is not None:
            rows = (rows - torch.from_numpy(self.center)) @ torch.from_numpy(self.basis)
        references, own = torch.from_numpy(self.references).flatten(0, 1), (rows**2).sum(1)
        norms = (references**2).sum(1)
        # Squared distances less the row's own norm, which is added to the least of them alone.
        squares = torch.addmm(norms, rows, references.T, alpha=-2.0)
        rounding = 1e-9 * norms.mean()  # Below, it is the reference itself.
        if leave_out_self:
            squares.masked_fill_(squares <= (rounding - own)[:, None], torch.inf)
        nearest = squares.view(-1, *self.references.shape[:2]).amin(2) + own[:, None]
        # It may be the row itself for all references.
        return nearest.masked_fill((nearest <= rounding) | nearest.isinf(), 0.0).sqrt().mean(1)

    def outlyingness(self, distances: Tensor) -> Tensor:
        """Distances in robust deviations from the median of the training data, by logarithm."""
        # A hundredth of the unit is as near as it gets: a copy of a reference is not
        # infinitely normal.
        return ((distances / self.unit + 0.01).log() - self.location) / self.scale

    def calibrated(self, distances: Tensor, weights: Tensor) -> "View":
        """The view with unit, location and scale as these distances have them."""
        unit = weighted_quantile(distances.numpy(), weights.numpy(), 0.5)
        view = self._replace(unit=unit if unit > 0.0 else float(distances.mean()) or 1.0)
        logs = view.outlyingness(distances).numpy()
        location = weighted_quantile(logs, weights.numpy(), 0.5)
        deviation = median_deviation(logs, location, weights.numpy())
        spread = float(np.sqrt(np.cov(logs, aweights=weights.numpy(), ddof=0)))
        # Never narrower than half of the standard deviation: where more than half of the
        # rows are copies, the others are not infinitely unusual.
        return view._replace(location=location, scale=max(deviation, 0.5 * spread, 1e-9))


@dataclass
class Scorer:
    """Calibrated views of each member, as plain arrays.

    Attributes
    ----------
    members : list of list of View
    features : ndarray of shape (3, n_features)
        Mean and standard deviation of each scaled feature, and the root mean square of
        its residuals.
    width : int
        Columns of latents and residuals.
    seed : int
        Of the random projection.
    """

    members: list[list[View]]
    features: np.ndarray
    width: int
    seed: int

    def outlyingness(self, coded: Coded) -> Tensor:
        """How far out rows are, (n,): about zero for a typical one."""
        projected = _projected(coded.joint, self.directions)
        by_view = [
            torch.stack([view.outlyingness(view.distances(rows)) for view in views])
            for views, rows in zip(self.members, projected, strict=True)
        ]
        return _combined(torch.stack(by_view).mean(0))

    def contributions(self, coded: Coded) -> Tensor:
        """The features' shares in the outlyingness, (n, n_features).

        A cell counts by how far it is off its reconstruction, and the more so the more
        unusual its value is by itself: a wide network reconstructs lone extremes well.
        """
        mean, deviation, residual_size = torch.from_numpy(self.features)
        extremes = ((coded.values - mean) / deviation) ** 2
        parts = (coded.residuals.mean(0) / residual_size).abs() * (1.0 + extremes).sqrt()
        shares = parts / parts.sum(1, keepdim=True).clamp(min=1e-300)
        return shares * self.outlyingness(coded).clamp(min=0.0)[:, None]

    @cached_property
    def directions(self) -> Tensor | None:
        """Where wide rows are projected; a batch takes as long to draw them as to score."""
        return projection(self.width, self.seed)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "directions"}


class RowCalibration:
    """What a pass over the calibration rows keeps of them, to fit a :class:`Scorer`.

    Parameters
    ----------
    n_rows : int
    seeds : tuple of int
        One a member.
    """

    def __init__(self, n_rows: int, seeds: tuple[int, ...]):
        self._n_rows, self._seeds = n_rows, seeds
        self._projected: np.ndarray | None = None
        self._values: list[np.ndarray] = []
        self._residuals: list[np.ndarray] = []

    def add(self, part: slice, coded: Coded) -> None:
        """Take a batch of the rows."""
        if self._projected is None:
            self._width = coded.joint.shape[-1]
            self._directions = projection(self._width, self._seeds[0])
            shape = self._n_rows, len(self._seeds), joint_width(self._width)
            self._projected = np.empty(shape)
        projected = _projected(coded.joint, self._directions)
        self._projected[part] = projected.transpose(0, 1).numpy()
        # As many rows for the moments of the features as a bound on memory allows.
        n_more = max(64, _MOMENT_VALUES // coded.values.shape[1]) - part.start
        if n_more > 0:
            self._values.append(coded.values[:n_more].numpy())
            self._residuals.append(coded.residuals.mean(0)[:n_more].numpy())

    def fit(self, kind: str, weights: np.ndarray, trained: Tensor) -> tuple[Scorer, np.ndarray]:
        """Fit views and calibrate them.

        Parameters
        ----------
        kind : str
            A key of ``SCORES`` that has views.
        weights : ndarray of shape (n,)
        trained : Tensor of shape (K, n), bool
            Which rows each member was trained on.

        Returns
        -------
        scorer : Scorer
        outlyingness : ndarray of shape (n,)
            Of each row by the members that were not trained on it; NaN where all were,
            unless each was trained on all rows: then by its distances to other rows.
        """
        assert self._projected is not None
        in_sample = bool(trained.all())
        unseen = trained if in_sample else ~trained
        weight = torch.from_numpy(weights)
        members, outlyingness = [], []
        for k, seed in enumerate(self._seeds):
            rows = torch.from_numpy(self._projected[:, k])
            views = _views(SCORES[kind], rows, weight * trained[k], seed)
            distances = [view.distances(rows, in_sample) for view in views]
            used = weight * unseen[k]
            views = [v.calibrated(d, used) for v, d in zip(views, distances, strict=True)]
            by_view = [v.outlyingness(d) for v, d in zip(views, distances, strict=True)]
            members.append(views)
            outlyingness.append(torch.stack(by_view).where(unseen[k], torch.nan))
        scorer = Scorer(members, self._moments(weights), self._width, self._seeds[0])
        return scorer, _combined(torch.stack(outlyingness).nanmean(0)).numpy()

    def _moments(self, weights: np.ndarray) -> np.ndarray:
        """``Scorer.features``."""
        values, residuals = np.concatenate(self._values), np.concatenate(self._residuals)
        share = weights[: len(values), None] / weights[: len(values)].sum()
        mean = (share * values).sum(0)
        squares = [(share * (values - mean) ** 2).sum(0), (share * residuals**2).sum(0)]
        return np.stack([mean, *(np.sqrt(square) + 1e-9 for square in squares)])


def _combined(by_view: Tensor) -> Tensor:
    """A smooth maximum over the views, (n,), of (n_views, n)."""
    smooth = torch.logsumexp(VIEW_SHARPNESS * by_view, 0) - np.log(len(by_view))
    return smooth / VIEW_SHARPNESS


def _views(names: tuple[str, ...], rows: Tensor, weights: Tensor, seed: int) -> list[View]:
    """The views of one member, from rows (n, d); rows that it has not seen have no weight."""
    rng = generator(seed, SCORE_STREAM)
    direction = torch.randn(rows.shape[1], dtype=rows.dtype, generator=rng)
    order = (rows @ direction).argsort(stable=True)
    few = (
        _draw(order, weights, ISOLATION_DRAWS * ISOLATION_ROWS)
        .view(ISOLATION_ROWS, ISOLATION_DRAWS)
        .T
    )
    many = _draw(order, weights, NEAREST_ROWS).unique()  # Of fewer rows, each is drawn repeatedly.

    def isolation() -> View:
        return View(rows[few].numpy())

    def mahalanobis() -> View:
        distances = isolation().distances(rows)
        for _ in range(2):
            bound = weighted_quantile(distances.numpy(), weights.numpy(), 1.0 - TRIMMED_SHARE)
            # Copies of a row may differ by rounding.
            center, basis = _whitening(rows, weights * (distances <= bound * (1 + 1e-9)))
            view = View(np.zeros((1, 1, len(center))), center.numpy(), basis.numpy())
            distances = view.distances(rows)
        return view

    def nearest() -> View:
        return View(rows[many][None].numpy())

    def whitened() -> View:
        center, basis = _whitening(rows, weights)
        references = (rows[many] - center) @ basis
        return View(references[None].numpy(), center.numpy(), basis.numpy())

    made = {f.__name__: f for f in (isolation, mahalanobis, nearest, whitened)}
    return [made[name]() for name in names]


def _whitening(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Center (d,) and a basis (d, d) in which the rows have unit covariance."""
    share = (weights / weights.sum())[:, None]
    with computing(rows.device, flops=0.0):  # Several threads would give other bits.
        center = (share * rows).sum(0)
        centered = rows - center
        eigenvalues, vectors = torch.linalg.eigh(centered.T @ (share * centered))
    eigenvalues = eigenvalues.clamp(min=0.0)
    scales = (eigenvalues + COVARIANCE_RIDGE * eigenvalues.mean() + 1e-12).sqrt()
    # Contiguous, so that a copy of it gives the same bits.
    return center, (vectors / scales).contiguous()


def _draw(order: Tensor, weights: Tensor, size: int) -> Tensor:
    """Indices (size,) of rows, in proportion to their weights: systematic sampling.

    Along a random direction: spread over it, and by content alone, so that a weight of
    two is a row given twice.
    """
    cumulated = weights[order].cumsum(0)
    marks = (torch.arange(size, dtype=cumulated.dtype) + 0.5) / size * cumulated[-1]
    return order[torch.searchsorted(cumulated, marks).clamp(max=len(order) - 1)]


def joint_width(n_columns: int) -> int:
    """Columns that latents and residuals have once they are projected."""
    return min(n_columns, VIEW_DIMENSIONS)


def projection(width: int, seed: int) -> Tensor | None:
    """Random directions (width, ``VIEW_DIMENSIONS``) for wide rows, else None.

    Random projections keep distances (Johnson and Lindenstrauss 1984).
    """
    if width <= VIEW_DIMENSIONS:
        return None
    rng = generator(seed, SCORE_STREAM)
    directions = torch.randn(width, VIEW_DIMENSIONS, dtype=torch.float64, generator=rng)
    return directions / VIEW_DIMENSIONS**0.5


def _projected(joint: Tensor, directions: Tensor | None) -> Tensor:
    """Latents and residuals (K, n, d) in at most ``VIEW_DIMENSIONS`` columns."""
    return joint if directions is None else joint @ directions

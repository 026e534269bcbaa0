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

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from skae._anomaly.thresholds import median_deviation, weighted_quantile
from skae._model.model import ROW_BLOCK, Coded, padded
from skae._runtime.device import computing
from skae._runtime.randomness import SCORE_STREAM, generator
from skae._runtime.tuning import (
    COVARIANCE_RIDGE,
    FEWEST_HELD_OUT,
    ISOLATION_DRAWS,
    ISOLATION_ROWS,
    NEAREST_ROWS,
    TRIMMED_SHARE,
    VIEW_DIMENSIONS,
    VIEW_SHARPNESS,
)

# Distances that are in memory at once, so that they stay in the caches.
_DISTANCES = 1 << 18

# Which views each kind of score combines; "reconstruction" is the loss itself.
SCORES = {
    "auto": ("isolation", "mahalanobis", "nearest", "whitened"),
    "isolation": ("isolation",),
    "mahalanobis": ("mahalanobis",),
    "nearest": ("nearest", "whitened"),
    "reconstruction": (),
}


class View(NamedTuple):
    """Where distances are taken.

    Attributes
    ----------
    references : {"few", "many", "center"}
        Which of the member's references; the center alone is one.
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
        logs = _in_deviations(distances, view.unit, 0.0, 1.0).numpy()
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


def _in_deviations(distances: Tensor, unit: Any, location: Any, scale: Any) -> Tensor:
    """Distances in robust deviations from the median of the training data, by logarithm."""
    # A hundredth of the unit is as near as it gets: a copy of a reference is not
    # infinitely normal.
    return ((distances / unit + 0.01).log() - location) / scale


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
        # Fewer ones are filled up by copies, which are no nearer.
        each = [functional.pad(r, (0, 0, 0, most - r.shape[1]), mode="replicate") for r in each]
        self._shape = each[0].shape[:2]
        self._center, self._basis = _bases(views)
        self._references = self._moved(torch.stack(each).flatten(1, 2)).mT
        # A row's result has the same bits in parts of whole blocks.
        self._length = max(1, _DISTANCES // self._references[:, 0].numel() // ROW_BLOCK) * ROW_BLOCK
        self._norms = (self._references**2).sum(1, keepdim=True)
        # Below, a reference is the row itself. References are kept in float32.
        self._rounding = float(1e-9 * self._norms.mean())
        self._share = torch.tensor([view.share for view in views]).double().view(-1, 1, 1)

    def __call__(self, rows: Tensor, alone: Tensor | None = None) -> Tensor:
        """Distance of rows (K, n, d) from the nearest reference, on average over draws, (K, n).

        Rows that are ``alone`` leave themselves out of the references, and of the covariance.
        """
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
        # Squared distances less the row's own norm, which is added to the least of them alone.
        squares = torch.baddbmm(self._norms, rows, self._references, alpha=-2.0)
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
        return rows if self._basis is None else (rows - self._center) @ self._basis

    def _without_itself(self, squares: Tensor, own: Tensor) -> Tensor:
        """What squared distances gain if a row has no part in the covariance.

        By the formula of Sherman and Morrison (1950) for the inverse of a matrix less a row's.
        """
        along = own - (self._norms - squares) / 2
        gain = self._share * along**2 / (1.0 - self._share * own).clamp(min=0.01)
        return gain.nan_to_num(0.0, 0.0, 0.0)


@dataclass
class Scorer:
    """Calibrated views of each member, as plain arrays.

    Attributes
    ----------
    members : list of Member
    features : ndarray of shape (3, n_features)
        Mean and standard deviation of each scaled feature, and the root mean square of
        its residuals.
    width : int
        Columns of latents and residuals.
    seed : int
        Of the random projection.
    """

    members: list[Member]
    features: np.ndarray
    width: int
    seed: int

    def outlyingness(self, coded: Coded) -> Tensor:
        """How far out rows are, (n,): about zero for a typical one, NaN for one of no values."""
        return coded.judged(self.far_out(coded))

    def far_out(self, coded: Coded) -> Tensor:
        """The same, with a number for every row."""
        n, alone = coded.joint.shape[1], coded.alone
        # Filled up to whole blocks, a row's result has the same bits in any batch.
        projected = _projected(padded(coded.joint), self.directions)
        if alone is not None:
            alone = functional.pad(alone, (0, projected.shape[1] - n))
        distances = torch.stack([of_view(projected, alone) for of_view in self._distances])
        by_view = _in_deviations(distances[..., :n], *self._levels)
        return _combined(coded.average(by_view.permute(1, 2, 0)).T)

    def contributions(self, coded: Coded) -> Tensor:
        """The features' shares in the outlyingness, (n, n_features).

        A cell counts by how far it is off its reconstruction, and the more so the more
        unusual its value is by itself: a wide network reconstructs lone extremes well.
        """
        mean, deviation, residual_size = torch.from_numpy(self.features)
        extremes = ((coded.values - mean) / deviation) ** 2
        parts = (coded.residuals / residual_size).abs() * (1.0 + extremes).sqrt()
        shares = parts / parts.sum(1, keepdim=True).clamp(min=1e-300)
        return shares * self.far_out(coded).clamp(min=0.0)[:, None]

    def prepare(self) -> None:
        """Compute what depends on the fit alone; the first call with rows does so too."""
        self.directions, self._distances, self._levels  # noqa: B018

    @cached_property
    def directions(self) -> Tensor | None:
        """Where wide rows are projected."""
        return projection(self.width, self.seed)

    @cached_property
    def _distances(self) -> list[Distances]:
        return _distances(self.members)

    @cached_property
    def _levels(self) -> tuple[Tensor, ...]:
        return _levels(self.members)

    def __getstate__(self) -> dict[str, Any]:
        # What was computed once is computed again.
        return {field.name: getattr(self, field.name) for field in fields(self)}


class RowCalibration:
    """What a pass over the calibration rows keeps of them, to fit a :class:`Scorer`.

    Parameters
    ----------
    weights : ndarray of shape (n,)
    seeds : tuple of int
        One a member.
    """

    def __init__(self, weights: np.ndarray, seeds: tuple[int, ...]):
        self._weights, self._seeds = weights, seeds
        self._projected: np.ndarray | None = None

    def add(self, part: slice, coded: Coded) -> None:
        """Take a batch of the rows."""
        if self._projected is None:
            self._width = coded.joint.shape[-1]
            self._directions = projection(self._width, self._seeds[0])
            shape = len(self._seeds), len(self._weights), joint_width(self._width)
            self._projected = np.empty(shape)
            self._moments = _Moments(coded.values[0])
        n = coded.joint.shape[1]
        projected = _projected(padded(coded.joint), self._directions)
        self._projected[:, part] = projected[:, :n].numpy()
        weights = torch.from_numpy(self._weights[part])
        self._moments.add(coded.values, coded.residuals, weights)

    def fit(self, kind: str, trained: Tensor) -> tuple[Scorer, np.ndarray]:
        """Fit views and calibrate them.

        Parameters
        ----------
        kind : str
            A key of ``SCORES`` that has views.
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
        alone = trained[0] if bool(trained.all()) else None
        unseen = trained if alone is not None else ~trained
        weight = torch.from_numpy(self._weights)
        used = weight * unseen
        rows = torch.from_numpy(self._projected)
        members = [
            _member(SCORES[kind], own, weight * seen, seed, shrinks=alone is not None)
            for own, seen, seed in zip(rows, trained, self._seeds, strict=True)
        ]
        of_views = [of_view(rows, alone) for of_view in _distances(members)]
        by_member = torch.stack(of_views, 1)
        if alone is None and int((used > 0).sum(1).min()) < FEWEST_HELD_OUT:
            # What so few rows of each have in common is calibrated on all of them together.
            pooled = by_member.transpose(0, 1).flatten(1), used.flatten()
            parts = [pooled] * len(members)
        else:
            parts = list(zip(by_member, used, strict=True))
        members = [m.calibrated(*part) for m, part in zip(members, parts, strict=True)]
        outlyingness = _in_deviations(by_member.transpose(0, 1), *_levels(members))
        known = outlyingness.where(unseen, torch.nan).nanmean(1)
        scorer = Scorer(members, self._moments.features(), self._width, self._seeds[0])
        return scorer, _combined(known).numpy()


class _Moments:
    """Weighted sums for ``Scorer.features``, of values less a first row."""

    def __init__(self, shift: Tensor):
        self._shift, self._weight = shift, 0.0
        self._sums = torch.zeros(3, len(shift), dtype=torch.float64)

    def add(self, values: Tensor, residuals: Tensor, weights: Tensor) -> None:
        moved, weights = values - self._shift, weights[:, None]
        self._weight += float(weights.sum())
        for total, part in zip(self._sums, (moved, moved**2, residuals**2), strict=True):
            total += (weights * part).sum(0)

    def features(self) -> np.ndarray:
        mean, squares, residuals = self._sums / self._weight
        deviation = (squares - mean**2).clamp(min=0.0).sqrt()
        moments = [self._shift + mean, deviation + 1e-9, residuals.sqrt() + 1e-9]
        return torch.stack(moments).numpy()


def _distances(members: list[Member]) -> list[Distances]:
    """One for each view."""
    kinds = zip(*(member.views for member in members), strict=True)
    return [Distances(members, list(views)) for views in kinds]


def _levels(members: list[Member]) -> tuple[Tensor, ...]:
    """Unit, location and scale of the views, (n_views, K, 1)."""
    levels = [[view[-3:] for view in member.views] for member in members]
    return tuple(torch.tensor(levels, dtype=torch.float64).transpose(0, 1)[..., None].unbind(2))


def _bases(views: list[View]) -> tuple[Tensor | None, Tensor | None]:
    """What moves rows of each member: a center (K, 1, d) and a basis (K, d, d)."""
    centers = [view.center for view in views if view.center is not None]
    bases = [view.basis for view in views if view.basis is not None]
    if not bases:
        return None, None
    center, basis = torch.from_numpy(np.stack(centers)), torch.from_numpy(np.stack(bases))
    return center.double()[:, None], basis.double()


def _combined(by_view: Tensor) -> Tensor:
    """A smooth maximum over the views, (n,), of (n_views, n)."""
    smooth = torch.logsumexp(VIEW_SHARPNESS * by_view, 0) - np.log(len(by_view))
    return smooth / VIEW_SHARPNESS


def _member(
    names: tuple[str, ...], rows: Tensor, weights: Tensor, seed: int, shrinks: bool
) -> Member:
    """One member's views, from rows (n, d); rows that it has not seen have no weight."""
    rng = generator(seed, SCORE_STREAM)
    direction = torch.randn(rows.shape[1], dtype=rows.dtype, generator=rng)
    order = (rows @ direction).argsort(stable=True)
    few = _draw(order, weights, ISOLATION_DRAWS * ISOLATION_ROWS)
    few = few.view(ISOLATION_ROWS, ISOLATION_DRAWS).T
    # Of fewer rows, each is drawn repeatedly.
    many = _draw(order, weights, NEAREST_ROWS).unique()
    member = Member(rows[few].float().numpy(), rows[many][None].float().numpy(), [])

    def mahalanobis() -> View:
        distances = Distances([member], [View("few")])(rows[None])[0]
        for _ in range(2):
            bound = weighted_quantile(distances.numpy(), weights.numpy(), 1.0 - TRIMMED_SHARE)
            # Copies of a row may differ by rounding.
            inner = weights * (distances <= bound * (1 + 1e-9))
            view = View("center", *_whitening(rows, inner, shrinks))
            distances = Distances([member], [view])(rows[None])[0]
        return view

    made = {
        "isolation": lambda: View("few"),
        "mahalanobis": mahalanobis,
        "nearest": lambda: View("many"),
        "whitened": lambda: View("many", *_whitening(rows, weights, shrinks)),
    }
    views = [made[name]() for name in names]
    used = {view.references for view in views}
    few_or_none = member.few if "few" in used else None
    return Member(few_or_none, member.many if "many" in used else None, views)


def _whitening(
    rows: Tensor, weights: Tensor, shrinks: bool = False
) -> tuple[np.ndarray, np.ndarray, float]:
    """Center (d,) and a basis (d, d), float32, in which the rows have unit covariance.

    And the weight that one of the rows has in it. The covariance is shrunk where no row is
    held out that would tell how little it knows of others.
    """
    share = (weights / weights.sum())[:, None]
    # On one thread: LAPACK gives eigenvectors other bits on several.
    with computing(rows.device, flops=0.0):
        center = (share * rows).sum(0)
        centered = rows - center
        eigenvalues, vectors = torch.linalg.eigh(centered.T @ (share * centered))
    eigenvalues = eigenvalues.clamp(min=0.0)
    # A weight of two counts as two rows; weights below one are only relative.
    of_a_row = 1.0 / max(float(weights.sum()), 1.0 / float((share**2).sum()))
    shrunk, mean = 0.0, eigenvalues.mean()
    if shrinks:
        shrunk = _shrinkage(eigenvalues, 1.0 / of_a_row)
    scales = ((1.0 - shrunk) * eigenvalues + max(shrunk, COVARIANCE_RIDGE) * mean + 1e-12).sqrt()
    # Contiguous, so that a copy of it gives the same bits.
    basis = (vectors / scales).contiguous().float().numpy()
    return center.numpy(), basis, of_a_row


def _shrinkage(eigenvalues: Tensor, n: float) -> float:
    """How far to move the covariance of ``n`` rows towards that of a sphere.

    Of few rows in many dimensions, the covariance tells more of these rows than of others. By
    the oracle approximating shrinkage of Chen et al., "Shrinkage algorithms for MMSE covariance
    estimation", 2010.
    """
    d, total = len(eigenvalues), float(eigenvalues.sum())
    squares = float((eigenvalues**2).sum())
    spread = (n + 1.0 - 2.0 / d) * (squares - total**2 / d)
    return min(1.0, ((1.0 - 2.0 / d) * squares + total**2) / spread) if spread > 0 else 1.0


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

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
- "whitened": the same, in units of the covariance of all rows;
- "outside": of a network that works in a subspace, the size of the residuals outside.

The logarithm of each distance is centered and scaled on rows that the member was not
trained on and averaged over the members. A smooth maximum combines the views: what one
of them finds far out is far out. The nearest of the inner rows of the table itself counts
half as much ("auto"). Where all rows are known to be clean, the nearest of all rows counts as
much as all views ("novelty"). docs/outliers.md tells what was tried.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from skae._anomaly.distances import (
    Distances,
    Member,
    View,
    first_column,
    in_deviations,
)
from skae._anomaly.draws import draw, random_order
from skae._anomaly.levels import Level
from skae._anomaly.neighbors import Neighbors
from skae._anomaly.projections import Projection, joint_width, projected, projection
from skae._anomaly.thresholds import weighted_quantile
from skae._model.model import Coded
from skae._networks.products import padded
from skae._runtime.tuning import (
    COVARIANCE_RIDGE,
    FEWEST_HELD_OUT,
    ISOLATION_DRAWS,
    ISOLATION_ROWS,
    NEAREST_ROWS,
    NEIGHBOR_WEIGHT,
    TRIMMED_SHARE,
    VIEW_SHARPNESS,
)

# Which views each kind of score combines; "reconstruction" is the loss itself.
SCORES = {
    "auto": ("isolation", "mahalanobis", "nearest", "whitened"),
    "novelty": ("isolation", "mahalanobis", "nearest", "whitened"),
    "isolation": ("isolation",),
    "mahalanobis": ("mahalanobis",),
    "nearest": ("nearest", "whitened"),
    "reconstruction": (),
}

# Those that compare rows with rows of the table, too, and of wide ones the residuals outside.
_OF_NEIGHBORS = ("auto", "novelty")


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
    level : Level
        Of the combined views.
    neighbors : Neighbors, default=None
        The nearest of which counts too.
    has_outside : bool, default=False
        Whether the network works in a subspace, and the size of what is outside counts.
    """

    members: list[Member]
    features: np.ndarray
    width: int
    seed: int
    level: Level
    neighbors: Neighbors | None = None
    has_outside: bool = False

    def outlyingness(self, coded: Coded) -> Tensor:
        """How far out rows are, (n,): about zero for a typical one, NaN for one of no values."""
        return coded.judged(self.far_out(coded))

    def far_out(self, coded: Coded) -> Tensor:
        """The same, with a number for every row."""
        n, alone = coded.values.shape[0], coded.alone
        # Filled up to whole blocks, a row's result has the same bits in any batch.
        own = _joint(coded, self.directions, self.has_outside)
        if alone is not None:
            alone = functional.pad(alone, (0, own.shape[1] - n))
        distances = torch.stack([of_view(own, alone) for of_view in self._distances])
        by_view = in_deviations(distances[..., :n], *self._levels)
        by_view = coded.average(by_view.permute(1, 2, 0)).T
        combined = _combined(by_view, *self._from_neighbors(coded))
        return self.level.standardized(combined, coded.share)

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

    def _from_neighbors(self, coded: Coded) -> tuple[Neighbors, Tensor] | tuple[()]:
        """Deviations of the distances from neighbors, (n,), if these count."""
        if self.neighbors is None or self._near is None:
            return ()
        rows, known = _table_rows(coded, self._table_directions), coded.known
        if known is not None:
            known = functional.pad(known, (0, rows.shape[1] - len(known)))
        distances = self._near(rows, known)[:, : coded.values.shape[0]]
        return self.neighbors, self.neighbors.deviations(distances)

    def prepare(self) -> None:
        """Compute what depends on the fit alone; the first call with rows does so too."""
        self.directions, self._distances, self._levels  # noqa: B018
        self._table_directions, self._near  # noqa: B018

    @cached_property
    def directions(self) -> Projection | None:
        """Where wide rows are projected."""
        return projection(self.width, self.seed)

    @cached_property
    def _table_directions(self) -> Projection | None:
        return projection(self.features.shape[1], self.seed)

    @cached_property
    def _distances(self) -> list[Callable[..., Tensor]]:
        return _distances(self.members)

    @cached_property
    def _near(self) -> Distances | None:
        return None if self.neighbors is None else self.neighbors.distances()

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
    kind : str, default=None
        The key of ``SCORES`` that will be fitted; None where the rows themselves do not count.
    """

    def __init__(self, weights: np.ndarray, seeds: tuple[int, ...], kind: str | None = None):
        self._weights, self._seeds = weights, seeds
        self._has_neighbors = kind in _OF_NEIGHBORS
        self._projected: np.ndarray | None = None
        self.shares = np.empty(len(weights))

    def add(self, part: slice, coded: Coded) -> None:
        """Take a batch of the rows."""
        # Maps of images tell more of what is outside than its size does.
        self._has_outside = coded.has_outside and self._has_neighbors
        if self._projected is None:
            self._width = coded.codes.shape[-1] + coded.values.shape[1]
            self._directions = projection(self._width, self._seeds[0])
            width = joint_width(self._width) + self._has_outside
            self._projected = np.empty((len(self._seeds), len(self._weights), width))
            if self._has_neighbors:
                n_features = coded.values.shape[1]
                self._table_directions = projection(n_features, self._seeds[0])
                self._table = np.empty((len(self._weights), joint_width(n_features)))
            self._moments = _Moments(coded.values[0])
        n = len(coded.values)
        own = _joint(coded, self._directions, self._has_outside)
        self._projected[:, part] = own[:, :n, : self._projected.shape[2]].numpy()
        if self._has_neighbors:
            table = _table_rows(coded, self._table_directions)
            self._table[part] = table[0, :n, : self._table.shape[1]].numpy()
        self.shares[part] = coded.share.numpy()
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
        names = SCORES[kind]
        if self._has_outside:
            names = (*names, "outside")
        members = [
            _member(names, own, weight * seen, seed, shrinks=alone is not None)
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
        outlyingness = in_deviations(by_member.transpose(0, 1), *_levels(members))
        by_view = outlyingness.where(unseen, torch.nan).nanmean(1)
        neighbors = self._neighbors(kind, _combined(by_view), weight)
        combined = _combined(by_view, *neighbors)
        seen = ~combined.isnan().numpy() & (self._weights > 0)
        level = Level.within(combined.numpy()[seen], self.shares[seen], self._weights[seen])
        scorer = Scorer(
            members,
            self._moments.features(),
            self._width,
            self._seeds[0],
            level,
            neighbors[0] if neighbors else None,
            self._has_outside,
        )
        return scorer, level.standardized(combined, torch.from_numpy(self.shares)).numpy()

    def _neighbors(
        self, kind: str, outlyingness: Tensor, weights: Tensor
    ) -> tuple[Neighbors, Tensor] | tuple[()]:
        """Neighbors, if they count, and how far each row lies from the nearest other one."""
        if not self._has_neighbors:
            return ()
        is_clean, rows = kind == "novelty", torch.from_numpy(self._table)
        if not is_clean:
            judged = weights * ~outlyingness.isnan()
            bound = weighted_quantile(outlyingness.numpy(), judged.numpy(), 1.0 - TRIMMED_SHARE)
            weights = judged * (outlyingness <= bound)
        order = random_order(rows, self._seeds[0])
        return Neighbors.of(rows, weights, order, is_clean)


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


def _distances(members: list[Member]) -> list[Callable[..., Tensor]]:
    """One for each view."""
    kinds = zip(*(member.views for member in members), strict=True)
    return [
        first_column if views[0].references == "none" else Distances(members, list(views))
        for views in kinds
    ]


def _levels(members: list[Member]) -> tuple[Tensor, ...]:
    """Unit, location and scale of the views, (n_views, K, 1)."""
    levels = [[view[-3:] for view in member.views] for member in members]
    return tuple(torch.tensor(levels, dtype=torch.float64).transpose(0, 1)[..., None].unbind(2))


def _combined(
    by_view: Tensor, neighbors: Neighbors | None = None, near: Tensor | None = None
) -> Tensor:
    """A smooth maximum over the views, (n,), of (n_views, n), and over neighbors' deviations."""
    weights = [1.0] * len(by_view)
    if neighbors is not None and near is not None:
        if neighbors.clean:  # Nothing among the rows hides outliers: each view is right on average.
            return (by_view.T.contiguous().mean(1) + near) / 2
        # A row's views lie side by side: sums over them are the same wherever the row stands.
        by_view = torch.cat([by_view.T, near[:, None]], 1).T
        weights.append(NEIGHBOR_WEIGHT)
    logs = torch.tensor([[math.log(weight)] for weight in weights], dtype=by_view.dtype)
    smooth = torch.logsumexp(VIEW_SHARPNESS * by_view + logs, 0) - math.log(sum(weights))
    return smooth / VIEW_SHARPNESS


def _member(
    names: tuple[str, ...], rows: Tensor, weights: Tensor, seed: int, shrinks: bool
) -> Member:
    """One member's views, from rows (n, d); rows that it has not seen have no weight."""
    order = random_order(rows, seed)
    few = draw(order, weights, ISOLATION_DRAWS * ISOLATION_ROWS)
    few = few.view(ISOLATION_ROWS, ISOLATION_DRAWS).T
    # Of fewer rows, each is drawn repeatedly.
    many = draw(order, weights, NEAREST_ROWS).unique()
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
        "outside": lambda: View("none"),
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
    center = (share * rows).sum(0)
    centered = rows - center
    # The caller sees to one thread: LAPACK gives eigenvectors other bits on several.
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


def _table_rows(coded: Coded, directions: Projection | None) -> Tensor:
    """Scaled rows, (1, n, d), in at most ``VIEW_DIMENSIONS`` columns, up to whole blocks.

    What is missing is as it is expected.
    """
    rows, observed = coded.values, coded.batch.observed
    if observed is not None:
        rows = rows.where(observed.cpu(), coded.average(coded.rows).cpu().to(rows.dtype))
    return projected(padded(rows[None]), directions)


def _joint(coded: Coded, directions: Projection | None, has_outside: bool) -> Tensor:
    """Latents and residuals (K, n, d) in at most ``VIEW_DIMENSIONS`` columns, up to whole blocks.

    The first column is the size of what is outside, if that counts.
    """
    own = projected(padded(coded.joint), directions)
    return torch.cat([padded(coded.outside).to(own), own], -1) if has_outside else own

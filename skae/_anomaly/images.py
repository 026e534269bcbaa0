"""Where an image is unusual: energies of its residuals, by scale and place, calibrated.

A mean over the whole image drowns a small defect, and normal texture has a spread of its
own at each scale and place. So the residuals are split into octaves (``octaves.py``). The logarithm
of the energy of each octave around each place is compared with what is usual *there*, in an
image with *such latents*: what a ridge regression on the latents expects, which is how
bright images are allowed coarser residuals than dark ones. What exceeds it counts
robust standard deviations. The same goes for what the pixels around a place do not tell of it
(``surroundings.py``). The squares of all these, a mean for the residuals and one for the
surroundings, and of the image as a row (``rows.py``) add up; the root of the highest sum is the
outlyingness of the image.

The map has it as its maximum. Elsewhere it falls with the sum of squares and with the energy of the
residuals: what is unusual there and also large is what one sees. The image as a row counts
in proportion.

All this is learned from images that the member was not trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from skae._anomaly.levels import Level
from skae._anomaly.maps import smoothed
from skae._anomaly.octaves import blurred, energies_of, octave_sizes
from skae._anomaly.rows import RowCalibration, Scorer
from skae._anomaly.surroundings import Surroundings, ring_energies, ringed_sizes
from skae._anomaly.thresholds import MAD_TO_DEVIATION, median_deviation, weighted_quantile
from skae._data.spec import shorter_side
from skae._model.model import Coded
from skae._networks.holes import fill_holes
from skae._runtime.device import computing
from skae._runtime.tuning import (
    FARTHEST_LATENT,
    MAP_SMOOTHING,
    MISSING_DEVIATIONS,
    NARROWEST_OCTAVE,
)

# Numbers of all images that calibrate: an eighth of a gigabyte.
_CALIBRATION_VALUES = 1 << 25


class Octave(NamedTuple):
    """What energies are usual in an octave of the residuals, place by place.

    Attributes
    ----------
    unit : float
        The median energy.
    slopes : ndarray of shape (n_components, h * w)
        Of the logarithm of the energy, by the standardized latents.
    location, scale : ndarray of shape (h * w,)
        Of what the slopes leave.
    """

    unit: float
    slopes: np.ndarray
    location: np.ndarray
    scale: np.ndarray


class Member(NamedTuple):
    """What is usual for one autoencoder.

    Attributes
    ----------
    mean, deviation : ndarray of shape (n_components,)
        Of the latents.
    influence : ndarray of shape (n_components, n_components)
        Of the standardized latents of an image on what the regression expects of itself.
    octaves : list of Octave
        Of the residuals, then of what surroundings do not tell.
    """

    mean: np.ndarray
    deviation: np.ndarray
    influence: np.ndarray
    octaves: list[Octave]

    def excess(
        self, latents: Tensor, energies: Sequence[Tensor], known: Tensor | None = None
    ) -> list[Tensor]:
        """How far energies (n, h * w) exceed what is usual, in robust deviations.

        Images that are ``known``, (n,), are taken for ones that the regression has not seen.
        """
        given = _standardized(latents, self.mean, self.deviation)
        unseen = latents.new_ones(1, 1)
        if known is not None:
            own = (given @ _tensor(self.influence, given) * given).sum(1)
            unseen = torch.where(known, 1.0 - own.clamp(max=0.9), 1.0)[:, None]
        return [
            (_logarithm(energy, octave.unit) - _tensor(octave.location, energy))
            .sub_(given @ _tensor(octave.slopes, energy))
            .div_(_tensor(octave.scale, energy) * unseen)
            for octave, energy in zip(self.octaves, energies, strict=True)
        ]


class Texture(NamedTuple):
    """What energies images themselves have in each octave, the mean over all places.

    A dead camera gives an image that a network rebuilds well enough. What it lacks is texture.

    Attributes
    ----------
    unit, location, scale : ndarray of shape (n_octaves,)
        The median energy, and location and scale of the logarithm of the energy in this unit.
    """

    unit: np.ndarray
    location: np.ndarray
    scale: np.ndarray

    def missing(self, energies: Tensor) -> Tensor:
        """What an octave of (n, n_octaves) has too little, in robust deviations, (n,).

        Beyond ``MISSING_DEVIATIONS``, so that usual images have none.
        """
        location, scale = (_tensor(v, energies) for v in (self.location, self.scale))
        lacking = (location - self.logarithms(energies)) / scale
        return (lacking.amax(1) - MISSING_DEVIATIONS).clamp(min=0.0)

    def logarithms(self, energies: Tensor) -> Tensor:
        # What has no texture at all lacks a finite amount of it.
        return (energies / _tensor(self.unit, energies) + 1e-4).log()

    @classmethod
    def of(cls, energies: Tensor, weights: np.ndarray) -> "Texture":
        """What is usual among images with these energies, (n, n_octaves)."""
        ones = np.ones(energies.shape[1])
        unit = np.array([weighted_quantile(e.numpy(), weights, 0.5) for e in energies.T])
        texture = cls(np.where(unit > 0.0, unit, 1.0), 0.0 * ones, ones)
        columns = texture.logarithms(energies).T.numpy()
        location = np.array([weighted_quantile(c, weights, 0.5) for c in columns])
        pairs = zip(columns, location, strict=True)
        scale = np.array([median_deviation(c, at, weights) for c, at in pairs])
        return texture._replace(location=location, scale=np.maximum(scale, 0.1))


@dataclass
class ImageScorer:
    """Calibrated octaves of each member, as plain arrays.

    Attributes
    ----------
    rows : Scorer
        Of the images as rows.
    members : list of Member
    surroundings : list of Surroundings
    surroundings_weight : float
        Of their squares, such that they count at most as much as residuals in a typical image.
    texture : Texture
    image_shape : tuple of int
        (height, width) or (height, width, channels).
    level : Level
        Of the maxima of maps.
    """

    rows: Scorer
    members: list[Member]
    surroundings: list[Surroundings]
    surroundings_weight: float
    texture: Texture
    image_shape: tuple[int, ...]
    level: Level

    def outlyingness(self, coded: Coded) -> Tensor:
        """How far out images are, (n,): about zero for a typical one, NaN for one of no pixels."""
        peaks = self.level.standardized(_peaks(*self._squares(coded)), coded.share)
        return coded.judged(peaks.double())

    def maps(self, coded: Coded) -> Tensor:
        """Outlyingness of every pixel, (n, height, width)."""
        maps = _map(*self._squares(coded), self._smooth_squares(coded))
        return self.level.standardized(maps, coded.share)

    def _squares(self, coded: Coded) -> tuple[Tensor, Tensor]:
        """Sums of squares (n, height, width), and how far out the images are as rows, (n,)."""
        pairs = _by_member(coded, self.image_shape)
        rings = ring_energies(filled(coded, self.image_shape), self.surroundings)
        known = [None] * len(pairs) if coded.calibrated is None else list(coded.calibrated)
        by_member = [
            member.excess(latents, [*energies, *rings], own)
            for member, (latents, energies), own in zip(self.members, pairs, known, strict=True)
        ]
        excess = [coded.average(torch.stack(one)) for one in zip(*by_member, strict=True)]
        missing = self.texture.missing(_own_energies(coded, self.image_shape))
        of_rows = torch.maximum(self.rows.far_out(coded).to(missing), missing)
        residuals, surroundings = _mean_squares(excess, self.image_shape)
        return residuals + self.surroundings_weight * surroundings, of_rows

    def _smooth_squares(self, coded: Coded) -> Tensor:
        """Squared residuals around each pixel, (n, height, width)."""
        height, width = self.image_shape[:2]
        squares = coded.average(coded.member_residuals.float() ** 2)
        maps = squares.unflatten(1, (height, width, -1)).sum(3).clamp(max=1e30)
        return torch.from_numpy(
            smoothed(maps.numpy(), shorter_side(self.image_shape) / MAP_SMOOTHING)
        )

    def contributions(self, coded: Coded) -> Tensor:
        """The features' shares in the outlyingness, (n, n_features).

        A pixel's share grows with its residual and with the map.
        """
        maps, residuals = self.maps(coded), coded.residuals
        total = maps.flatten(1).amax(1).clamp(min=0.0)
        height, width = self.image_shape[:2]
        squares = residuals.view(len(residuals), height, width, -1) ** 2
        parts = (squares * maps.clamp(min=0.0)[..., None]).flatten(1)
        shares = parts / parts.sum(1, keepdim=True).clamp(min=1e-300)
        return shares * total[:, None]


def filled(coded: Coded, shape: tuple[int, ...]) -> Tensor:
    """Images (n, channels, height, width) whose missing pixels go on from those beside them."""
    images, observed = _channels_first(coded.originals, shape), coded.batch.observed
    if observed is None:
        return images
    missing = ~_channels_first(observed.cpu(), shape)
    return fill_holes(images.masked_fill(missing, torch.nan))[0]


def most_images(n_features: int, n_members: int) -> int:
    """How many images may calibrate at once."""
    # Energies are half as high and wide as their octave: a third of the image in all.
    return max(16, 3 * _CALIBRATION_VALUES // (n_features * n_members))


class ImageCalibration:
    """What a pass over the calibration images keeps of them, to fit an :class:`ImageScorer`.

    Parameters
    ----------
    weights : ndarray of shape (n,)
    seeds : tuple of int
        One a member.
    image_shape : tuple of int
    surroundings : list of Surroundings
    """

    def __init__(
        self,
        weights: np.ndarray,
        seeds: tuple[int, ...],
        image_shape: tuple[int, ...],
        surroundings: list[Surroundings],
    ):
        self._rows, self._weights = RowCalibration(weights, seeds), weights
        self._shape, self._surroundings = image_shape, surroundings
        # Latents, and energies of all octaves.
        self._coded: np.ndarray | None = None
        self._rings: list[Tensor] = []
        self._own: list[Tensor] = []

    def add(self, part: slice, coded: Coded) -> None:
        """Take a batch of the images."""
        self._rows.add(part, coded)
        pairs = _by_member(coded, self._shape)
        coded_images = torch.stack([torch.cat([z, *energies], 1) for z, energies in pairs], 1)
        if self._coded is None:
            shape = len(self._weights), *coded_images.shape[1:]
            self._coded = np.empty(shape, dtype=np.float32)
        self._coded[part] = coded_images.numpy()
        rings = ring_energies(filled(coded, self._shape), self._surroundings)
        self._rings.append(torch.cat(rings, 1))
        self._own.append(_own_energies(coded, self._shape))

    def fit(self, kind: str, trained: Tensor) -> tuple[ImageScorer, np.ndarray]:
        """Learn what energies are usual.

        Parameters and results are those of :meth:`RowCalibration.fit`.
        """
        assert self._coded is not None
        unseen, weights = trained if bool(trained.all()) else ~trained, self._weights
        weight = torch.from_numpy(weights / weights.mean()).float()
        sizes = octave_sizes(self._shape) + ringed_sizes(self._shape)
        lengths, rings = [h * w for h, w in sizes], torch.cat(self._rings)
        n_latents = self._coded.shape[2] + rings.shape[1] - sum(lengths)
        members, total = [], torch.zeros(len(self._coded), sum(lengths))
        with computing(torch.device("cpu"), flops=0.0):  # As in rows.py.
            for k, known in enumerate(unseen):
                rows = torch.from_numpy(self._coded[known.numpy(), k])
                latents, energies = rows[:, :n_latents], rows[:, n_latents:]
                parts = torch.cat([energies, rings[known]], 1).split(lengths, 1)
                member = _fit_member(latents, parts, sizes, weight[known])
                everywhere = torch.ones(len(rows), dtype=torch.bool)
                total[known] += torch.cat(member.excess(latents, parts, everywhere), 1)
                members.append(member)
        scorer, of_rows = self._rows.fit(kind, trained)
        own = torch.cat(self._own)
        texture = Texture.of(own, weights)
        far_out = torch.maximum(torch.from_numpy(of_rows).float(), texture.missing(own))
        excess = (total / unseen.sum(0)[:, None]).split(lengths, 1)
        # A few images at a time.
        parts = zip(*(one.split(16) for one in excess), strict=True)
        highest = [[m.amax((1, 2)) for m in _mean_squares(list(p), self._shape)] for p in parts]
        of_residuals, of_rings = (
            float(torch.cat(h).nanmedian()) for h in zip(*highest, strict=True)
        )
        of_surroundings = min(1.0, of_residuals / max(of_rings, 1e-9))
        parts = zip(*(one.split(16) for one in (*excess, far_out)), strict=True)
        found = []
        for *one, rows in parts:
            residuals, rings = _mean_squares(list(one), self._shape)
            found.append(_peaks(residuals + of_surroundings * rings, rows))
        peaks = torch.cat(found).double().numpy()
        seen, shares = ~np.isnan(peaks) & (weights > 0), self._rows.shares
        level = Level.of(peaks[seen], shares[seen], weights[seen])
        shape, surroundings = tuple(self._shape), self._surroundings
        fitted = ImageScorer(scorer, members, surroundings, of_surroundings, texture, shape, level)
        return fitted, level.standardized(torch.from_numpy(peaks), torch.from_numpy(shares)).numpy()


def _by_member(coded: Coded, shape: tuple[int, ...]) -> list[tuple[Tensor, list[Tensor]]]:
    """What the members' latents are, and the energies of their residuals, octave by octave."""
    observed, pairs = _observed(coded, shape), []
    coded_rows = zip(coded.codes.cpu().float(), coded.member_residuals.float(), strict=True)
    for latents, residuals in coded_rows:
        if observed is not None:
            residuals = residuals * observed.mean((1, 2, 3))[:, None].sqrt()
        pairs.append((latents, energies_of(_channels_first(residuals, shape), observed)))
    return pairs


def _observed(coded: Coded, shape: tuple[int, ...]) -> Tensor | None:
    """Shares of the observed values at each place, (n, 1, height, width); None if all are."""
    if coded.batch.observed is None:
        return None
    return _channels_first(coded.batch.observed.cpu().float(), shape).mean(1, keepdim=True)


def _channels_first(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    return rows.unflatten(1, (shape[0], shape[1], -1)).permute(0, 3, 1, 2)


def _own_energies(coded: Coded, shape: tuple[int, ...]) -> Tensor:
    """Mean energies of images themselves in all octaves but the coarsest, (n, n_octaves)."""
    images, observed = _channels_first(coded.originals, shape), _observed(coded, shape)
    fine = (
        energies_of(images, observed)[:-1]
        if shorter_side(shape) > 4
        else energies_of(images - images.mean((1, 2, 3), keepdim=True), observed)
    )
    return torch.stack([energy.mean(1) for energy in fine], 1)


def _summed(parts: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """The sum (n, height, width) of the finest octaves' values (n, h * w) at each pixel."""
    total = torch.zeros(1, 1, 1, 1)
    for values, size in zip(parts[::-1], octave_sizes(shape)[: len(parts)][::-1], strict=True):
        wide = functional.interpolate(total, size=size, mode="bilinear")
        total = wide + values.unflatten(1, (1, *size))
    return functional.interpolate(total, size=shape[:2], mode="bilinear")[:, 0]


def _mean_squares(excess: list[Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean squares (n, height, width) of residuals' excess, and of surroundings'."""
    squares, n = [z.clamp(min=0.0).square() for z in excess], len(octave_sizes(shape))
    residuals, surroundings = squares[:n], squares[n:]
    total = _summed(residuals, shape) / len(residuals)
    return total, _summed(surroundings, shape) / len(surroundings)


def _peaks(total: Tensor, of_rows: Tensor) -> Tensor:
    """How far out images are, (n,), before it is calibrated."""
    return (total.amax((1, 2)) + of_rows.clamp(min=0.0).square()).sqrt()


def _map(total: Tensor, of_rows: Tensor, squares: Tensor) -> Tensor:
    """Maps (n, height, width) whose maxima are the peaks."""
    share = _shares(_shares(total) * _shares(squares))
    return _peaks(total, of_rows)[:, None, None] * share.sqrt()


def _shares(maps: Tensor) -> Tensor:
    """Of the maximum of each map; one where that is zero."""
    highest = maps.amax((1, 2), keepdim=True)
    return torch.where(highest > 0.0, maps / highest, 1.0)


def _fit_member(
    latents: Tensor, energies: Sequence[Tensor], sizes: list[tuple[int, int]], weights: Tensor
) -> Member:
    """What is usual in calibration images: latents, and energies (n, h * w) of octaves."""
    mean = _mean(latents, weights)
    deviation = _mean((latents - mean) ** 2, weights).sqrt()
    # A latent that does not vary tells nothing.
    deviation += 1e-3 * deviation.mean() + 1e-9
    given = _standardized(latents, mean.numpy(), deviation.numpy())
    n_latents = given.shape[1]
    # As many images as latents say as much as the guess that they do not matter.
    gram = given.T @ (weights[:, None] * given) + n_latents * torch.eye(n_latents)
    # Contiguous, so that a copy of it gives the same bits.
    influence = torch.linalg.inv(gram).contiguous()
    parts = zip(energies, sizes, strict=True)
    octaves = [_fit_octave(given, influence, energy, size, weights) for energy, size in parts]
    return Member(mean.numpy(), deviation.numpy(), influence.numpy(), octaves)


def _fit_octave(
    given: Tensor, influence: Tensor, energy: Tensor, size: tuple[int, int], weights: Tensor
) -> Octave:
    unit = float(energy.median()) or float(energy.mean()) or 1.0
    logs = _logarithm(energy, unit)
    mean = _mean(logs, weights)
    slopes = influence @ (given.T @ (weights[:, None] * (logs - mean)))
    # What is left where the regression has not seen the image.
    unseen = 1.0 - (weights * (given @ influence * given).sum(1)).clamp(max=0.9)[:, None]
    left = mean + (logs - mean - given @ slopes) / unseen
    location = _medians(left, weights)
    # As for rows: where more than half are alike, the others are not infinitely unusual.
    spread = 0.5 * _mean((left - location) ** 2, weights).sqrt()
    scale = torch.maximum(MAD_TO_DEVIATION * _medians((left - location).abs(), weights), spread)
    location, scale = (blurred(t.view(1, 1, *size)).flatten() for t in (location, scale))
    scale = scale.clamp(min=NARROWEST_OCTAVE * float(scale.mean()) + 1e-6)
    return Octave(unit, slopes.numpy(), location.numpy(), scale.numpy())


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (weights[:, None] * values).sum(0) / weights.sum()


def _medians(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted medians of columns."""
    ordered, order = values.sort(dim=0, stable=True)
    cumulated = weights[order].cumsum(0)
    place = (cumulated <= 0.5 * cumulated[-1] * (1 + 1e-6)).sum(0).clamp(max=len(values) - 1)
    return ordered.gather(0, place[None])[0]


def _standardized(latents: Tensor, mean: np.ndarray, deviation: np.ndarray) -> Tensor:
    centered = (latents - _tensor(mean, latents)) / _tensor(deviation, latents)
    return centered.clamp(-FARTHEST_LATENT, FARTHEST_LATENT)


def _logarithm(energy: Tensor, unit: float) -> Tensor:
    # A perfect reconstruction is not infinitely normal.
    return (energy / unit + 0.01).log()


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like)

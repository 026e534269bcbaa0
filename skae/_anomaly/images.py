"""Where an image is unusual: energies of its residuals, by scale and place, calibrated.

A mean over the whole image drowns a small defect, and normal texture has a spread of its
own at each scale and place. So the residuals are split into octaves, from single pixels
to the whole image (Burt and Adelson, "The Laplacian pyramid", 1983). The logarithm of
the energy of each octave around each place is compared with what is usual *there*, in an
image with *such latents*: what a ridge regression on the latents expects, which is how
bright images are allowed coarser residuals than dark ones. What exceeds it counts
robust standard deviations. The root of their mean square, and of that of the image as a row
(``rows.py``), is the map: where the octaves are highest, the row counts in full, and
elsewhere in their proportion. The map's maximum is the outlyingness of the image.

All this is learned from images that the member was not trained on.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from skae._anomaly.levels import Level
from skae._anomaly.rows import RowCalibration, Scorer
from skae._anomaly.thresholds import MAD_TO_DEVIATION, median_deviation, weighted_quantile
from skae._data.spec import shorter_side
from skae._model.model import Coded
from skae._runtime.device import computing
from skae._runtime.tuning import (
    FARTHEST_LATENT,
    KNOWN_SHARE,
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
    """

    mean: np.ndarray
    deviation: np.ndarray
    influence: np.ndarray
    octaves: list[Octave]

    def excess(
        self, latents: Tensor, energies: list[Tensor], known: Tensor | None = None
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
    texture : Texture
    image_shape : tuple of int
        (height, width) or (height, width, channels).
    level : Level
        Of the maxima of maps.
    """

    rows: Scorer
    members: list[Member]
    texture: Texture
    image_shape: tuple[int, ...]
    level: Level

    def outlyingness(self, coded: Coded) -> Tensor:
        """How far out images are, (n,): about zero for a typical one, NaN for one of no pixels."""
        return coded.judged(self.maps(coded).flatten(1).amax(1).double())

    def maps(self, coded: Coded) -> Tensor:
        """Outlyingness of every pixel, (n, height, width)."""
        pairs = _by_member(coded, self.image_shape)
        known = [None] * len(pairs) if coded.calibrated is None else list(coded.calibrated)
        by_member = [
            member.excess(*pair, own)
            for member, pair, own in zip(self.members, pairs, known, strict=True)
        ]
        mean = [coded.average(torch.stack(octave)) for octave in zip(*by_member, strict=True)]
        missing = self.texture.missing(_own_energies(coded, self.image_shape))
        of_rows = self.rows.far_out(coded).to(mean[0])
        mean.append(torch.maximum(of_rows, missing)[:, None])
        return self.level.standardized(_map(mean, self.image_shape), coded.share)

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
    """

    def __init__(self, weights: np.ndarray, seeds: tuple[int, ...], image_shape: tuple[int, ...]):
        self._rows, self._weights = RowCalibration(weights, seeds), weights
        self._shape = image_shape
        self._lengths = [h * w for h, w in octave_sizes(image_shape)]
        # Latents, and energies of all octaves.
        self._coded: np.ndarray | None = None
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
        self._own.append(_own_energies(coded, self._shape))

    def fit(self, kind: str, trained: Tensor) -> tuple[ImageScorer, np.ndarray]:
        """Learn what energies are usual.

        Parameters and results are those of :meth:`RowCalibration.fit`.
        """
        assert self._coded is not None
        unseen, weights = trained if bool(trained.all()) else ~trained, self._weights
        weight = torch.from_numpy(weights / weights.mean()).float()
        sizes = [self._coded.shape[2] - sum(self._lengths), sum(self._lengths)]
        members, total = [], torch.zeros(len(self._coded), sizes[1])
        with computing(torch.device("cpu"), flops=0.0):  # As in rows.py.
            for k, known in enumerate(unseen):
                rows = torch.from_numpy(self._coded[known.numpy(), k])
                latents, energies = rows.split(sizes, 1)
                member = _fit_member(latents, energies, self._shape, weight[known])
                everywhere = torch.ones(len(rows), dtype=torch.bool)
                excess = member.excess(latents, list(energies.split(self._lengths, 1)), everywhere)
                total[known] += torch.cat(excess, 1)
                members.append(member)
        scorer, of_rows = self._rows.fit(kind, trained)
        octaves = (total / unseen.sum(0)[:, None]).split(self._lengths, 1)
        own = torch.cat(self._own)
        texture = Texture.of(own, weights)
        of_images = torch.maximum(torch.from_numpy(of_rows).float(), texture.missing(own))
        peaks = _peaks([*octaves, of_images[:, None]], self._shape)
        seen = ~np.isnan(peaks) & (weights > 0)
        shares = self._rows.shares
        level = Level.of(peaks[seen], shares[seen], weights[seen])
        fitted = ImageScorer(scorer, members, texture, tuple(self._shape), level)
        return fitted, level.standardized(torch.from_numpy(peaks), torch.from_numpy(shares)).numpy()


def _peaks(octaves: list[Tensor], shape: tuple[int, ...]) -> np.ndarray:
    """Maxima of maps (n,), a few images at a time."""
    parts = zip(*(octave.split(16) for octave in octaves), strict=True)
    peaks = [_map(list(part), shape).flatten(1).amax(1) for part in parts]
    return torch.cat(peaks).double().numpy()


def _by_member(coded: Coded, shape: tuple[int, ...]) -> list[tuple[Tensor, list[Tensor]]]:
    """What the members' latents are, and the energies of their residuals, octave by octave."""
    observed, n_features = _observed(coded, shape), math.prod(shape)
    pairs = []
    for joint in coded.joint.float():
        latents, residuals = joint[:, :-n_features], joint[:, -n_features:]
        if observed is not None:
            residuals = residuals * observed.mean((1, 2, 3))[:, None].sqrt()
        pairs.append((latents, _energies(_channels_first(residuals, shape), observed)))
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
        _energies(images, observed)[:-1]
        if shorter_side(shape) > 4
        else _energies(images - images.mean((1, 2, 3), keepdim=True), observed)
    )
    return torch.stack([energy.mean(1) for energy in fine], 1)


def _energies(residuals: Tensor, observed: Tensor | None = None) -> list[Tensor]:
    """Energies (n, h * w) of the octaves of (n, channels, height, width), fine to coarse.

    With shares of ``observed`` values (n, 1, height, width), means are of these: normalized
    convolutions, as in ``holes.py``.
    """
    energies, level, coarsest = [], residuals, False
    while not coarsest:
        coarsest = shorter_side(level.shape[2:]) <= 4
        low, shares = _smooth(level, observed)
        band = level if coarsest else level - low
        energy, fewer = _smooth((band**2).sum(1, keepdim=True), observed)
        energy, fewer = _half(energy, fewer)
        energies.append(_everywhere(*_smooth(energy, fewer)).flatten(1))
        level, observed = _half(low, shares)
    return energies


def _smooth(maps: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Blurred maps, and the blurred shares that they count."""
    if observed is None:
        return _blurred(maps), None
    shares = _blurred(observed)
    return _blurred(maps * observed) / shares.clamp(min=1e-9), shares


def _half(maps: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if observed is None:
        return _halved(maps), None
    shares = _halved(observed)
    return _halved(maps * observed) / shares.clamp(min=1e-9), shares


def _everywhere(maps: Tensor, observed: Tensor | None) -> Tensor:
    """Maps in which a place where nothing was observed is as the others are on average."""
    if observed is None:
        return maps
    shares = observed.clamp(min=1e-9)
    mean = (maps * shares).sum((2, 3), keepdim=True) / shares.sum((2, 3), keepdim=True)
    known = (observed / KNOWN_SHARE).clamp(max=1.0)
    return known * maps + (1.0 - known) * mean


def octave_sizes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Height and width of the energies of each octave."""
    height, width = shape[:2]
    sizes = [(-(-height // 2), -(-width // 2))]
    while shorter_side((height, width)) > 4:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def _blurred(maps: Tensor) -> Tensor:
    """Binomial means of 3 x 3 places of (n, channels, h, w)."""
    # Not by a convolution: its bits may depend on how many images there are.
    for _ in range(2):
        maps = functional.pad(maps.transpose(2, 3), (1, 1, 0, 0), mode="replicate")
        maps = 0.25 * (maps[..., :-2] + maps[..., 2:]) + 0.5 * maps[..., 1:-1]
    return maps


def _halved(maps: Tensor) -> Tensor:
    """Means of 2 x 2 places, at edges of what there is."""
    height, width = maps.shape[2:]
    maps = functional.pad(maps, (0, width % 2, 0, height % 2), mode="replicate")
    return functional.avg_pool2d(maps, 2)


def _map(excess: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Root mean squares (n, height, width) of the octaves' excess (n, h * w), a row's last."""
    *octaves, of_row = (z.clamp(min=0.0).square() for z in excess)
    total = torch.zeros(1, 1, 1, 1)
    for squares, size in zip(octaves[::-1], octave_sizes(shape)[::-1], strict=True):
        wide = functional.interpolate(total, size=size, mode="bilinear")
        total = wide + squares.unflatten(1, (1, *size))
    total = functional.interpolate(total, size=shape[:2], mode="bilinear")[:, 0]
    total = total / len(octaves)
    # The image as a whole counts where its places do: it must not lift those that are usual.
    peaks = total.amax((1, 2), keepdim=True)
    share = torch.where(peaks > 0.0, total / peaks, 1.0)
    return (total + of_row[..., None] * share).sqrt()


def _fit_member(
    latents: Tensor, energies: Tensor, shape: tuple[int, ...], weights: Tensor
) -> Member:
    """What is usual in calibration images: latents, and energies (n, all places of all octaves)."""
    mean = _mean(latents, weights)
    deviation = _mean((latents - mean) ** 2, weights).sqrt()
    # A latent that does not vary tells nothing.
    deviation += 1e-3 * deviation.mean() + 1e-9
    given = _standardized(latents, mean.numpy(), deviation.numpy())
    n_latents, sizes = given.shape[1], octave_sizes(shape)
    # As many images as latents say as much as the guess that they do not matter.
    gram = given.T @ (weights[:, None] * given) + n_latents * torch.eye(n_latents)
    # Contiguous, so that a copy of it gives the same bits.
    influence = torch.linalg.inv(gram).contiguous()
    parts = zip(energies.split([h * w for h, w in sizes], 1), sizes, strict=True)
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
    location, scale = (_blurred(t.view(1, 1, *size)).flatten() for t in (location, scale))
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

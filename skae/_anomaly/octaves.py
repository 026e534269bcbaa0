"""Octaves of images, from single pixels to the whole, and their energies.

After Burt and Adelson, "The Laplacian pyramid as a compact image code", 1983.
"""

from torch import Tensor
from torch.nn import functional

from skae._data.spec import shorter_side
from skae._runtime.tuning import KNOWN_SHARE


def energies_of(residuals: Tensor, observed: Tensor | None = None) -> list[Tensor]:
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
        return blurred(maps), None
    shares = blurred(observed)
    return blurred(maps * observed) / shares.clamp(min=1e-9), shares


def _half(maps: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if observed is None:
        return halved(maps), None
    shares = halved(observed)
    return halved(maps * observed) / shares.clamp(min=1e-9), shares


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


def blurred(maps: Tensor) -> Tensor:
    """Binomial means of 3 x 3 places of (n, channels, h, w)."""
    # Not by a convolution: its bits may depend on how many images there are.
    for _ in range(2):
        maps = functional.pad(maps.transpose(2, 3), (1, 1, 0, 0), mode="replicate")
        maps = 0.25 * (maps[..., :-2] + maps[..., 2:]) + 0.5 * maps[..., 1:-1]
    return maps


def halved(maps: Tensor) -> Tensor:
    """Means of 2 x 2 places, at edges of what there is."""
    height, width = maps.shape[2:]
    maps = functional.pad(maps, (0, width % 2, 0, height % 2), mode="replicate")
    return functional.avg_pool2d(maps, 2)

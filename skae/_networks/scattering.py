"""Wavelet scattering: what images show, but hardly where to the pixel, by fixed formulas.

Bruna and Mallat, "Invariant scattering convolution networks", PAMI 2013. An image is convolved with
Morlet wavelets of several angles and octaves; the moduli are convolved once more with those of the
coarser octaves; and all of it is averaged on a coarse grid. Small shifts and strains change that
little, but classes stay apart. Each octave is computed by the same small filters, on an image half
as large as the one before.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from skae._runtime.tuning import (
    SCATTERING_ANGLES,
    SCATTERING_BLUR,
    SCATTERING_CELLS,
    SCATTERING_FREQUENCY,
    SCATTERING_SLANT,
    SCATTERING_WIDTH,
)

# Most wavelets on the way of a coefficient.
_ORDER = 2


def n_octaves(height: int, width: int) -> int:
    """How often the image is halved, at least once, until no side has more than 8 cells."""
    return max(1, math.ceil(math.log2(max(height, width) / SCATTERING_CELLS)))


def n_paths(octaves: int) -> int:
    """Ways through none, one or two wavelets, the second one of a coarser octave."""
    a = SCATTERING_ANGLES
    return 1 + a * octaves + a * a * math.comb(octaves, 2)


def grid(height: int, width: int) -> tuple[int, int]:
    """Cells of the grid on which coefficients are averaged."""
    step = 2 ** n_octaves(height, width)
    return -(-height // step), -(-width // step)


class Scattering(nn.Module):
    """From images (n, channels, height, width) to (n, n_paths, channels, *grid) coefficients.

    Missing pixels are filled in from their neighbors. The first path is the averaged image itself,
    and can be negative; the moduli of the others cannot.
    """

    def __init__(self, octaves: int, dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.octaves = octaves
        kernel = gaussian(SCATTERING_BLUR)
        for name, values in (("waves", morlets()), ("across", kernel[None, None, None])):
            self.register_buffer(name, values.to(device, dtype), persistent=False)
        self.waves: Tensor
        self.across: Tensor

    def forward(self, x: Tensor) -> Tensor:
        n, channels = x.shape[:2]
        # By the number of wavelets that were passed: maps (n * channels, paths, height, width).
        orders = [x.flatten(0, 1)[:, None]]
        for _ in range(self.octaves):
            passed = [self._moduli(maps) for maps in orders[:_ORDER]]
            for order, maps in enumerate(passed, 1):
                if order < len(orders):
                    orders[order] = torch.cat([orders[order], maps], 1)
                else:
                    orders.append(maps)
            orders = [self._halved(maps) for maps in orders]
        paths = torch.cat(orders, 1)
        return paths.view(n, channels, *paths.shape[1:]).transpose(1, 2)

    def _moduli(self, maps: Tensor) -> Tensor:
        """Moduli of the maps' convolutions with each wavelet."""
        single = maps.flatten(0, 1)[:, None]
        half = self.waves.shape[-1] // 2
        both = functional.conv2d(functional.pad(single, (half,) * 4, mode="replicate"), self.waves)
        real, imaginary = both.chunk(2, 1)
        moduli = (real.square() + imaginary.square()).sqrt()
        return moduli.view(-1, maps.shape[1] * SCATTERING_ANGLES, *maps.shape[-2:])

    def _halved(self, maps: Tensor) -> Tensor:
        """Maps smoothed, at every other pixel of every other row."""
        single = maps.flatten(0, 1)[:, None]
        half = self.across.shape[-1] // 2
        padded = functional.pad(single, (half,) * 4, mode="replicate")
        rows = functional.conv2d(padded, self.across.transpose(-1, -2), stride=(2, 1))
        smooth = functional.conv2d(rows, self.across, stride=(1, 2))
        return smooth.view(*maps.shape[:2], *smooth.shape[-2:])


def gaussian(width: float) -> Tensor:
    """Weights of a sampled normal density, cut off at three standard deviations."""
    half = math.ceil(3.0 * width)
    offsets = torch.arange(-half, half + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / width) ** 2)
    return weights / weights.sum()


def morlets() -> Tensor:
    """Real parts of the wavelets, then imaginary ones, (2 * angles, 1, side, side).

    A wavelet is a wave under a normal density, which is longer along the crests than across, less
    as much of that density as takes the mean away.
    """
    half = math.ceil(3.0 * SCATTERING_WIDTH / SCATTERING_SLANT)
    offsets = torch.arange(-half, half + 1, dtype=torch.float64)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    waves = []
    for k in range(SCATTERING_ANGLES):
        angle = math.pi * k / SCATTERING_ANGLES
        along = x * math.cos(angle) + y * math.sin(angle)
        beside = SCATTERING_SLANT * (y * math.cos(angle) - x * math.sin(angle))
        density = torch.exp(-0.5 * (along**2 + beside**2) / SCATTERING_WIDTH**2)
        density /= density.sum()
        wave = density * torch.exp(1j * math.pi * SCATTERING_FREQUENCY * along)
        waves.append(wave - wave.sum() * density)
    both = torch.stack(waves)
    return torch.cat([both.real, both.imag])[:, None]

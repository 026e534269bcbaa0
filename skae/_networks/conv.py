"""Convolutional networks for images of any size: a bottleneck for features, a U-net for repair.

They are torch modules, trained by autograd like a user's own. Unlike a user's
modules, they draw their weights from a local generator. A signal is an image of one
column: kernels and strides lie along the axes that are longer than one pixel.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from skae._data.spec import shorter_side
from skae._networks.activations import ACTIVATIONS
from skae._networks.builders import Builder, Shape
from skae._networks.holes import fill_holes
from skae._runtime.tuning import CONV_CHANNELS, CORRECTION_DAMPING, UNET_CHANNELS


@dataclass(frozen=True)
class ImageBuilder(Builder):
    """How to build a pair of modules for images of shape (channels, height, width).

    Attributes
    ----------
    channels : tuple of int
        Channels of each stage; each stage halves height and width.
    activation : str
    normalization : {"batch", "layer"} or None
        "layer" is a group norm of one group.
    dropout : float
        Share of the channels set to zero in training.
    strides : tuple of int
        Of a stage, down and across: two, or one along an axis without a neighbor.
    """

    channels: tuple[int, ...]
    activation: str = "silu"
    normalization: str | None = None
    dropout: float = 0.0
    strides: tuple[int, ...] = (2, 2)

    @property
    def draws_globally(self) -> bool:
        return self.dropout > 0

    def conv(
        self,
        before: int,
        after: int,
        kernel: int,
        stride: int = 1,
        kind: type[nn.Conv2d] | type[nn.ConvTranspose2d] = nn.Conv2d,
    ) -> nn.Conv2d | nn.ConvTranspose2d:
        """A convolution along the axes that are halved."""

        def along(size: int, flat: int) -> tuple[int, int]:
            down, across = (size if halved > 1 else flat for halved in self.strides)
            return down, across

        padding = along((kernel - 1) // 2, 0)
        return kind(before, after, along(kernel, 1), along(stride, 1), padding)

    def after(self, channels: int) -> list[nn.Module]:
        """The layers that follow a hidden convolution."""
        modules: list[nn.Module] = []
        if self.normalization == "batch":
            modules.append(nn.BatchNorm2d(channels))
        elif self.normalization == "layer":
            modules.append(nn.GroupNorm(1, channels))
        modules.append(ACTIVATIONS[self.activation].module())
        if self.dropout:
            modules.append(nn.Dropout2d(self.dropout))
        return modules


@dataclass(frozen=True)
class ConvBuilder(ImageBuilder):
    """Stages of stride two down to a dense latent layer, and their mirror image.

    Attributes
    ----------
    variational : bool
        Whether the encoder gives two numbers per latent.
    """

    variational: bool = False

    def for_draws(self) -> ImageBuilder:
        return dataclasses.replace(self, variational=True)

    def build(self, input_shape: Shape, n_components: int) -> tuple[nn.Module, nn.Module]:
        n_channels, *size = input_shape
        stages = (n_channels, *self.channels)
        multiples = [stride ** len(self.channels) for stride in self.strides]
        low = [-(-length // multiple) for length, multiple in zip(size, multiples, strict=True)]
        inner = (stages[-1], *low)
        encoder: list[nn.Module] = [Pad(*multiples)]
        decoder: list[nn.Module] = []
        for before, after in zip(stages, self.channels, strict=False):
            down = self.conv(before, after, kernel=3, stride=2)
            encoder.append(nn.Sequential(down, *self.after(after)))
        for i, (before, after) in enumerate(zip(self.channels, stages, strict=False)):
            up = self.conv(before, after, kernel=4, stride=2, kind=nn.ConvTranspose2d)
            decoder.insert(0, nn.Sequential(up, *(self.after(after) if i else [])))
        n_inner = inner[0] * inner[1] * inner[2]
        encoder += [nn.Flatten(), nn.Linear(n_inner, n_components * (1 + self.variational))]
        entry = [nn.Linear(n_components, n_inner), nn.Unflatten(1, inner)]
        if self.channels:
            entry += self.after(inner[0])
        return nn.Sequential(*encoder), nn.Sequential(*entry, *decoder, Crop(*size))


@dataclass(frozen=True)
class UnetBuilder(ImageBuilder):
    """A residual U-net: the image plus a correction, without a bottleneck.

    Its latents are the restored image. The skips follow Ronneberger et al. 2015, and
    learning the residual follows Zhang et al. 2017. The first stage works on pixels
    rearranged 2 x 2 into channels, as in FFDNet (Zhang et al. 2018). Missing pixels are
    first filled in from their neighbors; a mask tells the network which ones were observed.
    """

    missing = math.nan

    def build(self, input_shape: Shape, n_components: int) -> tuple[nn.Module, nn.Module]:
        return nn.Sequential(Unet(self, input_shape[0]), ToRow()), FromRow(input_shape)

    def draw(self, modules: Iterable[nn.Module], rng: torch.Generator) -> None:
        modules = list(modules)
        super().draw(modules, rng)
        for module in modules:
            if isinstance(module, Unet):
                # Training starts at the image itself.
                module.exit.weight.data.zero_()


class Unet(nn.Module):
    """Maps an image of any size to an image of the same size."""

    def __init__(self, builder: UnetBuilder, n_channels: int):
        super().__init__()
        channels, conv = builder.channels, builder.conv
        self.strides = builder.strides
        n_given = n_channels * math.prod(self.strides)
        # Beside each value stands whether it was observed.
        self.entry = conv(2 * n_given, channels[0], kernel=3)
        self.stages = nn.ModuleList(Residual(builder, width) for width in channels)
        pairs, up = list(pairwise(channels)), nn.ConvTranspose2d
        self.down = nn.ModuleList(conv(a, b, kernel=2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(conv(b, a, kernel=2, stride=2, kind=up) for a, b in pairs)
        self.back = nn.ModuleList(Residual(builder, width) for width in channels[:-1])
        self.exit = conv(channels[0], n_given, kernel=3)
        self.pad = Pad(*(stride ** len(channels) for stride in self.strides))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x, observed = fill_holes(x)
        y = self._stages(x, observed)[-1]
        # Adam moves each weight of the last layer by the learning rate. Without damping, these
        # steps together would move the image by more than what is left to correct.
        correction = from_channels(self.exit(y), self.strides)[..., :height, :width]
        return x + CORRECTION_DAMPING * correction

    def features(self, x: Tensor) -> list[Tensor]:
        """Outputs of all stages, in the order in which they are computed."""
        return self._stages(*fill_holes(x))

    def _stages(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        given = torch.cat([x, observed.to(x.dtype)], 1)
        y = self.entry(into_channels(self.pad(given), self.strides))
        kept = [y := self.stages[0](y)]
        for down, stage in zip(self.down, self.stages[1:], strict=True):
            kept.append(y := stage(down(y)))
        ways_up = zip(reversed(self.up), reversed(self.back), kept[-2::-1], strict=True)
        for up, stage, skip in list(ways_up):
            kept.append(y := stage(up(y) + skip))
        return kept


class Residual(nn.Module):
    """Two blocks of two convolutions; each block adds its output to its input."""

    def __init__(self, builder: UnetBuilder, width: int, n_blocks: int = 2):
        super().__init__()

        def half() -> list[nn.Module]:
            return [*builder.after(width), builder.conv(width, width, kernel=3)]

        self.blocks = nn.ModuleList(nn.Sequential(*half(), *half()) for _ in range(n_blocks))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def into_channels(x: Tensor, strides: Shape) -> Tensor:
    """Pixels (n, c, h, w) of each block of the size of ``strides`` as channels of one pixel."""
    down, across = strides
    blocks = x.unflatten(3, (-1, across)).unflatten(2, (-1, down))
    return blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def from_channels(x: Tensor, strides: Shape) -> Tensor:
    """Undoes :func:`into_channels`."""
    blocks = x.unflatten(1, (-1, *strides))
    return blocks.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


class Pad(nn.Module):
    """Repeats the last row and column until height and width are multiples of two numbers."""

    def __init__(self, down: int, across: int):
        super().__init__()
        self.multiples = down, across

    def forward(self, x: Tensor) -> Tensor:
        (height, width), (down, across) = x.shape[-2:], self.multiples
        missing = (0, -width % across, 0, -height % down)
        return functional.pad(x, missing, mode="replicate") if any(missing) else x

    def extra_repr(self) -> str:
        return f"multiples={self.multiples}"


class Crop(nn.Module):
    """The upper left part of an image: undoes :class:`Pad`."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.height, : self.width]

    def extra_repr(self) -> str:
        return f"height={self.height}, width={self.width}"


class ToRow(nn.Module):
    """Images (n, channels, height, width) as rows, channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class FromRow(nn.Module):
    """Rows as images of ``shape`` (channels, height, width)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        channels, height, width = self.shape
        return x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


def padded_size(encoder: nn.Module, height: int, width: int) -> tuple[int, int]:
    """Height and width of an image after :class:`Pad`, as the stages see it."""
    pad = next(module for module in encoder.modules() if isinstance(module, Pad))
    down, across = pad.multiples
    return height + -height % down, width + -width % across


def stage_maps(encoder: nn.Module, x: Tensor) -> list[Tensor]:
    """Output of each stage of such a network for images ``x``, at the stage's resolution."""
    assert isinstance(encoder, nn.Sequential)
    if isinstance(encoder[0], Unet):
        return encoder[0].features(x)
    maps = []
    for module in encoder:
        if isinstance(module, nn.Flatten):
            break
        x = module(x)
        if not isinstance(module, Pad):
            maps.append(x)
    return maps


# By the name of a network; those of signals take them as images of one column.
BUILDERS: dict[str, type[ImageBuilder]] = {
    "conv": ConvBuilder,
    "conv1d": ConvBuilder,
    "unet": UnetBuilder,
    "unet1d": UnetBuilder,
}
SIGNAL_NETWORKS = ("conv1d", "unet1d")

# Default channels of the stages; at most one stage fewer than the image allows.
_CHANNELS = {ConvBuilder: CONV_CHANNELS, UnetBuilder: UNET_CHANNELS}

# Values of normalization="auto". Without normalization, a U-net learns slowly or diverges.
_NORMALIZATION = {ConvBuilder: None, UnetBuilder: "batch"}


def image_builder(
    name: str,
    image_shape: Shape | None,
    channels: Shape | None,
    activation: str,
    normalization: str | None,
    dropout: float,
) -> ImageBuilder:
    """The builder called ``name``, for images (height, width[, channels]).

    Raises
    ------
    ValueError
        If the rows are not images, or the images are too small for the number of stages.
    """
    if image_shape is None:
        raise ValueError(
            f"network={name!r} needs images, but X holds rows. Pass an array of shape (n_samples, "
            f"height, width[, channels]), or the image_shape of the rows. Of signals, pass "
            f"network='{name}1d'."
        )
    builder, (height, width) = BUILDERS[name], image_shape[:2]
    most = shorter_side(image_shape).bit_length() - 1
    if channels is None:
        channels = _CHANNELS[builder][: max(1, most - 1)]
    if not 0 < len(channels) <= most:
        raise ValueError(
            f"hidden_layer_sizes={channels} halves the image {len(channels)} times, but an image "
            f"of {height} x {width} pixels can be halved {most} times, and must be at least once. "
            f"Pass another number of stages."
        )
    if normalization == "auto":
        normalization = _NORMALIZATION[builder]
    strides = (min(height, 2), min(width, 2))
    return builder(channels, activation, normalization, dropout, strides)

"""
Photographs and digits as bytes
===============================

A codec of PCA's latents is fitted on the left part of two photographs that come with
scikit-learn, in patches of 16 x 16 pixels, and codes the right part of one. Then the
latents of an autoencoder code digits, from a few bytes each up to exact copies.

    python examples/plot_compression.py --output compression.png

Takes about half a minute. Needs ``pip install "skae[codec,plot,image]"``.
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits, load_sample_images
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator

from skae import AutoencoderTransformer
from skae.codec import LatentCodec

SIDE = 16


def cut(image, stride=SIDE):
    """Patches, and how many of them there are along each axis."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))[::stride, ::stride]
    return windows.reshape(-1, SIDE, SIDE).copy(), windows.shape[:2]


def joined(patches, grid):
    return patches.reshape(*grid, SIDE, SIDE).swapaxes(1, 2).reshape(SIDE * grid[0], -1)


def psnr(decoded, images, peak):
    return 10 * np.log10(peak**2 / np.mean((decoded.astype(float) - images) ** 2))


def photograph(axes):
    photos = [image.mean(axis=2).astype(np.uint8) for image in load_sample_images().images]
    train = np.concatenate([cut(photo[:, :400], stride=6)[0] for photo in photos])
    test, grid = cut(photos[0][100:356, 400:])
    train, rows = (patches.reshape(len(patches), -1) for patches in (train, test))
    axes[0].imshow(joined(test, grid), cmap="gray")
    axes[0].set_title(f"{test.nbytes:,} bytes")
    pca = FrozenEstimator(PCA().fit(train))
    for axis, step in zip(axes[1:], (60.0, 200.0), strict=True):
        codec = LatentCodec(pca, step=step).fit(train)
        data = codec.encode(rows)
        decoded = codec.decode(data)
        axis.imshow(joined(decoded, grid), cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"{len(data):,} bytes, {psnr(decoded, rows, 255):.1f} dB")


def digits(axes):
    images = load_digits().images.astype(np.uint8)
    train, test = images[:1500], images[1500:]
    autoencoder = AutoencoderTransformer(n_components=16, random_state=0).fit(train)
    autoencoder = FrozenEstimator(autoencoder)  # fitted once for all codecs
    for axis, settings in zip(axes, ({"step": 4.0}, {"step": 2.0}, {"max_error": 0}), strict=True):
        codec = LatentCodec(autoencoder, random_state=0, **settings).fit(train)
        data = codec.encode(test)
        decoded = codec.decode(data)
        # A pixel between them.
        spaced = np.pad(decoded[:24], ((0, 0), (0, 1), (0, 1)))
        shown = spaced.reshape(3, 8, 9, 9).swapaxes(1, 2).reshape(27, 72)
        axis.imshow(shown, cmap="gray_r")
        quality = "exact" if (decoded == test).all() else f"{psnr(decoded, test, 16):.1f} dB"
        axis.set_title(f"digits, {len(data) / len(test):.1f} bytes each, {quality}")


def main(path):
    figure, axes = plt.subplots(
        2, 3, figsize=(12, 6.4), layout="constrained", height_ratios=(256, 90)
    )
    photograph(axes[0])
    digits(axes[1])
    for axis in axes.flat:
        print(axis.get_title())
        axis.set_axis_off()
    figure.savefig(path, dpi=110)
    print(f"Picture saved to {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="compression.png")
    main(parser.parse_args().output)

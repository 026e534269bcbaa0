"""
Digits that nobody wrote
========================

New digits, ways from one digit to another, and what each latent stands for. Takes a few seconds,
on the digits that come with scikit-learn. Needs matplotlib (``pip install "skae[plot]"``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer, VariationalAutoencoder
from skae.inspection import LatentWalkDisplay


def sheet(images: np.ndarray) -> np.ndarray:
    """Images side by side, ten in a line, a pixel between them."""
    spaced = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return spaced.reshape(-1, 10, 10, 10).transpose(0, 2, 1, 3).reshape(-1, 100)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="generation.png")
    digits = load_digits().images
    mixture = AutoencoderTransformer(n_components=10, latent_density="gmm", random_state=0)
    variational = VariationalAutoencoder(n_components=10, random_state=0)
    mixture.fit(digits)
    variational.fit(digits)
    pictures = {
        "digits": digits[:50],
        "drawn from a mixture on the latents": mixture.sample(50, random_state=0),
        "drawn by a variational autoencoder": variational.sample(50, random_state=0),
        "ways from one digit to another": mixture.interpolate(digits[:5], digits[5:10], steps=10),
    }
    figure, axes = plt.subplots(
        3, 2, figsize=(10, 8.5), height_ratios=(1, 1, 1.4), layout="constrained"
    )
    for axis, (title, images) in zip(axes[:2].flat, pictures.items(), strict=True):
        axis.imshow(sheet(images), cmap="gray")
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    for axis, estimator in zip(axes[2], (mixture, variational), strict=True):
        LatentWalkDisplay.from_estimator(estimator, digits, n_latents=6, ax=axis)
        axis.set_title(f"latents of the {type(estimator).__name__}", fontsize=9)
    figure.savefig(parser.parse_args().output, dpi=100)


if __name__ == "__main__":
    main()

"""
How many latents are enough?
============================

One fit with ordered latents gives the whole curve: what the first latent explains of other rows,
the first two, and so on. Beside it PCA, whose components are ordered in the same way. Needs
matplotlib (``pip install "skae[plot]"``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae.inspection import LatentSizeDisplay

SHARE = 0.8


def main(path):
    X = load_digits().data
    autoencoder = AutoencoderTransformer(n_components=16, ordered=True, random_state=0).fit(X)
    curve = LatentSizeDisplay.from_estimator(autoencoder, name="autoencoder", color="C0")
    pca = PCA(n_components=16).fit(X)
    LatentSizeDisplay.from_estimator(pca, name="PCA", ax=curve.ax_, color="C1", marker="s")
    for name, estimator in (("autoencoder", autoencoder), ("PCA", pca)):
        explained = np.cumsum(estimator.explained_variance_ratio_)
        print(f"{name}: {np.argmax(explained >= SHARE) + 1} numbers explain {SHARE:.0%}")
    curve.ax_.axhline(SHARE, color="0.7", linewidth=1, zorder=0)
    curve.ax_.set_title("Digits: an autoencoder needs fewer numbers than PCA", fontsize=11)
    curve.figure_.set_size_inches(6, 4)
    curve.figure_.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="latent_sizes.png")
    main(parser.parse_args().output)

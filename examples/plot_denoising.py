"""
Noise removed
=============

A denoising autoencoder learns from clean digits to take noise away, and does so for digits that it
has not seen. Needs matplotlib (``pip install "skae[plot]"``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import DenoisingAutoencoder

N_SHOWN = 10


def main(path):
    X = load_digits().data
    train, clean = X[:1400], X[1400:]
    noisy = clean + np.random.default_rng(0).normal(scale=4.0, size=clean.shape)
    autoencoder = DenoisingAutoencoder(
        n_components=32,
        hidden_layer_sizes=(128,),
        noise="gaussian",
        noise_level=4.0,
        scaling=None,  # then the noise level is in units of the pixels
        max_epochs=60,
        random_state=0,
    ).fit(train)
    pca = PCA(n_components=12).fit(train)  # of 4, 8, 12, ..., the best on these rows
    lines = {
        "noisy": noisy,
        "PCA": pca.inverse_transform(pca.transform(noisy)),
        "autoencoder": autoencoder.denoise(noisy),
        "clean": clean,
    }
    figure, axes = plt.subplots(len(lines), 1, figsize=(6, 3.2), layout="constrained")
    for axis, (name, images) in zip(axes, lines.items(), strict=True):
        error = np.sqrt(np.mean((images - clean) ** 2))
        print(f"{name:>12}: {error:.2f} gray levels of 16 off")
        shown = images[:N_SHOWN].reshape(-1, 8, 8)
        strip = np.hstack(np.pad(shown, ((0, 0), (0, 0), (0, 1))))
        axis.imshow(strip, cmap="gray", vmin=0, vmax=16)
        axis.set(xticks=[], yticks=[])
        label = name if name == "clean" else f"{name}\n{error:.1f} off"
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle("Unseen digits (16 gray levels): root mean squared error", fontsize=10)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="denoising.png")
    main(parser.parse_args().output)

"""
What each latent of a table stands for
======================================

Wines are described by four latents. Each goes from low to high while the others stay at their mean,
and the picture shows the columns that move most with it. Needs matplotlib
(``pip install "skae[plot]"``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import numpy as np
from sklearn.datasets import load_wine

from skae import AutoencoderTransformer
from skae.inspection import LatentWalkDisplay


def main(path):
    wines = load_wine()
    names = [name.split("/")[0].replace("_", " ") for name in wines.feature_names]
    autoencoder = AutoencoderTransformer(n_components=4, ordered=True, random_state=0)
    autoencoder.fit(wines.data)
    display = LatentWalkDisplay.from_estimator(autoencoder, wines.data, n_columns=3)
    display.ax_.figure.clear()
    display.feature_names = np.array(names)
    display.plot(display.figure_.subplots(), n_columns=3)
    for latent, walk in zip(display.latents, display.walks, strict=True):
        moved = np.abs(walk[-1] - walk[0]) / wines.data.std(axis=0)
        print(f"latent {latent} moves {names[np.argmax(moved)]} most")
    display.ax_.set_title("Wines: what moves with each of four latents", fontsize=11)
    display.figure_.set_size_inches(6, 4.2)
    display.figure_.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="latent_walk.png")
    main(parser.parse_args().output)

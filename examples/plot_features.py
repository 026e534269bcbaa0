"""
Digits in two numbers
=====================

Images of digits, 64 pixels each, as points in the plane: the two leading principal components
beside two latents of an autoencoder. Of ten nearest neighbors among other images, more bear the
same digit. Needs matplotlib (``pip install "skae[plot]"``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer


def draw(axis, points, y):
    """A point an image; each digit stands where its images lie."""
    axis.scatter(*points.T, c=y, cmap="viridis", s=6, alpha=0.6, linewidths=0)
    for digit in range(10):
        place = np.median(points[y == digit], axis=0)
        box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
        axis.text(*place, str(digit), ha="center", va="center", fontsize=12, bbox=box)
    axis.set(xticks=[], yticks=[])


def main(path):
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    figure, axes = plt.subplots(1, 2, figsize=(6, 3.4), layout="constrained")
    methods = {
        "PCA": PCA(n_components=2),
        "Autoencoder": AutoencoderTransformer(n_components=2, random_state=0),
    }
    for axis, (name, method) in zip(axes, methods.items(), strict=True):
        train, test = method.fit_transform(X_train), method.transform(X_test)
        scaler = StandardScaler().fit(train)
        neighbors = KNeighborsClassifier(10).fit(scaler.transform(train), y_train)
        accuracy = neighbors.score(scaler.transform(test), y_test)
        print(f"{name}: neighbors tell {accuracy:.0%} of the digits")
        draw(axis, scaler.transform(test), y_test)
        axis.set_title(f"{name}: neighbors tell {accuracy:.0%}", fontsize=10)
        axis.set(xlabel="first number", ylabel="second number")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="features.png")
    main(parser.parse_args().output)

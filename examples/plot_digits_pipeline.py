"""
Features for a classifier, the latent size found by search
==========================================================

Handwritten digits: an autoencoder stands in a pipeline where PCA stands, and a
grid search chooses the number of latents for both. Prints a table; saves a
picture where matplotlib is installed.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, DenoisingAutoencoder

SIZES = [2, 4, 8, 16, 32]


def search(reducer, X, y):
    """Grid search over the number of components of a reducer ahead of a classifier."""
    pipeline = Pipeline(
        [
            ("reduce", reducer),
            ("scale", StandardScaler()),
            ("classify", LogisticRegression(max_iter=1000)),
        ]
    )
    grid = {"reduce__n_components": SIZES}
    return GridSearchCV(pipeline, grid, cv=3).fit(X, y)


def print_table(searches, X_test, y_test, seconds):
    """Accuracy in cross-validation by latent size, and of the chosen size on test rows."""
    print(f"{'latents':>22}" + "".join(f"{size:>8}" for size in SIZES) + "    test  seconds")
    for name, found in searches.items():
        scores = "".join(f"{score:8.3f}" for score in found.cv_results_["mean_test_score"])
        test = found.score(X_test, y_test)
        print(f"{name:>22}{scores}{test:8.3f}{seconds[name]:9.1f}")
    for name, found in searches.items():
        print(f"{name} was best with {found.best_params_['reduce__n_components']} latents.")


def draw(searches, reconstructions, X_test, path):
    """Originals beside reconstructions from 8 latents; accuracy over latent size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = {"original": X_test} | reconstructions
    figure = plt.figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.3, 1])
    axes = left.subplots(len(rows), 10)
    for images, line, name in zip(rows.values(), axes, rows, strict=True):
        for image, axis in zip(images, line, strict=False):
            axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    left.suptitle("Reconstructed from 8 latents")
    axis = right.subplots()
    for name, found in searches.items():
        axis.plot(SIZES, found.cv_results_["mean_test_score"], marker="o", label=name)
    axis.set_xscale("log", base=2)
    axis.set_xticks(SIZES, [str(size) for size in SIZES])
    axis.set(xlabel="latents", ylabel="accuracy (cross-validated)", title="Digits classified")
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    print(f"Picture saved to {path}")


def main(path):
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    reducers = {
        "PCA": PCA(random_state=0),
        "AutoencoderTransformer": AutoencoderTransformer(random_state=0),
        "DenoisingAutoencoder": DenoisingAutoencoder(random_state=0),
    }
    searches, seconds = {}, {}
    for name, reducer in reducers.items():
        start = time.perf_counter()
        searches[name] = search(reducer, X_train, y_train)
        seconds[name] = time.perf_counter() - start
    print_table(searches, X_test, y_test, seconds)

    pca = PCA(8).fit(X_train)
    autoencoder = AutoencoderTransformer(n_components=8, random_state=0).fit(X_train)
    reconstructions = {
        "PCA": pca.inverse_transform(pca.transform(X_test)),
        "autoencoder": autoencoder.reconstruct(X_test),
    }
    for name, images in reconstructions.items():
        error = np.mean((images - X_test) ** 2)
        print(f"Squared error of test rows rebuilt from 8 latents, {name}: {error:.2f}")
    try:
        draw(searches, reconstructions, X_test, path)
    except ImportError:
        print("No picture: install matplotlib, or skae[plot], to draw it.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[4])
    parser.add_argument("--output", default="digits_pipeline.png", help="where to save the picture")
    main(parser.parse_args().output)

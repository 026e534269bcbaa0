"""Latents as features of a classifier: skae against PCA of the same size and raw pixels.

    python examples/benchmarks/features.py
    python examples/benchmarks/features.py --sets mnist --set noise_level=0.25 \
        --estimator denoising

Protocol: autoencoder and PCA are fitted without labels on all training images, raw
float32 pixels of 0 to 255 as rows. LR: ``LogisticRegression(max_iter=1000)`` behind
a ``StandardScaler``, fitted on the first 10,000 training labels. 5-NN:
``KNeighborsClassifier(5)`` on the features as they are, over the same 10,000. Both
are accuracies on all test images. MSE: of the reconstructed test images, in units
of pixels / 255. Digits (1,797 images of 8 x 8, pixels / 16, bundled with
scikit-learn) are split in half, and all training labels are used. Prints Markdown.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from options import DATA, add_settings, words
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, DenoisingAutoencoder

LABELS = 10_000
ESTIMATORS = {"transformer": AutoencoderTransformer, "denoising": DenoisingAutoencoder}


@dataclass
class Images:
    """Rows of pixels up to ``brightest``, with labels."""

    title: str
    brightest: float
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def from_npz(title: str, name: str):
    """Loader of a file of 28 x 28 images."""

    def load(folder: Path) -> Images:
        with np.load(folder / name) as data:
            train, test = (
                data[key].reshape(-1, 784).astype(np.float32) for key in ("X_train", "X_test")
            )
            return Images(title, 255.0, train, data["y_train"], test, data["y_test"])

    return load


def digits(folder: Path) -> Images:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X.astype(np.float32), y, test_size=0.5, random_state=0, stratify=y
    )
    return Images("digits", 16.0, X_train, y_train, X_test, y_test)


SETS = {
    "mnist": from_npz("MNIST", "mnist.npz"),
    "fashion": from_npz("Fashion-MNIST", "fashion_mnist.npz"),
    "digits": digits,
}


def accuracies(images: Images, train: np.ndarray, test: np.ndarray) -> list[float]:
    """Of logistic regression and of 5 nearest neighbors."""
    y, train = images.y_train[:LABELS], train[:LABELS]
    classifiers = (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        KNeighborsClassifier(5),
    )
    return [model.fit(train, y).score(test, images.y_test) for model in classifiers]


def raw_row(images: Images) -> list[str]:
    """Figures of the pixels themselves."""
    found = accuracies(images, images.X_train, images.X_test)
    return [images.title, "raw pixels", *(f"{value:.4f}" for value in found), "-", "-"]


def reduced_row(images: Images, name: str, model: BaseEstimator) -> list[str]:
    """Figures of a reduction that is fitted here."""
    start = time.perf_counter()
    model.fit(images.X_train)
    seconds = time.perf_counter() - start
    latents = model.transform(images.X_test)
    error = (model.inverse_transform(latents) - images.X_test) / images.brightest
    train = model.transform(images.X_train[:LABELS])
    found = accuracies(images, train, latents)
    figures = [f"{value:.4f}" for value in [*found, float(np.square(error).mean())]]
    return [images.title, name, *figures, f"{seconds:.1f}"]


def print_row(cells: list[str]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def compare(images: Images, options: argparse.Namespace) -> None:
    """Print the rows of one set."""
    size = dict(options.set).get("n_components", 32)
    if not options.only_skae:
        print_row(raw_row(images))
        print_row(reduced_row(images, f"PCA, {size}", PCA(size, random_state=0)))
    for seed in options.seeds:
        settings = {"n_components": size, "random_state": seed} | dict(options.set)
        model = ESTIMATORS[options.estimator](**settings)
        print_row(reduced_row(images, f"skae {options.estimator}, {size}, seed {seed}", model))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "images")
    parser.add_argument("--sets", type=words(SETS), default=list(SETS))
    parser.add_argument(
        "--seeds", type=lambda text: [int(n) for n in text.split(",")], default=[0], help="0,1,2"
    )
    parser.add_argument("--estimator", choices=ESTIMATORS, default="transformer")
    parser.add_argument("--only-skae", action="store_true", help="leave out raw pixels and PCA")
    add_settings(parser)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    print_row(["set", "features", "LR", "5-NN", "MSE", "fit, s"])
    print("|---|---|" + "---:|" * 4)
    for name in options.sets:
        compare(SETS[name](options.data), options)


if __name__ == "__main__":
    main()

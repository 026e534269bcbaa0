"""Squared errors of rows that were held out, beside PCA's of the same size.

    python examples/benchmarks/against_pca.py [--only digits genes] [--photos ../shared/data/photos]

Kinds of data, from what scikit-learn ships and from formulas: tables, digits, patches of
photographs in gray and in color, low rank with noise, few wide rows, counts of words. With
``--photos``, a folder that has ``bsd68_first40_gray.zip``, patches of 30 photographs against those
of 10 others too.
"""

import argparse
import io
import time
import zipfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_sample_images, load_wine
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer


def shuffled(X, n_train):
    X = X[np.random.default_rng(0).permutation(len(X))]
    return X[:n_train], X[n_train:]


def table(X, share=0.7):
    return shuffled(StandardScaler().fit_transform(X), round(share * len(X)))


def patches(images, side, n, rng):
    """Patches from anywhere in the images, as rows of values from 0 to 1."""
    found = []
    for _ in range(n):
        image = images[rng.integers(len(images))]
        i, j = (rng.integers(size - side + 1) for size in image.shape[:2])
        found.append(image[i : i + side, j : j + side].reshape(-1))
    return np.array(found, dtype=np.float64) / 255


def sample_images(side, color, n_train=3000, n_test=1000):
    """Left halves of scikit-learn's photographs for training, right halves for the test."""
    images = load_sample_images().images
    images = images if color else [image.mean(2) for image in images]
    rng, middle = np.random.default_rng(0), images[0].shape[1] // 2
    halves = [image[:, :middle] for image in images], [image[:, middle:] for image in images]
    numbers = n_train, n_test
    return tuple(patches(half, side, n, rng) for half, n in zip(halves, numbers, strict=True))


def photographs(folder, side):
    with zipfile.ZipFile(Path(folder) / "bsd68_first40_gray.zip") as archive:
        from PIL import Image

        names = sorted(name for name in archive.namelist() if name.endswith("png"))
        images = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]
    rng = np.random.default_rng(0)
    return patches(images[:30], side, 9000, rng), patches(images[30:], side, 3000, rng)


def low_rank(n, p, rank, noise, decay=0.7, n_test=300):
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(rank, p)) * np.arange(1, rank + 1)[:, None] ** -decay
    X = rng.normal(size=(n + n_test, rank)) @ loadings
    X += noise * rng.normal(size=X.shape)
    return X[:n], X[n:]


def words(n, p, n_topics=20, length=80, n_test=300):
    """Counts of words of documents with a few topics each, over their roots' norms."""
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(p, 0.05), size=n_topics)
    mixtures = rng.dirichlet(np.full(n_topics, 0.2), size=n + n_test)
    counts = rng.poisson(length * mixtures @ topics)
    X = np.sqrt(counts)
    return shuffled(X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-9), n)


KINDS = {
    "wine": (lambda: table(load_wine().data), (1, 4, 13)),
    "cancer": (lambda: table(load_breast_cancer().data), (1, 5, 15, 30)),
    "digits": (lambda: shuffled(load_digits().data / 16, 1200), (1, 8, 32, 57, 64)),
    "gray": (lambda: sample_images(8, color=False), (4, 16, 32, 64)),
    "color": (lambda: sample_images(12, color=True), (8, 64, 200)),
    "low rank": (lambda: low_rank(2000, 100, 100, 0.1), (2, 10, 50, 90, 100)),
    "genes": (lambda: low_rank(200, 3000, 30, 0.5), (2, 20, 100)),
    "wide": (lambda: low_rank(80, 400, 10, 1.0), (1, 8, 60)),
    "words": (lambda: words(1000, 1500), (5, 30)),
}


def error(model, X, held_out):
    rebuilt = model.fit(X).inverse_transform(model.transform(held_out))
    return ((rebuilt - held_out) ** 2).mean()


def ratio(X, held_out, n_components):
    """Error of the transformer, over PCA's, and the error that rounding leaves of both."""
    pca = error(PCA(n_components, random_state=0), X, held_out)
    own = AutoencoderTransformer(n_components=n_components, scaling=None, random_state=0)
    rounding = 1e-9 * held_out.var()
    return (error(own, X, held_out) + rounding) / (pca + rounding), pca


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--photos")
    arguments = parser.parse_args()
    kinds = dict(KINDS)
    if arguments.photos:
        for side in (16, 32, 48):
            kinds[f"photos {side}"] = (lambda side=side: photographs(arguments.photos, side), (64,))
    print("kind        rows x features  latents   PCA's error   ratio  seconds")
    for name in arguments.only or kinds:
        make, sizes = kinds[name]
        X, held_out = make()
        for size in sizes:
            start = time.perf_counter()
            found, pca = ratio(X, held_out, size)
            seconds = time.perf_counter() - start
            shape = f"{len(X)} x {X.shape[1]}"
            print(f"{name:10s}  {shape:>15s}  {size:7d}  {pca:12.3g}  {found:6.3f}  {seconds:7.1f}")


if __name__ == "__main__":
    main()

"""Images: features, restoration, segmentation and defects, against what else does them.

    python examples/benchmarks/images.py features
    python examples/benchmarks/images.py denoise --threads 2

Sections (each under 10 minutes on two cores):

features   32 latents of MNIST and Fashion-MNIST, trained on all training images without
           labels; logistic regression behind a ``StandardScaler`` and 5 nearest
           neighbours, fitted on the first 10,000 labels: accuracy on the test images.
denoise    Set12 with Gaussian noise of sigma 25 / 255 (seed 0), trained on the 40 photographs of
           BSD68: peak signal-to-noise ratio, mean over the images, against scikit-image.
inpaint    A missing 14 x 14 block of Fashion-MNIST's test images, and half of the
           pixels of Set12: PSNR over the missing pixels, against scikit-image and PCA.
membranes  ISBI 2012: a random forest of 100 trees on pixel features of images 0, 5, 10, 15
           and 20 (20,000 pixels each), tested on 22, 24, 26 and 28: average precision.
tiles      Magnetic tiles: trained on 480 normal tiles; AUROC of images and of pixels.

Prints Markdown.
"""

import argparse
import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from options import DATA
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import DenoisingAutoencoder

LABELS = 10_000

# What the user guide recommends for features of centred objects.
FEATURES = {
    "network": "conv",
    "normalization": "batch",
    "noise": "affine",
    "precision": "bfloat16",
    "max_epochs": 8,
}
FEATURE_NOISE = {"mnist": 0.2, "fashion_mnist": 0.1}

SIGMA = 25 / 255
DENOISER = {
    "network": "unet",
    "hidden_layer_sizes": (64, 128),
    "normalization": "batch",
    "patch_size": 48,
    "batch_size": 32,
    "precision": "bfloat16",
    "scaling": None,
    "noise": "gaussian",
    "noise_level": SIGMA,
    "max_epochs": 5,
}


def print_row(*cells: object) -> None:
    words = [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print("| " + " | ".join(words) + " |", flush=True)


def header(*cells: str) -> None:
    print()
    print_row(*cells)
    print("|" + "---|" * len(cells))


def timed(function: Callable, *arguments: object) -> tuple[object, str]:
    start = time.perf_counter()
    result = function(*arguments)
    return result, f"{time.perf_counter() - start:.0f} s"


def psnr(error: np.ndarray, peak: float = 1.0) -> float:
    return float(10 * np.log10(peak**2 / np.square(error).mean()))


def load_digits_like(folder: Path, name: str) -> tuple[np.ndarray, ...]:
    with np.load(folder / "images" / f"{name}.npz") as data:
        return data["X_train"], data["y_train"], data["X_test"], data["y_test"]


def load_set12(folder: Path) -> list[np.ndarray]:
    with np.load(folder / "photos" / "set12_gray.npz") as data:
        return [data[key] / 255.0 for key in sorted(data)]


def load_photographs(folder: Path) -> np.ndarray:
    """The 40 photographs, upright ones turned, (40, 321, 481)."""
    from PIL import Image

    with zipfile.ZipFile(folder / "photos" / "bsd68_first40_gray.zip") as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith(".png")]
        photos = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]
    turned = [photo if photo.shape == (321, 481) else photo.T for photo in photos]
    return np.stack(turned).astype(np.float32) / 255


def features(folder: Path) -> None:
    header("images", "features", "LR", "5-NN", "fit")
    for name, level in FEATURE_NOISE.items():
        X, y, X_test, y_test = load_digits_like(folder, name)
        model = DenoisingAutoencoder(n_components=32, noise_level=level, random_state=0, **FEATURES)
        _, seconds = timed(model.fit, X)
        train, test = model.transform(X[:LABELS]), model.transform(X_test)
        print_row(name, "skae, conv, affine", *accuracies(train, y, test, y_test), seconds)
        rows, rows_test = X.reshape(len(X), -1) / 255.0, X_test.reshape(len(X_test), -1) / 255.0
        pca, seconds = timed(PCA(32, random_state=0).fit, rows)
        train, test = pca.transform(rows[:LABELS]), pca.transform(rows_test)
        print_row(name, "PCA", *accuracies(train, y, test, y_test), seconds)


def accuracies(train: np.ndarray, y: np.ndarray, test: np.ndarray, y_test: np.ndarray) -> list:
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    models = (linear, KNeighborsClassifier(5))
    return [float(model.fit(train, y[:LABELS]).score(test, y_test)) for model in models]


def denoise(folder: Path) -> None:
    from skimage.restoration import denoise_nl_means

    header("method", "PSNR", "time")
    clean = load_set12(folder)
    rng = np.random.default_rng(0)
    noisy = [image + rng.normal(scale=SIGMA, size=image.shape) for image in clean]
    photographs = load_photographs(folder)
    model = DenoisingAutoencoder(random_state=0, **DENOISER)
    _, seconds = timed(model.fit, photographs)
    restored, took = timed(lambda: [model.denoise(image[None])[0] for image in noisy])
    print_row("skae, unet", mean_psnr(restored, clean), f"fit {seconds}, denoise {took}")
    settings = {"patch_size": 5, "patch_distance": 6, "h": 0.8 * SIGMA, "sigma": SIGMA}
    means, took = timed(lambda: [denoise_nl_means(image, **settings) for image in noisy])
    print_row("non-local means", mean_psnr(means, clean), took)
    print_row("noisy", mean_psnr(noisy, clean), "-")


def mean_psnr(restored: list[np.ndarray], clean: list[np.ndarray]) -> float:
    pairs = zip(restored, clean, strict=True)
    return float(np.mean([psnr(np.clip(a, 0, 1) - b) for a, b in pairs]))


SECTIONS: dict[str, Callable[[Path], None]] = {"features": features, "denoise": denoise}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--threads", type=int, help="of torch; its own choice if left out")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for name in options.sections or SECTIONS:
        SECTIONS[name](options.data)


if __name__ == "__main__":
    main()

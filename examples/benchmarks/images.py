"""Images: features, restoration, segmentation and defects, against other tools.

    python examples/benchmarks/images.py features
    python examples/benchmarks/images.py denoise --threads 2

Sections (each under 10 minutes on two cores):

features   32 latents of MNIST and Fashion-MNIST, trained on all training images without
           labels; logistic regression behind a ``StandardScaler`` and 5 nearest
           neighbors, fitted on the first 10,000 labels: accuracy on the test images.
denoise    Set12 with Gaussian noise of sigma 25 / 255 (seed 0), trained on the 40 photographs of
           BSD68: peak signal-to-noise ratio, mean over the images, against scikit-image.
inpaint    A missing 14 x 14 block of Fashion-MNIST's test images, and half of the
           pixels of Set12: PSNR over the missing pixels, against scikit-image and PCA.
membranes  ISBI 2012: a random forest of 100 trees on pixel features of images 0, 5, 10, 15
           and 20 (20,000 pixels each), tested on 22, 24, 26 and 28: average precision.
tiles      Magnetic tiles: trained on 480 normal tiles; AUROC of images and of pixels, share
           of images with boxes, and AUROC of images by kind of defect.

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
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skae import AutoencoderAnomalyDetector, DenoisingAutoencoder

LABELS = 10_000

# What the user guide recommends for features of centered objects.
FEATURES = {
    "network": "conv",
    "hidden_layer_sizes": (32, 64, 256),
    "normalization": "batch",
    "precision": "bfloat16",
    "max_epochs": 12,
}
FEATURE_NOISE = {
    "fashion_mnist": {"noise": ("affine", "salt_and_pepper"), "noise_level": 0.1},
    "mnist": {"noise": "affine", "noise_level": 0.2},
}

SCATTERING = {
    "network": "scattering",
    "noise": "gaussian",
    "noise_level": 1.0,
    "max_epochs": 15,
}

SIGMA = 25 / 255
DENOISER = {
    "network": "unet",
    "hidden_layer_sizes": (48, 96),
    "learning_rate": 2e-3,
    "patch_size": 48,
    "batch_size": 32,
    "precision": "bfloat16",
    "scaling": None,
    "noise": "gaussian",
    "noise_level": SIGMA,
    "max_epochs": 4,
}

# Smaller batches: it takes many steps to learn what a photograph's smoothest filling lacks.
REPAIRER = DENOISER | {
    "scaling": "auto",
    "noise": "masking",
    "noise_level": 0.5,
    "batch_size": 8,
    "max_epochs": 2,
}

PATCHES = {
    "patch_size": 11,
    "n_components": 32,
    "hidden_layer_sizes": (128, 64),
    "noise": "gaussian",
    "noise_level": 0.5,
    "max_epochs": 2,
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
    for name, noise in FEATURE_NOISE.items():
        X, y, X_test, y_test = load_digits_like(folder, name)
        for settings in (SCATTERING, FEATURES | noise):
            model = DenoisingAutoencoder(n_components=32, random_state=0, **settings)
            _, seconds = timed(model.fit, X)
            train, test = model.transform(X[:LABELS]), model.transform(X_test)
            kind = f"skae, {settings['network']}"
            print_row(name, kind, *accuracies(train, y, test, y_test), seconds)
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


def inpaint(folder: Path) -> None:
    header("images", "method", "PSNR of the missing", "time")
    X, _, X_test, _ = load_digits_like(folder, "fashion_mnist")
    clean = X_test[:200] / 255.0
    mask = np.zeros(clean.shape, dtype=bool)
    for i, (top, left) in enumerate(np.random.default_rng(0).integers(15, size=(200, 2))):
        mask[i, top : top + 14, left : left + 14] = True
    model = DenoisingAutoencoder(noise="block_masking", noise_level=0.25, random_state=0)
    # From random weights: PCA of whole images is a poor start where half of an image is missing.
    model.set_params(n_components=128, max_epochs=10, init="random")
    _, seconds = timed(model.fit, X)
    filled = {f"skae, mlp (fit {seconds})": lambda: model.inpaint(X_test[:200], mask) / 255}
    pca = PCA(64, random_state=0).fit(X.reshape(-1, 784) / 255.0)
    filled["PCA, 64, least squares"] = lambda: fill_by_pca(pca, clean, mask)
    filled["biharmonic"] = lambda: np.stack(list(map(biharmonic, clean, mask)))
    for name, fill in filled.items():
        images, took = timed(fill)
        print_row("Fashion-MNIST", name, psnr((images - clean)[mask]), took)
    photos = [image[64:192, 64:192] for image in load_set12(folder)]
    clean = np.stack(photos)
    mask = np.random.default_rng(0).random(clean.shape) < 0.5
    repairer = DenoisingAutoencoder(random_state=0, **REPAIRER)
    _, seconds = timed(repairer.fit, load_photographs(folder))
    filled = {
        f"skae, unet (fit {seconds})": lambda: repairer.inpaint(clean, mask),
        "biharmonic": lambda: np.stack(list(map(biharmonic, clean, mask))),
    }
    for name, fill in filled.items():
        images, took = timed(fill)
        values = [psnr((a - b)[m]) for a, b, m in zip(images, clean, mask, strict=True)]
        print_row("Set12, 128 x 128", name, float(np.mean(values)), took)


def biharmonic(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from skimage.restoration import inpaint_biharmonic

    return inpaint_biharmonic(np.where(mask, 0.0, image), mask)


def fill_by_pca(pca: PCA, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Missing pixels from the components' ridge fit to the observed ones."""
    filled = images.copy()
    ridge = np.diag(pca.noise_variance_ / pca.explained_variance_)
    for image, mask in zip(filled, masks, strict=True):
        seen = ~mask.ravel()
        basis = pca.components_[:, seen]
        target = image.ravel()[seen] - pca.mean_[seen]
        weights = np.linalg.solve(basis @ basis.T + ridge, basis @ target)
        image[mask] = (pca.mean_ + weights @ pca.components_)[mask.ravel()]
    return filled


def membranes(folder: Path) -> None:
    from skimage.feature import multiscale_basic_features

    with np.load(folder / "segmentation" / "isbi2012_em.npz") as data:
        X, masks = data["X"], data["mask"]
    header("features", "number", "AP", "AUROC", "time")
    model = DenoisingAutoencoder(random_state=0, **PATCHES)
    _, seconds = timed(model.fit, X)
    row = membrane_row(X, masks, lambda image: model.pixel_features(image[None])[0])
    print_row(f"skae, patches (fit {seconds})", *row)
    row = membrane_row(X, masks, lambda image: multiscale_basic_features(image / 255.0))
    print_row("scikit-image", *row)


def membrane_row(X: np.ndarray, masks: np.ndarray, features: Callable) -> list:
    """A forest on random pixels of five images, tested on every other pixel of four."""
    start, rng = time.perf_counter(), np.random.default_rng(0)
    rows, labels = [], []
    for i in (0, 5, 10, 15, 20):
        pixels = features(X[i])
        chosen = rng.choice(masks[i].size, 20_000, replace=False)
        rows.append(pixels.reshape(masks[i].size, -1)[chosen])
        labels.append(masks[i].ravel()[chosen])
    forest = RandomForestClassifier(100, random_state=0, n_jobs=torch.get_num_threads())
    forest.fit(np.concatenate(rows), np.concatenate(labels))
    found, truth = [], []
    for i in (22, 24, 26, 28):
        pixels = features(X[i])[::2, ::2]
        found.append(forest.predict_proba(pixels.reshape(-1, pixels.shape[2]))[:, 1])
        truth.append(masks[i][::2, ::2].ravel())
    found, truth = np.concatenate(found), np.concatenate(truth)
    scores = [float(metric(truth, found)) for metric in (average_precision_score, roc_auc_score)]
    return [rows[0].shape[1], *scores, f"{time.perf_counter() - start:.0f} s"]


def tiles(folder: Path) -> None:
    with np.load(folder / "defects" / "magnetic_tile_128.npz") as data:
        X, masks, y = data["X"], data["mask"], data["y"]
    train = np.random.default_rng(0).permutation(np.flatnonzero(y == 0))[:480]
    test = np.setdiff1d(np.arange(len(y)), train)
    truth, masks = y[test] > 0, masks[test]
    header("method", "image AUROC", "pixel AUROC", "time")

    def row(name: str, scores: np.ndarray, maps: np.ndarray | None, seconds: str) -> None:
        pixel = "-" if maps is None else float(roc_auc_score(masks.ravel() > 0, maps.ravel()))
        print_row(name, float(roc_auc_score(truth, scores)), pixel, seconds)

    detector = AutoencoderAnomalyDetector(random_state=0)
    _, seconds = timed(detector.fit, X[train])
    scores, maps = -detector.score_samples(X[test]), detector.anomaly_map(X[test])
    row("skae, defaults", scores, maps, seconds)
    boxed = np.array([len(boxes) > 0 for boxes in detector.detect(X[test])])
    rows, rows_test = (X[part].reshape(len(part), -1) / 255.0 for part in (train, test))
    for size in (16, 64):
        pca, seconds = timed(PCA(size, random_state=0).fit, rows)
        errors = np.square(pca.inverse_transform(pca.transform(rows_test)) - rows_test)
        maps = gaussian_filter(errors.reshape(-1, 128, 128), (0, 4, 4))
        row(f"PCA, {size}", errors.mean(axis=1), maps, seconds)
    for model in (IsolationForest(random_state=0), LocalOutlierFactor(novelty=True), OneClassSVM()):
        _, seconds = timed(model.fit, rows)
        row(type(model).__name__, -model.score_samples(rows_test), None, seconds)
    shares = [float(boxed[part].mean()) for part in (truth, ~truth)]
    print("\nBoxes in {:.3f} of the images with defects, {:.3f} of the normal ones".format(*shares))
    for kind in (1, 2, 3, 4, 5):
        of_kind = (y[test] == kind) | ~truth
        print(kind, f"{roc_auc_score(truth[of_kind], scores[of_kind]):.3f}")


SECTIONS: dict[str, Callable[[Path], None]] = {
    "features": features,
    "denoise": denoise,
    "inpaint": inpaint,
    "membranes": membranes,
    "tiles": tiles,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="section")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--threads", type=int, help="of torch; its own choice if left out")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"{sorted(unknown)} not in {list(SECTIONS)}")
    for name in options.sections or SECTIONS:
        SECTIONS[name](options.data)


if __name__ == "__main__":
    main()

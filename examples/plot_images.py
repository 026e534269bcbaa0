"""Images: digits rebuilt and walked through, a photograph repaired, defects found, a segment.

    python examples/plot_images.py --output images.png

Takes about a minute, on images that come with scikit-learn and on drawn ones. Needs
matplotlib and scikit-image (``pip install "skae[plot,image]"``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from sklearn.datasets import load_digits, load_sample_image

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae.segmentation import PixelClassifier


def rebuilt_digits() -> list[tuple[str, np.ndarray]]:
    """Ten digits, their reconstructions, and a walk from one to another in the latents."""
    digits = load_digits().images
    autoencoder = AutoencoderTransformer(n_components=10, random_state=0).fit(digits)
    latents = autoencoder.transform(digits[:10])
    share = np.linspace(0, 1, 10)[:, None]
    walk = autoencoder.inverse_transform((1 - share) * latents[0] + share * latents[6])
    rows = {
        "digits": digits[:10],
        "rebuilt from 10 latents": autoencoder.reconstruct(digits[:10]),
        "from a 0 to a 6, in the latents": walk,
    }
    return [
        (title, images.reshape(2, 5, 8, 8).transpose(0, 2, 1, 3).reshape(16, 40))
        for title, images in rows.items()
    ]


def repaired_photograph() -> list[tuple[str, np.ndarray]]:
    """Half of the pixels missing; the network has seen nothing but this photograph."""
    photo = load_sample_image("china.jpg")[60:316, 200:456] / 255.0
    holes = photo.copy()
    holes[np.random.default_rng(0).random(photo.shape[:2]) < 0.5] = np.nan
    repairer = DenoisingAutoencoder(
        network="unet",
        hidden_layer_sizes=(32, 64),
        patch_size=32,
        noise="masking",
        noise_level=0.2,
        batch_size=16,
        max_epochs=20,
        random_state=0,
    ).fit(holes[None])
    repaired = repairer.impute(holes[None])[0]
    images = {"half of the pixels missing": np.nan_to_num(holes), "repaired": repaired}
    images["as it was"] = photo
    return [(title, np.clip(image, 0, 1)) for title, image in images.items()]


def scratched_tiles(rng: np.random.Generator, n: int, scratched: bool) -> np.ndarray:
    """Brushed metal, with a scratch on it or without."""
    y, x = np.mgrid[:64, :64]
    phase = rng.uniform(0, 6, size=(n, 1, 1))
    tiles = 0.5 + 0.15 * np.sin(y / 3 + phase) + rng.normal(scale=0.04, size=(n, 64, 64))
    if scratched:
        middle, slope = rng.uniform(20, 44, size=(2, n, 1, 1))
        line = np.abs(x - middle - (y - 32) * (slope - 32) / 16)
        start = rng.integers(10, 30, size=(n, 1, 1))
        tiles += 0.25 * (line < 1.2) * (y > start) * (y < start + 20)
    return tiles


def found_defects() -> list[tuple[str, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    normal, scratched = scratched_tiles(rng, 400, False), scratched_tiles(rng, 3, True)
    detector = AutoencoderAnomalyDetector(n_components=4, random_state=0).fit(normal)
    boxes, maps = detector.detect(scratched), detector.anomaly_map(scratched)
    found = [("defects found", tile, box) for tile, box in zip(scratched, boxes, strict=True)]
    return [*found, ("map of the last", maps[-1], np.empty((0, 5)))]


def segmented_photograph() -> list[tuple[str, np.ndarray]]:
    """Sky and temple from two strokes of a pen."""
    photo = load_sample_image("china.jpg")[:300, 200:500] / 255.0
    strokes = np.zeros((1, *photo.shape[:2]), dtype=int)
    strokes[0, 20:24, 20:280] = 1
    strokes[0, 200:204, 20:280] = 2
    strokes[0, 120:180, 140:144] = 2
    patches = DenoisingAutoencoder(
        patch_size=9, n_components=16, noise="gaussian", max_epochs=3, random_state=0
    )
    labels = PixelClassifier(patches, random_state=0).fit(photo[None], strokes).predict(photo[None])
    drawn = photo.copy()
    drawn[strokes[0] == 1], drawn[strokes[0] == 2] = (0, 0.4, 1), (1, 0.2, 0)
    return [("two labels", drawn), ("segmented", np.where(labels[0, ..., None] == 1, 1.0, photo))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="images.png")
    figure, axes = plt.subplots(4, 4, figsize=(12, 12), height_ratios=(1, 2, 2, 2))
    for axis in axes.flat:
        axis.set_axis_off()
    for row, pictures in enumerate([rebuilt_digits(), repaired_photograph()]):
        for axis, (title, image) in zip(axes[row], pictures, strict=False):
            axis.imshow(image, cmap="gray")
            axis.set_title(title, fontsize=9)
    for axis, (title, tile, boxes) in zip(axes[2], found_defects(), strict=True):
        axis.imshow(tile, cmap="gray")
        axis.set_title(title, fontsize=9)
        for top, left, bottom, right, _ in boxes:
            corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
            axis.add_patch(Rectangle(corner, *size, fill=False, color="red"))
    for axis, (title, image) in zip(axes[3], segmented_photograph(), strict=False):
        axis.imshow(image)
        axis.set_title(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(parser.parse_args().output, dpi=110)


if __name__ == "__main__":
    main()

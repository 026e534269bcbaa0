"""
A photograph repaired, defects found, pixels labeled
====================================================

Digits rebuilt from ten numbers each, half of a photograph filled in, defects with boxes around
them, and a segmentation from few labels. Takes about a minute, on images that come with
scikit-learn and on drawn ones. Needs matplotlib and scikit-image
(``pip install "skae[plot,image]"``).

    python examples/plot_images.py --output images.png
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from sklearn.datasets import load_digits, load_sample_image

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae.segmentation import PixelClassifier

Pictures = list[tuple[str, np.ndarray]]


def reconstructed_digits() -> Pictures:
    """Ten digits, their reconstructions, and a walk from one to another in the latents."""
    digits = load_digits().images
    autoencoder = AutoencoderTransformer(n_components=10, random_state=0).fit(digits)
    latents = autoencoder.transform(digits[:10])
    share = np.linspace(0, 1, 10)[:, None]
    walk = autoencoder.inverse_transform((1 - share) * latents[0] + share * latents[6])
    rows = {
        "digits": digits[:10],
        "reconstructed from 10 latents": autoencoder.reconstruct(digits[:10]),
        "from a 0 to a 6, in the latents": walk,
    }
    return [(title, strip(np.clip(images / 16, 0, 1))) for title, images in rows.items()]


def strip(images: np.ndarray) -> np.ndarray:
    """Images side by side, with white between them."""
    return np.hstack(np.pad(images, ((0, 0), (0, 0), (1, 1)), constant_values=1.0))


def repaired_photograph() -> Pictures:
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
    images["original"] = photo
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


def found_defects() -> tuple[Pictures, list[np.ndarray]]:
    """Two tiles and the boxes found in them; where the second is unusual."""
    rng = np.random.default_rng(0)
    normal, scratched = scratched_tiles(rng, 400, False), scratched_tiles(rng, 2, True)
    detector = AutoencoderAnomalyDetector(n_components=4, random_state=0).fit(normal)
    pictures = [("defects found", tile) for tile in scratched]
    pictures.append(("map of the second", detector.anomaly_map(scratched)[1]))
    return pictures, detector.detect(scratched)


def segmented_photograph() -> Pictures:
    """Sky, temple and lake from a few strokes of a pen."""
    photo = load_sample_image("china.jpg")[60:316, 200:456] / 255.0
    strokes = np.zeros((1, *photo.shape[:2]), dtype=int)
    strokes[0, 10:13, 90:245] = strokes[0, 10:100, 137:140] = 1
    strokes[0, 30:245, 20:23] = strokes[0, 190:193, 20:110] = 2
    strokes[0, 165:168, 145:245] = strokes[0, 232:235, 175:245] = 3
    patches = DenoisingAutoencoder(
        patch_size=9, n_components=16, noise="gaussian", max_epochs=3, random_state=0
    )
    classifier = PixelClassifier(patches, random_state=0).fit(photo[None], strokes)
    probabilities = classifier.predict_proba(photo[None])[0]
    labels = classifier.classes_[probabilities.argmax(axis=2)]
    colors = np.array([(0, 0, 0), (0.1, 0.4, 1), (1, 0.2, 0), (0, 0.7, 0.3)])
    drawn = np.where(strokes[0, ..., None] > 0, colors[strokes[0]], photo)
    segmented = 0.5 * photo + 0.5 * colors[labels]
    pictures = {"three labels": drawn, "segmented": segmented}
    return [*pictures.items(), ("probability of temple", probabilities[..., 1])]


def draw(figure: SubFigure, n_rows: int, n_columns: int, pictures: Pictures) -> np.ndarray:
    """Pictures with their titles, and the axes that hold them."""
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes, pictures, strict=False):
        axis.imshow(image, cmap="gray")
        axis.set_title(title, fontsize=9)
    return axes


def draw_boxes(axis: Axes, boxes: np.ndarray) -> None:
    for top, left, bottom, right, _ in boxes:
        corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)
        axis.add_patch(Rectangle(corner, *size, fill=False, color="red"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="images.png")
    options = parser.parse_args()
    figure = plt.figure(figsize=(9, 11), layout="constrained")
    digits, photograph, defects, segment = figure.subfigures(4, 1, height_ratios=(3, 4, 4, 4))
    draw(digits, 3, 1, reconstructed_digits())
    draw(photograph, 1, 3, repaired_photograph())
    pictures, boxes = found_defects()
    for axis, of_tile in zip(draw(defects, 1, 3, pictures), boxes, strict=False):
        draw_boxes(axis, of_tile)
    draw(segment, 1, 3, segmented_photograph())
    figure.savefig(options.output, dpi=110)


if __name__ == "__main__":
    main()

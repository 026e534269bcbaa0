"""
Pixels labeled from a few strokes
=================================

Sky, temple and lake of a photograph: an autoencoder of small patches learns without labels what the
surroundings of pixels look like, and a classifier learns from the pixels under six strokes. Needs
matplotlib (``pip install "skae[plot]"``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch
from sklearn.datasets import load_sample_image

from skae import DenoisingAutoencoder
from skae.segmentation import PixelClassifier

# Colors that color-blind readers tell apart.
COLORS = {"sky": (0.34, 0.71, 0.91), "temple": (0.84, 0.37, 0.0), "lake": (0.0, 0.62, 0.45)}


def main(path):
    photo = load_sample_image("china.jpg")[60:316, 200:456] / 255.0
    strokes = np.zeros((1, *photo.shape[:2]), dtype=int)  # 0: not labeled
    strokes[0, 10:13, 90:245] = strokes[0, 10:100, 137:140] = 1
    strokes[0, 30:245, 20:23] = strokes[0, 190:193, 20:110] = 2
    strokes[0, 165:168, 145:245] = strokes[0, 232:235, 175:245] = 3
    patches = DenoisingAutoencoder(
        patch_size=9, n_components=16, noise="gaussian", max_epochs=3, random_state=0
    )
    classifier = PixelClassifier(patches, random_state=0).fit(photo[None], strokes)
    labels = classifier.predict(photo[None])[0]
    colors = np.array([(0.0, 0.0, 0.0), *COLORS.values()])
    pictures = {
        f"{(strokes > 0).mean():.0%} of the pixels are labeled": np.where(
            strokes[0, ..., None] > 0, colors[strokes[0]], photo
        ),
        "all others follow": 0.5 * photo + 0.5 * colors[labels],
    }
    figure, axes = plt.subplots(1, 2, figsize=(6, 3.6), layout="constrained")
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture)
        axis.set_axis_off()
        axis.set_title(title, fontsize=11)
    figure.legend(
        handles=[Patch(color=color, label=name) for name, color in COLORS.items()],
        loc="outside lower center",
        ncols=3,
    )
    for number, name in enumerate(COLORS, start=1):
        print(f"{name}: {(labels == number).mean():.0%} of the pixels")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="segmentation.png")
    main(parser.parse_args().output)

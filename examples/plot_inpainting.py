"""
Half of a photograph filled in
==============================

Half of the pixels of a photograph are missing. A network that has seen nothing but this photograph,
with its gaps, fills them in; beside it, the nearest pixel that is there. Needs matplotlib
(``pip install "skae[plot]"``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import distance_transform_edt
from sklearn.datasets import load_sample_image

from skae import DenoisingAutoencoder


def nearest(photo, missing):
    """The photograph with each gap as the nearest pixel that is there."""
    places = distance_transform_edt(missing, return_distances=False, return_indices=True)
    return photo[tuple(places)]


def main(path):
    photo = load_sample_image("china.jpg")[116:244, 240:368] / 255.0
    missing = np.random.default_rng(0).random(photo.shape[:2]) < 0.5
    damaged = np.where(missing[..., None], np.nan, photo)
    repairer = DenoisingAutoencoder(
        network="unet",
        hidden_layer_sizes=(16, 32),
        patch_size=32,
        noise="masking",
        noise_level=0.3,
        batch_size=8,
        max_epochs=25,
        random_state=0,
    ).fit(damaged[None])
    pictures = {
        "half is missing": np.nan_to_num(damaged, nan=1.0),
        "nearest pixel": nearest(photo, missing),
        "DenoisingAutoencoder": repairer.impute(damaged[None])[0],
        "original": photo,
    }
    figure, axes = plt.subplots(2, 2, figsize=(6, 6.4), layout="constrained")
    for axis, (name, picture) in zip(axes.flat, pictures.items(), strict=True):
        axis.imshow(np.clip(picture, 0, 1))
        axis.set_axis_off()
        if name in ("nearest pixel", "DenoisingAutoencoder"):
            psnr = -10 * np.log10(np.mean((picture - photo)[missing] ** 2))
            print(f"{name}: {psnr:.1f} dB in the gaps")
            name = f"{name}, {psnr:.1f} dB"
        axis.set_title(name, fontsize=11)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="inpainting.png")
    main(parser.parse_args().output)

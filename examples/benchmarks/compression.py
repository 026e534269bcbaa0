"""Bytes an image against PSNR: LatentCodec, PCA with the same coder, JPEG, WebP and PNG.

    python examples/benchmarks/compression.py mnist --data FOLDER
    python examples/benchmarks/compression.py photos --data FOLDER
    python examples/benchmarks/compression.py picture

FOLDER holds ``images/mnist.npz`` and ``images/fashion_mnist.npz`` (arrays X_train and X_test of
28 x 28 pixels), and ``photos/bsd68_first40_gray.zip`` and ``photos/set12_gray.npz``: patches of
16 x 16 pixels of the first are trained on, those of the second are coded. Every figure is of
test images that are really encoded and decoded, the headers of streams included; PSNR is that of
the mean squared error over all of them, with 255 as the peak. Each codec is a line of
``compression.jsonl``; "picture" draws them.
"""

import argparse
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
from options import DATA
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator

from skae import AutoencoderTransformer
from skae.codec import LatentCodec

RESULTS = Path("compression.jsonl")

# Latents, hidden layers, steps of the autoencoder (scaled) and of PCA (in gray levels).
PCA_STEPS = (1600, 1200, 800, 560, 400, 280, 200, 140, 100, 70, 50, 35, 25)
SETTINGS = {
    "mnist": (128, (512, 256), (16, 8, 4, 2, 1), PCA_STEPS[:11]),
    "fashion_mnist": (128, (512, 256), (12, 6, 3, 1.5, 0.8), PCA_STEPS[:11]),
    "photos": (128, (512, 256), (6, 3, 1.5, 0.8), PCA_STEPS[2:]),
}

PATCH = 16


def patches(images):
    """Patches side by side of whole images, (n, 16, 16)."""
    cut = []
    for image in images:
        height, width = (side // PATCH for side in image.shape)
        image = image[: height * PATCH, : width * PATCH]
        blocks = image.reshape(height, PATCH, width, PATCH).swapaxes(1, 2)
        cut.append(blocks.reshape(-1, PATCH, PATCH))
    return np.concatenate(cut)


def photos(folder):
    with zipfile.ZipFile(folder / "bsd68_first40_gray.zip") as file:
        names = [name for name in file.namelist() if name.endswith(".png")]
        train = [np.asarray(Image.open(io.BytesIO(file.read(name))).convert("L")) for name in names]
    # Two grids, shifted against each other by half a patch.
    train = np.concatenate(
        [patches([image[shift:, shift:] for image in train]) for shift in (0, 8)]
    )
    test = np.load(folder / "set12_gray.npz")
    return train, patches([test[name] for name in test.files])


def load(name, folder):
    if name == "photos":
        return photos(folder / "photos")
    arrays = np.load(folder / "images" / f"{name}.npz")
    return arrays["X_train"], arrays["X_test"]


def psnr(decoded, images):
    error = np.mean((decoded.astype(np.float64) - images) ** 2)
    return 10 * np.log10(255**2 / error) if error else float("inf")


def note(data, codec, setting, n_bytes, quality, **more):
    line = {"data": data, "codec": codec, "setting": setting, "bytes": n_bytes, "psnr": quality}
    print(json.dumps(line | more), flush=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line | more) + "\n")


def measure(data, name, setting, codec, images):
    start = time.perf_counter()
    stream = codec.encode(images)
    encoded = time.perf_counter()
    decoded = codec.decode(stream)
    end = time.perf_counter()
    megabytes = images.nbytes / 1e6
    quality = psnr(decoded, images)
    speeds = {
        "encode_mb_s": megabytes / (encoded - start),
        "decode_mb_s": megabytes / (end - encoded),
    }
    note(data, name, setting, len(stream) / len(images), quality, **speeds)


def ours(data, train, test):
    n_components, hidden, steps, _ = SETTINGS[data]
    # A network that starts as PCA keeps more coordinates than are worth their bits.
    options = {"init": "random", "max_epochs": 15, "random_state": 0}
    autoencoder = AutoencoderTransformer(
        n_components=n_components, hidden_layer_sizes=hidden, **options
    ).fit(train)
    for step in steps:
        codec = LatentCodec(FrozenEstimator(autoencoder), step=step, random_state=0).fit(train)
        measure(data, "skae", step, codec, test)


def rival(data, train, test):
    """PCA with all its components: those whose integers are all zero take no bytes."""
    train, test = (images.reshape(len(images), -1) for images in (train, test))
    rows = train[:: max(1, len(train) // 20_000)]
    pca = FrozenEstimator(PCA().fit(train.astype(np.float64)))
    for step in SETTINGS[data][3]:
        codec = LatentCodec(pca, step=step).fit(rows)
        measure(data, "PCA", step, codec, test)


def header_length(kind, stream):
    """Bytes that do not depend on the image's content."""
    if kind == "WEBP":
        return 30  # RIFF, chunk and frame header.
    if kind == "PNG":
        return 8 + 25 + 12 + 12  # Signature, IHDR, frame of IDAT, IEND.
    start = stream.index(b"\xff\xda")
    return start + 2 + int.from_bytes(stream[start + 2 : start + 4], "big") + 2


def pillow(data, images, kind, qualities):
    images = images[:: max(1, len(images) // 1000)]
    for quality in qualities:
        options = {} if quality is None else {"quality": quality}
        total, header, decoded = 0, 0, []
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image).save(file, kind, **options)
            total, header = total + file.tell(), header + header_length(kind, file.getvalue())
            decoded.append(np.asarray(Image.open(file).convert("L")))
        n = len(images)
        quality_found = psnr(np.stack(decoded), images)
        note(data, kind, quality, total / n, quality_found, without_headers=(total - header) / n)


def picture():
    import matplotlib.pyplot as plt

    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    names = [name for name in SETTINGS if any(line["data"] == name for line in lines)]
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.8), squeeze=False)
    for axis, data in zip(axes[0], names, strict=True):
        for codec, marker in (("skae", "o"), ("PCA", "s"), ("JPEG", "^"), ("WEBP", "v")):
            points = [x for x in lines if (x["data"], x["codec"]) == (data, codec)]
            if not points:
                continue
            points.sort(key=lambda x: x["bytes"])
            label = codec + (", headers not counted" if "without_headers" in points[0] else "")
            sizes = [x.get("without_headers", x["bytes"]) for x in points]
            axis.plot(sizes, [x["psnr"] for x in points], marker + "-", ms=4, label=label)
        axis.set(title=data, xlabel="bytes an image", ylabel="PSNR (dB)", xscale="log")
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig("compression.png", dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=[*SETTINGS, "picture"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", choices=["ours", "rival", "pillow"])
    arguments = parser.parse_args()
    if arguments.part == "picture":
        picture()
        return
    train, test = load(arguments.part, arguments.data)
    parts = {
        "rival": lambda: rival(arguments.part, train, test),
        "pillow": lambda: [
            pillow(arguments.part, test, kind, qualities)
            for kind, qualities in (
                ("JPEG", (2, 5, 10, 15, 20, 30, 40, 50, 60, 75, 85, 92)),
                ("WEBP", (0, 2, 5, 10, 20, 30, 40, 50, 60, 75, 85, 92)),
                ("PNG", (None,)),
            )
        ],
        "ours": lambda: ours(arguments.part, train, test),
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            part()


if __name__ == "__main__":
    main()

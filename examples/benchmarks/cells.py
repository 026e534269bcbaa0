"""Blood cells found by windows: latents as features of a classifier, against HOG features.

    python examples/benchmarks/cells.py --data detection/bccd.zip

Square windows of several sizes are moved over each smear and brought to 24 x 24 pixels. An
autoencoder learns latents of windows without labels; a classifier predicts from them the kind
of cell, or background. The most probable windows that overlap no more probable one are the boxes.
The rival is the same pipeline with histograms of oriented gradients (scikit-image) in place of the
latents. Prints average precision at an IoU of 0.5 by kind of cell, on the images of the test split.
``--picture FILE`` draws the boxes of one of them.
"""

import argparse
import io
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from options import DATA
from skimage.feature import hog
from skimage.io import imread
from skimage.transform import rescale
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skae import AutoencoderTransformer

SIDE, STRIDE = 24, 6
SIZES = (32, 42, 80, 96, 115, 170, 210)  # Of windows, in pixels of the smear.
LABELS = ("RBC", "WBC", "Platelets")
BACKGROUND = len(LABELS)


def smears(path: Path, split: str, most: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images in [0, 1], and their cells: top, left, bottom, right and label."""
    with zipfile.ZipFile(path) as archive:
        table = pd.read_csv(archive.open("boxes.csv")).query("split == @split")
        for name, cells in list(table.groupby("image"))[:most]:
            cells = cells.assign(label=cells.label.map(LABELS.index))
            boxes = cells[["ymin", "xmin", "ymax", "xmax", "label"]].to_numpy(float)
            image = imread(io.BytesIO(archive.read(f"images/{name}")))
            yield image / np.float32(255), boxes


def windows(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Windows (n, SIDE, SIDE, 3) and their boxes (n, 4)."""
    found, boxes = [], []
    for size in SIZES:
        small = rescale(image, SIDE / size, anti_aliasing=True, channel_axis=2)
        views = np.lib.stride_tricks.sliding_window_view(small, (SIDE, SIDE), (0, 1))
        views = views[::STRIDE, ::STRIDE]
        found.append(np.moveaxis(views, 2, -1).reshape(-1, SIDE, SIDE, 3))
        corners = np.indices(views.shape[:2]).reshape(2, -1).T * (STRIDE * size / SIDE)
        boxes.append(np.hstack([corners, corners + size]))
    return np.concatenate(found), np.concatenate(boxes)


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (n, 4) and (m, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:4] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1] - shared)


def labeled(path: Path, most: int | None, n_background: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of the training split, and what they show; those in between are left out."""
    rng, X, y = np.random.default_rng(0), [], []
    for image, cells in smears(path, "train", most):
        found, boxes = windows(image)
        shared = overlaps(boxes, cells)
        label = cells[shared.argmax(1), 4].astype(int)
        near = np.flatnonzero(shared.max(1) >= 0.5)
        far = rng.permutation(np.flatnonzero(shared.max(1) < 0.4))[:n_background]
        X.append(found[np.r_[near, far]])
        y.append(np.r_[label[near], np.full(len(far), BACKGROUND)])
    return np.concatenate(X), np.concatenate(y)


def detections(probabilities: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Box, label and score of cells, the most probable first, that overlap no earlier one."""
    label = probabilities[:, :BACKGROUND].argmax(1)
    score = probabilities[np.arange(len(label)), label]
    order = (-score).argsort(kind="stable")
    order = order[score[order] > 0.05]
    kept: list[int] = []
    for i in order:
        if not kept or overlaps(boxes[i : i + 1], boxes[kept]).max() < 0.3:
            kept.append(i)
    return np.column_stack([boxes[kept], label[kept], score[kept]])


def average_precision(found: list[np.ndarray], cells: list[np.ndarray], label: int) -> float:
    """Area under precision over recall; a cell counts as found once."""
    scores, hits, n_cells = [], [], 0
    for boxes, truth in zip(found, cells, strict=True):
        boxes, truth = boxes[boxes[:, 4] == label], truth[truth[:, 4] == label]
        n_cells += len(truth)
        free = np.ones(len(truth), dtype=bool)
        for box in boxes:
            shared = overlaps(box[None], truth)[0] * free if len(truth) else np.zeros(1)
            hits.append(shared.max() >= 0.5)
            scores.append(box[5])
            if hits[-1]:
                free[shared.argmax()] = False
    right = np.cumsum(np.array(hits)[(-np.array(scores)).argsort(kind="stable")])
    precision = right / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(right, prepend=0) * best).sum() / n_cells)


def gradients(X: np.ndarray) -> np.ndarray:
    cells = {"pixels_per_cell": (6, 6), "cells_per_block": (2, 2)}
    return np.array([hog(window, channel_axis=2, **cells) for window in X], dtype=np.float32)


def draw(path: Path, image: np.ndarray, found: np.ndarray) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    axes = Figure(figsize=(8, 6)).subplots()
    axes.imshow(image)
    for top, left, bottom, right, label, score in found[found[:, 5] > 0.5]:
        color = ("tab:red", "tab:blue", "tab:green")[int(label)]
        corner, name = (left, top), f"{LABELS[int(label)]} {score:.2f}"
        size = right - left, bottom - top
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color))
        axes.annotate(name, corner, color=color, fontsize=7)
    axes.set_axis_off()
    axes.figure.savefig(path, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "detection" / "bccd.zip")
    parser.add_argument("--images", type=int, help="most images of each split; all if left out")
    parser.add_argument("--background", type=int, default=200, help="windows an image")
    parser.add_argument("--components", type=int, default=64)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    X, y = labeled(options.data, options.images, options.background)
    print(f"{len(X):,} windows, {np.bincount(y).tolist()} of {[*LABELS, 'background']}.\n")
    latents = AutoencoderTransformer(n_components=options.components, random_state=0)
    features: dict[str, Callable] = {
        "latents": latents,
        "HOG": FunctionTransformer(gradients),
    }
    print("| features | " + " | ".join(LABELS) + " | mean | fit, s | find, s |")
    print("|---|" + "---:|" * (len(LABELS) + 3))
    test = list(smears(options.data, "test", options.images))
    for name, transformer in features.items():
        start = time.perf_counter()
        classifier = HistGradientBoostingClassifier(random_state=0)
        model = make_pipeline(transformer, classifier).fit(X, y)
        fitted = time.perf_counter()
        found = []
        for image, _ in test:
            some, boxes = windows(image)
            found.append(detections(model.predict_proba(some), boxes))
        seconds = [fitted - start, time.perf_counter() - fitted]
        cells = [truth for _, truth in test]
        precision = [average_precision(found, cells, label) for label in range(BACKGROUND)]
        figures = [f"{value:.3f}" for value in (*precision, np.mean(precision))]
        print(f"| {name} | " + " | ".join([*figures, *(f"{s:.0f}" for s in seconds)]) + " |")
        if options.picture and transformer is latents:
            draw(options.picture, test[0][0], found[0])


if __name__ == "__main__":
    main()

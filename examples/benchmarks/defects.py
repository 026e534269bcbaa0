"""Detectors of defects on kinds of images that are drawn by formulas, so that nobody tuned on them.

Each kind has normal images to train on (200), and others, half of them with one defect: a
scratch, a spot, a chip or a stain, under a mask. Prints, as Markdown, the AUROC of images and of
pixels of ``AutoencoderAnomalyDetector()`` and of the squared error of 64 principal components
(its mean, and its map smoothed by a Gaussian of a 32nd of the side).

    python examples/benchmarks/defects.py
    python examples/benchmarks/defects.py --kinds nuts screws --seeds 3 --set network=conv
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from options import add_settings
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from skae import AutoencoderAnomalyDetector

N_TRAIN, N_TEST = 200, 200

Images = np.ndarray
Generator = np.random.Generator


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in [-1, 1], of rows and columns."""
    y, x = np.mgrid[:side, :side]
    return 2 * y / (side - 1) - 1, 2 * x / (side - 1) - 1


def turned(side: int, rng: Generator, turn: float, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates of an object that is turned and shifted at random."""
    y, x = grid(side)
    y, x = y - rng.uniform(-shift, shift), x - rng.uniform(-shift, shift)
    angle = rng.uniform(-turn, turn)
    return np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y


def inside(distance: np.ndarray, side: int) -> np.ndarray:
    """One where a signed distance is negative, with an edge of a pixel."""
    return np.clip(0.5 - distance * side / 2, 0, 1)


def gear(side: int, rng: Generator, turn: float, shift: float) -> tuple[Images, Images]:
    """A toothed disk with a hole and four notches: its brightness and where it is."""
    y, x = turned(side, rng, turn, shift)
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    where = inside(radius - 0.68 - 0.07 * np.sign(np.sin(5 * angle)), side)
    where = where * inside(0.22 - radius, side)
    for k in range(4):
        cy, cx = 0.45 * np.sin(k * np.pi / 2), 0.45 * np.cos(k * np.pi / 2)
        where = where * inside(0.08 - np.hypot(y - cy, x - cx), side)
    shine = 0.55 + 0.15 * np.sin(9 * radius) + 0.1 * (y > 0)
    return shine, where


def screw(side: int, rng: Generator, turn: float, shift: float) -> tuple[Images, Images]:
    """A head, a shaft and a thread."""
    y, x = turned(side, rng, turn, shift)
    width = 0.16 + 0.04 * np.sin(40 * x) * (x > -0.2)
    shaft = np.maximum(np.abs(y) - width, np.abs(x + 0.05) - 0.7)
    head = np.maximum(np.abs(y) - 0.32, np.abs(x + 0.65) - 0.14)
    where = inside(np.minimum(shaft, head), side)
    return 0.4 + 0.25 * np.cos(5 * y) + 0.15 * np.sin(40 * x) * (x > -0.2), where


def bars(side: int, rng: Generator, turn: float, shift: float) -> tuple[Images, Images]:
    """Segments side by side, with gaps between, each of a brightness of its own."""
    y, x = turned(side, rng, turn, shift)
    phase = 4 * (x + 1)
    own = rng.uniform(0.45, 0.65, size=12)[np.clip(phase.astype(int), 0, 11)]
    gap = np.abs(phase % 1 - 0.5) > 0.42
    return own * (1 - 0.6 * gap) + 0.1 * np.cos(3 * y), np.ones((side, side))


def weave(side: int, rng: Generator, turn: float, shift: float) -> tuple[Images, Images]:
    """Threads over and under each other, at a random phase."""
    y, x = turned(side, rng, turn, shift)
    y, x = 22 * y + rng.uniform(0, 6.3), 22 * x + rng.uniform(0, 6.3)
    over = np.sin(y / 2) * np.sin(x / 2) > 0
    threads = np.where(over, np.abs(np.sin(y)), np.abs(np.sin(x)))
    return 0.3 + 0.4 * threads, np.ones((side, side))


def grating(side: int, rng: Generator, turn: float, shift: float) -> tuple[Images, Images]:
    """A grating of lines, shifted and hardly turned."""
    y, x = turned(side, rng, turn, shift)
    return 0.5 + 0.25 * np.sin(30 * x + 2 * y), np.ones((side, side))


def rough(side: int, rng: Generator, turn: float, shift: float) -> tuple[Images, Images]:
    """A brushed surface: noise, smoothed along a direction, finer in some images than in others."""
    noise = rng.normal(size=(side, side))
    lines = gaussian_filter(noise, (0.5, rng.uniform(2, 6)), mode="wrap")
    return 0.5 + 0.08 * lines / lines.std(), np.ones((side, side))


def board(side: int, rng: Generator, turn: float, shift: float) -> tuple[Images, Images]:
    """Parts on a board: disks and rectangles at fixed places, all slightly misplaced."""
    y, x = turned(side, rng, turn, shift)
    image = np.full((side, side), 0.35)
    layout = np.random.default_rng(7)
    for k in range(9):
        cy, cx = (k // 3 - 1) * 0.6, (k % 3 - 1) * 0.6
        size, bright = layout.uniform(0.1, 0.22), layout.uniform(0.1, 0.9)
        dy, dx = y - cy, x - cx
        distance = np.hypot(dy, dx) if k % 2 else np.maximum(np.abs(dy), np.abs(1.5 * dx))
        where = inside(distance - size, side)
        image = image * (1 - where) + bright * where
    return image, np.ones((side, side))


def lit(side: int, rng: Generator) -> np.ndarray:
    """Uneven light: a slope and a bright place."""
    y, x = grid(side)
    slope = 0.25 * (rng.normal() * y + rng.normal() * x)
    place = np.exp(-((y - rng.uniform(-1, 1)) ** 2) - (x - rng.uniform(-1, 1)) ** 2)
    return 1 + slope + rng.uniform(0, 0.6) * place


def scratch(side: int, rng: Generator, center: np.ndarray, size: float) -> np.ndarray:
    """How much of each pixel a thin bent line covers."""
    y, x = grid(side)
    angle, bend = rng.uniform(0, np.pi), rng.normal()
    dy, dx = y - center[0], x - center[1]
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx - bend * along**2
    return inside(np.maximum(np.abs(across) - 1.5 / side, np.abs(along) - 1.5 * size), side)


def spot(side: int, rng: Generator, center: np.ndarray, size: float) -> np.ndarray:
    """A small disk."""
    y, x = grid(side)
    return inside(np.hypot(y - center[0], x - center[1]) - 0.5 * size, side)


def stain(side: int, rng: Generator, center: np.ndarray, size: float) -> np.ndarray:
    """A soft blob, large and faint."""
    y, x = grid(side)
    squares = ((y - center[0]) ** 2 + (x - center[1]) ** 2) / (1.2 * size) ** 2
    return 0.5 * np.exp(-squares)


DEFECTS = (scratch, spot, stain, spot)


def defective(
    image: Images, where: Images, background: float, kind: int, contrast: float, rng: Generator
) -> tuple[Images, Images]:
    """The image with a defect on the object, and its mask; a chip shows the background."""
    side = len(image)
    places = np.argwhere(where > 0.5)
    center = 2 * places[rng.integers(len(places))] / (side - 1) - 1
    covers = DEFECTS[kind](side, rng, center, rng.uniform(0.06, 0.16)) * (where > 0.2)
    shade = image + contrast * rng.choice((-1, 1))
    if kind == 3 and where.min() < 0.5:
        covers, shade = DEFECTS[kind](side, rng, center, 0.2), background
    return image * (1 - covers) + shade * covers, (covers > 0.2) & (where > 0.2)


# A kind: what is drawn, its side, how far it is turned and shifted, the ground's brightness,
# noise, contrast of defects, channels, and whether the light is uneven.
KINDS: dict[str, tuple] = {
    "gears, bright ground": (gear, 64, np.pi, 0.05, 0.9, 0.02, 0.3, 1, False),
    "gears, dark ground": (gear, 64, np.pi, 0.05, 0.05, 0.02, 0.3, 1, False),
    "gears, colour": (gear, 64, np.pi, 0.05, 0.3, 0.03, 0.3, 3, False),
    "screws, bright ground": (screw, 96, np.pi, 0.08, 0.9, 0.02, 0.3, 1, False),
    "screws, dark ground": (screw, 64, np.pi, 0.08, 0.1, 0.03, 0.3, 1, False),
    "bars": (bars, 64, 0.05, 0.05, 0.0, 0.03, 0.2, 1, True),
    "weave": (weave, 64, 0.1, 0.0, 0.0, 0.05, 0.25, 1, False),
    "weave, colour, uneven light": (weave, 64, 0.05, 0.0, 0.0, 0.05, 0.3, 3, True),
    "grating": (grating, 64, 0.03, 0.1, 0.0, 0.05, 0.2, 1, False),
    "brushed": (rough, 128, 0.0, 0.0, 0.0, 0.02, 0.2, 1, False),
    "brushed, uneven light": (rough, 64, 0.0, 0.0, 0.0, 0.02, 0.2, 1, True),
    "board": (board, 64, 0.03, 0.03, 0.0, 0.03, 0.25, 1, False),
    "board, colour": (board, 64, 0.02, 0.03, 0.0, 0.05, 0.3, 3, False),
    "board, noisy": (board, 64, 0.03, 0.03, 0.0, 0.15, 0.4, 1, True),
}


def drawn(kind: str, n: int, defects: bool, rng: Generator) -> tuple[Images, Images]:
    """Images (n, side, side[, channels]) of a kind, and masks (n, side, side)."""
    draw, side, turn, shift, ground, noise, contrast, n_channels, uneven = KINDS[kind]
    tint = np.random.default_rng(3).uniform(0.6, 1.0, size=(2, n_channels))
    images, masks = [], []
    for i in range(n):
        image, where = draw(side, rng, turn, shift)
        mask = np.zeros((side, side), bool)
        if defects:
            image, mask = defective(image, where, ground, i % 4, contrast, rng)
        light = lit(side, rng) if uneven else 1.0
        body, back = (light * part for part in (image * where, ground * (1 - where)))
        layers = body[..., None] * tint[0] + back[..., None] * tint[1]
        images.append(layers + rng.normal(scale=noise, size=layers.shape))
        masks.append(mask)
    stacked = np.round(255 * np.clip(np.stack(images), 0, 1)).astype(np.uint8)
    return (stacked if n_channels > 1 else stacked[..., 0]), np.stack(masks)


def pca_error(train: Images, test: Images) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared error of 64 principal components, and its smoothed map."""
    rows, others = (part.reshape(len(part), -1) / 255.0 for part in (train, test))
    pca = PCA(64, random_state=0).fit(rows)
    errors = np.square(pca.inverse_transform(pca.transform(others)) - others)
    maps = errors.reshape(*test.shape[:3], -1).mean(axis=3)
    smoothing = test.shape[1] / 32
    return errors.mean(axis=1), gaussian_filter(maps, (0, smoothing, smoothing))


def detected(train: Images, test: Images, settings: dict) -> tuple[np.ndarray, np.ndarray]:
    detector = AutoencoderAnomalyDetector(**{"random_state": 0} | settings).fit(train)
    return -detector.score_samples(test), detector.anomaly_map(test)


def quality(scores: np.ndarray, maps: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    """AUROC of images and of pixels."""
    truth = masks.any(axis=(1, 2))
    return roc_auc_score(truth, scores), roc_auc_score(masks.ravel(), maps.ravel())


def data(kind: str, seed: int) -> tuple[Images, Images, Images]:
    """Images to train on, images to test, and masks of these."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    train, _ = drawn(kind, N_TRAIN, False, rng)
    parts = [drawn(kind, N_TEST // 2, defects, rng) for defects in (False, True)]
    test, masks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return train, test, masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seeds", type=int, default=1)
    add_settings(parser)
    options = parser.parse_args()
    methods: dict[str, Callable] = {
        "skae": lambda train, test: detected(train, test, dict(options.set)),
        "PCA, 64": pca_error,
    }
    cells = [f"{name}: {column}" for name in methods for column in ("images", "pixels", "s")]
    print("| kind | " + " | ".join(cells) + " |\n|---|" + "---:|" * len(cells))
    for kind in options.kinds:
        row: list[float] = []
        for method in methods.values():
            found, start = [], time.perf_counter()
            for seed in range(options.seeds):
                train, test, masks = data(kind, seed)
                found.append(quality(*method(train, test), masks))
            row += [*np.mean(found, axis=0), (time.perf_counter() - start) / options.seeds]
        print(f"| {kind} | " + " | ".join(f"{cell:.3f}" for cell in row) + " |", flush=True)


if __name__ == "__main__":
    main()

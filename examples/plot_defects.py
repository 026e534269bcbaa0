"""
Scratches on brushed metal
==========================

A detector that has seen 300 drawn tiles of brushed metal without a defect finds scratches on new
ones, and where they are. Tiles without a scratch get no box. Needs matplotlib and scikit-image
(``pip install "skae[plot,image]"``).
"""

import argparse

import matplotlib

matplotlib.use("Agg")
import numpy as np

from skae import AutoencoderAnomalyDetector
from skae.inspection import AnomalyMapDisplay

SIDE = 48


def tiles(rng, n, scratched):
    """Brushed metal (n, SIDE, SIDE), with a scratch on it or without."""
    y, x = np.mgrid[:SIDE, :SIDE]
    phase = rng.uniform(0, 6, size=(n, 1, 1))
    drawn = 0.5 + 0.15 * np.sin(y / 3 + phase) + rng.normal(scale=0.04, size=(n, SIDE, SIDE))
    if scratched:
        middle, slope = rng.uniform(14, SIDE - 14, size=(2, n, 1, 1))
        line = np.abs(x - middle - (y - SIDE / 2) * (slope - SIDE / 2) / 12)
        start = rng.integers(8, 20, size=(n, 1, 1))
        drawn += 0.25 * (line < 1.2) * (y > start) * (y < start + 16)
    return drawn


def main(path):
    rng = np.random.default_rng(0)
    detector = AutoencoderAnomalyDetector(n_components=4, contamination=0, random_state=0)
    detector.fit(tiles(rng, 300, scratched=False))
    for name, scratched in (("scratched", True), ("faultless", False)):
        share = (detector.predict(tiles(rng, 50, scratched)) == -1).mean()
        print(f"{share:.0%} of 50 {name} tiles are flagged")
    shown = np.concatenate([tiles(rng, 3, scratched=True), tiles(rng, 1, scratched=False)])
    display = AnomalyMapDisplay.from_estimator(detector, shown)
    display.ax_.set_title("Three scratched tiles and one without a fault", fontsize=11)
    display.figure_.set_size_inches(6, 3.9)
    display.figure_.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="defects.png")
    main(parser.parse_args().output)

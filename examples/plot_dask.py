"""
Outliers among the rows of a cluster
====================================

Two worker processes on this machine hold sensor readings as a Dask array. A detector
is fitted where the rows are; scores and labels are computed when they are asked for. The same
lines run on any cluster that Dask starts. Prints a table; saves a picture where
matplotlib is installed.
"""

import argparse

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

from skae.dask import AutoencoderAnomalyDetector

N_BLOCKS, BLOCK_ROWS, N_SENSORS, OUTLIER_SHARE = 8, 3_000, 16, 0.01


def block(block_id):
    """Readings of one block: all sensors follow three causes; in few rows one of them does not."""
    rng = np.random.default_rng(block_id[0])
    mixing = np.random.default_rng(0).normal(size=(3, N_SENSORS))
    rows = np.tanh(rng.normal(size=(BLOCK_ROWS, 3)) @ mixing)
    rows += 0.05 * rng.normal(size=rows.shape)
    is_outlier = outliers(block_id)
    broken = rng.integers(N_SENSORS, size=BLOCK_ROWS)
    rows[is_outlier, broken[is_outlier]] += 1.0
    return rows


def outliers(block_id):
    rng = np.random.default_rng(1000 + block_id[0])
    return rng.random(BLOCK_ROWS) < OUTLIER_SHARE


def draw(scores, is_outlier, threshold, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    bins = np.linspace(*np.quantile(scores, [0.0005, 1.0]), 80)
    for label, chosen in {"normal": ~is_outlier, "a sensor is off": is_outlier}.items():
        axes.hist(scores[chosen], bins, density=True, alpha=0.6, label=label)
    axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.set(
        xlabel="score", ylabel="density", title=f"Scores of {len(scores):,} rows on two workers"
    )
    axes.legend()
    figure.savefig(path, dpi=120)
    print(f"Picture saved to {path}")


def main(path):
    chunks = ((BLOCK_ROWS,) * N_BLOCKS, N_SENSORS)
    X = da.map_blocks(block, chunks=chunks, dtype=float, meta=np.empty((0, 0)))
    is_outlier = np.concatenate([outliers((i,)) for i in range(N_BLOCKS)])

    detector = AutoencoderAnomalyDetector(contamination=OUTLIER_SHARE, random_state=0).fit(X)
    scores = detector.score_samples(X).compute()  # lazy until here
    flagged = scores < detector.offset_
    print(f"{'rows':>10}{'flagged':>10}{'of them outliers':>20}{'of outliers found':>20}")
    print(
        f"{len(X):10,}{flagged.sum():10,}{is_outlier[flagged].mean():20.0%}"
        f"{flagged[is_outlier].mean():20.0%}"
    )
    try:
        draw(scores, is_outlier, detector.offset_, path)
    except ImportError:
        print("No picture: install matplotlib, or skae[plot], to draw it.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="dask.png", help="where to save the picture")
    output = parser.parse_args().output
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**settings) as cluster, Client(cluster):
        main(output)

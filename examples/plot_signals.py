"""
Beats: kinds told apart, and the moment that is unusual
=======================================================

Electrocardiograms of two leads after the five waves of McSharry et al., "A dynamical model for
generating synthetic electrocardiogram signals", 2003: each beat is a sum of Gaussian waves P, Q,
R, S and T. Latents of four kinds ahead of a classifier, against PCA; single odd beats in signals of
many lengths, and when they are. Takes well under a minute. Prints a table; saves a picture where
matplotlib is installed.
"""

import argparse

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderAnomalyDetector, DenoisingAutoencoder

LENGTH = 192
TIME = np.arange(LENGTH)
# Place, width, and height in both leads of the waves P, Q, R, S and T.
WAVES = np.array(
    [
        (-16, 3.6, 0.15, 0.10),
        (-3.2, 1.2, -0.15, -0.05),
        (0, 1.4, 1.2, 0.5),
        (3.2, 1.4, -0.3, -0.6),
        (24, 5.6, 0.3, 0.25),
    ]
)
KINDS = ("normal", "no P, irregular", "raised ST", "wide QRS")


def waves_of(kind):
    waves = WAVES.copy()
    if kind == 1:
        return waves[1:]
    if kind == 2:
        return np.vstack([waves, (10, 5, 0.25, 0.2)])
    if kind == 3:
        waves[1:4, :2] *= 2.2
    return waves


def electrocardiogram(rng, kind, odd=False):
    """A signal (length, 2) of a kind, and where it is odd: one beat is upside down."""
    period = rng.uniform(50, 80)
    spread = 0.3 if kind == 1 else 0.03
    gaps = period * rng.uniform(1 - spread, 1 + spread, size=8)
    times = np.cumsum(gaps) - gaps[0] - rng.uniform(0, period)
    gain = np.full(len(times), rng.uniform(0.8, 1.2))
    where = np.zeros(LENGTH, dtype=bool)
    if odd:
        beat = rng.choice(np.flatnonzero((times > 10) & (times < LENGTH / 2 - 10)))
        gain[beat] *= -0.7
        where = np.abs(TIME - times[beat] - 4) < 28
    waves = waves_of(kind)
    phases = (TIME[:, None, None] - times[:, None] - waves[:, 0]) / waves[:, 1]
    signal = (gain[:, None] * np.exp(-0.5 * phases**2)).sum(axis=1) @ waves[:, 2:]
    drift = 0.1 * np.sin(2 * np.pi * TIME / rng.uniform(150, 400) + rng.uniform(0, 6))
    return signal + drift[:, None] + rng.normal(scale=0.05, size=signal.shape), where


def features(rng):
    """Accuracy of a logistic regression on 400 labels, from 32 numbers a signal."""
    kinds = rng.integers(4, size=2200)
    signals = np.stack([electrocardiogram(rng, kind)[0] for kind in kinds])
    autoencoder = DenoisingAutoencoder(
        network="conv1d",
        normalization="batch",
        noise="affine",
        noise_level=0.3,
        n_components=32,
        max_epochs=8,
        random_state=0,
    ).fit(signals[:1200])
    rows = signals.reshape(len(signals), -1)
    found = {
        "PCA": PCA(32, random_state=0).fit(rows[:1200]).transform(rows),
        "conv1d": autoencoder.transform(signals),
    }
    for name, latents in found.items():
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        classifier.fit(latents[:400], kinds[:400])
        score = classifier.score(latents[1200:], kinds[1200:])
        print(f"{name:>10}  accuracy {score:.3f}")
    return signals, kinds


def padded(rng, signals):
    """Signals that end somewhere in their second half, and their lengths."""
    lengths = rng.integers(LENGTH // 2, LENGTH + 1, size=len(signals))
    return np.where((lengths[:, None] > TIME)[..., None], signals, np.nan), lengths


def anomalies(rng):
    """Odd beats in signals of many lengths: a detector, and the error of PCA."""
    normal = np.stack([electrocardiogram(rng, 0)[0] for _ in range(1000)])
    pairs = [electrocardiogram(rng, 0, odd=True) for _ in range(300)]
    odd, where = (np.stack(parts) for parts in zip(*pairs, strict=True))
    train, _ = padded(rng, normal[:700])
    test, lengths = padded(rng, np.concatenate([normal[700:], odd]))
    is_odd = np.arange(600) >= 300
    detector = AutoencoderAnomalyDetector(network="conv1d", max_epochs=20, random_state=0).fit(
        train
    )
    maps = detector.anomaly_map(test)
    pca, rows = PCA(32, random_state=0), np.nan_to_num(test.reshape(600, -1))
    pca.fit(np.nan_to_num(train.reshape(700, -1)))
    squares = np.square(pca.inverse_transform(pca.transform(rows)) - rows).reshape(test.shape)
    errors = np.where(np.isnan(test), np.nan, squares)
    found = {
        "PCA": (-np.nanmean(errors, axis=(1, 2)), np.nan_to_num(errors).sum(axis=2)),
        "conv1d": (detector.score_samples(test), maps),
    }
    for name, (scores, places) in found.items():
        hits = where[np.arange(300), places[is_odd].argmax(axis=1)].mean()
        follows = np.corrcoef(lengths[~is_odd], scores[~is_odd])[0, 1]
        print(
            f"{name:>10}  AUROC {roc_auc_score(is_odd, -scores):.3f}  peak within the odd beat "
            f"{hits:.2f}  correlation of score and length {follows:+.2f}"
        )
    return test[is_odd], maps[is_odd], -detector.offset_


def draw(signals, kinds, odd, maps, threshold, path):
    """A signal of each kind; four odd ones, their maps and thresholds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(4, 2, figsize=(11, 8), sharex=True, layout="constrained")
    for kind, ax in enumerate(axes[:, 0]):
        ax.plot(signals[np.flatnonzero(kinds == kind)[0]])
        ax.set_title(KINDS[kind], fontsize=10)
    axes[0, 0].legend(["lead 1", "lead 2"], loc="upper right", fontsize=8)
    for i, ax in zip(np.argsort(-maps.max(axis=1))[[5, 50, 100, 150]], axes[:, 1], strict=True):
        ax.plot(odd[i, :, 0], color="tab:blue")
        ax.set_ylabel("lead 1", color="tab:blue")
        right = ax.twinx()
        right.plot(np.where(np.isnan(odd[i, :, 0]), np.nan, maps[i]), color="tab:red", linewidth=1)
        right.axhline(threshold, color="tab:red", linestyle=":")
        right.set_ylim(0, 2 * maps[i].max())
        right.set_ylabel("anomaly map", color="tab:red")
    axes[0, 1].set_title("odd beats, the map over time and the threshold", fontsize=10)
    for ax in axes[-1]:
        ax.set_xlabel("time steps")
    figure.savefig(path, dpi=110)
    print(f"Picture saved to {path}")


def main(path):
    rng = np.random.default_rng(0)
    signals, kinds = features(rng)
    odd, maps, threshold = anomalies(rng)
    try:
        draw(signals, kinds, odd, maps, threshold, path)
    except ImportError:
        print('No picture: it needs matplotlib (pip install "skae[plot]").')


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="signals.png")
    main(parser.parse_args().output)

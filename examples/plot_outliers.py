"""
Rows of a kind that was never seen, and why
===========================================

Handwritten digits as a table of 64 columns: a detector that is fitted on all digits but eights
scores eights as outliers, and names the pixels that give them away. Each pixel of an eight is
usual by itself, and only together they are not. An isolation forest, which looks at one column at
a time, does not see that. (Where outliers have extreme values, such as the measurements of
malignant tumors, it is as good, and faster.) Prints tables; saves a picture where matplotlib is
installed.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split

from skae import AutoencoderAnomalyDetector
from skae.inspection import AnomalyScoreDisplay

UNSEEN = 8
N_SHOWN = 4


def draw(detector, X, y, path):
    """Histogram of the scores with the threshold, and what makes the most unusual rows so."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.1, 1])
    labels = np.where(y, "eights", "other digits")
    AnomalyScoreDisplay.from_estimator(detector, X, labels, ax=left.subplots())
    rows = X[np.argsort(detector.score_samples(X))[:N_SHOWN]]
    parts = {
        "row": rows,
        "expected": detector.reconstruct(rows),
        "contribution": detector.feature_contributions(rows),
    }
    axes = right.subplots(len(parts), N_SHOWN)
    for (name, images), line in zip(parts.items(), axes, strict=True):
        for image, axis in zip(images, line, strict=True):
            colors = {"cmap": "Reds"} if name == "contribution" else {"cmap": "gray_r", "vmax": 16}
            axis.imshow(image.reshape(8, 8), vmin=0, **colors)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    right.suptitle("The most unusual rows")
    figure.savefig(path, dpi=120)
    print(f"Picture saved to {path}")


def main(path):
    X, y = load_digits(return_X_y=True)
    is_outlier = y == UNSEEN
    train, test_normal = train_test_split(X[~is_outlier], random_state=0)
    X_test = np.vstack([test_normal, X[is_outlier]])
    y_test = np.repeat([False, True], [len(test_normal), is_outlier.sum()])

    detectors = {
        "IsolationForest": IsolationForest(contamination=0.05, random_state=0),
        "AutoencoderAnomalyDetector": AutoencoderAnomalyDetector(
            contamination=0.05, random_state=0
        ),
    }
    print(f"{'':>28}   AUROC      AP  flagged others  flagged eights")
    for name, detector in detectors.items():
        scores = detector.fit(train).score_samples(X_test)
        flagged = detector.predict(X_test) == -1
        print(
            f"{name:>28}{roc_auc_score(y_test, -scores):8.3f}"
            f"{average_precision_score(y_test, -scores):8.3f}"
            f"{flagged[~y_test].mean():16.1%}{flagged[y_test].mean():16.1%}"
        )

    detector = detectors["AutoencoderAnomalyDetector"]
    scores = detector.score_samples(X_test)
    contributions = detector.feature_contributions(X_test)
    print("\nThe three most unusual rows, and the pixels (line, column) that say so:")
    for row in np.argsort(scores)[:3]:
        top = np.argsort(contributions[row])[::-1][:3]
        shares = contributions[row, top] / contributions[row].sum()
        reasons = [f"{divmod(int(j), 8)} {s:.0%}" for j, s in zip(top, shares, strict=True)]
        print(f"  score {scores[row]:.2f}: {', '.join(reasons)}")
    try:
        draw(detector, X_test, y_test, path)
    except ImportError:
        print("No picture: install matplotlib, or skae[plot], to draw it.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="outliers.png", help="where to save the picture")
    main(parser.parse_args().output)

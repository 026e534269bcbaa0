"""
Outliers of a table, and why
============================

Breast tumors: a detector that is fitted on benign ones alone scores malignant
ones as outliers, and names the measurements that give them away. Prints tables;
saves a picture where matplotlib is installed.
"""

import argparse

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split

from skae import AutoencoderAnomalyDetector
from skae.inspection import AnomalyScoreDisplay, ContributionDisplay


def draw(detector, X, y, feature_names, path):
    """Histogram of the scores with the threshold, and what makes the most unusual row so."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    labels = np.where(y, "malignant", "benign")
    AnomalyScoreDisplay.from_estimator(detector, X, labels, ax=left)
    row = detector.feature_contributions(X[[detector.score_samples(X).argmin()]])[0]
    ContributionDisplay(row, feature_names).plot(ax=right)
    right.set_title("The most unusual tumor")
    figure.savefig(path, dpi=120)
    print(f"Picture saved to {path}")


def main(path):
    data = load_breast_cancer()
    is_outlier = data.target == 0
    train, test_normal = train_test_split(data.data[~is_outlier], random_state=0)
    X_test = np.vstack([test_normal, data.data[is_outlier]])
    y_test = np.r_[np.zeros(len(test_normal), dtype=bool), np.ones(is_outlier.sum(), dtype=bool)]

    detectors = {
        "IsolationForest": IsolationForest(random_state=0),
        "AutoencoderAnomalyDetector": AutoencoderAnomalyDetector(random_state=0),
    }
    print(f"{'':>28}   AUROC      AP  flagged benign  flagged malignant")
    for name, detector in detectors.items():
        scores = detector.fit(train).score_samples(X_test)
        flagged = detector.predict(X_test) == -1
        print(
            f"{name:>28}{roc_auc_score(y_test, -scores):8.3f}"
            f"{average_precision_score(y_test, -scores):8.3f}"
            f"{flagged[~y_test].mean():16.1%}{flagged[y_test].mean():19.1%}"
        )

    detector = detectors["AutoencoderAnomalyDetector"]
    scores = detector.score_samples(X_test)
    contributions = detector.feature_contributions(X_test)
    print("\nThe three most unusual tumors, and the measurements that say so:")
    for row in np.argsort(scores)[:3]:
        top = np.argsort(contributions[row])[::-1][:3]
        shares = contributions[row, top] / contributions[row].sum()
        reasons = [
            f"{data.feature_names[j]} ({share:.0%})" for j, share in zip(top, shares, strict=True)
        ]
        print(f"  score {scores[row]:.2f}: {', '.join(reasons)}")
    try:
        draw(detector, X_test, y_test, data.feature_names, path)
    except ImportError:
        print("No picture: install matplotlib, or skae[plot], to draw it.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--output", default="outliers.png", help="where to save the picture")
    main(parser.parse_args().output)

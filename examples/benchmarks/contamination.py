"""Shares of new rows that detectors flag, where ``contamination`` asks for a share.

Run ``python examples/benchmarks/contamination.py``.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import IsolationForest

from skae import AutoencoderAnomalyDetector

SHARES = (0.01, 0.05, 0.1)


def gaussian(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mixing, rng.normal(size=(4000, d)) @ mixing


def digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).permutation(load_digits().data)
    return X[:900], X[900:]


def benign(seed: int) -> tuple[np.ndarray, np.ndarray]:
    data = load_breast_cancer()
    X = np.random.default_rng(seed).permutation(data.data[data.target == 1])
    return X[:180], X[180:]


DATA = {
    "Gaussian, 1000 x 8": lambda seed: gaussian(seed, 1000, 8),
    "Gaussian, 4000 x 20": lambda seed: gaussian(seed, 4000, 20),
    "digits": digits,
    "breast cancer, benign": benign,
}


def main() -> None:
    print("| data | asked | skae | IsolationForest |\n|---|---:|---:|---:|")
    for name, draw in DATA.items():
        for share in SHARES:
            flagged = []
            for seed in range(4):
                X, new = draw(seed)
                settings = {"contamination": share, "random_state": seed}
                models = AutoencoderAnomalyDetector(**settings), IsolationForest(**settings)
                flagged.append([(model.fit(X).predict(new) == -1).mean() for model in models])
            ours, theirs = np.mean(flagged, axis=0)
            print(f"| {name} | {share} | {ours:.4f} | {theirs:.4f} |", flush=True)


if __name__ == "__main__":
    main()

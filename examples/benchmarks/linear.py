"""Many nonlinear features of tables ahead of logistic regression, for tables.py --linear.

Accuracy of ``LogisticRegression(max_iter=1000)`` on eight tables of two classes, at most 6,000 rows
of each (adult and german_credit with categories one-hot), mean of the splits of tables.py. Behind
skae the classifier takes the features as they are; behind all others a ``StandardScaler`` stands in
between. "random ReLU": 512 units of random weights. "untrained": skae with weights that training
has not moved. "boosting": ``HistGradientBoostingClassifier`` on the rows, for comparison. "Ahead"
counts tables on which skae is better.
"""

import argparse
import time
from functools import partial

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tables import adult, encoder, some

from skae import AutoencoderFeatures

FILES = {
    "fault": "12_fault",
    "Cardiotocography": "7_Cardiotocography",
    "magic": "22_magic.gamma",
    "SpamBase": "35_SpamBase",
    "Pima": "29_Pima",
    "Ionosphere": "18_Ionosphere",
}
TABLES = [*FILES, "adult", "german_credit"]


class RandomReLU(TransformerMixin, BaseEstimator):
    """Hidden units of random weights."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y=None):
        rng, n = np.random.default_rng(self.random_state), X.shape[1]
        self.weights_ = rng.normal(size=(n, 512)) / np.sqrt(n)
        self.biases_ = rng.uniform(-1, 1, 512)
        return self

    def transform(self, X):
        return np.maximum(X @ self.weights_ + self.biases_, 0)


def table(name: str, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    if name == "adult":
        return adult(options.adult)
    if name == "german_credit":
        frame = pd.read_csv(options.adult.parent / "german_credit.csv")
        y = frame.pop(frame.columns[-1])
        return some(encoder().fit_transform(frame), y)
    with np.load(options.data / f"{FILES[name]}.npz") as data:
        return some(data["X"], data["y"].ravel())


def contenders(seed: int, n_features: int, settings: dict) -> dict:
    linear = partial(LogisticRegression, max_iter=1000)
    ours = {"random_state": seed} | settings
    still = ours | {"max_epochs": 1, "learning_rate": 1e-12}
    scaled = {
        "raw": FunctionTransformer(),
        "PCA, half as many": PCA(max(1, n_features // 2), random_state=0),
        "Nystroem": Nystroem(random_state=seed),
        "random ReLU": RandomReLU(seed),
    }
    models = {
        name: make_pipeline(step, StandardScaler(), linear()) for name, step in scaled.items()
    }
    models["untrained"] = make_pipeline(AutoencoderFeatures(**still), linear())
    models["skae"] = make_pipeline(AutoencoderFeatures(**ours), linear())
    return models | {"boosting": HistGradientBoostingClassifier(random_state=seed)}


def linear_features(options: argparse.Namespace) -> None:
    """Print a table of accuracies."""
    rows = {}
    for name in options.only or TABLES:
        X, y = table(name, options)
        found, seconds = [], []
        for seed in range(options.seeds):
            parts = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=y)
            scaler = StandardScaler().fit(parts[0])
            train, test = (scaler.transform(part) for part in parts[:2])
            models = contenders(seed, X.shape[1], dict(options.set))
            start = time.perf_counter()
            models["skae"][0].fit(train)
            seconds.append(time.perf_counter() - start)
            found.append([m.fit(train, parts[2]).score(test, parts[3]) for m in models.values()])
        if not rows:
            print(f"| table | {' | '.join(models)} | fit, seconds |")
            print(f"|---|{'---:|' * (len(models) + 1)}")
        rows[name] = np.mean(found, 0)
        cells = [*(f"{value:.4f}" for value in rows[name]), f"{max(seconds):.1f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    values = np.array(list(rows.values()))
    print(f"| mean | {' | '.join(f'{value:.4f}' for value in values.mean(0))} | |")
    ours = dict(zip(models, values.T, strict=True))
    ahead = {name: int((ours["skae"] > other).sum()) for name, other in ours.items()}
    print(f"\nskae is ahead on {ahead} of {len(rows)} tables.")

"""Rare classes: the recall of a classifier on latents, with and without sample weights.

    python examples/benchmarks/imbalance.py --seeds 3

MNIST's training images, 2,000 of each of the digits 0 to 4 and ``--rare`` of each of 5 to 9. The
autoencoder is fitted plainly, with balanced weights (``compute_sample_weight("balanced", y)``), or
with their square roots; logistic regression on its standardized latents,
plainly or with ``class_weight="balanced"``. Recall on the 10,000 test images, mean over the rare
digits and over the frequent ones. Prints Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
from options import DATA
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from skae import AutoencoderTransformer

FREQUENT, RARE = range(5), range(5, 10)


def cut(X: np.ndarray, y: np.ndarray, n_rare: int, seed: int) -> np.ndarray:
    """Rows of an imbalanced training set."""
    rng = np.random.default_rng(seed)
    sizes = dict.fromkeys(FREQUENT, 2000) | dict.fromkeys(RARE, n_rare)
    return np.concatenate(
        [rng.choice(np.flatnonzero(y == digit), size, False) for digit, size in sizes.items()]
    )


def recalls(reduction, class_weight, train, test) -> list[float]:
    """Of the rare and of the frequent digits."""
    linear = LogisticRegression(max_iter=1000, class_weight=class_weight)
    model = make_pipeline(StandardScaler(), linear).fit(reduction.transform(train[0]), train[1])
    predicted = model.predict(reduction.transform(test[0]))
    return [
        recall_score(test[1], predicted, labels=list(labels), average="macro")
        for labels in (RARE, FREQUENT)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rare", type=int, default=20)
    parser.add_argument("--latents", type=int, default=16)
    options = parser.parse_args()
    with np.load(options.data / "mnist.npz") as data:
        X, test = (
            data[f"X_{part}"].reshape(-1, 784).astype(np.float32) for part in ("train", "test")
        )
        y, y_test = data["y_train"], data["y_test"]
    found: dict[tuple[str, str], list] = {}
    for seed in range(options.seeds):
        rows = cut(X, y, options.rare, seed)
        train = X[rows], y[rows]
        weights = compute_sample_weight("balanced", train[1])
        autoencoder = AutoencoderTransformer(n_components=options.latents, random_state=seed)
        reductions = {
            "PCA": PCA(options.latents, random_state=0).fit(train[0]),
            "autoencoder": clone(autoencoder).fit(train[0]),
            "autoencoder, weights": clone(autoencoder).fit(train[0], sample_weight=weights),
            "autoencoder, roots": clone(autoencoder).fit(train[0], sample_weight=weights**0.5),
        }
        for name, reduction in reductions.items():
            for class_weight in (None, "balanced"):
                values = recalls(reduction, class_weight, train, (test, y_test))
                found.setdefault((name, str(class_weight)), []).append(values)
    print("| latents | class_weight | recall, rare | recall, frequent |\n|---|---|---:|---:|")
    for (name, class_weight), values in found.items():
        rare, frequent = np.mean(values, 0)
        print(f"| {name} | {class_weight} | {rare:.3f} | {frequent:.3f} |")


if __name__ == "__main__":
    main()

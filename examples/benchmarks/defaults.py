"""What the default parameters were chosen by: features of MNIST and Fashion-MNIST.

    python examples/benchmarks/defaults.py --data ../shared/data/images

Fits AutoencoderTransformer(n_components=32) with one parameter changed at a
time, and prints accuracy of logistic regression and of 5 nearest neighbors on
the first 10,000 labels, and the squared error of the test images, by the
protocol of features.py.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, DenoisingAutoencoder

N_LABELS = 10_000
CANDIDATES = [
    (AutoencoderTransformer, {}),
    (AutoencoderTransformer, {"activation": "gelu"}),
    (AutoencoderTransformer, {"activation": "relu"}),
    (AutoencoderTransformer, {"learning_rate": 2e-3}),
    (AutoencoderTransformer, {"max_epochs": 20}),
    (AutoencoderTransformer, {"early_stopping": True}),
    (AutoencoderTransformer, {"dropout": 0.05}),
    (DenoisingAutoencoder, {"noise_level": 0.1}),
    (DenoisingAutoencoder, {"noise_level": 0.2}),
]


def evaluate(estimator, data):
    X, y, X_test, y_test = data
    start = time.perf_counter()
    estimator.fit(X)
    seconds = time.perf_counter() - start
    Z, Z_test = estimator.transform(X[:N_LABELS]), estimator.transform(X_test)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    rebuilt = estimator.inverse_transform(Z_test)
    return (
        linear.fit(Z, y[:N_LABELS]).score(Z_test, y_test),
        KNeighborsClassifier(5).fit(Z, y[:N_LABELS]).score(Z_test, y_test),
        float(np.mean((rebuilt - X_test) ** 2)) / 255**2,
        seconds,
    )


def main(folder):
    print(
        "| set | estimator | changed | LR | 5-NN | MSE | seconds |\n|---|---|---|---|---|---|---|"
    )
    for name in ("mnist", "fashion_mnist"):
        z = np.load(folder / f"{name}.npz")
        X, X_test = (
            z[part].reshape(len(z[part]), -1).astype(np.float32) for part in ("X_train", "X_test")
        )
        for cls, changed in CANDIDATES:
            estimator = cls(n_components=32, random_state=0, **changed)
            lr, knn, mse, seconds = evaluate(estimator, (X, z["y_train"], X_test, z["y_test"]))
            print(
                f"| {name} | {cls.__name__} | {changed or 'nothing'} | {lr:.4f} | {knn:.4f} | "
                f"{mse:.5f} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/images"))
    main(parser.parse_args().data)

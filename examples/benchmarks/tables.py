"""Latents of tables as features of a classifier: skae against PCA of the same size.

    python examples/benchmarks/tables.py --data adbench --adult adult.csv.gz
    python examples/benchmarks/tables.py --data adbench --set init=random --set max_epochs=50
    python examples/benchmarks/tables.py --one-hot
    python examples/benchmarks/tables.py --linear --seeds 5

Tables whose label is a class: wine and breast cancer (bundled with scikit-learn), those of
ADBench of which at least a fifth has the label one, and adult through a ColumnTransformer
(numbers standardized, words one-hot); at most 6,000 rows of each. 70 % of the rows,
stratified, are standardized and fitted on, the others tested, ``--seeds`` times. LR:
``LogisticRegression(max_iter=1000)`` behind a ``StandardScaler``; 5-NN: on the features as they
are; accuracies. MSE: of the reconstructed test rows. Number of latents: skae's default.
With ``--one-hot`` it prints the AUC of LR on 8 latents of adult and german_credit instead, whose
one-hot columns stay zeros and ones. With ``--linear`` many nonlinear features are compared (see
linear.py). "Ahead" counts tables on which skae is better, or equal to
the last digit shown. Prints Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from options import DATA, add_settings
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderTransformer

MOST_ROWS = 6000


def some(X, y) -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(0).permutation(len(X))[:MOST_ROWS]
    return np.asarray(X)[rows].astype(np.float32), np.asarray(y)[rows]


def encoder():
    return make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (
            OneHotEncoder(min_frequency=0.01, sparse_output=False, handle_unknown="ignore"),
            make_column_selector(dtype_exclude="number"),
        ),
    )


def adult_frame(path: Path) -> tuple[pd.DataFrame, pd.Series]:
    frame = pd.read_csv(path).drop(columns="split").dropna()
    return frame, frame.pop("income")


def adult(path: Path) -> tuple[np.ndarray, np.ndarray]:
    frame, y = adult_frame(path)
    return some(encoder().fit_transform(frame), y)


def one_hot(options: argparse.Namespace) -> None:
    """Print the AUC of logistic regression on latents of one-hot tables."""
    german = pd.read_csv(options.adult.parent / "german_credit.csv")
    tables = {
        "adult": adult_frame(options.adult),
        "german_credit": (german, german.pop(german.columns[-1])),
    }
    print("| table | skae | PCA |\n|---|---:|---:|")
    for name, (frame, y) in tables.items():
        found = []
        for seed in range(options.seeds):
            parts = train_test_split(frame, y, test_size=0.3, random_state=seed, stratify=y)
            train, test, y_train, y_test = (part[:MOST_ROWS] for part in parts)
            encode = encoder().fit(train)
            rows = encode.transform(train), encode.transform(test)
            settings = {"n_components": 8, "random_state": seed} | dict(options.set)
            found.append([])
            for model in (AutoencoderTransformer(**settings), PCA(8, random_state=seed)):
                latents = model.fit(rows[0]).transform(rows[0])
                linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
                margins = linear.fit(latents, y_train).decision_function(model.transform(rows[1]))
                found[-1].append(roc_auc_score(y_test == linear.classes_[1], margins))
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in np.mean(found, 0))} |")


def tables(options: argparse.Namespace):
    for load in (load_wine, load_breast_cancer):
        yield load.__name__.removeprefix("load_"), *some(*load(return_X_y=True))
    for path in sorted(options.data.glob("*.npz")):
        with np.load(path) as data:
            X, y = data["X"], data["y"].ravel()
        if y.mean() >= 0.2:
            yield path.stem, *some(X, y)
    if options.adult.exists():
        yield "adult", *adult(options.adult)


def figures(model, X_train, X_test, y_train, y_test) -> list[float]:
    latents, test = model.fit(X_train).transform(X_train), model.transform(X_test)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    neighbors = KNeighborsClassifier(5)
    scores = [m.fit(latents, y_train).score(test, y_test) for m in (linear, neighbors)]
    return [*scores, float(np.square(model.inverse_transform(test) - X_test).mean())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "adbench")
    parser.add_argument("--adult", type=Path, default=DATA / "tabular" / "adult.csv.gz")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one-hot", action="store_true", help="AUC of one-hot tables instead")
    parser.add_argument("--linear", action="store_true", help="many nonlinear features instead")
    parser.add_argument("--only", nargs="+", help="some of the tables of --linear")
    add_settings(parser)
    options = parser.parse_args()
    if options.linear:
        from linear import linear_features

        return linear_features(options)
    if options.one_hot:
        return one_hot(options)
    ahead = np.zeros(3, dtype=int)
    print("| table | latents | skae LR / 5-NN / MSE | PCA LR / 5-NN / MSE |\n|---|---:|---|---|")
    n_tables = 0
    for name, X, y in tables(options):
        found = []
        for seed in range(options.seeds):
            parts = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=y)
            scaler = StandardScaler().fit(parts[0])
            parts[:2] = [scaler.transform(part) for part in parts[:2]]
            model = AutoencoderTransformer(**{"random_state": seed} | dict(options.set))
            ours = figures(model, *parts)
            size = min(model.n_components_, *parts[0].shape)
            found.append([ours, figures(PCA(size, random_state=0), *parts)])
        skae, pca = np.round(np.mean(found, 0), 4)
        ahead += [skae[0] >= pca[0], skae[1] >= pca[1], skae[2] <= pca[2]]
        n_tables += 1
        cells = [" / ".join(f"{value:.4f}" for value in row) for row in (skae, pca)]
        print(f"| {name} | {size} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nAhead in LR, 5-NN, MSE on {ahead.tolist()} of {n_tables} tables.")


if __name__ == "__main__":
    main()

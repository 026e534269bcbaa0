"""New rows of tables with categories: skae against CTGAN and TVAE of the package ctgan.

    python examples/benchmarks/mixed_generation.py
    python examples/benchmarks/mixed_generation.py --tables german --methods TVAE,skae

adult (without its weight column, at most ``--rows`` rows) and german_credit: half of the rows to
train, half to test. A generator draws as many rows as the training half has; a random forest and
a logistic regression (numbers standardized, words one-hot) are trained on what was drawn, and
tested on the real half. Figures are the means of their balanced accuracies and of their AUROC;
"told apart" is the AUROC of a forest that tells drawn rows, with their class, from the real test
half (.5 is best); seconds are those of the processor, of fit and draw on one thread. All are
means of ``--seeds`` splits. Text that is missing is a value of its own, for all alike. The rivals
have their defaults (300 epochs), and learn the class as one more column; ours is one autoencoder
for all rows and a density for each class.

Prints Markdown.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from options import DATA, words
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from tables import encoder

from skae import AutoencoderTransformer

FILES = {
    "adult": ("adult.csv.gz", "income", ["split", "fnlwgt"]),
    "german": ("german_credit.csv", "class", []),
}


def table(name, data, n_rows, seed):
    """Training and test half of features, and of the classes, 0 and 1."""
    file, target, dropped = FILES[name]
    frame = pd.read_csv(data / file).drop(columns=dropped)
    frame = frame.sample(min(n_rows, len(frame)), random_state=0).reset_index(drop=True)
    text = frame.select_dtypes(exclude="number").columns
    frame[text] = frame[text].fillna("?")
    classes = frame.pop(target)
    y = (classes == classes.value_counts().index[-1]).astype(int)
    return train_test_split(frame, y, test_size=0.5, stratify=y, random_state=seed)


def ours(estimator):
    def drawn(X, y, seed):
        estimator.set_params(random_state=seed).set_output(transform="pandas").fit(X)
        parts = [
            estimator.fit_density(X[y == c]).sample((y == c).sum(), random_state=seed)
            for c in (0, 1)
        ]
        return pd.concat(parts), np.sort(y)

    return drawn


def rival(name):
    def drawn(X, y, seed):
        import ctgan

        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (it draws from there)
        text = [*X.select_dtypes(exclude="number").columns, "class of row"]
        model = getattr(ctgan, name)(enable_gpu=False)
        model.fit(X.assign(**{"class of row": y.astype(str)}), text)
        more = model.sample(len(X))
        return more, more.pop("class of row").astype(int)

    return drawn


METHODS = {
    "real rows": lambda X, y, seed: (X, y),
    "CTGAN": rival("CTGAN"),
    "TVAE": rival("TVAE"),
    "skae": ours(AutoencoderTransformer()),
}


def judged(X, y, X_test, y_test, seed):
    if len(np.unique(y)) == 1:  # What was drawn has one class, and nothing tells the other.
        return 0.5, 0.5
    judges = RandomForestClassifier(100, random_state=seed), LogisticRegression(max_iter=2000)
    found = []
    for judge in judges:
        model = make_pipeline(encoder(), judge).fit(X, y)
        p = model.predict_proba(X_test)[:, 1]
        found.append((balanced_accuracy_score(y_test, p > 0.5), roc_auc_score(y_test, p)))
    return np.mean(found, axis=0)


def told_apart(X, y, X_test, y_test, seed):
    rows = pd.concat([X.assign(c=np.asarray(y)), X_test.assign(c=np.asarray(y_test))])
    drawn = np.arange(len(rows)) < len(X)
    rows = encoder().fit_transform(rows.reset_index(drop=True))
    forest = RandomForestClassifier(100, min_samples_leaf=2, oob_score=True, random_state=seed)
    return roc_auc_score(drawn, forest.fit(rows, drawn).oob_decision_function_[:, 1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA / "tabular")
    parser.add_argument("--tables", type=words(FILES), default=list(FILES))
    parser.add_argument("--methods", type=words(METHODS), default=list(METHODS))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    names = ["table", "method", "balanced accuracy", "AUROC", "told apart", "seconds"]
    print(f"| {' | '.join(names)} |\n|---|---|--:|--:|--:|--:|")
    for name in args.tables:
        for method in args.methods:
            found = []
            for seed in range(args.seeds):
                X, X_test, y, y_test = table(name, args.data, args.rows, seed)
                start = time.process_time()
                drawn = METHODS[method](X, y, seed)
                seconds = time.process_time() - start
                given = *drawn, X_test, y_test, seed
                found.append((*judged(*given), told_apart(*given), seconds))
            cells = "{:.3f} | {:.3f} | {:.3f} | {:.1f}".format(*np.mean(found, axis=0))
            print(f"| {name} | {method} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

"""Outliers planted in a table of numbers and categories: skae against detectors of one-hot rows.

    python examples/benchmarks/planted.py
    python examples/benchmarks/planted.py --rows 2000 --seeds 1 --kinds swapped

Protocol: rows of adult without gaps and without its weight column, drawn ``--seeds`` times. In one
of twenty rows something is wrong, of one kind a run:

- swapped: three categories are those of another row;
- impossible: husbands that are women, wives that are men, children of ten that were divorced,
  doctorates with three years of school;
- units: the age in months, hours a month and not a week, or the gain in cents and not dollars.

All detectors are fitted on the rows and score the same ones, with their defaults. Ours takes the
frame as it is; the others get standardized numbers and one column for each value. KNN is the mean
distance to the five nearest rows. Prints AUROC and seconds, as Markdown.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from options import DATA, add_settings, words
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderAnomalyDetector

SHARE = 0.05
CATEGORIES = ["workclass", "education", "marital-status", "occupation", "relationship", "sex"]


def swapped(frame: pd.DataFrame, rows: np.ndarray, rng: np.random.Generator) -> None:
    donors = rng.permutation(len(frame))[: len(rows)]
    for row, donor in zip(rows, donors, strict=True):
        for name in rng.choice(CATEGORIES, 3, replace=False):
            frame.loc[row, name] = frame.loc[donor, name]


def impossible(frame: pd.DataFrame, rows: np.ndarray, rng: np.random.Generator) -> None:
    wrong = [
        {"relationship": "Husband", "sex": "Female"},
        {"relationship": "Wife", "sex": "Male"},
        {"age": 10, "marital-status": "Divorced"},
        {"education": "Doctorate", "education-num": 3},
    ]
    for i, row in enumerate(rows):
        for name, value in wrong[i % len(wrong)].items():
            frame.loc[row, name] = value


def units(frame: pd.DataFrame, rows: np.ndarray, rng: np.random.Generator) -> None:
    gain = frame["capital-gain"]
    for i, row in enumerate(rows):
        if i % 3 == 2:
            frame.loc[row, "capital-gain"] = 100 * rng.choice(gain[gain > 0])
        else:
            name, factor = (("age", 12), ("hours-per-week", 4))[i % 3]
            frame.loc[row, name] *= factor


KINDS = {"swapped": swapped, "impossible": impossible, "units": units}


def one_hot(frame: pd.DataFrame) -> np.ndarray:
    words_of = OneHotEncoder(sparse_output=False)
    return make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (words_of, make_column_selector(dtype_exclude="number")),
    ).fit_transform(frame)


def of_skae(frame: pd.DataFrame, settings: dict) -> np.ndarray:
    return -AutoencoderAnomalyDetector(**settings).fit(frame).score_samples(frame)


def of_forest(frame: pd.DataFrame, settings: dict) -> np.ndarray:
    X = one_hot(frame)
    return -IsolationForest(random_state=settings["random_state"]).fit(X).score_samples(X)


def of_neighbors(frame: pd.DataFrame, settings: dict) -> np.ndarray:
    return NearestNeighbors(n_neighbors=5).fit(one_hot(frame)).kneighbors()[0].mean(axis=1)


DETECTORS = {"skae": of_skae, "IsolationForest": of_forest, "KNN": of_neighbors}


def figures(table: pd.DataFrame, kind: str, options: argparse.Namespace, seed: int) -> list:
    """AUROC and seconds of each detector."""
    rng = np.random.default_rng(seed)
    frame = table.sample(options.rows, random_state=seed).reset_index(drop=True)
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("number"), float))
    rows = rng.permutation(len(frame))[: round(SHARE * len(frame))]
    KINDS[kind](frame, rows, rng)
    is_outlier, found = np.isin(np.arange(len(frame)), rows), []
    for scores_of in DETECTORS.values():
        start = time.perf_counter()
        scores = scores_of(frame, {"random_state": seed} | dict(options.set))
        found.append((roc_auc_score(is_outlier, scores), time.perf_counter() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "tabular" / "adult.csv.gz")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", type=words(KINDS), default=list(KINDS))
    add_settings(parser)
    options = parser.parse_args()
    table = pd.read_csv(options.data).drop(columns=["split", "fnlwgt"]).dropna()
    print(f"| outliers | {' | '.join(DETECTORS)} | seconds |")
    print("|---|" + "---:|" * (len(DETECTORS) + 1))
    for kind in options.kinds:
        runs = [figures(table, kind, options, seed) for seed in range(options.seeds)]
        scores, seconds = np.mean(runs, axis=0).T
        cells = " | ".join(f"{score:.3f}" for score in scores)
        print(f"| {kind} | {cells} | {' + '.join(f'{s:.1f}' for s in seconds)} |", flush=True)


if __name__ == "__main__":
    main()

"""Filling in cells that are missing at random: skae against scikit-learn's imputers.

    python examples/benchmarks/imputation.py
    python examples/benchmarks/imputation.py --tables cardio,vowels --set noise_level=0.3

Protocol: at most 4,000 rows of a table, drawn by ``RandomState(--seed)``, 0 by
default; constant columns left out; standardized while still complete; then 20 % of
the cells deleted by its next draws. Every imputer, with its defaults, is fitted on
the incomplete table and fills in the same one. Figures are root mean squared errors
over the deleted cells, in standard deviations. The last row holds skae's error over
the best of the others'; the goal is less than 1.05. Prints Markdown.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from options import DATA, add_settings, words
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from skae import DenoisingAutoencoder

TABLES = {
    "cardio": "6_cardio",
    "fault": "12_fault",
    "vowels": "40_vowels",
    "Ionosphere": "18_Ionosphere",
    "magic": "22_magic.gamma",
    "WDBC": "43_WDBC",
    "SpamBase": "35_SpamBase",
}
MOST_ROWS, MISSING = 4_000, 0.2

PEERS = {
    "mean": SimpleImputer,
    "KNNImputer": KNNImputer,
    "IterativeImputer": lambda: IterativeImputer(random_state=0),
}


def standardized(path: Path, rng: np.random.RandomState) -> np.ndarray:
    """A complete table, float64."""
    with np.load(path) as table:
        X = table["X"].astype(np.float64)
    if len(X) > MOST_ROWS:
        X = X[rng.permutation(len(X))[:MOST_ROWS]]
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0)


def impute(imputer: BaseEstimator, X: np.ndarray) -> np.ndarray:
    """The table without gaps."""
    if isinstance(imputer, DenoisingAutoencoder):
        return imputer.fit(X).impute(X)
    return imputer.fit_transform(X)


def errors(path: Path, settings: dict, names: list[str], seed: int) -> dict[str, tuple]:
    """Root mean squared error and seconds of each imputer."""
    rng = np.random.RandomState(seed)
    X = standardized(path, rng)
    missing = rng.rand(*X.shape) < MISSING
    incomplete, found = np.where(missing, np.nan, X), {}
    for name in names:
        skae = name == "skae"
        imputer = DenoisingAutoencoder(**settings) if skae else PEERS[name]()
        start = time.perf_counter()
        filled = impute(imputer, incomplete)
        seconds = time.perf_counter() - start
        print(f"{path.stem}, {name}: {seconds:.1f} s", file=sys.stderr, flush=True)
        found[name] = float(np.sqrt(np.mean((filled - X)[missing] ** 2))), seconds
    return found


def print_results(results: dict[str, dict], names: list[str]) -> None:
    """A row an imputer, a column a table."""
    print("| RMSE | " + " | ".join(results) + " | seconds |")
    print("|---|" + "---:|" * (len(results) + 1))
    for name in names:
        cells = [f"{found[name][0]:.3f}" for found in results.values()]
        seconds = sum(found[name][1] for found in results.values())
        print(f"| {name} | " + " | ".join(cells) + f" | {seconds:.1f} |")
    peers = [name for name in names if name != "skae"]
    if peers and "skae" in names:
        ratios = [f["skae"][0] / min(f[n][0] for n in peers) for f in results.values()]
        cells = " | ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"| skae / best of the others | {cells} | worst {max(ratios):.3f} |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    everyone = [*PEERS, "skae"]
    parser.add_argument("--data", type=Path, default=DATA / "adbench")
    parser.add_argument("--tables", type=words(TABLES), default=list(TABLES))
    parser.add_argument("--imputers", type=words(everyone), default=everyone)
    parser.add_argument("--seed", type=int, default=0)
    add_settings(parser)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    warnings.simplefilter("ignore")  # IterativeImputer's defaults do not converge everywhere
    settings = {"random_state": options.seed} | dict(options.set)
    print(f"DenoisingAutoencoder({', '.join(f'{k}={v!r}' for k, v in settings.items())})\n")
    results = {
        name: errors(options.data / f"{TABLES[name]}.npz", settings, options.imputers, options.seed)
        for name in options.tables
    }
    print_results(results, options.imputers)


if __name__ == "__main__":
    main()

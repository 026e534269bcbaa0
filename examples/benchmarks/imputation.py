"""Filling in cells that are missing at random: skae against scikit-learn's imputers.

    python examples/benchmarks/imputation.py
    python examples/benchmarks/imputation.py --tables cardio,vowels --set noise_level=0.3
    python examples/benchmarks/imputation.py --tables wine,diabetes,cancer
    python examples/benchmarks/imputation.py --tables german,auto,adult

Protocol: at most 4,000 rows of a table, drawn by ``RandomState(--seed)``, 0 by
default; constant columns left out; standardized while still complete; then 20 % of
the cells deleted by its next draws. Every imputer, with its defaults, is fitted on
the incomplete table and fills in the same one. Figures are root mean squared errors
over the deleted cells, in standard deviations. The last row holds skae's error over
the best of the others'. skae is AutoencoderImputer. Prints Markdown. Tables wine, diabetes and
cancer are those of scikit-learn.

Three tables (german, auto, adult) have categories; AutoencoderImputer fills in their frames as
they are, and the others get one column for each value, of which the largest is the value. The
figures are the error of numbers and the share of categories that are right.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from options import DATA, add_settings, words
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from skae import AutoencoderImputer

TABLES = {
    "cardio": "6_cardio",
    "fault": "12_fault",
    "vowels": "40_vowels",
    "Ionosphere": "18_Ionosphere",
    "magic": "22_magic.gamma",
    "WDBC": "43_WDBC",
    "SpamBase": "35_SpamBase",
}
BUNDLED = {"wine": load_wine, "diabetes": load_diabetes, "cancer": load_breast_cancer}
MIXED = {"german": "german_credit.csv", "auto": "auto_imports.csv", "adult": "adult.csv.gz"}
MOST_ROWS, MISSING = 4_000, 0.2

PEERS = {
    "mean": SimpleImputer,
    "KNNImputer": KNNImputer,
    "IterativeImputer": lambda: IterativeImputer(random_state=0),
    # The way of missForest (Stekhoven and Buehlmann 2012).
    "ExtraTrees": lambda: IterativeImputer(
        ExtraTreesRegressor(n_estimators=50, random_state=0), max_iter=5, random_state=0
    ),
}


def standardized(name: str, folder: Path, rng: np.random.RandomState) -> np.ndarray:
    """A complete table, float64."""
    if name in BUNDLED:
        X = BUNDLED[name]().data
    else:
        with np.load(folder / f"{TABLES[name]}.npz") as table:
            X = table["X"].astype(np.float64)
    if len(X) > MOST_ROWS:
        X = X[rng.permutation(len(X))[:MOST_ROWS]]
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0)


def errors(
    table: str, folder: Path, settings: dict, names: list[str], seed: int
) -> dict[str, tuple]:
    """Root mean squared error and seconds of each imputer."""
    rng = np.random.RandomState(seed)
    X = standardized(table, folder, rng)
    missing = rng.rand(*X.shape) < MISSING
    incomplete, found = np.where(missing, np.nan, X), {}
    for name in names:
        imputer = AutoencoderImputer(**settings) if name == "skae" else PEERS[name]()
        start = time.perf_counter()
        filled = imputer.fit_transform(incomplete)
        seconds = time.perf_counter() - start
        print(f"{table}, {name}: {seconds:.1f} s", file=sys.stderr, flush=True)
        found[name] = float(np.sqrt(np.mean((filled - X)[missing] ** 2))), seconds
    return found


def mixed_table(path: Path, seed: int) -> pd.DataFrame:
    """A table whose numbers are standardized, and whose categories are text."""
    frame = pd.read_csv(path).drop(columns="split", errors="ignore")
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=seed).reset_index(drop=True)
    numbers = frame.select_dtypes("number").columns
    frame[numbers] = (frame[numbers] - frame[numbers].mean()) / frame[numbers].std()
    return frame


def filled_as_numbers(imputer: BaseEstimator, frame: pd.DataFrame) -> pd.DataFrame:
    """A frame filled in by an imputer of numbers, with one column for each value of a category."""
    numbers = list(frame.select_dtypes("number"))
    parts, values = [frame[numbers].to_numpy()], {}
    for name in frame.columns.difference(numbers, sort=False):
        column = frame[name]
        values[name] = np.array(sorted(column.dropna().unique()), dtype=object)
        own = (column.to_numpy(dtype=object)[:, None] == values[name]).astype(float)
        own[column.isna()] = np.nan
        parts.append(own)
    filled = imputer.fit_transform(np.hstack(parts))
    found, start = dict(zip(numbers, filled.T, strict=False)), len(numbers)
    for name, known in values.items():
        found[name] = known[filled[:, start : start + len(known)].argmax(axis=1)]
        start += len(known)
    return pd.DataFrame(found)[list(frame)]


def mixed_errors(path: Path, settings: dict, names: list[str], seed: int) -> dict[str, tuple]:
    """Error of numbers, share of right categories and seconds of each imputer."""
    frame = mixed_table(path, seed)
    missing = np.random.RandomState(seed).rand(*frame.shape) < MISSING
    incomplete, found = frame.mask(missing), {}
    missing &= frame.notna().to_numpy()
    is_number = np.array([name in frame.select_dtypes("number") for name in frame])
    for name in names:
        start = time.perf_counter()
        if name == "skae":
            filled = AutoencoderImputer(**settings).fit_transform(incomplete)
        else:
            filled = filled_as_numbers(PEERS[name](), incomplete)
        seconds = time.perf_counter() - start
        print(f"{path.stem}, {name}: {seconds:.1f} s", file=sys.stderr, flush=True)
        cells = missing & is_number
        numbers = [(table.to_numpy(dtype=object)[cells]).astype(float) for table in (filled, frame)]
        error = float(np.sqrt(np.mean((numbers[0] - numbers[1]) ** 2)))
        right = filled.to_numpy(dtype=object) == frame.to_numpy(dtype=object)
        found[name] = error, float(right[missing & ~is_number].mean()), seconds
    return found


def print_mixed(results: dict[str, dict], names: list[str]) -> None:
    """A row an imputer; error of numbers and right categories of each table."""
    print("| RMSE, accuracy | " + " | ".join(results) + " | seconds |")
    print("|---|" + "---:|" * (len(results) + 1))
    for name in names:
        cells = [f"{found[name][0]:.3f}, {found[name][1]:.3f}" for found in results.values()]
        seconds = " + ".join(f"{found[name][2]:.0f}" for found in results.values())
        print(f"| {name} | " + " | ".join(cells) + f" | {seconds} |")


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
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--tables", type=words([*TABLES, *BUNDLED, *MIXED]), default=list(TABLES))
    parser.add_argument("--imputers", type=words(everyone), default=everyone)
    parser.add_argument("--seed", type=int, default=0)
    add_settings(parser)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    warnings.simplefilter("ignore")  # IterativeImputer's defaults do not converge everywhere
    settings = {"random_state": options.seed} | dict(options.set)
    print(f"Settings of skae: {', '.join(f'{k}={v!r}' for k, v in settings.items())}\n")
    plain, given = {}, (settings, options.imputers, options.seed)
    mixed = {}
    for name in options.tables:
        if name in MIXED:
            mixed[name] = mixed_errors(options.data / "tabular" / MIXED[name], *given)
        else:
            plain[name] = errors(name, options.data / "adbench", *given)
    if plain:
        print_results(plain, options.imputers)
    if mixed:
        print_mixed(mixed, options.imputers)


if __name__ == "__main__":
    main()

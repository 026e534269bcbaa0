"""Detectors of outliers on the tables of ADBench, each with its own defaults.

Two protocols. Unsupervised: 70 % of the rows, stratified, outliers among them, are
fitted on, the others scored. One-class: fitted on half of the normal rows, the rest
and all outliers scored. At most 4,000 rows of a table (at least 10 of its outliers
among them), standardized; several seeds. Prints Markdown: mean and median AUROC,
mean average precision, mean rank by AUROC, wins, and seconds of fits and scores of one
seed; for skae also the share of unseen normal rows that ``predict`` flags, and how often
``feature_contributions`` names a cell that was moved by 6 standard deviations. With
``contamination=0`` rows are declared clean, which they are in the second protocol alone.
A contender that is not installed is left out, and named.

    python examples/benchmarks/outliers.py --data adbench
    python examples/benchmarks/outliers.py --data adbench --seeds 1 --only skae KNN
    python examples/benchmarks/outliers.py --data adbench --without "PyOD DIF" "PyOD VAE"
"""

import argparse
import importlib.metadata
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity, LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skae import AutoencoderAnomalyDetector

MOST_ROWS, FEWEST_OUTLIERS = 4000, 10


class PcaReconstruction:
    """Squared error of the principal components that hold 90 % of the variance."""

    def fit(self, X):
        from sklearn.decomposition import PCA

        self._pca = PCA(0.9, svd_solver="full").fit(X)
        return self

    def score_samples(self, X):
        reconstructed = self._pca.inverse_transform(self._pca.transform(X))
        return -((X - reconstructed) ** 2).mean(axis=1)


class Neighbors:
    """Distance to the fifth nearest row, PyOD's KNN; or another figure of the five distances.

    Their mean is what DTE-NP amounts to (Livernoche et al., "On diffusion modeling for anomaly
    detection", ICLR 2024).
    """

    def __init__(self, figure=lambda distances: distances[:, -1]):
        self._figure = figure

    def fit(self, X):
        self._neighbors = NearestNeighbors(n_neighbors=min(5, len(X) - 1)).fit(X)
        return self

    def score_samples(self, X):
        return -self._figure(self._neighbors.kneighbors(X)[0])


class Mahalanobis:
    """Distance to the mean, by the covariance of all rows."""

    def fit(self, X):
        self._mean = X.mean(axis=0)
        self._inverse = np.linalg.pinv(np.cov(X.T, ddof=0).reshape(X.shape[1], -1), hermitian=True)
        return self

    def score_samples(self, X):
        centered = X - self._mean
        return -np.einsum("ij,jk,ik->i", centered, self._inverse, centered)


class Pyod:
    """A detector of PyOD, with scikit-learn's sign."""

    def __init__(self, module: str, name: str, **settings):
        detector = getattr(__import__(f"pyod.models.{module}", fromlist=[name]), name)
        self._detector = detector(**settings)

    def fit(self, X):
        self._detector.fit(X)
        return self

    def score_samples(self, X):
        return -self._detector.decision_function(X)


CONTENDERS = {
    "skae": lambda seed: AutoencoderAnomalyDetector(random_state=seed),
    "skae, contamination=0": lambda seed: AutoencoderAnomalyDetector(
        contamination=0, random_state=seed
    ),
    "skae, reconstruction": lambda seed: AutoencoderAnomalyDetector(
        anomaly_score="reconstruction", random_state=seed
    ),
    "IsolationForest": lambda seed: IsolationForest(random_state=seed),
    "KNN": lambda seed: Neighbors(),
    "DTE-NP": lambda seed: Neighbors(lambda distances: distances.mean(axis=1)),
    "KDE": lambda seed: KernelDensity(),
    "Mahalanobis": lambda seed: Mahalanobis(),
    "OneClassSVM": lambda seed: OneClassSVM(),
    "LOF": lambda seed: LocalOutlierFactor(novelty=True),
    "PCA reconstruction": lambda seed: PcaReconstruction(),
    "PyOD ECOD": lambda seed: Pyod("ecod", "ECOD"),
    "PyOD COPOD": lambda seed: Pyod("copod", "COPOD"),
    "PyOD HBOS": lambda seed: Pyod("hbos", "HBOS"),
    "PyOD INNE": lambda seed: Pyod("inne", "INNE", random_state=seed),
    "PyOD CBLOF": lambda seed: Pyod("cblof", "CBLOF", random_state=seed),
    "PyOD LUNAR": lambda seed: Pyod("lunar", "LUNAR"),
    "PyOD DIF": lambda seed: Pyod("dif", "DIF", random_state=seed),
    "PyOD AutoEncoder": lambda seed: Pyod("auto_encoder", "AutoEncoder", verbose=0),
    "PyOD VAE": lambda seed: Pyod("vae", "VAE", verbose=0),
}


def load(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels (1 for outliers) of a table."""
    with np.load(path) as table:
        X, y = table["X"].astype(np.float64), table["y"].ravel().astype(int)
    if len(X) <= MOST_ROWS:
        return X, y
    rng = np.random.default_rng(seed)
    outliers, normal = np.flatnonzero(y), np.flatnonzero(y == 0)
    n = max(min(len(outliers), FEWEST_OUTLIERS), round(MOST_ROWS * len(outliers) / len(X)))
    chosen = [rng.choice(outliers, n, False), rng.choice(normal, MOST_ROWS - n, False)]
    rows = np.sort(np.concatenate(chosen))
    return X[rows], y[rows]


def splits(X: np.ndarray, y: np.ndarray, seed: int):
    """Name, training rows, test rows and test labels of both protocols."""
    train, test, _, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    yield "unsupervised", train, test, y_test
    normal = np.flatnonzero(y == 0)
    np.random.default_rng(seed).shuffle(normal)
    half = normal[: len(normal) // 2]
    rest = np.setdiff1d(np.arange(len(X)), half)
    yield "one-class", X[half], X[rest], y[rest]


def measure(contender, seed: int, train, test, y_test) -> dict[str, float]:
    """Figures of one fit."""
    start = time.perf_counter()
    detector = contender(seed).fit(train)
    scores = detector.score_samples(test)
    figures = {"seconds": time.perf_counter() - start}
    scores = np.nan_to_num(scores, nan=0.0)
    figures["auroc"] = roc_auc_score(y_test, -scores)
    figures["ap"] = average_precision_score(y_test, -scores)
    if isinstance(detector, AutoencoderAnomalyDetector):
        figures["flagged"] = (detector.predict(test)[y_test == 0] == -1).mean()
        figures["named"] = named(detector, test[y_test == 0], seed)
    return figures


def named(detector: AutoencoderAnomalyDetector, normal: np.ndarray, seed: int) -> float:
    """Share of rows whose first contribution is the column to which 6 deviations were added."""
    rng = np.random.default_rng(seed)
    planted = normal[:500].copy()
    columns = rng.integers(planted.shape[1], size=len(planted))
    planted[np.arange(len(planted)), columns] += 6.0 * rng.choice([-1.0, 1.0], len(planted))
    return float((detector.feature_contributions(planted).argmax(axis=1) == columns).mean())


def installed(names: list[str]) -> list[str]:
    """The contenders that can be made; says which cannot."""
    present = []
    for name in names:
        try:
            CONTENDERS[name](0)
            present.append(name)
        except ImportError as error:
            print(f"Left out: {name} ({error}).\n")
    return present


def report(protocol: str, names: list[str], figures: dict) -> None:
    """Print one protocol's table."""

    def of(name: str, figure: str) -> np.ndarray:
        return np.array([row[figure] for row in figures[protocol, name]])

    auroc = np.array([of(name, "auroc") for name in names])
    ranks = np.apply_along_axis(rankdata, 0, -auroc)
    wins = (ranks == ranks.min(axis=0)).sum(axis=1)
    print(f"\n### {protocol}\n")
    columns = (
        "AUROC mean",
        "median",
        "AP mean",
        "mean rank",
        "wins",
        "seconds",
        "flagged",
        "named",
    )
    print(f"| detector | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for i, name in enumerate(names):
        seconds = of(name, "seconds").sum() / figures["seeds"]
        shares = ("flagged", "named") if name.startswith("skae") else ()
        ours = " | ".join(f"{of(name, share).mean():.1%}" for share in shares) or "|"
        print(
            f"| {name} | {auroc[i].mean():.4f} | {np.median(auroc[i]):.4f} "
            f"| {of(name, 'ap').mean():.4f} | {ranks[i].mean():.2f} | {wins[i]} "
            f"| {seconds:.1f} | {ours} |"
        )


def main(arguments: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    packages = ("numpy", "scikit-learn", "torch", "pyod")
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    print(", ".join(versions))
    paths = sorted(arguments.data.glob("*.npz"))
    if not paths:
        sys.exit(f"No .npz table in {arguments.data}.")
    chosen = arguments.only or [name for name in CONTENDERS if name not in arguments.without]
    names = installed(chosen)
    figures: dict = defaultdict(list, seeds=arguments.seeds)
    for path in paths:
        for seed in range(arguments.seeds):
            for protocol, train, test, y_test in splits(*load(path, seed), seed):
                scaler = StandardScaler().fit(train)
                data = scaler.transform(train), scaler.transform(test), y_test
                for name in names:
                    figures[protocol, name].append(measure(CONTENDERS[name], seed, *data))
        print(f"{path.stem} done", file=sys.stderr, flush=True)
    print(f"\n{len(paths)} tables, {arguments.seeds} seeds.")
    for protocol in ("unsupervised", "one-class"):
        report(protocol, names, figures)
        behind(protocol, names, figures, [path.stem for path in paths])


def behind(protocol: str, names: list[str], figures: dict, tables: list[str]) -> None:
    """Print on which table skae is farthest behind the detectors that most people would take."""

    def of(name: str) -> np.ndarray:
        auroc = [row["auroc"] for row in figures[protocol, name]]
        return np.reshape(auroc, (len(tables), -1)).mean(axis=1)

    for ours in (name for name in names if name.startswith("skae")):
        for other in {"KNN", "IsolationForest"}.intersection(names):
            gaps = of(other) - of(ours)
            worst = gaps.argmax()
            print(f"\n{ours}: at most {gaps[worst]:.3f} behind {other} ({tables[worst]}).")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of .npz tables, X and y")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="contenders to run")
    parser.add_argument(
        "--without", nargs="+", choices=CONTENDERS, default=[], help="contenders to leave out"
    )
    main(parser.parse_args())

"""Latent sizes searched: AutoencoderSearchCV against GridSearchCV, and one ordered fit for all.

    python examples/benchmarks/search.py --rounds 3

Sets: digits (1,797 images of 8 x 8, bundled with scikit-learn) and a table of 2,000 x 20
(``make_classification``, 10 informative columns). Pipeline: autoencoder, StandardScaler,
LogisticRegression; 8 latent sizes, 5 folds, refit. Nets: one hidden layer of 16, and the
default. Both searches run in turn, ``--rounds`` times; GridSearchCV with two processes, as many
as the machine has cores. Times are medians, the ratio is the median of the ratios.

Then the sizes of one fit with ``ordered=True`` against a fit for each size: mean accuracy over
the same 5 folds, and the share of the variance explained. Prints Markdown.
"""

import argparse
import statistics
import time

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.model_selection import AutoencoderSearchCV

SIZES = [2, 3, 4, 6, 8, 10, 12, 16]
GRID = {"autoencodertransformer__n_components": SIZES}
NETS = {"16": (16,), "default": "auto"}


def sets() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    table = make_classification(2000, 20, n_informative=10, random_state=0)
    return {"table 2,000 x 20": table, "digits": load_digits(return_X_y=True)}


def classifier():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def pipeline(hidden):
    autoencoder = AutoencoderTransformer(hidden_layer_sizes=hidden, random_state=0)
    return make_pipeline(autoencoder, *(step for _, step in classifier().steps))


def timed(search, X, y) -> float:
    start = time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - start


def compare(name: str, X, y, net: str, rounds: int) -> None:
    """Print one row: both searches of one set and net."""
    grid = GridSearchCV(pipeline(NETS[net]), GRID, cv=5, n_jobs=2)
    together = AutoencoderSearchCV(pipeline(NETS[net]), GRID, cv=5)
    times = [(timed(grid, X, y), timed(together, X, y)) for _ in range(rounds)]
    ratio = statistics.median(a / b for a, b in times)
    seconds = [statistics.median(column) for column in zip(*times, strict=True)]
    ours, theirs = (s.cv_results_["mean_test_score"] for s in (together, grid))
    cells = [
        name,
        net,
        f"{seconds[0]:.2f}",
        f"{seconds[1]:.2f}",
        f"{ratio:.1f}",
        f"{together.best_params_['autoencodertransformer__n_components']}",
        f"{together.best_params_ == grid.best_params_}",
        f"{np.abs(ours - theirs).max():.1e}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def by_size(X, y) -> dict[str, np.ndarray]:
    """Accuracy and explained variance, (folds, sizes, 2), of separate fits and of one ordered."""
    found: dict[str, list] = {"separate": [], "ordered": []}
    for train, test in StratifiedKFold(5).split(X, y):

        def figures(autoencoder, train=train, test=test):
            latents = autoencoder.transform(X)
            model = classifier().fit(latents[train], y[train])
            return model.score(latents[test], y[test]), autoencoder.score(X[test])

        plain = AutoencoderTransformer(random_state=0)
        ordered = AutoencoderTransformer(n_components=max(SIZES), ordered=True, random_state=0)
        ordered.fit(X[train])
        fits = (clone(plain).set_params(n_components=k).fit(X[train]) for k in SIZES)
        found["separate"].append([figures(fit) for fit in fits])
        found["ordered"].append([figures(ordered.truncate(k)) for k in SIZES])
    return {name: np.array(values) for name, values in found.items()}


def print_sizes(name: str, X, y) -> None:
    found = by_size(X, y)
    for kind, values in found.items():
        cells = [f"{a:.3f} / {e:.3f}" for a, e in values.mean(0)]
        print(f"| {name}, {kind} | " + " | ".join(cells) + " |", flush=True)
    gaps = (found["separate"] - found["ordered"])[..., 0].mean(0)
    cells = [f"{gap:.3f}" for gap in gaps]
    print(f"| {name}, accuracy lost | " + " | ".join(cells) + f" | (mean {gaps.mean():.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nets", nargs="*", choices=NETS, default=list(NETS))
    options = parser.parse_args()
    print("| set | hidden | GridSearchCV, s | AutoencoderSearchCV, s | ratio | best | same | gap |")
    print("|---|---|" + "---:|" * 6)
    for name, (X, y) in sets().items():
        for net in options.nets:
            compare(name, X, y, net, options.rounds)
    print("\n| accuracy / explained | " + " | ".join(map(str, SIZES)) + " |")
    print("|---|" + "---:|" * len(SIZES))
    for name, (X, y) in sets().items():
        print_sizes(name, X, y)


if __name__ == "__main__":
    main()

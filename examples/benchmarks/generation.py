"""New images and rows: skae against PCA + GaussianMixture, Pythae, GaussianMixture and SMOTE.

    python examples/benchmarks/generation.py images
    python examples/benchmarks/generation.py images --sets mnist --methods "VAE + GMM,PCA + GMM"
    python examples/benchmarks/generation.py tables
    python examples/benchmarks/generation.py minority

**images**: MNIST and Fashion-MNIST, fitted on the 60,000 training images
(``--rows``), 16 latents. A small convolutional classifier, trained on the same images, gives 64
features an image. Figures are of
10,000 drawn images against the 10,000 test images: the Frechet distance of
normal distributions in these features (Heusel et al. 2017; less is better), and
precision and recall by the manifolds of three nearest neighbors, on 3,000 of
each (Kynkaanniemi et al. 2019; more is better), means of the seeds. "test against
train" is what 10,000 training images get. Pythae's models, where it is installed, have our
network and epochs.

**tables**: ten tables with two classes. Half of at most 4,000 rows to train,
half to test; a generator for each class draws as many rows as the training half
has; a random forest and a logistic regression are trained on what was drawn,
and tested on the real half. Figures are the means of their balanced accuracies,
means of the seeds. Ours is one autoencoder for all rows, with as many latents
as features, at most 32, and a mixture for each class. GaussianMixture has the number of
components of up to ten that is best by BIC, on standardized rows. "copula" is a Gaussian copula
of the ranks of a class, with the empirical margins of its columns. Of few rows the draws matter:
each generator draws ``--draws`` times.

**minority**: the same tables and halves; the rarer class of the training half
cut down to at most 40 rows, and then oversampled until both are equally large.
Figures are the recall of the rarer class, and the balanced accuracy, of the same
classifiers.

Prints Markdown.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import torch
from options import DATA
from pythae_models import MODELS, PythaeSampler
from scipy.stats import norm, rankdata
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import AutoencoderTransformer, VariationalAutoencoder

N_LATENTS, N_DRAWN, N_MANIFOLD = 16, 10_000, 3_000

TABLES = {
    "annthyroid": "2_annthyroid",
    "cardio": "6_cardio",
    "Cardiotocography": "7_Cardiotocography",
    "fault": "12_fault",
    "Ionosphere": "18_Ionosphere",
    "magic": "22_magic.gamma",
    "mammography": "23_mammography",
    "Pima": "29_Pima",
    "SpamBase": "35_SpamBase",
    "WDBC": "43_WDBC",
}


class PCAMixture:
    """The linear rival, of as many latents."""

    def __init__(self, seed):
        self.seed = seed

    def fit(self, images):
        self.shape = images.shape[1:]
        self.pca = PCA(N_LATENTS, random_state=self.seed)
        latents = self.pca.fit_transform(images.reshape(len(images), -1) / 255.0)
        self.mixture = GaussianMixture(10, random_state=self.seed).fit(latents)
        return self

    def sample(self, n, random_state):
        latents = self.mixture.set_params(random_state=random_state).sample(n)[0]
        images = self.pca.inverse_transform(latents).clip(0, 1) * 255
        return images[np.random.RandomState(0).permutation(n)].reshape(n, *self.shape)


def ours(cls, latent_density, loss="squared_error"):
    """What makes an estimator, given the number of epochs and a seed."""

    def make(epochs, seed):
        return cls(
            n_components=N_LATENTS,
            latent_density=latent_density,
            loss=loss,
            max_epochs=epochs or "auto",
            random_state=seed,
        )

    return make


IMAGE_METHODS = {
    "PCA + GMM": lambda epochs, seed: PCAMixture(seed),
    "autoencoder + Gaussian": ours(AutoencoderTransformer, "gaussian"),
    "autoencoder + GMM": ours(AutoencoderTransformer, "gmm"),
    "autoencoder (log_loss) + GMM": ours(AutoencoderTransformer, "gmm", "log_loss"),
    "VAE prior": ours(VariationalAutoencoder, "prior"),
    "VAE + GMM": ours(VariationalAutoencoder, "gmm"),
    "VAE (log_loss) + GMM": ours(VariationalAutoencoder, "gmm", "log_loss"),
}
for name in MODELS:
    IMAGE_METHODS[f"Pythae {name}"] = lambda epochs, seed, name=name: PythaeSampler(
        name, N_LATENTS, epochs or 15, seed
    )


class Features:
    """A small convolutional classifier, trained for two epochs; its last hidden layer."""

    def __init__(self, images, labels):
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
                nn.Linear(32 * 49, 64), nn.ReLU(),
            )  # fmt: skip
            head = nn.Linear(64, 10)
        model = nn.Sequential(self.body, head)
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        X, y = self._tensor(images), torch.from_numpy(labels.astype(np.int64))
        for _ in range(2):
            for rows in torch.randperm(len(X), generator=generator).split(128):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
                optimizer.step()

    def __call__(self, images):
        with torch.no_grad():
            parts = [self.body(part) for part in self._tensor(images).split(1000)]
        return torch.cat(parts).double().numpy()

    def _tensor(self, images):
        return torch.from_numpy(np.asarray(images, dtype=np.float32) / 255.0)[:, None]


def frechet_distance(a, b):
    A, B = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.linalg.eigvals(A @ B).real.clip(min=0))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(A + B) - 2 * roots.sum()


def share_within(points, manifold, k=3):
    """Share of the points that lie within the k-th neighbors' balls of the manifold's points."""
    radii = NearestNeighbors(n_neighbors=k + 1).fit(manifold).kneighbors(manifold)[0][:, -1]
    within = 0
    for part in np.array_split(points, 10):
        squares = (part**2).sum(1)[:, None] + (manifold**2).sum(1) - 2 * part @ manifold.T
        within += (squares <= radii**2).any(axis=1).sum()
    return within / len(points)


def images(args):
    for name in args.sets or ["mnist", "fashion_mnist"]:
        with np.load(args.data / "images" / f"{name}.npz") as data:
            X, y, test = data["X_train"], data["y_train"], data["X_test"]
            X, y = X[: args.rows], y[: args.rows]
        features = Features(X, y)
        real = features(test)
        print(f"\n| {name} | Frechet distance | precision | recall | fit and draw, s |")
        print("|---|--:|--:|--:|--:|")
        report("test against train", [(*figures(features(X[:N_DRAWN]), real), 0.0)])
        methods = [m for m in IMAGE_METHODS if importable(m)]
        for method in args.methods or methods:
            found = []
            for seed in range(args.seeds):
                start = time.perf_counter()
                generator = IMAGE_METHODS[method](args.epochs, seed).fit(X)
                drawn = generator.sample(N_DRAWN, random_state=seed)
                seconds = time.perf_counter() - start
                found.append((*figures(features(drawn), real), seconds))
            report(method, found)


def importable(method):
    return not method.startswith("Pythae") or importlib.util.find_spec("pythae") is not None


def figures(drawn, real):
    few, some = drawn[:N_MANIFOLD], real[:N_MANIFOLD]
    return frechet_distance(drawn, real), share_within(few, some), share_within(some, few)


def report(name, found):
    distance, precision, recall, seconds = np.mean(found, axis=0)
    print(f"| {name} | {distance:.2f} | {precision:.3f} | {recall:.3f} | {seconds:.0f} |")
    sys.stdout.flush()


# Tables.


def table(path, seed):
    """Training and test half, at most 4,000 rows together, columns that vary."""
    with np.load(path) as data:
        X, y = data["X"].astype(np.float64), data["y"].astype(int)
    rows = np.random.RandomState(0).permutation(len(X))[:4000]
    X, y = X[rows], y[rows]
    X = X[:, X.std(axis=0) > 0]
    return train_test_split(X, y, test_size=0.5, stratify=y, random_state=seed)


class Mixtures:
    """A GaussianMixture for each class, on standardized rows."""

    def fit(self, X):
        self.scaler = StandardScaler().fit(X)
        return self

    def sample_like(self, rows, n, seed):
        Z = self.scaler.transform(rows)
        sizes = [k for k in (1, 2, 3, 5, 10) if k == 1 or len(Z) >= 10 * k]
        fits = [GaussianMixture(k, reg_covar=1e-4, random_state=seed).fit(Z) for k in sizes]
        best = min(fits, key=lambda mixture: mixture.bic(Z))
        return self.scaler.inverse_transform(best.sample(n)[0])


class Copula:
    """Of each class normal scores of the columns, correlated as theirs are, and quantiles."""

    def fit(self, X):
        return self

    def sample_like(self, rows, n, seed):
        scores = norm.ppf((rankdata(rows, axis=0) - 0.5) / len(rows))
        with np.errstate(invalid="ignore"):  # A column that never varies in a class.
            correlations = np.nan_to_num(np.corrcoef(scores.T))
        np.fill_diagonal(correlations, 1.0)
        values, vectors = np.linalg.eigh(correlations)
        draws = np.random.default_rng(seed).standard_normal((n, len(values)))
        ranks = norm.cdf(draws @ (vectors * np.sqrt(values.clip(0.0))).T)
        return np.column_stack([np.quantile(*pair) for pair in zip(rows.T, ranks.T, strict=True)])


class Ours:
    """One autoencoder for all rows, a density of the latents for each class."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X):
        self.estimator = clone(self.estimator).set_params(
            n_components=min(32, X.shape[1]), random_state=0
        )
        self.estimator.fit(X)
        self.estimator.set_params(latent_density="gmm")
        return self

    def sample_like(self, rows, n, seed):
        return self.estimator.fit_density(rows).sample(n, random_state=seed)


TABLE_METHODS = {
    "GaussianMixture": Mixtures,
    "copula": Copula,
    "autoencoder + GMM": lambda: Ours(AutoencoderTransformer()),
    "VAE + GMM": lambda: Ours(VariationalAutoencoder()),
    "VAE (beta 0.3) + GMM": lambda: Ours(VariationalAutoencoder(beta=0.3)),
}


def judges(seed):
    return [
        RandomForestClassifier(100, random_state=seed),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
    ]


def judged(X, y, X_test, y_test, metric, seed):
    return np.mean([metric(y_test, j.fit(X, y).predict(X_test)) for j in judges(seed)])


def tables(args):
    names = ["real rows", *(args.methods or TABLE_METHODS)]
    print(f"| table | {' | '.join(names)} |\n|---|{'--:|' * len(names)}")
    ahead, everything = dict.fromkeys(names[1:], 0), []
    for name, file in TABLES.items():
        scores = {method: [] for method in names}
        for seed in range(args.seeds):
            X, X_test, y, y_test = table(args.data / "adbench" / f"{file}.npz", seed)
            data = (X_test, y_test, balanced_accuracy_score, seed)
            scores["real rows"].append(judged(X, y, *data))
            for method in ahead:
                generator = TABLE_METHODS[method]().fit(X)
                for draw in range(args.draws):
                    parts = [
                        generator.sample_like(X[y == c], (y == c).sum(), seed + 1000 * draw)
                        for c in (0, 1)
                    ]
                    scores[method].append(judged(np.concatenate(parts), np.sort(y), *data))
        means = {method: np.mean(values) for method, values in scores.items()}
        for method in ahead:
            ahead[method] += means[method] > means["copula"]
        everything.append([means[method] for method in names])
        print(f"| {name} | {' | '.join(f'{means[m]:.3f}' for m in names)} |", flush=True)
    print(f"| mean | {' | '.join(f'{mean:.3f}' for mean in np.mean(everything, axis=0))} |")
    cells = [str(ahead[m]) for m in names[1:]]
    print(f"| ahead of the copula | | {' | '.join(cells)} |")


def minority(args):
    from imblearn.over_sampling import SMOTE

    names = args.methods or ["as it is", "SMOTE", *TABLE_METHODS]
    metrics = (recall_score, balanced_accuracy_score)
    print(f"| table | {' | '.join(names)} |\n|---|{'--:|' * len(names)}")
    everything = []
    for name, file in TABLES.items():
        scores = np.zeros((args.seeds, len(names), 2))
        for seed in range(args.seeds):
            X, X_test, y, y_test = table(args.data / "adbench" / f"{file}.npz", seed)
            if y.mean() > 0.5:
                y, y_test = 1 - y, 1 - y_test
            rare = np.flatnonzero(y == 1)[:40]
            kept = np.r_[np.flatnonzero(y == 0), rare]
            X, y = X[kept], y[kept]
            n = (y == 0).sum() - len(rare)
            for i, method in enumerate(names):
                if method == "SMOTE":
                    more = SMOTE(k_neighbors=min(5, len(rare) - 1), random_state=seed).fit_resample(
                        X, y
                    )
                elif method == "as it is":
                    more = X, y
                else:
                    drawn = TABLE_METHODS[method]().fit(X).sample_like(X[y == 1], n, seed)
                    more = np.r_[X, drawn], np.r_[y, np.ones(n, dtype=int)]
                for j, metric in enumerate(metrics):
                    scores[seed, i, j] = judged(*more, X_test, y_test, metric, seed)
        everything.append(scores.mean(axis=0))
        cells = [f"{recall:.3f}, {both:.3f}" for recall, both in everything[-1]]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    cells = [f"{recall:.3f}, {both:.3f}" for recall, both in np.mean(everything, axis=0)]
    print(f"| mean | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["images", "tables", "minority"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", type=lambda text: text.split(","))
    parser.add_argument("--methods", type=lambda text: text.split(","))
    parser.add_argument("--rows", type=int, default=60_000, help="of the training images")
    parser.add_argument("--epochs", type=int, help="of our estimators on images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=2, help="of each generator of a table")
    args = parser.parse_args()
    {"images": images, "tables": tables, "minority": minority}[args.part](args)


if __name__ == "__main__":
    main()

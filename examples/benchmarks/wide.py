"""Wide rows: time, memory and quality beside PCA, TruncatedSVD and IsolationForest.

    python examples/benchmarks/wide.py [--only words genes] [--columns 50000]

Every fit runs in a process of its own, which tells its peak memory. "words" are 4,000 rows of
TF-IDF (sparse, drawn from topics over words of Zipf's frequencies); the figure is the cosine of
500 other rows and their reconstructions. "genes" are 300 rows of 20,530 numbers, of rank 40 with
noise; the figure is the squared error of 100 other rows. "outliers" are such rows too: the figure
is the AUROC of 100 of them against 100 of which one value in 200 is off. "images" are 1,000 drawn
ones of 128 x 128 x 3, the figure the squared error of 50 others; "defects" 100 of 256 x 256 x 3,
the figure the AUROC of 50 others against 50 with a square of 12 pixels that is darker.
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics import roc_auc_score

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer

N_LATENTS = 32


def words(n_columns, n_topics=40, n_rows=4500):
    rng = np.random.default_rng(0)
    frequencies = 1 / np.arange(1, n_columns + 1) ** 1.05
    of_topics = [rng.permutation(n_columns)[: n_columns // 100] for _ in range(n_topics)]
    rows = []
    for _ in range(n_rows):
        own = frequencies.copy()
        for topic in rng.choice(n_topics, 2, replace=False):
            own[of_topics[topic]] *= 30
        ends = (own / own.sum()).cumsum()
        drawn = np.searchsorted(ends, rng.random(100)).clip(max=n_columns - 1)
        rows.append(sparse.csr_array(np.bincount(drawn, minlength=n_columns)[None]))
    X = TfidfTransformer(sublinear_tf=True).fit_transform(sparse.vstack(rows))
    X = sparse.csr_array(X, dtype=np.float32)
    return X[:4000], X[4000:]


def genes(n_columns, rank=40, noise=0.5):
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(rank, n_columns)) * np.arange(1, rank + 1)[:, None] ** -0.7
    X = rng.normal(size=(400, rank)) @ loadings + noise * rng.normal(size=(400, n_columns))
    return X[:300].astype(np.float32), X[300:].astype(np.float32)


def outliers(n_columns):
    train, normal = genes(n_columns)
    rng, odd = np.random.default_rng(1), normal.copy()
    for row in odd:
        row[rng.choice(n_columns, n_columns // 200, replace=False)] += 4.0
    return train, (normal, odd)


def drawn(n, side, rng):
    """Waves under a grating, of three channels, with noise."""
    y, x = np.mgrid[:side, :side] / side
    pixels = np.empty((n, side, side, 3), dtype=np.uint8)
    for image in pixels:
        a, b, c = rng.normal(size=3)
        gray = 0.5 + 0.2 * np.sin(3 * a * y + 3 * b * x) + 0.1 * np.sin(40 * (x + 0.2 * c))
        colored = gray[..., None] * np.linspace(0.7, 1, 3)
        image[:] = (255 * (colored + rng.normal(scale=0.04, size=image.shape))).clip(0, 255)
    return pixels


def images(n_columns):
    pixels = drawn(1050, round((n_columns / 3) ** 0.5), np.random.default_rng(0))
    return pixels[:1000], pixels[1000:]


def defects(n_columns):
    rng, side = np.random.default_rng(0), round((n_columns / 3) ** 0.5)
    pixels = drawn(200, side, rng)
    train, normal, odd = pixels[:100], pixels[100:150], pixels[150:]
    for image in odd:
        top, left = rng.integers(side - 12, size=2)
        image[top : top + 12, left : left + 12] -= np.minimum(
            image[top : top + 12, left : left + 12], 40
        )
    return train, (normal, odd)


def cosine(rows, rebuilt):
    rows = rows.toarray()
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(rebuilt, axis=1)
    return float(((rows * rebuilt).sum(1) / norms).mean())


def error(rows, rebuilt):
    return float(((rows - rebuilt.astype(np.float64)) ** 2).mean())


def auroc(model, groups):
    """Of outliers against normal rows: by scores, or by the squared error of reconstructions."""
    scores = [
        -model.score_samples(rows)
        if hasattr(model, "offset_")
        else ((model.inverse_transform(model.transform(rows)) - rows) ** 2).mean(1)
        for rows in groups
    ]
    truth = np.repeat([0, 1], [len(one) for one in scores])
    return float(roc_auc_score(truth, np.concatenate(scores)))


def of_rebuilt(judge):
    return lambda model, rows: judge(rows, model.inverse_transform(model.transform(rows)))


TRANSFORMERS = {
    "PCA": lambda: PCA(N_LATENTS, random_state=0),
    "TruncatedSVD": lambda: TruncatedSVD(N_LATENTS, random_state=0),
    "skae": lambda: AutoencoderTransformer(n_components=N_LATENTS, random_state=0),
}
DETECTORS = {
    "PCA": lambda: PCA(N_LATENTS, random_state=0),
    "IsolationForest": lambda: IsolationForest(random_state=0),
    "skae": lambda: AutoencoderAnomalyDetector(random_state=0),
}
# A kind: how rows are made, their width, what is judged, and which models.
KINDS = {
    "words": (words, 50_000, of_rebuilt(cosine), TRANSFORMERS),
    "genes": (genes, 20_530, of_rebuilt(error), TRANSFORMERS),
    "outliers": (outliers, 20_530, auroc, DETECTORS),
    "images": (images, 3 * 128**2, of_rebuilt(error), TRANSFORMERS),
    "defects": (defects, 3 * 256**2, auroc, DETECTORS),
}


def as_rows(parts):
    """Images as rows, for models that take no images."""
    if isinstance(parts, tuple):
        return tuple(map(as_rows, parts))
    return parts if sparse.issparse(parts) else parts.reshape(len(parts), -1).astype(np.float32)


def measured(kind, name, n_columns, results):
    make, columns, judge, models = KINDS[kind]
    X, held_out = make(n_columns or columns)
    if name != "skae":
        X, held_out = as_rows(X), as_rows(held_out)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, busy = time.perf_counter(), time.process_time()
    model = models[name]().fit(X)
    seconds, on_cores = time.perf_counter() - start, time.process_time() - busy
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figure = judge(model, held_out)
    results.put((seconds, on_cores, 1.024e-6 * memory, 1.024e-6 * (memory - before), figure))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=list(KINDS))
    parser.add_argument("--columns", type=int)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("rows     model            seconds  on cores  peak GB  of it the fit's  figure")
    for kind in arguments.only:
        for name in KINDS[kind][3]:
            results = context.Queue()
            given = kind, name, arguments.columns, results
            process = context.Process(target=measured, args=given)
            process.start()
            seconds, cores, peak, own, figure = results.get()
            process.join()
            times = f"{seconds:8.1f}  {cores:8.1f}"
            print(
                f"{kind:8s} {name:15s} {times}  {peak:7.2f}  {own:15.2f}  {figure:.4f}", flush=True
            )


if __name__ == "__main__":
    main()

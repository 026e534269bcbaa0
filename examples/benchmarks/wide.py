"""Wide rows: time, memory and quality beside PCA and TruncatedSVD.

    python examples/benchmarks/wide.py [--only words genes] [--columns 50000]

Every fit runs in a process of its own, which tells its peak memory. "words" are 4,000 rows of
TF-IDF (sparse, drawn from topics over words of Zipf's frequencies); the figure is the cosine of
500 other rows and their reconstructions. "genes" are 300 rows of 20,530 numbers, of rank 40 with
noise; the figure is the squared error of 100 other rows.
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer

from skae import AutoencoderTransformer

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


def cosine(rows, rebuilt):
    rows = rows.toarray()
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(rebuilt, axis=1)
    return float(((rows * rebuilt).sum(1) / norms).mean())


def error(rows, rebuilt):
    return float(((rows - rebuilt) ** 2).mean())


KINDS = {"words": (words, 50_000, cosine), "genes": (genes, 20_530, error)}
MODELS = {
    "PCA": lambda: PCA(N_LATENTS, random_state=0),
    "TruncatedSVD": lambda: TruncatedSVD(N_LATENTS, random_state=0),
    "skae": lambda: AutoencoderTransformer(n_components=N_LATENTS, random_state=0),
}


def measured(kind, name, n_columns, results):
    make, columns, judge = KINDS[kind]
    X, held_out = make(n_columns or columns)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    model = MODELS[name]().fit(X)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rebuilt = model.inverse_transform(model.transform(held_out))
    results.put((seconds, memory / 1e6, (memory - before) / 1e6, judge(held_out, rebuilt)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=list(KINDS))
    parser.add_argument("--columns", type=int)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("rows   model          seconds  peak GB  of it the fit's  figure")
    for kind in arguments.only:
        for name in MODELS:
            results = context.Queue()
            given = kind, name, arguments.columns, results
            process = context.Process(target=measured, args=given)
            process.start()
            seconds, peak, own, figure = results.get()
            process.join()
            print(f"{kind:6s} {name:13s} {seconds:8.1f}  {peak:7.2f}  {own:15.2f}  {figure:.4f}")


if __name__ == "__main__":
    main()

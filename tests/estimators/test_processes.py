"""In other processes: children that fork, and what an import loads."""

import subprocess
import sys

import pytest


def run_script(path, *arguments, timeout=120):
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


CHILD = """
import multiprocessing, sys
import numpy as np, torch
from skae import AutoencoderTransformer

X = np.random.default_rng(0).normal(size=(600, 300)).astype(np.float32)

def fitted():
    return AutoencoderTransformer(
        n_components=4, hidden_layer_sizes=(256,), batch_size=256, max_epochs=2, random_state=0,
        device="cpu",
    ).fit(X)

def work(estimator):
    return estimator.transform(X), fitted().transform(X), torch.get_num_threads()

if __name__ == "__main__":
    torch.set_num_threads(2)
    estimator = fitted()
    expected = estimator.transform(X)
    torch.randn(700, 700) @ torch.randn(700, 700)
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(1) as pool:
        scored, refitted, n_threads = pool.apply_async(work, (estimator,)).get(60)
    assert (scored == expected).all() and (refitted == expected).all()
    assert torch.get_num_threads() == 2
    assert sys.argv[1] != "fork" or n_threads == 1, n_threads
    print("ok")
"""


@pytest.mark.parametrize(
    "method",
    [
        "fork",
        pytest.param("spawn", marks=pytest.mark.slow),
        pytest.param("forkserver", marks=pytest.mark.slow),
    ],
)
def test_children_work_after_the_parent_used_two_threads(method, tmp_path):
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this platform")
    script = tmp_path / "children.py"
    script.write_text(CHILD)
    assert run_script(script, method).strip() == "ok"


IMPORT = """
import sys, time
import torch, sklearn.base, sklearn.utils.validation
try:
    import sklearn.callback
except ImportError:
    pass
before = set(sys.modules)
start = time.perf_counter()
import skae
seconds = time.perf_counter() - start
def heavy():
    names = {"pandas", "polars", "matplotlib", "dask", "onnx", "tqdm", "torch._dynamo", "rich"}
    return sorted(names & (set(sys.modules) - before))
assert not heavy(), heavy()
assert seconds < 1.0, seconds
import numpy as np
X = np.random.default_rng(0).normal(size=(50, 4))
skae.DenoisingAutoencoder(max_epochs=1, device="cpu").fit(X).transform(X)
assert not heavy(), heavy()
print("ok")
"""


@pytest.mark.slow
def test_import_and_fit_load_no_optional_or_heavy_module(tmp_path):
    script = tmp_path / "imports.py"
    script.write_text(IMPORT)
    assert run_script(script).strip() == "ok"

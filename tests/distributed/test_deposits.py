"""Rows that wait on workers for a fit, and what may be wrong with them."""

import contextlib
import gc
import time

import numpy as np
import pytest

import skae.dask
from skae._distributed import deposits, gang

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")

rng = np.random.default_rng(0)
X = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(500, 6))
FEW = {"n_components": 2, "max_epochs": 2, "random_state": 0, "precision": "float64"}


def array(values=X):
    return da.from_array(values, chunks=((200, 7, 183, 110), *values.shape[1:]))


def fitted(rows=None, **given):
    estimator = skae.dask.AutoencoderTransformer(**FEW, timeout=60)
    return estimator.fit(array() if rows is None else rows, **given)


@pytest.mark.parametrize("weights", [None, rng.uniform(size=500)], ids=["", "weighted"])
def test_rows_beyond_memory_wait_in_files(weights, client, monkeypatch):
    one = fitted(sample_weight=weights)
    kept, stored = deposits._is_short, []
    monkeypatch.setattr(deposits, "_room", lambda worker, share: 0)
    monkeypatch.setattr(deposits, "_LEAST", 20_000)
    monkeypatch.setattr(deposits, "_is_short", lambda *given: stored.append(1) or kept(*given))
    again = fitted(sample_weight=weights)
    assert len(stored) == 4
    np.testing.assert_allclose(again.loss_curve_, one.loss_curve_, rtol=1e-10)
    np.testing.assert_allclose(again.reconstruct(X), one.reconstruct(X), rtol=1e-8, atol=1e-8)


def test_nothing_is_kept_after_a_fit(client):
    def broken(block):
        if len(block) == 7:
            time.sleep(0.5)  # The others are there by then.
            raise KeyError("of the partition")
        return block

    with contextlib.suppress(KeyError):
        fitted(array().map_blocks(broken, meta=X[:0]))
    gc.collect()
    time.sleep(0.5)
    fitted(da.from_array(X, chunks=(20, 6)))  # on both workers
    assert not deposits._deposits


def test_partitions_of_other_columns_are_named(client):
    parts = [dask.delayed(X), dask.delayed(X[:, :4])]
    rows = [da.from_delayed(part, shape=X.shape, dtype=float) for part in parts]
    with pytest.raises(ValueError, match="Partition 0 of X has 6 features, and partition 1 has 4"):
        fitted(da.concatenate(rows))


@pytest.mark.parametrize(
    ("rows", "error", "match"),
    [
        (dask.delayed(X), TypeError, "from_delayed"),
        (array()[:, 0], ValueError, r"1 dimension.*X\[:, None\]"),
        ([[1.0, 2.0]], TypeError, "from_array"),
    ],
    ids=["delayed", "one column", "list"],
)
def test_what_is_no_table_is_told_at_once(rows, error, match):
    with pytest.raises(error, match=match):
        fitted(rows)


def test_workers_are_there_whatever_the_client_asks_in_between(client, monkeypatch):
    update = client._update_scheduler_info

    async def twice(n_workers=0):
        await update(n_workers)
        await update()  # as the client does every two seconds

    monkeypatch.setattr(client, "_update_scheduler_info", twice)
    names = tuple(client.nthreads())
    gang._check_alive(client, names, 30.0)
    with pytest.raises(RuntimeError, match="other left"):
        gang._check_alive(client, ("other", *names), 30.0)


@pytest.mark.parametrize("client_of", ["tcp://127.0.0.1:8786", 3])
def test_a_client_is_a_client(client_of):
    estimator = skae.dask.AutoencoderTransformer(**FEW, client=client_of)
    with pytest.raises(TypeError, match=r"Pass distributed\.Client\(\.\.\.\)"):
        estimator.fit(array())

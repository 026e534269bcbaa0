"""What would need more memory than is left is refused before it is allocated."""

import numpy as np
import pytest

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer
from skae._runtime import memory

X = np.random.default_rng(0).normal(size=(40, 6))


def _leave(monkeypatch, n_bytes):
    monkeypatch.setattr(memory, "available", lambda: n_bytes)


def test_a_fit_beyond_memory_is_refused_with_the_estimate(monkeypatch):
    _leave(monkeypatch, 2e9)
    model = AutoencoderTransformer(hidden_layer_sizes=(20_000, 10_000))
    # 2 x (20,000 x 10,000) weights and some, with gradients and two moments, 4 bytes each.
    with pytest.raises(MemoryError, match=r"This fit needs about 6\.. GB .*2\.0 GB are left.*Pass"):
        model.fit(X)
    assert not hasattr(model, "n_features_in_")


def test_scaled_rows_count(monkeypatch):
    _leave(monkeypatch, 0.3e9)
    rows = np.broadcast_to(np.arange(500, dtype=np.uint8) % 2, (200_000, 500))
    with pytest.raises(MemoryError, match=r"scaled rows 0\.4 GB"):
        AutoencoderTransformer(hidden_layer_sizes=(4,), max_epochs=1).fit(rows)


def test_a_prediction_beyond_memory_is_refused(monkeypatch):
    model = AutoencoderAnomalyDetector(max_epochs=1, random_state=0).fit(X)
    many = np.broadcast_to(X[:1], (10_000_000, 6))
    _leave(monkeypatch, 1e8)
    with pytest.raises(MemoryError, match=r"This prediction needs about 0\.2 GB"):
        model.reconstruct(many)
    assert np.isfinite(model.reconstruct(X)).all()


def test_what_a_container_leaves_counts_but_for_caches(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\nfile 150\n")
    assert memory._of_container(tmp_path) == 450.0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._of_container(tmp_path) == float("inf")
    assert memory._of_container(tmp_path / "none") == float("inf")
    assert 0 < memory.available() < float("inf")

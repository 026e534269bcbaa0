"""On an accelerator: close to the CPU, streamed as resident, and back on the CPU by pickle."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderFeatures,
    AutoencoderTransformer,
    DenoisingAutoencoder,
)
from skae._data import loaded, streamed
from skae._runtime.device import available_devices
from skae._training import loop, replays

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(available_devices() == ["cpu"], reason="no accelerator on this machine"),
]
DEVICE = available_devices()[0]
X = load_digits().data
SETTINGS = {"n_components": 8, "max_epochs": 5, "random_state": 0}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization": "batch", "dropout": 0.1},
        {"normalization": "layer", "n_nonzero_coefs": 3, "latent_l1": 0.01},
        {"early_stopping": True, "optimizer": "sgd", "learning_rate": 0.01},
    ],
)
def test_fit_is_close_to_the_cpu(options):
    here = AutoencoderTransformer(device="cpu", **SETTINGS, **options).fit(X)
    there = AutoencoderTransformer(device=DEVICE, **SETTINGS, **options).fit(X)
    assert there.device_.startswith(DEVICE)
    assert there.score(X) == pytest.approx(here.score(X), abs=0.02)
    np.testing.assert_allclose(there.loss_curve_[0], here.loss_curve_[0], rtol=1e-3)


def test_streamed_rows_give_the_bits_of_resident_rows(monkeypatch):
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    resident = DenoisingAutoencoder(device=DEVICE, **SETTINGS).fit(holes)
    monkeypatch.setattr(loaded, "fits", lambda device, n_bytes: False)
    streamed = DenoisingAutoencoder(device=DEVICE, **SETTINGS).fit(holes)
    np.testing.assert_array_equal(streamed.transform(X), resident.transform(X))


@pytest.mark.parametrize("resident", [True, False])
def test_blocks_of_a_file_are_trained_on_as_on_the_cpu(tmp_path, monkeypatch, resident):
    monkeypatch.setattr(streamed, "SHUFFLE_BUFFER", 1 << 17)
    monkeypatch.setattr(streamed, "fits", lambda device, n_bytes: resident)
    np.save(tmp_path / "rows.npy", X)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    here = DenoisingAutoencoder(device="cpu", **SETTINGS).fit(rows)
    there = DenoisingAutoencoder(device=DEVICE, **SETTINGS).fit(rows)
    np.testing.assert_allclose(there.loss_curve_[0], here.loss_curve_[0], rtol=1e-3)


def test_pickle_predicts_the_same():
    detector = AutoencoderAnomalyDetector(device=DEVICE, max_epochs=5, random_state=0).fit(X)
    loaded = pickle.loads(pickle.dumps(detector))
    np.testing.assert_allclose(loaded.score_samples(X), detector.score_samples(X), rtol=1e-4)


def test_half_precision_is_close_to_full():
    full = AutoencoderTransformer(device=DEVICE, **SETTINGS).fit(X)
    half = AutoencoderTransformer(device=DEVICE, precision="bfloat16", **SETTINGS).fit(X)
    assert half.score(X) == pytest.approx(full.score(X), abs=0.05)


@pytest.mark.skipif(DEVICE != "cuda", reason="no graphs on this accelerator")
@pytest.mark.parametrize("rows", ["whole", "weighted, with holes"])
@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(),
        AutoencoderTransformer(optimizer="sgd", learning_rate=0.1, weight_decay=1e-3),
        AutoencoderTransformer(normalization="batch", dropout=0.1, precision="bfloat16"),
        AutoencoderTransformer(ordered=True, lr_schedule="constant"),
        AutoencoderTransformer(early_stopping=True),
        DenoisingAutoencoder(noise=("masking", "gaussian")),
        AutoencoderFeatures(),
        AutoencoderAnomalyDetector(),
    ],
)
def test_replayed_steps_are_as_steps_one_by_one(monkeypatch, estimator, rows):
    settings = {"n_components": 8, "max_epochs": 5, "batch_size": 32, "random_state": 0}
    given = {"X": X}
    if rows != "whole":
        rng = np.random.default_rng(0)
        given = {
            "X": np.where(rng.random(X.shape) < 0.1, np.nan, X),
            "sample_weight": rng.uniform(0.5, 2.0, len(X)),
        }
    launched = []
    replay = replays.Graph.replay
    monkeypatch.setattr(replays.Graph, "replay", lambda self: (launched.append(1), replay(self)))
    at_once = clone(estimator).set_params(device=DEVICE, **settings).fit(**given)
    assert len(launched) >= 20
    monkeypatch.setattr(loop, "has_graphs", lambda device: False)
    one_by_one = clone(estimator).set_params(device=DEVICE, **settings).fit(**given)
    np.testing.assert_allclose(at_once.loss_curve_, one_by_one.loss_curve_, rtol=1e-3)

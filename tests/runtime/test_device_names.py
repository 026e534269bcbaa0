"""The device by its name or as an object of torch, in fits, searches, copies and files."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae._runtime import device as devices
from skae._runtime.device import resolve_device
from skae.checkpoints import resumable_fit
from skae.io import load, save
from skae.model_selection import AutoencoderSearchCV

X = load_iris().data
FEW = {"max_epochs": 1, "random_state": 0, "n_components": 2, "hidden_layer_sizes": (8,)}
CPU = ["cpu", "cpu:0", torch.device("cpu"), torch.device("cpu", 0)]
KINDS = [
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    AutoencoderAnomalyDetector,
]


@pytest.mark.parametrize("name", CPU, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_the_cpu_by_each_of_its_names(tmp_path, kind, name):
    expected = kind(device="cpu", **FEW).fit(X)
    model = kind(device=name, **FEW).fit(X)
    assert model.device_ == "cpu"
    assert model.get_params()["device"] is name
    save(model, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors", device=name)
    assert loaded.get_params()["device"] == str(name)
    others = [loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), clone(model).fit(X)]
    for one in (model, *others):
        np.testing.assert_array_equal(one.score_samples(X), expected.score_samples(X))


def test_devices_of_torch_in_searches_and_checkpoints(tmp_path):
    model = AutoencoderTransformer(device=torch.device("cpu"), **FEW)
    search = AutoencoderSearchCV(model, {"n_components": [1, 2]}, cv=2).fit(X)
    assert search.best_estimator_.device_ == "cpu"
    resumable_fit(model, X, path=tmp_path / "fit.safetensors")
    assert model.device_ == "cpu"


def test_a_codec_of_an_estimator_with_a_device_of_torch_is_saved(tmp_path):
    pytest.importorskip("constriction")
    from skae.codec import LatentCodec

    model = AutoencoderTransformer(device=torch.device("cpu"), **FEW)
    codec = LatentCodec(model, max_epochs=0).fit(X)
    save(codec, tmp_path / "codec.safetensors")
    assert load(tmp_path / "codec.safetensors").decode(codec.encode(X)).shape == X.shape


def test_accelerators_by_each_of_their_names(monkeypatch):
    present = ["cuda", "cuda:0", "cuda:1", "mps", "cpu"]
    monkeypatch.setattr(devices, "available_devices", lambda: present)
    for name in ("cuda", "cuda:0", "cuda:1"):
        assert resolve_device(name) == resolve_device(torch.device(name)) == torch.device(name)
    for name in ("mps", "mps:0"):
        assert resolve_device(name) == resolve_device(torch.device(name)) == torch.device("mps")
    assert resolve_device("auto") == torch.device("cuda")
    for name in ("cuda:2", "cpu:1", "mps:1", "xpu", "meta", "", "nonsense"):
        absent = name if name in ("", "nonsense") else torch.device(name)
        for one in (name, absent):
            with pytest.raises(ValueError, match=r"device=.*is not available"):
                resolve_device(one)


@pytest.mark.parametrize("device", [0, None, torch.float32], ids=repr)
def test_other_devices_are_refused(device):
    with pytest.raises(ValueError, match="'device' parameter"):
        AutoencoderTransformer(device=device).fit(X)

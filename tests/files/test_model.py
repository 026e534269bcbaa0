"""Forged settings of models are refused though the checksum holds."""

import numpy as np
import pytest
from sklearn.base import clone
from torch import nn

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae._files.container import Reader, write
from skae.io import load, save

RNG = np.random.default_rng(0)

X = RNG.normal(size=(120, 6)) @ RNG.normal(size=(6, 6))

IMAGES = RNG.normal(size=(12, 9, 10, 2))

SMALL = {
    "n_components": 2,
    "hidden_layer_sizes": (5,),
    "batch_size": 64,
    "max_epochs": 2,
    "random_state": 0,
    "device": "cpu",
}

ON_IMAGES = {"max_epochs": 1, "random_state": 0, "device": "cpu"}


def normalized_pair(input_shape, n_components):
    """User modules with parameters and buffers, integer ones too."""
    encoder = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, n_components))
    return encoder, nn.Linear(n_components, 6)


def wider_pair(input_shape, n_components):
    encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, n_components))
    return encoder, nn.Linear(n_components, 6)


KINDS = {
    "transformer": (AutoencoderTransformer(**SMALL), X),
    "denoiser": (DenoisingAutoencoder(**SMALL, noise=("gaussian", "swap"), noise_level=0.1), X),
    "detector": (AutoencoderAnomalyDetector(**SMALL), X),
    "detector of images": (AutoencoderAnomalyDetector(**SMALL), X.reshape(-1, 3, 3)),
    "reconstruction error": (
        AutoencoderAnomalyDetector(**SMALL, anomaly_score="reconstruction", contamination=0.1),
        X,
    ),
    "batch normalization": (AutoencoderTransformer(**SMALL, normalization="batch"), X),
    "layer normalization": (
        AutoencoderTransformer(**SMALL, normalization="layer", loss="huber", optimizer="sgd"),
        X,
    ),
    "held-out rows": (AutoencoderTransformer(**SMALL, early_stopping=True), X),
    "float64": (AutoencoderTransformer(**SMALL, precision="float64", n_nonzero_coefs=1), X),
    "linear": (AutoencoderTransformer(**SMALL | {"hidden_layer_sizes": []}), X),
    "convolutions": (AutoencoderTransformer(network="conv", n_components=3, **ON_IMAGES), IMAGES),
    "U-net": (
        DenoisingAutoencoder(network="unet", hidden_layer_sizes=(8,), patch_size=8, **ON_IMAGES),
        IMAGES,
    ),
    "variational": (VariationalAutoencoder(**SMALL, latent_density="gmm"), X),
    "drawn convolutions": (VariationalAutoencoder(network="conv", **ON_IMAGES), IMAGES),
    "user modules": (AutoencoderTransformer(**SMALL, network=normalized_pair), X),
}


def fitted(kind="transformer"):
    estimator, rows = KINDS[kind]
    return clone(estimator).fit(rows)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a small file."""
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    save(fitted(), path)
    return path.read_bytes()


def refused(path, data, **kwargs):
    """The message with which these bytes are refused."""
    path.write_bytes(data)
    with pytest.raises((ValueError, OSError)) as caught:
        load(path, **kwargs)
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 1000
    return message


def forged(path, good, change):
    """A file with these changes, and a checksum that holds."""
    path.write_bytes(good)
    with Reader(path) as reader:
        settings, arrays = reader.settings, reader.arrays()
    change(settings, arrays)
    write(path, settings, arrays)
    return path.read_bytes()


def at(*keys, value):
    """A change of the settings at these keys."""

    def change(settings, arrays):
        for key in keys[:-1]:
            settings = settings[key]
        settings[keys[-1]] = value

    return change


def dropped(*keys):
    def change(settings, arrays):
        for key in keys[:-1]:
            settings = settings[key]
        del settings[keys[-1]]

    return change


SPEC = ("fitted", "_model", "spec", "DenseSpec")

WEIGHTS = "_model.arrays.parameters"

FORGERIES = {
    "class of another library": (at("class", value="os.system"), "none of"),
    "class that is no text": (at("class", value=["AutoencoderTransformer"]), "none of"),
    "dunder parameter": (at("parameters", "__class__", value="x"), "no parameters"),
    "deep parameter": (at("parameters", "network__init", value=1), "no parameters"),
    "parameters are a list": (at("parameters", value=[]), "no parameters"),
    "parameter out of range": (at("parameters", "n_components", value=-3), "n_components"),
    "parameter of another type": (at("parameters", "loss", value={"a": 1}), "table"),
    "unknown loss": (at("fitted", "_model", "loss", value="__import__"), "unknown"),
    "unknown activation": (at(*SPEC, "activation", value="os"), "unknown"),
    "latent size of 2e9": (at(*SPEC, "n_components", value=[2_000_000_000]), "of shape"),
    "huge layer": (at(*SPEC, "hidden_layer_sizes", value=[10**18]), "of shape"),
    "negative layer": (at(*SPEC, "hidden_layer_sizes", value=[-5]), "int"),
    "layer of zero": (at(*SPEC, "hidden_layer_sizes", value=[0]), "positive"),
    "fractional layer": (at(*SPEC, "hidden_layer_sizes", value=[5.0]), "int"),
    "layer of true": (at(*SPEC, "hidden_layer_sizes", value=[True]), "int"),
    "many layers": (at(*SPEC, "hidden_layer_sizes", value=[1] * 4000), "256"),
    "too many layers": (at(*SPEC, "hidden_layer_sizes", value=[1] * 100_000), "short list"),
    "no members": (at(*SPEC, "n_components", value=[]), "positive"),
    "many features": (at("fitted", "n_features_in_", value=10**9), "columns' number differs"),
    "no features": (at("fitted", "n_features_in_", value=0), "columns' number differs"),
    "other latents": (at("fitted", "n_components_", value=3), "n_components_"),
    "dropout of one": (at(*SPEC, "dropout", value=1.0), "dropout"),
    "network that is code": (at("fitted", "_model", "spec", value={"ModuleSpec": {}}), "one of"),
    "attribute that is a method": (at("fitted", "transform", value=1), "what was fitted"),
    "dunder attribute": (at("fitted", "__dict__", value={}), "what was fitted"),
    "without a model": (dropped("fitted", "_model"), "what was fitted"),
    "state is a list": (at("fitted", value=[]), "what was fitted"),
    "unknown moments": (at("fitted", "_train_state", "moments", value={}), "nothing asks for"),
    "dropout that is a text": (at(*SPEC, "dropout", value="x"), "float"),
    "other features of the model": (at("fitted", "_model", "n_features", value=3), "differs"),
    "other features of the network": (at(*SPEC, "n_features", value=10**12), "takes"),
    "names too few": (at("fitted", "feature_names_in_", value=["a"]), "one each"),
    "patches of a table": (at("fitted", "_input", "is_patch", value=True), "image_shape"),
    "negative steps": (at("fitted", "_train_state", "n_steps", value=-5), "int"),
    "loss that is a text": (at("fitted", "best_loss_", value="x"), "float"),
    "image of another shape": (at("fitted", "_input", "image_shape", value=[2, 2]), "holds 4"),
    "without versions": (dropped("versions"), "settings must be"),
    "without a format": (dropped("format"), "settings must be"),
    "format that is true": (at("format", value=True), "settings must be"),
    "weights of another dtype": (
        lambda s, arrays: arrays.update({WEIGHTS: arrays[WEIGHTS].astype(np.int64)}),
        "dtype",
    ),
    "fewer weights": (
        lambda s, arrays: arrays.update({WEIGHTS: arrays[WEIGHTS][:-1]}),
        "of shape",
    ),
    "weights of another shape": (
        lambda s, arrays: arrays.update({WEIGHTS: arrays[WEIGHTS][None]}),
        "of shape",
    ),
    "missing array": (lambda s, arrays: arrays.__delitem__(WEIGHTS), "an array"),
    "array too many": (lambda s, arrays: arrays.update({"../../x": np.ones(3)}), "nothing asks"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_settings_are_refused_though_the_checksum_holds(good, path, name):
    change, expected = FORGERIES[name]
    assert expected in refused(path, forged(path, good, change))


CONV = ("fitted", "_model", "spec", "_Modules")

CHANNELS = (*CONV, "builder", "ConvBuilder", "channels")

OTHER_FORGERIES = {
    "channels of 2e9": ("convolutions", at(*CHANNELS, value=[2_000_000_000]), "of shape"),
    "many stages": ("convolutions", at(*CHANNELS, value=[1] * 40), "of shape"),
    "latents of 2e9": ("convolutions", at(*CONV, "n_components", value=2_000_000_000), "of shape"),
    "huge images": ("convolutions", at(*CONV, "input_shape", value=[1, 2**40, 2**40]), "takes"),
    "images of two axes": ("convolutions", at(*CONV, "input_shape", value=[1, 90]), "takes"),
    "no builder": ("convolutions", at(*CONV, "builder", value=None), "network of your own"),
    "no seeds": ("detector", at("fitted", "_seeds", value=[]), "members"),
    "many members": ("detector", at("fitted", "n_estimators_", value=900), "members"),
    "no scorer": ("detector", at("fitted", "_scorer", value=None), "nothing asks"),
    "other octave": (
        "detector of images",
        lambda s, arrays: arrays.update({"_scorer.members.0.octaves.0.scale": np.ones(3)}),
        "scale must be of shape (4,)",
    ),
    "narrower view": (
        "detector",
        lambda s, arrays: arrays.update({"_scorer.members.0.few": np.ones((16, 4, 3), np.float32)}),
        "width",
    ),
}


@pytest.mark.parametrize("name", OTHER_FORGERIES)
def test_forged_images_and_detectors_are_refused(path, name):
    kind, change, expected = OTHER_FORGERIES[name]
    save(fitted(kind), path)
    assert expected in refused(path, forged(path, path.read_bytes(), change))


def test_other_format_names_both_versions(good, path):
    def of_the_future(settings, arrays):
        settings.update({"format": 2, "versions": {"skae": "9.8.7"}, "members": 3})

    message = refused(path, forged(path, good, of_the_future))
    assert "format 2, written by skae 9.8.7" in message
    assert "reads format 1" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_neither_written_nor_read(good, path, monkeypatch, value):
    def poison(settings, arrays):
        arrays[WEIGHTS][3] = value

    with pytest.raises(ValueError, match="not finite"):
        forged(path, good, poison)
    with monkeypatch.context() as patch:
        patch.setattr("skae._files.container._check_finite", lambda *_: None)
        data = forged(path, good, poison)
    assert "not finite" in refused(path, data)


def test_only_own_networks_are_given_to_load(path):
    save(fitted("user modules"), path)
    with pytest.raises(ValueError, match=r"load\(path, network=...\)"):
        load(path)
    with pytest.raises(ValueError, match=r"encoder.0.weight.*8, 6"):
        load(path, network=wider_pair)
    with pytest.raises(ValueError, match="must return a pair"):
        load(path, network=lambda input_shape, n_components: None)
    save(fitted(), path)
    with pytest.raises(ValueError, match="leave out network"):
        load(path, network=normalized_pair)

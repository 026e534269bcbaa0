"""Codecs in safe files: the same bytes and values, and every other file refused."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn

from skae import AutoencoderTransformer
from skae._files.container import Reader, write
from skae.io import load, save

pytest.importorskip("constriction")

from skae.codec import LatentCodec

IMAGES = load_digits().images.astype(np.uint8)
SMALL = {"n_components": 3, "hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}


def pair(input_shape, n_components):
    return nn.Linear(64, n_components), nn.Linear(n_components, 64)


def coded(rows=IMAGES, network="auto", **parameters):
    estimator = AutoencoderTransformer(**SMALL, network=network, device="cpu").fit(rows)
    return LatentCodec(FrozenEstimator(estimator), max_epochs=1, random_state=0, **parameters).fit(
        rows
    )


@pytest.fixture(scope="module", params=[None, 0, [3.5] * 64], ids=["latents", "exact", "near"])
def codec(request):
    return coded(max_error=request.param)


@pytest.fixture(scope="module")
def exact():
    return coded(max_error=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "codec.safetensors"


def test_loaded_codec_reads_and_writes_the_same_streams(codec, path):
    save(codec, path)
    written = path.read_bytes()
    restored = load(path, device="cpu")
    stream = codec.encode(IMAGES)
    assert restored.encode(IMAGES) == stream
    np.testing.assert_array_equal(restored.decode(stream), codec.decode(stream))
    assert restored.fingerprint_ == codec.fingerprint_
    assert restored.get_params(False) | {"estimator": 0} == codec.get_params(False) | {
        "estimator": 0
    }
    np.testing.assert_array_equal(
        restored.estimator.transform(IMAGES), codec.estimator_.transform(IMAGES)
    )
    assert isinstance(restored.estimator, FrozenEstimator)
    assert vars(restored).keys() == vars(codec).keys()
    save(restored, path)
    assert path.read_bytes() == written


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_come_back_with_names_and_dtypes(library, path):
    frames = pytest.importorskip(library)
    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(size=90), "b": rng.integers(0, 5, 90), "c": rng.normal(size=90) > 0}
    frame = frames.DataFrame(columns)
    codec = coded(frame, max_error=[0.1, 0, 0])
    save(codec, path)
    decoded = load(path, device="cpu").decode(codec.encode(frame))
    assert decoded.equals(codec.decode(codec.encode(frame)))
    assert list(decoded.dtypes) == list(frame.dtypes)


def test_network_of_ones_own_is_given_again(path):
    rows = IMAGES.reshape(-1, 64)
    codec = coded(rows, pair)
    save(codec, path)
    with pytest.raises(ValueError, match="network of your own"):
        load(path)
    restored = load(path, network=pair, device="cpu")
    assert restored.encode(rows) == codec.encode(rows)


def test_what_has_no_place_in_a_file_is_refused(exact, path):
    rows = IMAGES.reshape(-1, 64).astype(float)
    with pytest.raises(ValueError, match=r"none of skae's.*skops or joblib"):
        save(LatentCodec(PCA(4), step=1.0).fit(rows), path)
    with pytest.raises(NotFittedError):
        save(LatentCodec(exact.estimator), path)
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"columns .* are no strings"):
        save(coded(pandas.DataFrame(rows)), path)
    assert not path.exists()


# What load refuses.


def at(*keys, value):
    """A change of the settings at these keys."""

    def change(settings, arrays):
        for key in keys[:-1]:
            settings = settings[key]
        settings[keys[-1]] = value

    return change


def put(name, value):
    """A change of an array."""

    def change(settings, arrays):
        arrays[name] = value(arrays[name])

    return change


LAYOUT = ("fitted", "codec", "layout")
FORGERIES = {
    "class of another library": (at("fitted", "estimator", "class", value="PCA"), "none of"),
    "estimator within an estimator": (
        at("fitted", "estimator", "class", value="LatentCodec"),
        "none of",
    ),
    "parameter that is unknown": (at("parameters", "__class__", value=1), "no parameters"),
    "estimator twice": (at("parameters", "estimator", value=1), "estimator"),
    "step below zero": (
        at("parameters", "step", value=-1.0),
        "The 'step' parameter of",
    ),
    "state that is a list": (at("fitted", value=[]), "what was fitted"),
    "estimator that is a list": (at("fitted", "estimator", value=[]), "its estimator must be"),
    "kind that is code": (at(*LAYOUT, "kind", value="os"), "layout"),
    "dtype that is code": (at(*LAYOUT, "dtypes", value=["object"]), "layout"),
    "shape of other rows": (at(*LAYOUT, "shape", value=[9, 9]), "layout"),
    "columns too few": (at(*LAYOUT, "columns", value=["a"]), "layout"),
    "other fingerprint": (at("fitted", "codec", "fingerprint", value="00" * 16), "are not those"),
    "without residuals": (at("fitted", "codec", "grid", value=None), "nothing asks for"),
    "other latents": (put("codec.quantizer.center", lambda a: a[:-1]), "of shape"),
    "other coordinates": (put("codec.quantizer.to_latents", lambda a: a[:-1]), "of shape"),
    "fewer tables": (put("codec.tables.low", lambda a: a[:-1]), "of shape"),
    "tables of fractions": (put("codec.tables.low", lambda a: a * 1.0), "of shape"),
    "empty table": (put("codec.tables.lengths", lambda a: a * 0), "positive integers"),
    "frequency below zero": (put("codec.tables.frequencies", lambda a: -a), "positive integers"),
    "far table": (put("codec.tables.low", lambda a: a + (2**63 - 2**20)), "beyond all"),
    "bits below zero": (put("codec.tables.n_low_bits", lambda a: a - 1), "low bits"),
    "frequencies that add up to more": (put("codec.tables.frequencies", lambda a: a + 1), "add up"),
    "step of zero": (put("codec.grid.steps", lambda a: 0 * a), "positive"),
    "weights of another codec": (
        put("estimator._model.arrays.parameters", lambda a: a + 1),
        "are not those",
    ),
    "array too many": (lambda s, arrays: arrays.update({"codec.x": np.ones(3)}), "nothing asks"),
    "inner array too many": (
        lambda s, arrays: arrays.update({"estimator.x": np.ones(3)}),
        "nothing asks",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_settings_are_refused_though_the_checksum_holds(exact, path, name):
    change, expected = FORGERIES[name]
    save(exact, path)
    with Reader(path) as reader:
        settings, arrays = reader.settings, reader.arrays()
    change(settings, arrays)
    write(path, settings, arrays)
    with pytest.raises(ValueError, match=r"cannot be loaded") as caught:
        load(path)
    assert expected in str(caught.value)


def test_no_flipped_bit_and_no_part_is_accepted(exact, path):
    save(exact, path)
    good, rng = path.read_bytes(), np.random.default_rng(0)
    for position in rng.choice(8 * len(good), 200, replace=False):
        data = bytearray(good)
        data[position // 8] ^= 1 << (position % 8)
        path.write_bytes(bytes(data))
        with pytest.raises(ValueError, match="cannot be loaded"):
            load(path)
    for length in rng.choice(len(good), 50, replace=False):
        path.write_bytes(good[:length])
        with pytest.raises(ValueError, match="cannot be loaded"):
            load(path)

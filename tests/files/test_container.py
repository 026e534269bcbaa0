"""The container of safe files: every other file is refused."""

import io
import json
import os
import pickle
import tracemalloc
import zipfile

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
from skae._files.container import canonical
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


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_file_cut_at_any_byte_is_refused(good, path, step):
    for length in [*range(0, len(good), step), len(good) - 1]:
        refused(path, good[:length])
    refused(path, good + b"\0")


@pytest.mark.parametrize("n_bits", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_no_flipped_bit_is_accepted(good, path, n_bits):
    rng = np.random.default_rng(0)
    for position in rng.choice(8 * len(good), n_bits, replace=False):
        data = bytearray(good)
        data[position // 8] ^= 1 << (position % 8)
        refused(path, bytes(data))


WEIGHTS = "_model.arrays.parameters"


def with_header(good, change):
    """The file with another header of the same arrays; the length is right."""
    length = int.from_bytes(good[:8], "little")
    header = change(good[8 : 8 + length].decode().rstrip())
    raw = header if isinstance(header, bytes) else header.encode()
    return len(raw).to_bytes(8, "little") + raw + good[8 + length :]


def edited(change):
    """A header whose JSON, read as a table, is changed."""

    def apply(text):
        header = json.loads(text)
        change(header)
        return canonical(header)

    return apply


def of_array(**fields):
    return edited(lambda header: header[WEIGHTS].update(fields))


def doubled(text):
    entry = '"loss_curve_":{"data_offsets":[0,16],"dtype":"F64","shape":[2]}'
    return text[:-1] + "," + entry + "}"


def nested(depth):
    return "[" * depth + "]" * depth


HEADERS = {
    "overlap": of_array(data_offsets=[0, 4]),
    "hole": of_array(data_offsets=[10_000, 10_400]),
    "negative shape": of_array(shape=[-1]),
    "huge shape": of_array(shape=[2**62, 2**62]),
    "shape of long integers": lambda text: text.replace("[122]", "[" + "9" * 5000 + "]"),
    "shape that is a number": of_array(shape=122),
    "fractional shape": of_array(shape=[122.0]),
    "shape of true": of_array(shape=[True]),
    "many axes": of_array(shape=[1] * 40),
    "empty and huge": of_array(shape=[0, 2**47, 2**47]),
    "negative offsets": of_array(data_offsets=[-8, 4]),
    "huge offsets": of_array(data_offsets=[0, 2**63]),
    "unknown dtype": of_array(dtype="BF16"),
    "dtype that is a list": of_array(dtype=["F32"]),
    "wider dtype": of_array(dtype="F64"),
    "entry that is a list": edited(lambda header: header.update({WEIGHTS: []})),
    "entry with more fields": of_array(code="import os"),
    "duplicate array": doubled,
    "more metadata": edited(lambda header: header["__metadata__"].update(a="b")),
    "no metadata": edited(lambda header: header.pop("__metadata__")),
    "metadata that are no text": edited(lambda header: header.update(__metadata__={"skae": 1})),
    "settings that are a list": edited(lambda header: header.update(__metadata__={"skae": "[]"})),
    "settings that are nested": edited(
        lambda header: header.update(__metadata__={"skae": nested(200_000)})
    ),
    "spaces": lambda text: text.replace(",", ", "),
    "other order": lambda text: json.dumps(json.loads(text)),
    "NaN": lambda text: text.replace("[122]", "[NaN]"),
    "deep nesting": lambda text: nested(400_000),
    "a list": lambda text: "[]",
    "nothing": lambda text: "",
    "no UTF-8": lambda text: b"\xff" + text.encode(),
    "many empty arrays": edited(
        lambda header: header.update(
            {f"a{i}": {"data_offsets": [0, 0], "dtype": "F32", "shape": [0]} for i in range(9_000)}
        )
    ),
    "longer than allowed": lambda text: text + " " * 1_000_000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_other_headers_are_refused(good, path, name):
    data = with_header(good, HEADERS[name])
    assert data != good
    tracemalloc.start()
    refused(path, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def zip_bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", b"\0" * 50_000_000)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 7, b"\0" * 8, b"\xff" * 100, b"\0" * 100_000, zip_bomb(), pickle.dumps(X)],
    ids=["empty", "short", "no header", "ones", "zeros", "zip bomb", "pickle"],
)
def test_other_files_are_refused(path, data):
    refused(path, data)


def test_pickle_is_not_run(path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(path.parent / "made"),)

    refused(path, pickle.dumps(Hostile()))
    assert not (path.parent / "made").exists()


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match=r"pipe.*not a regular file"):
            load(tmp_path / "pipe")

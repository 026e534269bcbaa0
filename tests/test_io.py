"""Safe files: what is saved comes back; what is damaged or hostile does not."""

import json
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae.io import _DTYPES, _canonical, _digest, _parsed, load, save

pytest.importorskip("safetensors")

X = np.random.default_rng(0).normal(size=(120, 6))
IMAGES = np.random.default_rng(1).normal(size=(40, 8, 8))
SMALL = {"n_components": 2, "hidden_layer_sizes": (4,), "max_epochs": 2, "random_state": 0}
KINDS = {
    "transformer": (AutoencoderTransformer(**SMALL, normalization="batch"), X),
    "denoiser": (DenoisingAutoencoder(**SMALL, noise=("masking", "gaussian")), X),
    "detector": (AutoencoderAnomalyDetector(**SMALL), X),
    "errors": (AutoencoderAnomalyDetector(**SMALL, anomaly_score="reconstruction"), X),
    "double": (AutoencoderTransformer(**SMALL, precision="float64", scaling="robust"), X),
    "conv": (AutoencoderTransformer(network="conv", max_epochs=1, random_state=0), IMAGES),
    "unet": (
        DenoisingAutoencoder(
            network="unet", hidden_layer_sizes=(4,), patch_size=4, max_epochs=1, random_state=0
        ),
        IMAGES[:, :4, :4],
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def pair(input_shape, n_components):
    width = input_shape[0]
    return torch.nn.Linear(width, n_components), torch.nn.Linear(n_components, width)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of a small file."""
    path = tmp_path_factory.mktemp("io") / "model.safetensors"
    save(AutoencoderTransformer(**SMALL).fit(X), path)
    return path.read_bytes()


@each_kind
def test_loaded_estimator_predicts_the_same_bits_and_trains_on(kind, path):
    estimator, data = KINDS[kind]
    estimator = estimator.fit(data)
    save(estimator, path)
    loaded = load(path)
    assert loaded.get_params() == estimator.get_params()
    np.testing.assert_array_equal(loaded.score_samples(data), estimator.score_samples(data))
    if kind in ("detector", "errors"):
        np.testing.assert_array_equal(loaded.predict(data), estimator.predict(data))
        np.testing.assert_array_equal(
            loaded.feature_contributions(data), estimator.feature_contributions(data)
        )
    assert loaded.loss_curve_ == estimator.loss_curve_
    loaded.partial_fit(data)
    estimator.partial_fit(data)
    np.testing.assert_array_equal(loaded.score_samples(data), estimator.score_samples(data))


@each_kind
def test_same_model_gives_the_same_bytes_that_safetensors_reads(kind, path):
    from safetensors.numpy import load_file

    estimator, data = KINDS[kind]
    save(estimator.fit(data), path)
    first = path.read_bytes()
    save(load(path), path)
    assert path.read_bytes() == first
    weights = load_file(path)["_model.arrays.parameters"]
    np.testing.assert_array_equal(weights, estimator._model.network.parameters.numpy())


def test_feature_names_come_back(path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"column {i}" for i in range(6)])
    save(AutoencoderTransformer(**SMALL).fit(frame), path)
    assert load(path).feature_names_in_.tolist() == frame.columns.tolist()


def test_user_modules_are_passed_again(path):
    estimator = AutoencoderTransformer(network=pair, n_components=2, max_epochs=2).fit(X)
    save(estimator, path)
    loaded = load(path, network=pair)
    np.testing.assert_array_equal(loaded.transform(X), estimator.transform(X))
    with pytest.raises(ValueError, match=r"network=\.\.\."):
        load(path)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load(path, network=lambda shape, n: pair((shape[0] + 1,), n))


def test_what_is_no_data_is_refused(path):
    with pytest.raises(NotFittedError):
        save(AutoencoderTransformer(), path)
    with pytest.raises(ValueError, match="StandardScaler cannot be saved"):
        save(StandardScaler().fit(X), path)
    scaled = AutoencoderTransformer(**SMALL, scaling=StandardScaler()).fit(X)
    with pytest.raises(ValueError, match="scaling=StandardScaler"):
        save(scaled, path)
    seeded = AutoencoderTransformer(**SMALL | {"random_state": np.random.RandomState(0)}).fit(X)
    with pytest.raises(ValueError, match="random_state"):
        save(seeded, path)
    assert not path.exists()
    with pytest.raises(ValueError, match="device='tpu'"):
        load(path, device="tpu")


def test_missing_safetensors_names_the_extra(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"skae\[files\]"):
        save(KINDS["transformer"][0], path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_interrupted_save_leaves_the_old_file_and_no_litter(step, path, monkeypatch):
    estimator = AutoencoderTransformer(**SMALL).fit(X)
    save(estimator, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        save(estimator.fit(X + 1), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def refused(path, content, match=r"model\.safetensors"):
    path.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=match):
        load(path)


def test_every_truncation_is_refused(small, path):
    for length in range(len(small)):
        refused(path, small[:length])
    refused(path, small + b"\0", "should fill")


def test_every_bit_flip_is_refused(small, path):
    rng = np.random.default_rng(0)
    for place in rng.integers(8 * len(small), size=2000):
        damaged = bytearray(small)
        damaged[place // 8] ^= 1 << place % 8
        refused(path, bytes(damaged))


def parts(content):
    """Header, JSON of the estimator, and bytes of the arrays."""
    length = int.from_bytes(content[:8], "little")
    header = _parsed(content[8 : 8 + length].decode())
    return header, _parsed(header["__metadata__"]["skae"]), content[8 + length :]


def packed(header, tree=None, data=b""):
    """A file with that header; with a tree, one whose checksum fits."""
    if tree is not None:
        tensors = {
            name: np.frombuffer(
                data[slice(*entry["data_offsets"])], _DTYPES[entry["dtype"]]
            ).reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
        tree = {k: v for k, v in tree.items() if k != "sha256"}
        tree["sha256"] = _digest(tree, tensors)
        header = header | {"__metadata__": {"skae": _canonical(tree)}}
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_file_packed_again_loads(small, path):
    path.write_bytes(packed(*parts(small)))
    assert load(path).n_components_ == 2


def edits(header, tree):
    """Changes of a header and of a tree that must not be loaded, the checksum fitting."""
    weights = "_model.arrays.parameters"
    entry = header[weights]
    for changed in (
        {"shape": [-1]},
        {"shape": [2**62]},
        {"shape": [1.0]},
        {"shape": [True]},
        {"dtype": "F64"},
        {"dtype": "object"},
        {"data_offsets": [0, 2**40]},
        {"data_offsets": [4, entry["data_offsets"][1] + 4]},
        {"data_offsets": [-8, 0]},
    ):
        yield header | {weights: entry | changed}, None
    for name in ("../../etc/passwd", "__class__"):
        yield header | {name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, None
    for changed in (
        {"class": "os.system"},
        {"class": "BaseEstimator"},
        {"format": 2},
        {"format": None},
        {"parameters": tree["parameters"] | {"__class__": "x"}},
        {"parameters": tree["parameters"] | {"n_components": -1}},
        {"parameters": tree["parameters"] | {"activation": "os.system"}},
        {"state": tree["state"] | {"__dict__": 1}},
        {"state": tree["state"] | {"fit": 1}},
        {"state": tree["state"] | {"_input": {"record": {"Popen": {}}}}},
        {"state": tree["state"] | {"_input": {"pickle": "gASVAAAA"}}},
        {"state": {}},
    ):
        yield header, tree | changed
    spec = tree["state"]["_model"]["model"]["spec"]["record"]["DenseSpec"]
    for changed in ({"n_components": {"tuple": [2 * 10**9]}}, {"n_features": 10**30}):
        text = json.dumps(tree).replace(json.dumps(spec), json.dumps(spec | changed))
        yield header, json.loads(text)


def test_edited_headers_are_refused(small, path):
    header, tree, data = parts(small)
    n = 0
    for changed_header, changed_tree in edits(header, tree):
        if changed_tree is None:
            content = packed(changed_header, None, data)
        else:
            content = packed(changed_header, changed_tree, data)
        refused(path, content)
        n += 1
    assert n == 25


def test_unknown_format_names_both_versions(small, path):
    header, tree, data = parts(small)
    tree = tree | {"format": 7, "versions": {"skae": "9.9"}}
    refused(path, packed(header, tree, data), "format 7, written by skae 9.9; skae .* reads format")


def test_values_that_are_not_finite_are_refused(small, path):
    header, tree, data = parts(small)
    data = np.full(len(data) // 4, np.nan, np.float32).tobytes()
    refused(path, packed(header, tree, data), "not finite")


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
        b"[]",
        b"",
        b"\xff\xfe",
        b'{"__metadata__":{"skae":"{}"}}',
        b'{"__metadata__":{"other":"{}"}}',
        b'{"__metadata__":{"skae":"{ \\"format\\":1}"}}',
        b"{" + b",".join(b'"%d":{}' % i for i in range(200_000)) + b"}",
    ],
    ids=lambda text: str(text[:20]),
)
def test_odd_headers_are_refused(text, path):
    refused(path, packed(text))


def test_other_files_are_refused(path, tmp_path):
    refused(path, pickle.dumps(os.system))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", bytes(10**7))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load(path)
    with pytest.raises(OSError, match=str(tmp_path.name)):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent")


def test_loading_runs_nothing(small, path):
    path.write_bytes(small)
    load(path)
    events = []
    recording = [True]

    def hook(event, _):
        if recording and event.split(".")[0] in {"exec", "compile", "subprocess", "socket"}:
            events.append(event)
        if recording and event in {"pickle.find_class", "os.system", "import"}:
            events.append(event)

    sys.addaudithook(hook)
    try:
        load(path)
    finally:
        recording.clear()
    assert events == []

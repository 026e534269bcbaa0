"""Safe files: the same bits, the same bytes, and every other file refused."""

import io
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae._files.container import Reader, canonical, write
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
each_kind = pytest.mark.parametrize("kind", KINDS)


def fitted(kind="transformer"):
    estimator, rows = KINDS[kind]
    return clone(estimator).fit(rows)


def reloaded(estimator, path, **kwargs):
    save(estimator, path)
    if callable(estimator.network):
        kwargs["network"] = estimator.network
    return load(path, **kwargs)


def assert_same(restored, estimator, rows):
    names = ("transform", "reconstruct", "score_samples", "predict", "outlier_probability")
    compared = 0
    # Models of patches transform patches alone; detectors have scores.
    of_images = ("reconstruct",) if hasattr(estimator, "reconstruct") else ("score_samples",)
    for name in names if rows.ndim == 2 else of_images:
        if hasattr(estimator, name):
            expected = getattr(estimator, name)(rows)
            np.testing.assert_array_equal(getattr(restored, name)(rows), expected, err_msg=name)
            compared += 1
    assert compared
    for name in ("loss_curve_", "validation_loss_curve_", "best_loss_", "n_iter_"):
        assert getattr(restored, name) == getattr(estimator, name)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a small file."""
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    save(fitted(), path)
    return path.read_bytes()


@each_kind
def test_saved_and_loaded_gives_the_same_bits_and_bytes(kind, path):
    estimator, rows = fitted(kind), KINDS[kind][1]
    restored = reloaded(estimator, path)
    assert type(restored) is type(estimator)
    assert repr(restored) == repr(estimator)
    assert restored.get_params() == estimator.get_params()
    assert_same(restored, estimator, rows)
    written = path.read_bytes()
    save(restored, path)
    assert path.read_bytes() == written
    # And goes on as the original does.
    assert_same(restored.partial_fit(rows), estimator.partial_fit(rows), rows)


@each_kind
def test_every_attribute_of_a_fit_is_in_the_file(kind, path):
    estimator = fitted(kind)
    assert set(vars(reloaded(estimator, path))) == set(vars(estimator))


def test_feature_names_and_output_container_are_kept(path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "ü", "日本", "e.f", '"'])
    estimator = AutoencoderTransformer(**SMALL).set_output(transform="pandas").fit(frame)
    restored = reloaded(estimator, path)
    assert restored.feature_names_in_.tolist() == frame.columns.tolist()
    assert restored.feature_names_in_.dtype == object
    pandas.testing.assert_frame_equal(restored.transform(frame), estimator.transform(frame))


def test_warm_start_goes_on_from_a_file(path):
    constant = {"lr_schedule": "constant", "n_iter_no_change": None}
    whole = AutoencoderTransformer(**SMALL | {"max_epochs": 5}, **constant).fit(X)
    first = AutoencoderTransformer(**SMALL | {"max_epochs": 3}, **constant, warm_start=True).fit(X)
    rest = reloaded(first, path).set_params(max_epochs=2).fit(X)
    np.testing.assert_array_equal(rest.transform(X), whole.transform(X))


def test_parameters_changed_after_the_fit_do_not_change_the_model(path):
    estimator = fitted()
    expected = estimator.transform(X)
    restored = reloaded(estimator.set_params(n_components=3, loss="huber"), path)
    assert restored.n_components == 3
    np.testing.assert_array_equal(restored.transform(X), expected)


def test_device_is_where_the_network_goes(path):
    restored = reloaded(fitted().set_params(device="auto"), path, device="cpu")
    assert (restored.device, restored.device_) == ("auto", "cpu")
    with pytest.raises(ValueError, match="device='cuda:77' is not available"):
        load(path, device="cuda:77")


def test_other_libraries_read_the_arrays(path):
    numpy_reader = pytest.importorskip("safetensors.numpy")
    estimator = fitted()
    save(estimator, path)
    arrays = numpy_reader.load_file(path)
    np.testing.assert_array_equal(arrays["loss_curve_"], estimator.loss_curve_)
    weights = estimator._model.network.parameters.numpy()
    np.testing.assert_array_equal(arrays["_model.arrays.parameters"], weights)


def test_pipelines_go_through_skops():
    skops_io = pytest.importorskip("skops.io")
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer(**SMALL), PCA(1)).fit(X)
    data = skops_io.dumps(pipeline)
    restored = skops_io.loads(data, trusted=skops_io.get_untrusted_types(data=data))
    np.testing.assert_array_equal(restored.transform(X), pipeline.transform(X))


# What save refuses.


def test_unfitted_estimator_is_refused(path):
    with pytest.raises(NotFittedError):
        save(AutoencoderTransformer(), path)
    assert not path.exists()


class Inherited(AutoencoderTransformer):
    """Another class, of which a file knows nothing."""


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: PCA().fit(X), "PCA"),
        (lambda: Inherited(**SMALL).fit(X), "Inherited"),
        (lambda: AutoencoderTransformer(**SMALL, scaling=StandardScaler()).fit(X), "scaling"),
        (lambda: DenoisingAutoencoder(**SMALL, noise=lambda rows, rng: rows).fit(X), "noise"),
        (lambda: fitted().set_params(random_state=np.random.RandomState(0)), "random_state"),
    ],
)
def test_code_is_refused_by_name(make, names, path):
    with pytest.raises(ValueError, match=f"(?s){names}.*skops or joblib"):
        save(make(), path)
    assert not path.exists()


def test_settings_that_are_too_long_are_refused(path):
    pandas = pytest.importorskip("pandas")
    names = ["x" * 200_000 + str(i) for i in range(6)]
    estimator = AutoencoderTransformer(**SMALL).fit(pandas.DataFrame(X, columns=names))
    with pytest.raises(ValueError, match="feature names"):
        save(estimator, path)


def test_unusable_parameters_are_refused_when_saved(path):
    with pytest.raises(ValueError, match="n_components"):
        save(fitted().set_params(n_components=-1), path)


# A save that fails.


@pytest.mark.parametrize("fault", ["open", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_save_leaves_the_old_file_and_no_litter(path, monkeypatch, fault, error):
    save(fitted(), path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise error

    target = {"open": "builtins.open", "fsync": "os.fsync", "replace": "os.replace"}[fault]
    with monkeypatch.context() as patch:
        patch.setattr(target, fail)
        with pytest.raises(type(error)):
            save(fitted("batch normalization"), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs resource limits")
def test_save_over_quota_leaves_the_old_file(path):
    script = (
        "import resource, signal, sys, numpy as np\n"
        "from skae import AutoencoderTransformer\n"
        "from skae.io import save\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "model = AutoencoderTransformer(n_components=2, max_epochs=1).fit(np.random.rand(50, 40))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n    save(model, sys.argv[1])\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )
    save(fitted(), path)
    before = path.read_bytes()
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "File too large"
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_save_into_a_directory_or_nowhere_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="directory"):
        save(fitted(), tmp_path)
    with pytest.raises(OSError, match="absent"):
        save(fitted(), tmp_path / "absent" / "model.safetensors")


def test_permissions_are_those_of_any_new_file(path):
    save(fitted(), path)
    (path.parent / "other").write_bytes(b"")
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode


# What load refuses.


def refused(path, data, **kwargs):
    """The message with which these bytes are refused."""
    path.write_bytes(data)
    with pytest.raises((ValueError, OSError)) as caught:
        load(path, **kwargs)
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 1000
    return message


def test_file_cut_at_any_byte_is_refused(good, path):
    for length in range(len(good)):
        refused(path, good[:length])
    refused(path, good + b"\0")


def test_no_flipped_bit_is_accepted(good, path):
    rng = np.random.default_rng(0)
    for position in rng.choice(8 * len(good), 2000, replace=False):
        data = bytearray(good)
        data[position // 8] ^= 1 << (position % 8)
        refused(path, bytes(data))


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
    "many features": (at("fitted", "n_features_in_", value=10**9), "features differs"),
    "no features": (at("fitted", "n_features_in_", value=0), "features differs"),
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
        lambda s, arrays: arrays.update({"_scorer.members.0.0.references": np.ones((2, 4, 3))}),
        "width",
    ),
}


@pytest.mark.parametrize("name", OTHER_FORGERIES)
def test_forged_images_and_detectors_are_refused(path, name):
    kind, change, expected = OTHER_FORGERIES[name]
    save(fitted(kind), path)
    assert expected in refused(path, forged(path, path.read_bytes(), change))


def test_loading_never_compiles(path):
    estimator = fitted("convolutions")
    assert reloaded(estimator, path).compile is False
    data = forged(path, path.read_bytes(), at(*CONV, "compile", value=True))
    path.write_bytes(data)
    assert load(path)._model.network.spec.compile is False


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
    "shape of long integers": lambda text: text.replace("[98]", "[" + "9" * 5000 + "]"),
    "shape that is a number": of_array(shape=98),
    "fractional shape": of_array(shape=[98.0]),
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
    "NaN": lambda text: text.replace("[98]", "[NaN]"),
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


@pytest.mark.parametrize("kind", ["detector", "U-net"])
def test_load_executes_nothing(path, kind):
    """No code, process, socket, import or pickle: by the interpreter's own events."""
    save(fitted(kind), path)
    script = (
        "import sys\n"
        "from skae.io import load\n"
        "load(sys.argv[1])\n"
        "seen = set()\n"
        "sys.addaudithook(lambda event, _: seen.add(event))\n"
        "load(sys.argv[1])\n"
        "seen = sorted(seen)\n"
        "print(*seen)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    root = {"PYTHONPATH": str(Path(__file__).parent.parent)} if "PYTHONPATH" in os.environ else {}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=dict(os.environ) | root
    )
    events = set(done.stdout.split())
    assert "open" in events
    harmless = {"open", "os.stat", "builtins.id", "object.__getattr__", "sys._getframe"}
    assert events <= harmless, events - harmless

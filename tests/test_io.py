"""skae.io: the same bits, the same bytes, and nothing executed."""

import os
import subprocess
import sys
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
from skae._files import container
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
    "never observed": (AutoencoderTransformer(**SMALL), np.where(np.arange(6) == 2, np.nan, X)),
    "never observed by a detector": (
        AutoencoderAnomalyDetector(**SMALL),
        np.where(np.arange(6) == 2, np.nan, X),
    ),
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
    # A start as PCA would be proven on rows held back after three epochs, and again after five.
    constant = {"lr_schedule": "constant", "n_iter_no_change": None, "init": "random"}
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

    # In this file alone: other threads of the process have files, too.
    owner = container if fault == "open" else os
    with monkeypatch.context() as patch:
        patch.setattr(owner, fault, fail, raising=False)
        with pytest.raises(type(error)):
            save(fitted("batch normalization"), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.slow
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


@pytest.mark.parametrize("kind", ["detector", pytest.param("U-net", marks=pytest.mark.slow)])
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
    harmless.add("sys._getframemodulename")  # since Python 3.12, of named tuples
    assert events <= harmless, events - harmless

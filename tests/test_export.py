"""ONNX files, against the estimators they are of, in onnxruntime."""

import json
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from torch import nn

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.export import to_onnx

SMALL = {"n_components": 3, "hidden_layer_sizes": 8, "max_epochs": 2, "random_state": 0}
METHODS = {
    AutoencoderTransformer: ("transform", "reconstruct", "score_samples"),
    DenoisingAutoencoder: ("transform", "reconstruct", "score_samples"),
    AutoencoderAnomalyDetector: ("score_samples",),
}
CLASSES = list(METHODS)


def _table(n_features=6):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, n_features)) @ rng.normal(size=(n_features, n_features))
    rows = (10.0 ** np.arange(-2, n_features - 2).clip(max=3) * rows + 5).astype(np.float32)
    rows[::5, 1] = np.nan
    rows[7] = np.nan
    rows[9] *= 100  # far out
    return rows


def _images(*shape):
    images = np.random.default_rng(0).random((40, *shape)).astype(np.float32)
    images[::4, 1, 2] = np.nan
    return images


X = _table()


def _slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


class Network:
    """Modules of a user, for tables or images."""

    def __repr__(self):
        return "Network()"

    def __call__(self, input_shape, n_components):
        width = int(np.prod(input_shape))
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(width, n_components), nn.BatchNorm1d(3))
        return encoder, nn.Sequential(nn.Linear(n_components, width), nn.Unflatten(1, input_shape))


class Unrolled(nn.Module):
    """Asks for a value, which no graph can."""

    def forward(self, x):
        return x[:, :3] if x.sum() > 0 else x[:, 3:]


@pytest.fixture
def path(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    return tmp_path / "model.onnx"


def _session(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _assert_agrees(estimator, rows, path, method):
    """Outputs agree with the method, to 1e-5 of the largest one, for any number of rows."""
    to_onnx(estimator, path, method)
    session = _session(path)
    expected = getattr(estimator, method)(rows)
    for part in (slice(0, 1), slice(3, 10), slice(None)):
        (found,) = session.run([method], {"X": rows[part]})
        assert found.shape == expected[part].shape
        assert found.dtype == np.float32
        scale = np.abs(expected).max(axis=0 if method == "reconstruct" else None)
        assert (np.abs(found - expected[part]) <= 1e-5 * scale).all()
    return session


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        _slow("transform", {}),
        _slow("reconstruct", {}),
        _slow("score_samples", {}),
        ("reconstruct", {"loss": "log_loss", "activation": "relu"}),
        _slow("score_samples", {"loss": "log_loss", "activation": "logistic"}),
        ("score_samples", {"loss": "huber", "scaling": "robust", "normalization": "batch"}),
        _slow(
            "score_samples", {"loss": "absolute_error", "scaling": None, "normalization": "layer"}
        ),
        ("reconstruct", {"n_nonzero_coefs": 2, "activation": "gelu", "dropout": 0.2}),
        _slow("transform", {"activation": "elu", "hidden_layer_sizes": (8, 7)}),
        _slow("score_samples", {"activation": "tanh", "precision": "float64"}),
        _slow("transform", {"network": Network(), "n_nonzero_coefs": 2}),
        ("score_samples", {"network": Network()}),
    ],
    ids=str,
)
def test_graph_computes_what_the_transformer_computes(method, changes, path):
    rows = X / np.nanstd(X, axis=0) if changes.get("scaling", "") is None else X
    estimator = AutoencoderTransformer(**SMALL | changes).fit(rows)
    _assert_agrees(estimator, rows, path, method)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["reconstruct", "score_samples"])
def test_graph_keeps_pixels_within_their_range(method, path):
    digits = load_digits().data.astype(np.float32)
    estimator = AutoencoderTransformer(**SMALL).fit(digits)
    outputs = estimator.decoder_(torch.from_numpy(estimator.transform(digits))).detach().numpy()
    scaler = estimator._model.scaler
    assert (outputs * scaler.scale + scaler.center).min() < -1.0  # There is something to cut off.
    session = _assert_agrees(estimator, digits, path, method)
    if method == "reconstruct":
        (found,) = session.run([method], {"X": digits})
        assert found.min() == 0.0
        assert found.max() <= 16.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "changes", "method"),
    [
        _slow((9, 12), {"network": "conv"}, "transform"),
        ((8, 11, 2), {"network": "conv", "loss": "log_loss"}, "reconstruct"),
        _slow((9, 12), {"network": "conv", "normalization": "layer"}, "score_samples"),
        _slow((8, 8, 3), {"network": Network()}, "reconstruct"),
        ((9, 12), {"network": "scattering", "loss": "huber"}, "transform"),
        _slow((8, 20, 2), {"network": "scattering"}, "score_samples"),
        _slow((5, 7), {}, "reconstruct"),
    ],
    ids=str,
)
def test_images_have_the_shape_that_they_had_in_the_fit(shape, changes, method, path):
    images = _images(*shape)
    estimator = AutoencoderTransformer(**SMALL | {"hidden_layer_sizes": (4, 4)} | changes)
    _assert_agrees(estimator.fit(images), images, path, method)


@pytest.mark.slow
def test_detectors_of_images_score_their_most_unusual_pixel(path):
    images = np.nan_to_num(_images(9, 12))
    settings = SMALL | {"hidden_layer_sizes": (4, 4), "n_estimators": 1}
    detector = AutoencoderAnomalyDetector(**settings).fit(images)
    # Graphs do not know the rows of the fit.
    _assert_agrees(detector, 1.001 * images, path, "score_samples")


@pytest.mark.slow
def test_rows_that_hold_images_stay_rows(path):
    images = _images(6, 6).reshape(40, 36)
    estimator = AutoencoderTransformer(**SMALL, network="conv", image_shape=(6, 6)).fit(images)
    _assert_agrees(estimator, images, path, "reconstruct")


@pytest.mark.slow
def test_unet_restores_patches(path):
    images = _images(20, 20, 3)
    denoiser = DenoisingAutoencoder(
        network="unet", hidden_layer_sizes=(4, 4), patch_size=(9, 8), max_epochs=1, random_state=0
    ).fit(images)
    _assert_agrees(denoiser, np.ascontiguousarray(images[:, :9, :8]), path, "reconstruct")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"n_estimators": 2},
        _slow({"n_estimators": 2, "anomaly_score": "isolation", "loss": "log_loss"}),
        {"anomaly_score": "reconstruction", "contamination": 0.1},
        _slow({"anomaly_score": "mahalanobis", "network": Network()}),
    ],
    ids=str,
)
def test_scores_threshold_and_labels_of_a_detector(changes, path):
    # Rows that the detector was not fitted on; one of them holds no value.
    rows = X * np.float32(1.001)
    detector = AutoencoderAnomalyDetector(**SMALL | changes).fit(X[~np.isnan(X).all(axis=1)])
    session = _assert_agrees(detector, rows, path, "score_samples")
    decision, labels = session.run(["decision_function", "predict"], {"X": rows})
    expected = detector.decision_function(rows)
    np.testing.assert_allclose(decision, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(labels, detector.predict(rows))
    assert set(labels) == {-1, 1}


@pytest.mark.slow
def test_wide_rows_of_a_detector_are_projected_alike(path):
    rows = np.random.default_rng(0).normal(size=(100, 300)).astype(np.float32)
    detector = AutoencoderAnomalyDetector(**SMALL, n_estimators=1, anomaly_score="isolation")
    _assert_agrees(detector.fit(rows), rows * np.float32(1.001), path, "score_samples")


def test_file_says_what_it_is_and_nothing_of_this_machine(path):
    onnx = pytest.importorskip("onnx")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    detector = AutoencoderAnomalyDetector(**SMALL, anomaly_score="reconstruction").fit(frame)
    to_onnx(detector, path, "score_samples")
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert facts.pop("class") == "AutoencoderAnomalyDetector"
    assert facts.pop("method") == "score_samples"
    assert facts.pop("skae_version")
    assert {name: json.loads(text) for name, text in facts.items()} == {
        "input_shape": [6],
        "feature_names_in_": list("abcdef"),
        "offset_": detector.offset_,
    }
    assert b".py" not in path.read_bytes()


@pytest.mark.slow
def test_same_model_gives_the_same_bytes_and_is_left_as_it_was(path):
    estimator = AutoencoderTransformer(**SMALL).fit(X)
    before = estimator.transform(X)
    to_onnx(estimator, path)
    first = path.read_bytes()
    with torch.inference_mode():
        to_onnx(estimator, path)
    assert path.read_bytes() == first
    np.testing.assert_array_equal(estimator.transform(X), before)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(("cls", "method"), [(AutoencoderAnomalyDetector, "transform"), *(
    (cls, method) for cls in CLASSES for method in ("fit", "inverse_transform", "", None)
)])  # fmt: skip
def test_other_methods_are_refused(cls, method, tmp_path):
    estimator = cls(**SMALL).fit(X)
    with pytest.raises(ValueError, match=f"method={method!r}.*{cls.__name__}.*'score_samples'"):
        to_onnx(estimator, tmp_path / "model.onnx", method)
    assert not list(tmp_path.iterdir())


def test_the_bound_of_a_variational_autoencoder_is_not_exported(tmp_path):
    estimator = VariationalAutoencoder(**SMALL).fit(X)
    with pytest.raises(ValueError, match=r"'score_samples' is no method.*'transform', 'recon"):
        to_onnx(estimator, tmp_path / "model.onnx", "score_samples")


def test_other_estimators_are_refused(tmp_path):
    with pytest.raises(TypeError, match="StandardScaler"):
        to_onnx(StandardScaler().fit(np.ones((3, 6))), tmp_path / "model.onnx")


def test_unfitted_estimator_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        to_onnx(AutoencoderTransformer(), tmp_path / "model.onnx")


def test_scaling_by_code_is_refused(path):
    scaling = QuantileTransformer(n_quantiles=10)
    estimator = AutoencoderTransformer(**SMALL, scaling=scaling).fit(X)
    with pytest.raises(ValueError, match=r"scaling=QuantileTransformer.*skl2onnx"):
        to_onnx(estimator, path)


def test_features_beyond_float32_are_refused(path):
    estimator = AutoencoderTransformer(**SMALL).fit(X.astype(np.float64) * 1e60)
    with pytest.raises(ValueError, match="float32"):
        to_onnx(estimator, path)


@pytest.mark.slow
def test_network_that_cannot_be_traced_is_refused(path):
    def network(input_shape, n_components):
        return Unrolled(), nn.Linear(3, 6)

    estimator = AutoencoderTransformer(**SMALL, network=network).fit(X)
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"your network .*traced"):
        to_onnx(estimator, path)
    assert path.read_bytes() == b"old"


def test_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'pip install "skae\[onnx\]"'):
        to_onnx(AutoencoderTransformer(**SMALL).fit(X), tmp_path / "model.onnx")


@pytest.mark.slow
def test_wrong_graph_is_refused(path, monkeypatch):
    estimator = AutoencoderTransformer(**SMALL).fit(X)
    export = torch.onnx.export

    def wrong(graph, *args, **kwargs):
        center, graph.center = graph.center, graph.center + 1e-2 * graph.scale
        try:
            return export(graph, *args, **kwargs)
        finally:
            graph.center = center

    monkeypatch.setattr(torch.onnx, "export", wrong)
    with pytest.raises(RuntimeError, match="other results"):
        to_onnx(estimator, path)
    assert not path.exists()

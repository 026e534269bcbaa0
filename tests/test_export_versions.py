"""Graphs for older runtimes, of pipelines, and compared with the estimator itself."""

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae.export import to_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)

X = (RNG.normal(size=(80, 2)) @ RNG.normal(size=(2, 5))).astype("float32")

PHOTOS = RNG.normal(size=(4, 24, 24)).cumsum(1).astype("float32")

FEW = {"max_epochs": 2, "random_state": 0, "device": "cpu"}

UNET = {"network": "unet", "patch_size": 8, "hidden_layer_sizes": (2, 2)}


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def versions(path):
    return [(o.domain, o.version) for o in onnx.load(path).opset_import if o.domain == ""]


@pytest.mark.parametrize(
    ("estimator", "method", "rows"),
    [
        (AutoencoderTransformer(activation="gelu", **FEW), "transform", X),
        (AutoencoderAnomalyDetector(n_estimators=1, **FEW), "score_samples", X),
        pytest.param(
            DenoisingAutoencoder(**UNET, **FEW), "reconstruct", PHOTOS, marks=pytest.mark.slow
        ),
    ],
    ids=["transformer", "detector", "unet"],
)
def test_an_older_version(estimator, method, rows, tmp_path):
    estimator.fit(rows)
    path = tmp_path / "model.onnx"
    to_onnx(estimator, path, method, opset_version=17)
    assert versions(path) == [("", 17)]
    onnx.checker.check_model(str(path), full_check=True)
    # Others than those of the fit, which a detector knows.
    rows = 1.01 * (rows[:6, :8, :8] if rows is PHOTOS else rows[:6])
    results = session(path).run(None, {"X": rows})
    np.testing.assert_allclose(results[0], getattr(estimator, method)(rows), rtol=1e-4, atol=1e-5)
    kinds = [np.float32, np.float32, np.int64] if method == "score_samples" else [np.float32]
    assert [result.dtype for result in results] == kinds


@pytest.mark.parametrize("version", [16, 99, "17", 17.5])
def test_other_versions_are_refused(version, tmp_path):
    with pytest.raises(ValueError, match=r"opset_version=.*from 17 to 20"):
        to_onnx(AutoencoderTransformer(**FEW).fit(X), tmp_path / "m", opset_version=version)


def test_rows_far_from_zero(tmp_path):
    far = X + np.float32(1e6)
    estimator = AutoencoderTransformer(**FEW).fit(far)
    to_onnx(estimator, tmp_path / "m")
    (found,) = session(tmp_path / "m").run(None, {"X": far})
    np.testing.assert_allclose(found, estimator.transform(far), rtol=1e-4, atol=1e-4)


def test_a_graph_that_disagrees_with_the_estimator_is_not_written(tmp_path, monkeypatch):
    estimator = AutoencoderTransformer(**FEW).fit(X)
    right = estimator.transform
    estimator.transform = lambda X: right(X) + 0.1
    with pytest.raises(RuntimeError, match="other results than the estimator's transform"):
        to_onnx(estimator, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_containers_of_results(tmp_path):
    frames = AutoencoderTransformer(**FEW).fit(X).set_output(transform="pandas")
    to_onnx(frames, tmp_path / "m")
    sparse = AutoencoderTransformer(n_nonzero_coefs=2, n_components=4, sparse_output=True, **FEW)
    to_onnx(sparse.fit(X), tmp_path / "m")


class TestPipelines:
    def test_is_one_graph(self, tmp_path):
        pytest.importorskip("skl2onnx")
        holes = np.where(RNG.random(X.shape) < 0.1, np.nan, X).astype("float32")
        pipeline = make_pipeline(
            SimpleImputer(), StandardScaler(), AutoencoderTransformer(**FEW)
        ).fit(holes)
        for version in (17, 20):
            to_onnx(pipeline, tmp_path / "m", opset_version=version)
            assert versions(tmp_path / "m") == [("", version)]
            model = session(tmp_path / "m")
            assert [i.name for i in model.get_inputs()] == ["X"]
            (found,) = model.run(["transform"], {"X": holes})
            np.testing.assert_allclose(found, pipeline.transform(holes), rtol=1e-4, atol=1e-5)

    def test_of_one_step(self, tmp_path):
        pipeline = make_pipeline(AutoencoderTransformer(**FEW)).fit(X)
        to_onnx(pipeline, tmp_path / "m")
        (found,) = session(tmp_path / "m").run(None, {"X": X})
        np.testing.assert_allclose(found, pipeline.transform(X), rtol=1e-4, atol=1e-5)

    def test_steps_that_cannot_be_converted_are_named(self, tmp_path):
        pytest.importorskip("skl2onnx")
        own = FunctionTransformer(lambda X: X[:, ::-1])
        pipeline = make_pipeline(StandardScaler(), own, AutoencoderTransformer(**FEW)).fit(X)
        with pytest.raises(TypeError, match="functiontransformer"):
            to_onnx(pipeline, tmp_path / "m")

    def test_that_ends_with_another_estimator(self, tmp_path):
        pipeline = make_pipeline(AutoencoderTransformer(**FEW), LogisticRegression())
        pipeline.fit(X, np.arange(80) % 2)
        with pytest.raises(TypeError, match="AutoencoderTransformer, LogisticRegression"):
            to_onnx(pipeline, tmp_path / "m")

"""Whatever an unfitted object is asked for, it says that it is not fitted."""

import inspect
import io

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

import skae
import skae.io
from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderFeatures,
    AutoencoderImputer,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.codec import LatentCodec
from skae.inspection import (
    AnomalyScoreDisplay,
    ContributionDisplay,
    LatentSizeDisplay,
    LatentWalkDisplay,
)
from skae.model_selection import AutoencoderSearchCV
from skae.segmentation import PixelClassifier

X = load_digits().data[:30]
IMAGES = X.reshape(-1, 8, 8)
MASKS = np.zeros(IMAGES.shape, dtype=int)
MASKS[0, 0, :2] = 1, 2

# What works without a fit, and what asks for nothing.
FITS = {
    "fit",
    "partial_fit",
    "fit_transform",
    "fit_predict",
    "get_params",
    "set_params",
    "get_metadata_routing",
    "set_output",
    "set_callbacks",
}
ARGUMENTS = {
    "inverse_transform": (X[:, :5],),
    "sample": (),
    "interpolate": (X, X),
    "inpaint": (X, X > 3),
    "truncate": (1,),
    "with_n_nonzero_coefs": (1,),
    "get_feature_names_out": (),
    "anomaly_map": (IMAGES,),
    "detect": (IMAGES,),
    "pixel_features": (IMAGES,),
    "encode_batches": ([X],),
    "decode": (b"",),
    "decode_batches": (io.BytesIO(b""),),
}
OBJECTS = {
    "AutoencoderTransformer": lambda: AutoencoderTransformer(),
    "sparse": lambda: AutoencoderTransformer(n_nonzero_coefs=2, sparse_output=True),
    "ordered": lambda: AutoencoderTransformer(n_components=0.9, ordered=True),
    "DenoisingAutoencoder": lambda: DenoisingAutoencoder(),
    "of patches": lambda: DenoisingAutoencoder(patch_size=4),
    "VariationalAutoencoder": lambda: VariationalAutoencoder(),
    "AutoencoderAnomalyDetector": lambda: AutoencoderAnomalyDetector(),
    "AutoencoderImputer": lambda: AutoencoderImputer(),
    "AutoencoderFeatures": lambda: AutoencoderFeatures(),
    "LatentCodec": lambda: LatentCodec(AutoencoderTransformer()),
    "PixelClassifier": lambda: PixelClassifier(DenoisingAutoencoder(patch_size=4)),
    "AutoencoderSearchCV": lambda: AutoencoderSearchCV(
        AutoencoderTransformer(), {"n_components": [2]}
    ),
}


def _methods(name):
    thing = OBJECTS[name]()
    for method in dir(type(thing)):
        if method.startswith("_") or method in FITS or method.startswith("set_"):
            continue
        member = inspect.getattr_static(type(thing), method)
        if isinstance(member, (property, type(None))) or not callable(
            getattr(type(thing), method, None)
        ):
            continue
        yield method


CALLS = [(name, method) for name in OBJECTS for method in _methods(name)]


def test_all_public_methods_are_asked():
    assert len(CALLS) > 80
    asked = {method for _, method in CALLS}
    assert asked >= {"inverse_transform", "denoise", "decode_batches", "anomaly_map", "truncate"}
    assert {type(make()).__name__ for make in OBJECTS.values()} >= set(skae.__all__) - {
        "DivergenceError"
    } - {name for name in skae.__all__ if not inspect.isclass(getattr(skae, name))}


@pytest.mark.parametrize(("name", "method"), CALLS, ids=" ".join)
def test_methods(name, method):
    thing = OBJECTS[name]()
    arguments = ARGUMENTS.get(method, (X,))
    if name == "PixelClassifier":
        arguments = (IMAGES, MASKS) if method == "score" else (IMAGES,)
    if name == "AutoencoderSearchCV" and not hasattr(thing, method):
        pytest.skip("the estimator has no such method")
    with pytest.raises(NotFittedError):
        _exhausted(getattr(thing, method)(*arguments))
    # Neither does what they are given matter.
    if method not in ("sample", "get_feature_names_out") and name != "AutoencoderSearchCV":
        nothing = [None] * len(arguments)
        with pytest.raises(NotFittedError):
            _exhausted(getattr(thing, method)(*nothing))
    assert not [key for key in vars(thing) if key.endswith("_")]


def _exhausted(result):
    return list(result) if inspect.isgenerator(result) or isinstance(result, map) else result


@pytest.mark.parametrize("name", list(OBJECTS)[:8])
@pytest.mark.parametrize("attribute", ["encoder_", "decoder_", "device_"])
def test_properties(name, attribute):
    with pytest.raises(NotFittedError):
        getattr(OBJECTS[name](), attribute)
    assert not hasattr(OBJECTS[name](), attribute)


@pytest.mark.parametrize(
    ("draw", "make"),
    [
        (AnomalyScoreDisplay.from_estimator, AutoencoderAnomalyDetector),
        (ContributionDisplay.from_estimator, AutoencoderAnomalyDetector),
        (LatentWalkDisplay.from_estimator, AutoencoderTransformer),
        (lambda e, X: LatentSizeDisplay.from_estimator(e), AutoencoderTransformer),
    ],
    ids=["scores", "contributions", "walk", "sizes"],
)
def test_displays(draw, make):
    with pytest.raises(NotFittedError):
        draw(make(), X[:1])


@pytest.mark.parametrize("name", list(OBJECTS)[:9])
def test_files(tmp_path, name):
    with pytest.raises(NotFittedError):
        skae.io.save(OBJECTS[name](), tmp_path / "unfitted.safetensors")


def test_graphs(tmp_path):
    pytest.importorskip("onnxscript")
    from skae.export import to_onnx

    with pytest.raises(NotFittedError):
        to_onnx(AutoencoderTransformer(), tmp_path / "graph.onnx")


def test_a_codec_is_not_fitted_by_a_fit_that_fails():
    pytest.importorskip("constriction")
    codec = LatentCodec(AutoencoderTransformer(n_components=2, max_epochs=1), max_error=1e-300)
    with pytest.raises(ValueError, match="max_error"):
        codec.fit(X)
    with pytest.raises(NotFittedError):
        codec.encode(X)

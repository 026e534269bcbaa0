"""Files and pickles without what only further training needs."""

import pickle

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae.io import for_prediction, load, save

RNG = np.random.default_rng(0)

X = RNG.normal(size=(90, 3)) @ RNG.normal(size=(3, 12))

IMAGES = RNG.normal(size=(40, 8, 8))

FEW = {"max_epochs": 2, "random_state": 0, "device": "cpu"}

CASES = {
    "transformer": (AutoencoderTransformer(**FEW), X),
    "ordered": (AutoencoderTransformer(n_components=0.9, **FEW), X),
    "denoiser": (DenoisingAutoencoder(optimizer="sgd", **FEW), X),
    "variational": (VariationalAutoencoder(**FEW), X),
    "detector": (AutoencoderAnomalyDetector(**FEW), X),
    "conv": (AutoencoderTransformer(network="conv", **FEW), IMAGES),
    "detector of images": (AutoencoderAnomalyDetector(**FEW), IMAGES),
}


def saved_and_loaded(estimator, path):
    save(estimator, path, for_training=False)
    return load(path)


def pickled(estimator, path):
    return pickle.loads(pickle.dumps(for_prediction(estimator)))


def results(estimator, X):
    names = ("transform", "reconstruct", "score_samples", "decision_function", "predict")
    return {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}


@pytest.mark.parametrize("way", [saved_and_loaded, pickled])
@pytest.mark.parametrize("case", CASES)
class TestEveryEstimator:
    def test_predicts_the_same_bits(self, case, way, tmp_path):
        estimator, rows = CASES[case]
        estimator.fit(rows)
        expected, found = results(estimator, rows), results(way(estimator, tmp_path / "f"), rows)
        assert found.keys() == expected.keys()
        for name, result in found.items():
            np.testing.assert_array_equal(result, expected[name], err_msg=name)

    def test_says_that_it_cannot_be_trained_on(self, case, way, tmp_path):
        estimator, rows = CASES[case]
        smaller = way(estimator.fit(rows), tmp_path / "f")
        if case != "ordered":  # which cannot be trained on at all
            with pytest.raises(ValueError, match=r"training state was left out.*for_prediction"):
                smaller.partial_fit(rows)
            with pytest.raises(ValueError, match=r"training state was left out.*for_training"):
                smaller.set_params(warm_start=True).fit(rows)
        anew = smaller.set_params(warm_start=False).fit(rows)
        np.testing.assert_array_equal(anew.score_samples(rows), estimator.score_samples(rows))
        assert hasattr(anew, "_train_state")

    def test_the_fitted_one_can_be(self, case, way, tmp_path):
        estimator, rows = CASES[case]
        way(estimator.fit(rows), tmp_path / "f")
        if case != "ordered":
            estimator.partial_fit(rows)


def test_they_are_as_large_as_the_weights(tmp_path):
    estimator = AutoencoderTransformer(hidden_layer_sizes=(512,), **FEW).fit(X)
    weights, ranges = estimator._model.network.parameters.nbytes, estimator._ranges
    # Of columns and of residuals: rows are drawn by them.
    quantiles = ranges.margins.quantiles.nbytes + ranges.residuals.quantiles.nbytes
    save(estimator, tmp_path / "a")
    save(estimator, tmp_path / "b", for_training=False)
    assert (tmp_path / "a").stat().st_size > 3 * weights
    assert (tmp_path / "b").stat().st_size < 1.2 * weights + quantiles
    assert len(pickle.dumps(for_prediction(estimator))) < 1.2 * weights + quantiles


def test_a_loaded_one_is_saved_again(tmp_path):
    smaller = saved_and_loaded(AutoencoderTransformer(**FEW).fit(X), tmp_path / "a")
    save(smaller, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_derived_from_it_predicts_the_same(tmp_path):
    estimator = AutoencoderTransformer(n_components=4, ordered=True, **FEW).fit(X)
    smaller = saved_and_loaded(estimator, tmp_path / "f")
    np.testing.assert_array_equal(
        smaller.truncate(2).transform(X), estimator.truncate(2).transform(X)
    )
    sparse = AutoencoderTransformer(n_nonzero_coefs=2, n_components=6, **FEW).fit(X)
    np.testing.assert_array_equal(
        for_prediction(sparse).with_n_nonzero_coefs(3).transform(X),
        sparse.with_n_nonzero_coefs(3).transform(X),
    )


def test_a_codec(tmp_path):
    pytest.importorskip("constriction")
    from skae.codec import LatentCodec

    codec = LatentCodec(AutoencoderTransformer(**FEW), max_epochs=1, random_state=0).fit(X)
    data = codec.encode(X)
    smaller = saved_and_loaded(codec, tmp_path / "f")
    assert smaller.encode(X) == data
    np.testing.assert_array_equal(for_prediction(codec).decode(data), codec.decode(data))
    assert hasattr(codec.estimator_, "_train_state")
    save(codec, tmp_path / "g")
    assert (tmp_path / "f").stat().st_size < (tmp_path / "g").stat().st_size


def test_a_step_of_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer(**FEW)).fit(X)
    expected = pipeline.transform(X)
    pipeline.set_params(autoencodertransformer=for_prediction(pipeline[-1]))
    np.testing.assert_array_equal(pipeline.transform(X), expected)


def test_what_it_does_not_take(tmp_path):
    with pytest.raises(NotFittedError):
        for_prediction(AutoencoderTransformer())
    with pytest.raises(NotFittedError):
        save(AutoencoderTransformer(), tmp_path / "f", for_training=False)
    for other in (PCA().fit(X), make_pipeline(PCA(), AutoencoderTransformer(**FEW)).fit(X), None):
        with pytest.raises(TypeError, match="none of this package"):
            for_prediction(other)
        with pytest.raises((TypeError, ValueError), match="none of"):
            save(other, tmp_path / "f", for_training=False)

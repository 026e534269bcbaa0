"""Wavelet scattering: the coefficients themselves, and networks that learn from them."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, correlate1d
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, DenoisingAutoencoder, io
from skae._networks import scattering
from skae._networks.scattering import Scattering
from skae.codec import LatentCodec
from skae.model_selection import AutoencoderSearchCV

ROWS, LABELS = load_digits(return_X_y=True)
DIGITS = ROWS.reshape(-1, 8, 8)
FEW = DIGITS[:300]
SMALL = {"network": "scattering", "n_components": 6, "max_epochs": 3, "random_state": 0}


def _coefficients(images):
    octaves = scattering.n_octaves(*images.shape[-2:])
    transform = Scattering(octaves, torch.float64, torch.device("cpu"))
    return transform(torch.from_numpy(images)).numpy()


def _halved(image):
    kernel = scattering.gaussian(1.0).numpy()
    for axis in (0, 1):
        image = correlate1d(image, kernel, axis, mode="nearest")
    return image[::2, ::2]


def _moduli(image):
    waves = scattering.morlets()[:, 0].numpy()
    parts = [correlate(image, wave, mode="nearest") for wave in waves]
    return [np.hypot(a, b) for a, b in zip(parts[:8], parts[8:], strict=True)]


def test_coefficients_are_those_of_a_direct_computation():
    image = np.random.default_rng(0).normal(size=(20, 23))
    first = _moduli(image)
    second = list(itertools.chain(*(_moduli(_halved(wave)) for wave in first)))
    expected = [_halved(_halved(image))]
    expected += [_halved(_halved(wave)) for wave in first]
    expected += [_halved(wave) for wave in _moduli(_halved(image))]
    expected += [_halved(wave) for wave in second]
    found = _coefficients(image[None, None])
    assert found.shape == (1, scattering.n_paths(2), 1, 5, 6)
    np.testing.assert_allclose(found[0, :, 0], expected, atol=1e-12)


def test_wavelets_see_no_constant_and_each_sees_its_own_angle():
    flat = _coefficients(np.full((1, 1, 16, 16), 3.0))[0, :, 0]
    np.testing.assert_allclose(flat[0], 3.0)
    assert np.abs(flat[1:]).max() < 1e-12
    y, x = np.mgrid[:32, :32]
    for k in range(8):
        angle = np.pi * k / 8
        grating = np.cos(0.75 * np.pi * (x * np.cos(angle) + y * np.sin(angle)))
        first = _coefficients(grating[None, None])[0, 1:9, 0].mean((1, 2))
        assert first.argmax() == k


def test_a_shift_changes_coefficients_less_than_pixels():
    images = np.pad(DIGITS[:50].repeat(3, 1).repeat(3, 2), ((0, 0), (4, 4), (4, 4)))

    def change(f):
        moved = f(np.roll(images, 1, axis=2))
        return np.square(moved - f(images)).sum() / np.square(f(images)).sum()

    coefficients = change(lambda images: _coefficients(images[:, None]))
    assert coefficients < 0.25 * change(lambda images: images)


def test_latents_say_more_to_a_classifier_than_those_of_pixels():
    def accuracy(**settings):
        model = AutoencoderTransformer(n_components=8, random_state=0, max_epochs=15, **settings)
        linear = LogisticRegression(max_iter=1000)
        pipeline = make_pipeline(model, StandardScaler(), linear).fit(DIGITS[:1200], LABELS[:1200])
        return pipeline.score(DIGITS[1200:], LABELS[1200:])

    assert accuracy(network="scattering") > accuracy() + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("colors", [1, 3])
def test_pixels_are_rebuilt_about_as_by_pca(colors):
    images = DIGITS[..., None] * np.linspace(1.0, 0.5, colors)
    settings = SMALL | {"n_components": 10, "max_epochs": 20}
    model = AutoencoderTransformer(**settings).fit(images[:1200])
    rebuilt, held_out = model.reconstruct(images[1200:]), images[1200:]
    rows, pca = images.reshape(len(images), -1), PCA(10, random_state=0)
    rebuilt_by_pca = pca.fit(rows[:1200]).inverse_transform(pca.transform(rows[1200:]))
    error = np.square(rebuilt - held_out).sum()
    assert error < 1.1 * np.square(rebuilt_by_pca - rows[1200:]).sum()
    np.testing.assert_array_equal(model.inverse_transform(model.transform(held_out)), rebuilt)


@pytest.mark.parametrize("shape", [(5, 4), (9, 30, 2), (70, 40)])
def test_images_of_any_size(shape):
    images = np.random.default_rng(0).normal(size=(40, *shape))
    model = AutoencoderTransformer(**SMALL).fit(images)
    assert model.reconstruct(images).shape == images.shape
    # Numbers of coordinates that are in the training rows come back.
    assert model.score(images) > 0.05


def test_rows_of_images_give_the_same_as_images():
    by_image = DenoisingAutoencoder(**SMALL, noise="gaussian", noise_level=1.0).fit(FEW)
    by_row = clone(by_image).set_params(image_shape=(8, 8)).fit(FEW.reshape(300, 64))
    Z = by_image.transform(FEW)
    np.testing.assert_array_equal(by_row.transform(FEW.reshape(300, 64)), Z)
    pytest.importorskip("pandas")
    frame = by_row.set_output(transform="pandas").transform(FEW.reshape(300, 64))
    np.testing.assert_array_equal(frame.to_numpy(), Z)
    assert frame.columns[0] == "denoisingautoencoder0"


def test_batches_pickles_and_files_give_the_same_bits(tmp_path):
    model = AutoencoderTransformer(**SMALL).fit(FEW)
    Z = model.transform(FEW)
    np.testing.assert_array_equal(model.transform(FEW[:5]), Z[:5])
    path = tmp_path / "model.skae"
    io.save(model, path)
    for other in (pickle.loads(pickle.dumps(model)), io.load(path)):
        np.testing.assert_array_equal(other.transform(FEW), Z)
        np.testing.assert_array_equal(other.reconstruct(FEW), model.reconstruct(FEW))
        other.partial_fit(FEW)
        assert np.abs(other.transform(FEW) - Z).max() > 0


def test_training_goes_on_from_where_it_stands():
    model = AutoencoderTransformer(**SMALL, warm_start=True).fit(FEW)
    before = model.score(FEW)
    axes = model._model.network.front.axes.clone()
    model.set_params(max_epochs=20).fit(FEW)
    assert model.score(FEW) > before
    assert torch.equal(model._model.network.front.axes, axes)


def test_float64_agrees_with_float32():
    settings = SMALL | {"max_epochs": 1}
    Z = AutoencoderTransformer(**settings).fit(FEW).transform(FEW)
    exact = AutoencoderTransformer(**settings, precision="float64").fit(FEW).transform(FEW)
    assert exact.dtype == np.float64
    np.testing.assert_allclose(Z, exact, atol=2e-2)


def test_weights_count_as_repetitions():
    X, weights = FEW[:60], np.repeat([1.0, 2.0], 30)
    settings = SMALL | {"batch_size": 256}  # one batch, else batches differ
    weighted = AutoencoderTransformer(**settings).fit(X, sample_weight=weights)
    repeated = AutoencoderTransformer(**settings).fit(np.repeat(X, weights.astype(int), 0))
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-4)


def test_missing_pixels_are_filled_in_from_their_neighbors():
    holes = FEW.copy()
    holes[:, 3, 3] = np.nan
    model = AutoencoderTransformer(**SMALL | {"max_epochs": 20}).fit(FEW)
    Z = model.transform(FEW)
    distances = np.linalg.norm(model.transform(holes) - Z, axis=1)
    assert np.median(distances) < 0.5 * np.median(np.linalg.norm(Z - Z.mean(0), axis=1))
    again = AutoencoderTransformer(**SMALL | {"max_epochs": 20}).fit(holes)
    assert again.reconstruct(holes)[:, 3, 3].std() > 0
    assert again.score(holes) > 0.5


def test_ordered_and_sparse_latents():
    ordered = AutoencoderTransformer(**SMALL, ordered=True).fit(FEW)
    first = ordered.truncate(2).transform(FEW)
    np.testing.assert_allclose(first, ordered.transform(FEW)[:, :2], atol=1e-5)
    assert ordered.explained_variance_ratio_.shape == (6,)
    sparse = AutoencoderTransformer(**SMALL, n_nonzero_coefs=2).fit(FEW)
    assert ((sparse.transform(FEW) != 0).sum(1) <= 2).all()
    assert ((sparse.with_n_nonzero_coefs(4).transform(FEW) != 0).sum(1) > 2).any()


@pytest.mark.slow
def test_a_search_finds_what_a_grid_search_finds():
    grid, settings = {"n_components": [2, 4], "network": ["scattering", "mlp"]}, {"cv": 2}
    model = AutoencoderTransformer(**SMALL)
    own = AutoencoderSearchCV(model, grid, **settings).fit(FEW)
    theirs = GridSearchCV(model, grid, **settings).fit(FEW)
    for name in ("split0_test_score", "mean_test_score"):
        np.testing.assert_allclose(own.cv_results_[name], theirs.cv_results_[name], atol=1e-4)


def test_modules_compute_what_the_estimator_does():
    model = AutoencoderTransformer(**SMALL, scaling=None).fit(FEW)
    rows = torch.from_numpy(FEW.reshape(300, 64)).float()
    with torch.no_grad():
        Z = model.encoder_(rows)
        rebuilt = model.decoder_(Z)
    np.testing.assert_allclose(Z, model.transform(FEW), atol=1e-4)
    np.testing.assert_allclose(rebuilt.reshape(FEW.shape), model.reconstruct(FEW), atol=1e-4)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="network='scattering' needs images"):
        AutoencoderTransformer(**SMALL).fit(ROWS)
    with pytest.raises(ValueError, match="noise='affine' changes images"):
        DenoisingAutoencoder(**SMALL, noise="affine").fit(FEW)
    with pytest.raises(ValueError, match="loss='log_loss' needs values"):
        AutoencoderTransformer(**SMALL, loss="log_loss").fit(FEW)


@pytest.mark.slow
def test_a_codec_takes_it_as_it_is():
    pytest.importorskip("constriction")
    model = AutoencoderTransformer(**SMALL)
    with pytest.raises(ValueError, match="Pass max_epochs=0"):
        LatentCodec(model, step=0.1).fit(FEW)
    codec = LatentCodec(model, step=0.01, max_epochs=0).fit(FEW)
    rebuilt, latents = codec.decode(codec.encode(FEW)), codec.estimator_.transform(FEW)
    expected = codec.estimator_.inverse_transform(latents)
    assert np.abs(rebuilt - expected).mean() < 0.01 * FEW.std()

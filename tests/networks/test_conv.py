"""Convolutional networks: they learn, at any size, from local randomness; repair by patches."""

import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder
from skae._networks.holes import fill_holes

DIGITS = load_digits().images
FEW = DIGITS[:300]
SMALL = {
    "network": "conv",
    "n_components": 4,
    "hidden_layer_sizes": (8, 8),
    "max_epochs": 3,
    "random_state": 0,
}
# Two smooth fields with an edge between them, in three colors.
_FIELDS = gaussian_filter(np.random.default_rng(0).normal(size=(3, 96, 160, 3)), (0, 6, 6, 0))
PHOTO = np.where(_FIELDS[2, :, :, :1] > 0, 0.2, 0.7) + 4 * _FIELDS[0]
UNET = {
    "network": "unet",
    "hidden_layer_sizes": (8, 8),
    "patch_size": 16,
    "batch_size": 32,
    "max_epochs": 10,
    "scaling": None,
    "random_state": 0,
}


@pytest.mark.slow
def test_convolutions_reconstruct_digits_better_than_pca():
    autoencoder = AutoencoderTransformer(
        network="conv", n_components=8, normalization="batch", max_epochs=10, random_state=0
    ).fit(DIGITS)
    rows = DIGITS.reshape(-1, 64)
    pca = PCA(8).fit(rows)
    by_pca = np.square(pca.inverse_transform(pca.transform(rows)) - rows).mean()
    assert np.square(autoencoder.reconstruct(DIGITS) - DIGITS).mean() < 0.9 * by_pca


def test_rows_with_an_image_shape_are_as_images():
    images = AutoencoderTransformer(**SMALL).fit(FEW)
    rows = AutoencoderTransformer(**SMALL, image_shape=(8, 8)).fit(FEW.reshape(300, 64))
    np.testing.assert_array_equal(images.transform(FEW), rows.transform(FEW.reshape(300, 64)))


@pytest.mark.parametrize("shape", [(5, 7), (4, 9, 3), (33, 6), (6, 4, 1)])
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_any_size_and_channels(shape, normalization):
    images = np.random.default_rng(0).normal(size=(40, *shape)).cumsum(1)
    settings = SMALL | {"normalization": normalization, "max_epochs": 40, "learning_rate": 0.01}
    autoencoder = AutoencoderTransformer(**settings, batch_size=16).fit(images)
    rebuilt = autoencoder.reconstruct(images)
    error = np.square(rebuilt - images).mean() / np.square(images - images.mean(0)).mean()
    assert error < 0.8
    # It learned more than the mean.
    assert autoencoder.loss_curve_[-1] < 0.7 * autoencoder.loss_curve_[0]


def test_fits_are_the_same_bits_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    noise = {"noise": ("affine", "block_masking"), "noise_level": (0.2, 0.1)}
    first = DenoisingAutoencoder(**SMALL, **noise).fit(FEW).transform(FEW)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    np.testing.assert_array_equal(
        DenoisingAutoencoder(**SMALL, **noise).fit(FEW).transform(FEW), first
    )
    other = DenoisingAutoencoder(**SMALL | {"random_state": 1}, **noise).fit(FEW)
    assert np.abs(other.transform(FEW) - first).max() > 0.1


@pytest.mark.parametrize("normalization", [None, "batch"])
def test_modules_and_pickles_compute_what_the_estimator_does(normalization):
    settings = SMALL | {"normalization": normalization, "scaling": None}
    autoencoder = AutoencoderTransformer(**settings).fit(FEW)
    latents = autoencoder.transform(FEW)
    with torch.no_grad():
        z = autoencoder.encoder_(torch.tensor(FEW[:, None], dtype=torch.float32))
        y = autoencoder.decoder_(z)
    np.testing.assert_allclose(z.numpy(), latents, atol=1e-4)
    np.testing.assert_allclose(y[:, 0].numpy(), autoencoder.reconstruct(FEW), atol=1e-3)
    stored = pickle.dumps(autoencoder)
    np.testing.assert_array_equal(pickle.loads(stored).transform(FEW), latents)
    assert b"Conv2d" not in stored, "plain arrays and settings alone"


def test_a_row_does_not_depend_on_its_batch():
    autoencoder = AutoencoderTransformer(**SMALL).fit(FEW)
    latents = autoencoder.transform(FEW)
    for part in (slice(0, 1), slice(3, 20), slice(100, 300)):
        np.testing.assert_array_equal(autoencoder.transform(FEW[part]), latents[part])


def test_stages_show_in_the_printed_network():
    autoencoder = AutoencoderTransformer(**SMALL, normalization="batch").fit(FEW)
    encoder, decoder = repr(autoencoder.encoder_), repr(autoencoder.decoder_)
    assert encoder.count("Conv2d(") == decoder.count("ConvTranspose2d(") == 2
    assert "Conv2d(1, 8" in encoder
    assert "out_features=4" in encoder
    assert "Crop(height=8, width=8)" in decoder


def test_half_precision_learns_as_single_precision_does():
    """Autocast once kept the first step's weights for the whole fit."""
    single, half = (
        AutoencoderTransformer(**SMALL, precision=precision, learning_rate=0.02).fit(FEW)
        for precision in ("float32", "bfloat16")
    )
    assert half.loss_curve_[-1] < 0.9 * half.loss_curve_[0]
    np.testing.assert_allclose(half.loss_curve_, single.loss_curve_, rtol=0.01)


def test_dropout_and_training_on():
    autoencoder = AutoencoderTransformer(**SMALL, dropout=0.1, learning_rate=0.02).fit(FEW)
    before = autoencoder.score(FEW)
    for _ in range(5):
        autoencoder.partial_fit(FEW)
    assert autoencoder.score(FEW) > before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hidden_layer_sizes": (8, 8, 8, 8)}, ["hidden_layer_sizes", "8 x 8", "3 times"]),
        ({"hidden_layer_sizes": ()}, ["hidden_layer_sizes=()", "at least once"]),
        ({"network": "unet"}, ["network", "unet"]),
    ],
)
def test_networks_that_cannot_be_built_are_refused(settings, words):
    with pytest.raises(ValueError) as caught:
        AutoencoderTransformer(**SMALL | settings).fit(FEW)
    assert all(word in str(caught.value) for word in words)


def test_rows_alone_are_refused():
    rows = FEW.reshape(300, 64)
    with pytest.raises(ValueError, match=r"network='conv' needs images.*image_shape"):
        AutoencoderTransformer(**SMALL).fit(rows)
    with pytest.raises(ValueError, match=r"noise='affine' needs images.*image_shape"):
        DenoisingAutoencoder(noise=("masking", "affine")).fit(rows)
    with pytest.raises(ValueError, match=r"patch_size=4 needs an array of images"):
        DenoisingAutoencoder(patch_size=4).fit(rows)


def test_detector_refuses_convolutions():
    with pytest.raises(ValueError, match=r"network='conv' finds no outliers.*network='auto'"):
        AutoencoderAnomalyDetector(**SMALL).fit(FEW)


def test_unet_starts_at_the_image_itself():
    autoencoder = DenoisingAutoencoder(**UNET | {"max_epochs": 1, "learning_rate": 1e-12})
    autoencoder.fit(PHOTO[None])
    np.testing.assert_allclose(autoencoder.denoise(PHOTO[None]), PHOTO[None], atol=1e-6)


def test_repair_starts_at_the_smoothest_filling():
    settings = UNET | {"max_epochs": 1, "learning_rate": 1e-12, "noise": "masking"}
    mask = np.random.default_rng(0).random(PHOTO.shape[:2]) < 0.5
    holes = np.where(mask[..., None], np.nan, PHOTO)
    filled, _ = fill_holes(torch.from_numpy(holes.transpose(2, 0, 1)[None]))
    repaired = DenoisingAutoencoder(**settings).fit(PHOTO[None]).impute(holes[None])[0]
    np.testing.assert_allclose(repaired, filled[0].numpy().transpose(1, 2, 0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "side"),
    [pytest.param("masking", 1, marks=pytest.mark.slow), ("block_masking", 3)],
)
def test_repair_learns_what_the_smoothest_filling_lacks(noise, side):
    """Stripes: between two pixels of one of them may lie another one."""
    photo = PHOTO[..., : 3 if side == 1 else 1] + 0.3 * np.sin(2.2 * np.arange(160))[:, None]
    settings = UNET | {"scaling": "auto", "max_epochs": 30, "noise": noise, "noise_level": 0.3}
    autoencoder = DenoisingAutoencoder(**settings).fit(photo[None, :, :80])
    mask = np.random.default_rng(0).random((90 // side, 78 // side)) < 0.3
    mask = mask.repeat(side, 0).repeat(side, 1)
    part = photo[:90, 80:158]
    holes = np.where(mask[..., None], np.nan, part)
    filled, _ = fill_holes(torch.from_numpy(holes.transpose(2, 0, 1)[None]))
    by_network, by_filling = (
        np.square(repaired - part)[mask].mean()
        for repaired in (autoencoder.impute(holes[None])[0], filled[0].numpy().transpose(1, 2, 0))
    )
    assert by_network < 0.5 * by_filling


def test_holes_larger_than_a_tile_are_filled_from_their_edges():
    ramp = np.linspace(10, 11, 700)[:, None] + np.linspace(0, 1, 420)[None]
    settings = UNET | {"scaling": "auto", "max_epochs": 2, "noise_level": 0.5}
    autoencoder = DenoisingAutoencoder(**settings).fit(ramp[None, :40, :40])
    mask = np.zeros(ramp.shape, dtype=bool)
    mask[20:-20, 20:-20] = True
    repaired = autoencoder.inpaint(ramp[None], mask[None])[0]
    assert np.abs(repaired - ramp).max() < 0.5
    np.testing.assert_array_equal(repaired[~mask], ramp[~mask])


@pytest.mark.parametrize(
    "photo",
    [
        pytest.param(PHOTO, id="color", marks=pytest.mark.slow),
        pytest.param(PHOTO[..., 0], id="gray"),
    ],
)
def test_unet_removes_noise_from_photographs_of_any_size(photo):
    noisy = photo + np.random.default_rng(0).normal(scale=0.1, size=photo.shape)
    settings = UNET | {"max_epochs": 40}
    autoencoder = DenoisingAutoencoder(**settings, noise="gaussian", noise_level=0.1)
    autoencoder.fit(photo[None, :, :80])
    for part in (np.s_[:, 80:], np.s_[:31, 90:137]):
        clean = autoencoder.denoise(noisy[part][None])[0]
        assert clean.shape == photo[part].shape
        before, after = (np.square(x - photo[part]).mean() for x in (noisy[part], clean))
        assert after < 0.65 * before


def test_patches_with_a_bottleneck_are_tiled_and_blended():
    autoencoder = DenoisingAutoencoder(
        noise_level=0.1, patch_size=(8, 6), n_components=16, max_epochs=5, random_state=0
    ).fit(PHOTO[None])
    rebuilt = autoencoder.reconstruct(PHOTO[None, :50, :51])
    assert np.square(rebuilt - PHOTO[:50, :51]).mean() < 0.15 * PHOTO.var()
    patch = PHOTO[None, :8, :6]
    decoded = autoencoder.inverse_transform(autoencoder.transform(patch))
    np.testing.assert_allclose(decoded, autoencoder.reconstruct(patch), atol=1e-5)
    with pytest.raises(ValueError, match=r"expects \(8, 6, 3\)"):
        autoencoder.transform(PHOTO[None])
    with pytest.raises(ValueError, match="smaller than the patches"):
        autoencoder.denoise(PHOTO[None, :7])
    with pytest.raises(ValueError, match="3 channels"):
        autoencoder.denoise(PHOTO[None, ..., 0])


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(np.float32, marks=pytest.mark.slow),
        np.float64,
        pytest.param(np.uint8, marks=pytest.mark.slow),
    ],
)
def test_inpaint_leaves_observed_pixels_as_they_are(dtype):
    photo = np.clip(PHOTO * 255, 0, 255).astype(dtype)[None]
    mask = np.random.default_rng(0).random(photo.shape[:3]) < 0.5
    settings = UNET | {"scaling": "auto"}
    autoencoder = DenoisingAutoencoder(**settings, noise="masking", noise_level=0.5).fit(photo)
    repaired = autoencoder.inpaint(photo, mask)
    assert repaired.dtype == np.result_type(dtype, np.float32)
    np.testing.assert_array_equal(repaired[~mask], photo[~mask])
    error = np.square(repaired[mask] - photo[mask].astype(float)).mean()
    assert error < 0.3 * photo[mask].astype(float).var()
    holes = np.where(mask[..., None], np.nan, photo)
    np.testing.assert_allclose(autoencoder.impute(holes), repaired, atol=0.01)
    with pytest.raises(ValueError, match="mask must be boolean and of X's shape"):
        autoencoder.inpaint(photo, mask[:, 1:])


@pytest.mark.slow
def test_patches_may_have_missing_pixels_and_images_weights():
    photo = np.where(np.random.default_rng(0).random(PHOTO.shape) < 0.2, np.nan, PHOTO)
    images = np.stack([photo, 0 * PHOTO + 9.0])
    settings = UNET | {"scaling": "auto", "noise_level": 0.2}
    autoencoder = DenoisingAutoencoder(**settings).fit(images, sample_weight=[1.0, 0.0])
    alone = DenoisingAutoencoder(**settings).fit(images[:1])
    np.testing.assert_array_equal(autoencoder.impute(images[:1]), alone.impute(images[:1]))
    assert np.square(alone.impute(images[:1])[0] - PHOTO).mean() < 0.1 * PHOTO.var()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patch_size": 97}, ["patch_size=97", "96 x 160"]),
        ({"patch_size": 0}, ["patch_size"]),
        ({"patch_size": 1.5}, ["patch_size"]),
        ({"patch_size": 16, "image_shape": (96, 160, 3)}, ["patch_size", "image_shape=None"]),
        ({"n_components": 3}, ["n_components=3", "bottleneck"]),
        ({"noise": ("masking", "nonsense")}, ["noise", "nonsense"]),
        ({"noise": ()}, ["noise", "()"]),
        ({"noise": ("masking", "affine"), "noise_level": (0.1,)}, ["noise_level", "(0.1,)"]),
        ({"noise": ("masking", "affine"), "noise_level": (0.1, -1)}, ["noise_level", "-1"]),
        ({"noise": ("affine",), "noise_level": 1.5}, ["noise_level", "affine", "1.5"]),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError) as caught:
        DenoisingAutoencoder(**UNET | settings).fit(PHOTO[None])
    assert all(word in str(caught.value) for word in words)

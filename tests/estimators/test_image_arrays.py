"""Image arrays: the same as their rows, in the caller's shape."""

import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, DenoisingAutoencoder

DIGITS = load_digits().images[:300]
ROWS = DIGITS.reshape(300, 64)
SMALL = {"n_components": 4, "hidden_layer_sizes": (16,), "max_epochs": 3, "random_state": 0}
MLP = SMALL | {"network": "mlp"}
CLASSES = [AutoencoderTransformer, DenoisingAutoencoder, AutoencoderAnomalyDetector]
each_class = pytest.mark.parametrize("cls", CLASSES)


@each_class
def test_images_give_the_numbers_of_their_rows(cls):
    images, rows = cls(**MLP).fit(DIGITS), cls(image_shape=(8, 8), **MLP).fit(ROWS)
    assert images.n_features_in_ == 64
    np.testing.assert_array_equal(images.score_samples(DIGITS), rows.score_samples(ROWS))
    np.testing.assert_array_equal(images.score_samples(ROWS), rows.score_samples(DIGITS))


def test_images_come_back_in_the_shape_they_were_given():
    for shape in [(8, 8), (8, 8, 1), (4, 4, 4), (2, 8, 4)]:
        images = DIGITS.reshape(300, *shape)
        autoencoder = AutoencoderTransformer(**MLP).fit(images)
        rows = AutoencoderTransformer(**MLP, image_shape=shape).fit(ROWS)
        rebuilt = autoencoder.reconstruct(images)
        assert rebuilt.dtype == np.float32
        np.testing.assert_array_equal(rebuilt, rows.reconstruct(ROWS).reshape(images.shape))
        latents = autoencoder.transform(images)
        np.testing.assert_array_equal(autoencoder.inverse_transform(latents), rebuilt)
        np.testing.assert_array_equal(rows.inverse_transform(latents), rebuilt.reshape(300, 64))
        np.testing.assert_array_equal(autoencoder.reconstruct(ROWS), rebuilt.reshape(300, 64))


def test_contributions_of_pixels_have_the_shape_of_the_images():
    detector = AutoencoderAnomalyDetector(**MLP).fit(DIGITS)
    contributions = detector.feature_contributions(DIGITS)
    assert contributions.shape == DIGITS.shape
    np.testing.assert_array_equal(
        contributions.reshape(300, 64), detector.feature_contributions(ROWS)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float64])
def test_dtype_of_the_pixels_does_not_matter(dtype):
    expected = AutoencoderTransformer(**MLP).fit(DIGITS.astype(np.float32)).transform(DIGITS)
    images = DIGITS.astype(dtype)
    latents = AutoencoderTransformer(**MLP).fit_transform(images)
    np.testing.assert_allclose(latents, expected, rtol=1e-5, atol=1e-5)


def test_a_trailing_channel_axis_may_be_left_out():
    autoencoder = AutoencoderTransformer(**MLP).fit(DIGITS)
    rebuilt = autoencoder.reconstruct(DIGITS[..., None])
    np.testing.assert_array_equal(rebuilt, autoencoder.reconstruct(DIGITS)[..., None])


def test_lists_of_images_are_stacked():
    autoencoder = AutoencoderTransformer(**MLP).fit(list(DIGITS))
    expected = AutoencoderTransformer(**MLP).fit(DIGITS).reconstruct(DIGITS)
    np.testing.assert_array_equal(autoencoder.reconstruct(list(DIGITS)), expected)


@pytest.mark.parametrize("crop", [np.s_[:], np.s_[::2], np.s_[:, 1:7, 2:], np.s_[:, :, ::-1]])
def test_a_memory_map_gives_what_memory_gives(tmp_path, crop):
    np.save(tmp_path / "images.npy", DIGITS.astype(np.uint8))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")[crop]
    in_memory = np.ascontiguousarray(DIGITS.astype(np.uint8)[crop])
    first, second = (cls(**MLP).fit(mapped) for cls in (AutoencoderTransformer,) * 2)
    np.testing.assert_array_equal(first.transform(mapped), second.transform(in_memory))
    np.testing.assert_array_equal(
        first.transform(in_memory), AutoencoderTransformer(**MLP).fit_transform(in_memory)
    )


def test_images_with_weights_are_as_rows_with_weights():
    weights = np.arange(300) % 3
    images = AutoencoderTransformer(**MLP).fit(DIGITS[:, 1:], sample_weight=weights)
    rows = AutoencoderTransformer(**MLP, image_shape=(7, 8))
    rows.fit(DIGITS[:, 1:].reshape(300, -1), sample_weight=weights)
    np.testing.assert_array_equal(images.transform(DIGITS[:, 1:]), rows.transform(DIGITS[:, 1:]))


def test_partial_fit_and_warm_start_take_images():
    autoencoder = AutoencoderTransformer(**MLP)
    for _ in range(3):
        autoencoder.partial_fit(DIGITS)
    assert len(autoencoder.loss_curve_) == 3
    autoencoder.set_params(warm_start=True).fit(DIGITS)
    assert autoencoder.score(DIGITS) > 0.2


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros((5, 8, 8, 1, 1)), ["dim 5", "height, width, channels"]),
        (np.zeros((5, 0, 8)), ["shape (5, 0, 8)"]),
        (np.zeros((0, 8, 8)), ["0 sample"]),
        ([np.zeros((8, 8)), np.zeros((8, 9))], ["different sizes", "(8, 8)", "(8, 9)"]),
        (np.full((5, 8, 8), np.inf), ["infinity"]),
        (np.full((5, 8, 8), np.nan), ["no observed value"]),
        (np.full((5, 8, 8), "a"), ["a"]),
        (np.full((5, 8, 8), 1j), ["omplex"]),
    ],
    ids=lambda value: str(np.shape(value)) if isinstance(value, np.ndarray) else "",
)
@each_class
def test_unusable_images_are_refused(cls, X, words):
    estimator = cls(**MLP)
    with pytest.raises(ValueError) as caught:
        estimator.fit(X)
    assert all(word in str(caught.value) for word in words)
    assert vars(estimator) == vars(cls(**MLP))


def test_images_of_another_shape_are_refused():
    autoencoder = AutoencoderTransformer(**MLP).fit(DIGITS)
    with pytest.raises(ValueError, match=r"shape \(7, 8\).*expects \(8, 8\)"):
        autoencoder.transform(DIGITS[:, 1:])
    with pytest.raises(ValueError, match=r"shape \(8, 8\).*rows of 64 features"):
        AutoencoderTransformer(**MLP).fit(ROWS).transform(DIGITS)
    with pytest.raises(ValueError, match=r"shape \(8, 8\).*expects \(4, 16\)"):
        AutoencoderTransformer(**MLP, image_shape=(4, 16)).fit(DIGITS)
    with pytest.raises(ValueError, match="63 features"):
        autoencoder.transform(ROWS[:, 1:])


@pytest.mark.slow
@pytest.mark.parametrize("crop", [np.s_[:], np.s_[:, 2:, 1:]])
def test_a_memory_map_is_never_copied_whole(tmp_path, crop):
    path = tmp_path / "images.npy"
    stored = np.lib.format.open_memmap(path, "w+", dtype=np.uint8, shape=(3000, 64, 64))
    stored[:] = np.random.default_rng(0).integers(256, size=(3000, 1, 64))
    stored.flush()
    images = np.load(path, mmap_mode="r")[crop]
    detector = AutoencoderAnomalyDetector(**MLP).fit(images[:200])
    tracemalloc.start()
    detector.score_samples(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000, "a quarter of the bytes in the file"

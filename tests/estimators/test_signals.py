"""Signals: along time, of any length and number of channels, with gaps; images of one column."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from torch.nn import functional

import skae.io
from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)
from skae._networks.conv import from_channels, into_channels
from skae.model_selection import AutoencoderSearchCV

SMALL = {
    "network": "conv1d",
    "n_components": 4,
    "hidden_layer_sizes": (8, 8),
    "max_epochs": 2,
    "random_state": 0,
}
UNET = {
    "network": "unet1d",
    "hidden_layer_sizes": (8, 8),
    "scaling": None,
    "batch_size": 32,
    "random_state": 0,
}
TRANSFORMERS = [AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder]


def _pulses(n, length, n_channels=1, seed=0):
    """Pulses every twelve steps, from a random place on, with a little noise."""
    rng = np.random.default_rng(seed)
    place = (np.arange(length) + rng.uniform(0, 12, size=(n, 1))) % 12 - 6
    pulses = np.exp(-0.5 * (place / 1.5) ** 2)[..., None] * np.linspace(1, 2, n_channels)
    return pulses + rng.normal(scale=0.03, size=(n, length, n_channels))


WAVES = _pulses(200, 40, 2)
ROWS = _pulses(200, 40)[..., 0]


@pytest.mark.parametrize("cls", TRANSFORMERS)
def test_signals_are_images_of_one_column(cls):
    signals = cls(**SMALL).fit(WAVES)
    images = cls(**SMALL | {"network": "conv"}).fit(WAVES[:, :, None])
    expected = images.score_samples(WAVES[:, :, None])
    np.testing.assert_array_equal(signals.score_samples(WAVES), expected)
    rebuilt = images.reconstruct(WAVES[:, :, None])[:, :, 0]
    np.testing.assert_array_equal(signals.reconstruct(WAVES), rebuilt)


@pytest.mark.parametrize("cls", [*TRANSFORMERS, AutoencoderAnomalyDetector])
def test_rows_hold_signals(cls):
    signals, flat = cls(**SMALL).fit(WAVES), WAVES.reshape(200, 80)
    rows = cls(**SMALL, image_shape=(40, 2)).fit(flat)
    np.testing.assert_array_equal(rows.score_samples(flat), signals.score_samples(WAVES))
    np.testing.assert_array_equal(
        rows.reconstruct(flat).ravel(), signals.reconstruct(WAVES).ravel()
    )


@pytest.mark.parametrize("cls", TRANSFORMERS)
def test_rows_are_signals_of_one_channel(cls):
    rows, signals = cls(**SMALL).fit(ROWS), cls(**SMALL).fit(ROWS[..., None])
    latents = rows.transform(ROWS)
    np.testing.assert_array_equal(signals.transform(ROWS[..., None]), latents)
    np.testing.assert_array_equal(signals.transform(ROWS), latents)
    decoded = rows.inverse_transform(latents)
    assert decoded.shape == ROWS.shape
    np.testing.assert_array_equal(signals.inverse_transform(latents)[..., 0], decoded)


def test_images_of_one_row_and_of_one_column_learn_alike():
    """Without strides across a single row, which once were refused."""
    rows = AutoencoderTransformer(**SMALL | {"network": "conv"}).fit(ROWS[:, None])
    columns = AutoencoderTransformer(**SMALL | {"network": "conv"}).fit(ROWS[:, :, None])
    np.testing.assert_allclose(rows.loss_curve_, columns.loss_curve_, rtol=1e-4)


@pytest.mark.parametrize("length", [8, 9, 21])
def test_any_length_from_eight_on(length):
    signals = _pulses(200, length, 3)
    settings = SMALL | {"hidden_layer_sizes": "auto", "max_epochs": 30, "learning_rate": 0.01}
    assert AutoencoderTransformer(**settings).fit(signals).score(signals) > 0.9


def test_latents_rebuild_shifted_pulses_better_than_pca():
    pca = PCA(4).fit(ROWS)
    settings = SMALL | {"max_epochs": 60, "learning_rate": 0.01}
    score = AutoencoderTransformer(**settings).fit(ROWS).score(ROWS)
    assert 1.0 - score < 0.7 * (1.0 - pca.explained_variance_ratio_.sum())


def test_blocks_of_pixels_become_channels():
    images = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    expected = functional.pixel_unshuffle(images, 2)
    assert torch.equal(into_channels(images, (2, 2)), expected)
    assert torch.equal(from_channels(expected, (2, 2)), images)
    signal = torch.arange(6.0).view(1, 1, 6, 1)
    pairs = into_channels(signal, (2, 1))
    assert pairs[0, :, :, 0].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert torch.equal(from_channels(pairs, (2, 1)), signal)


@pytest.mark.slow
def test_noise_is_removed_from_longer_signals():
    settings = UNET | {"patch_size": 24, "max_epochs": 4, "learning_rate": 5e-3}
    autoencoder = DenoisingAutoencoder(noise="gaussian", noise_level=0.3, **settings).fit(ROWS)
    longer = _pulses(5, 333, seed=1)[..., 0]
    noisy = longer + np.random.default_rng(2).normal(scale=0.3, size=longer.shape)
    clean = autoencoder.denoise(noisy)
    assert np.square(clean - longer).mean() < 0.35 * 0.3**2
    np.testing.assert_array_equal(autoencoder.denoise(noisy[..., None])[..., 0], clean)
    out = np.empty(noisy.shape, dtype=np.float32)
    np.testing.assert_array_equal(autoencoder.denoise(noisy, out=out), clean)
    assert autoencoder.pixel_features(noisy).shape == (5, 333, 1 + 8 + 8 + 8)


def test_gaps_are_filled_in_and_the_rest_is_left_as_it_is():
    settings = UNET | {"max_epochs": 25, "learning_rate": 5e-3, "noise": "masking"}
    autoencoder = DenoisingAutoencoder(**settings, noise_level=0.4).fit(WAVES)
    gaps = np.random.default_rng(0).random(WAVES.shape[:2]) < 0.3
    holes = np.where(gaps[..., None], np.nan, WAVES)
    filled = autoencoder.impute(holes)
    np.testing.assert_array_equal(filled[~gaps], WAVES[~gaps])
    assert np.square(filled - WAVES)[gaps].mean() < 0.15 * WAVES[gaps].var()
    np.testing.assert_array_equal(autoencoder.inpaint(WAVES, gaps), filled)


DETECTOR = AutoencoderAnomalyDetector(
    network="conv1d", n_components=4, max_epochs=20, learning_rate=0.01, random_state=0
)


def _of_lengths(signals, seed):
    """Signals that end somewhere in their second half, and their lengths."""
    _, length, _ = signals.shape
    lengths = np.random.default_rng(seed).integers(length // 2, length + 1, len(signals))
    return np.where((np.arange(length) < lengths[:, None])[..., None], signals, np.nan), lengths


@pytest.fixture(scope="module")
def padded():
    """A detector of signals of many lengths, new ones, the same with a bump, and lengths."""
    train, _ = _of_lengths(_pulses(400, 64, 2), 1)
    normal, lengths = _of_lengths(_pulses(200, 64, 2, seed=2), 3)
    bumps = normal.copy()
    bumps[:, 14:18, 0] += 0.7
    return DETECTOR.fit(train), normal, bumps, lengths


@pytest.mark.slow
def test_the_score_does_not_follow_the_length(padded):
    detector, normal, bumps, lengths = padded
    scores = detector.score_samples(normal)
    assert abs(np.corrcoef(lengths, scores)[0, 1]) < 0.3
    assert abs(spearmanr(lengths, scores)[0]) < 0.3
    found = np.concatenate([scores, detector.score_samples(bumps)])
    assert roc_auc_score(np.repeat([0, 1], 200), -found) > 0.95
    assert np.mean(detector.predict(normal) == -1) < 0.1


def test_rows_padded_by_nan_are_scored_alike_by_the_dense_network(padded):
    _, normal, _, lengths = padded
    train, _ = _of_lengths(_pulses(400, 64, 2), 1)
    detector = AutoencoderAnomalyDetector(random_state=0).fit(train.reshape(400, -1))
    scores = detector.score_samples(normal.reshape(200, -1))
    assert abs(np.corrcoef(lengths, scores)[0, 1]) < 0.35


def test_the_map_tells_when(padded):
    detector, _, bumps, _ = padded
    maps = detector.anomaly_map(bumps)
    assert maps.shape == (200, 64)
    np.testing.assert_array_equal(maps.max(axis=1), -detector.score_samples(bumps))
    peaks = maps.argmax(axis=1)
    assert np.mean((peaks >= 11) & (peaks < 21)) > 0.9


def test_intervals_hold_what_is_unusual(padded):
    pytest.importorskip("skimage")
    detector, normal, bumps, _ = padded
    found = detector.detect(np.concatenate([normal, bumps]))
    labels = detector.predict(np.concatenate([normal, bumps]))
    np.testing.assert_array_equal([len(intervals) > 0 for intervals in found], labels == -1)
    best = np.array([intervals[0] for intervals in found[200:] if len(intervals)])
    assert best.shape[1] == 3
    assert np.mean((best[:, 0] < 18) & (best[:, 1] > 14)) > 0.9


def test_files_and_pickles_give_the_same_bits(padded, tmp_path):
    detector, normal, _, _ = padded
    autoencoder = DenoisingAutoencoder(**UNET | {"patch_size": 16, "max_epochs": 1}).fit(WAVES[:40])
    for fitted, signals in ((detector, normal[:50]), (autoencoder, normal[:50, :16])):
        skae.io.save(fitted, tmp_path / "signals.skae")
        for copy in (skae.io.load(tmp_path / "signals.skae"), pickle.loads(pickle.dumps(fitted))):
            expected = fitted.score_samples(signals)
            np.testing.assert_array_equal(copy.score_samples(signals), expected)
            np.testing.assert_array_equal(copy.reconstruct(signals), fitted.reconstruct(signals))


@pytest.mark.parametrize("kind", [pytest.param("detector", marks=pytest.mark.slow), "unet1d"])
def test_graphs_compute_what_the_estimator_does(padded, tmp_path, kind):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    from skae.export import to_onnx

    detector, normal, _, _ = padded
    fitted, method = detector, "score_samples"
    if kind == "unet1d":
        fitted, method = DenoisingAutoencoder(**UNET, max_epochs=1).fit(normal), "reconstruct"
    to_onnx(fitted, tmp_path / "signals.onnx", method)
    session = runtime.InferenceSession(tmp_path / "signals.onnx")
    (found,) = session.run([method], {"X": normal.astype(np.float32)})
    np.testing.assert_allclose(found, getattr(fitted, method)(normal), rtol=1e-3, atol=1e-3)


def test_search_and_frames():
    pandas = pytest.importorskip("pandas")
    search = AutoencoderSearchCV(
        AutoencoderTransformer(**SMALL), {"n_components": [1, 4]}, cv=2, refit=False
    ).fit(WAVES)
    one, four = search.cv_results_["mean_test_score"]
    assert one < four
    frame = pandas.DataFrame(ROWS).add_prefix("t")
    autoencoder = AutoencoderTransformer(**SMALL).set_output(transform="pandas").fit(frame)
    assert list(autoencoder.transform(frame).columns) == [
        f"autoencodertransformer{i}" for i in range(4)
    ]
    assert list(autoencoder.reconstruct(frame).columns) == list(frame.columns)
    patches = DenoisingAutoencoder(**UNET, patch_size=16, max_epochs=1).fit(frame)
    assert patches.set_output(transform="pandas").denoise(frame).shape == ROWS.shape


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: AutoencoderTransformer(**SMALL).fit(WAVES[:, None]), "4 axes.*takes signals"),
        (lambda: AutoencoderTransformer(**SMALL, image_shape=(5, 8, 1)).fit(ROWS), "takes signals"),
        (lambda: AutoencoderTransformer(**SMALL, image_shape=(7, 2)).fit(ROWS), "image_shape"),
        (
            lambda: DenoisingAutoencoder(**SMALL, patch_size=50).fit(ROWS),
            "patch_size=50 is larger than the images of 40 x 1",
        ),
        (
            lambda: AutoencoderTransformer(**SMALL | {"network": "conv"}).fit(ROWS),
            "Of signals, pass network='conv1d'",
        ),
        (
            lambda: AutoencoderTransformer(**SMALL).fit(WAVES).transform(WAVES[:, :30]),
            r"signals of shape \(30, 2\).*expects \(40, 2\)",
        ),
        (
            lambda: AutoencoderTransformer(**SMALL).fit(WAVES).transform(WAVES[0]),
            r"X is one signal.*X\[None\]",
        ),
        (
            lambda: DenoisingAutoencoder(**UNET | {"n_components": 3}).fit(ROWS),
            "network='unet1d' has no bottleneck",
        ),
    ],
    ids=["axes", "shape", "size", "patch", "rows", "length", "single", "latents"],
)
def test_what_is_no_signal_is_refused(action, words):
    with pytest.raises(ValueError, match=words):
        action()


def test_categories_and_labels_of_pixels_are_refused():
    pandas = pytest.importorskip("pandas")
    from skae.segmentation import PixelClassifier

    frame = pandas.DataFrame(ROWS).add_prefix("t")
    frame["t0"] = pandas.Categorical(np.where(ROWS[:, 0] > 0.5, "high", "low"))
    with pytest.raises(ValueError, match="takes signals, but X has categories"):
        AutoencoderTransformer(**SMALL).fit(frame)
    with pytest.raises(ValueError, match="takes signals, but PixelClassifier"):
        PixelClassifier(AutoencoderTransformer(**SMALL)).fit(WAVES, np.ones((200, 40), dtype=int))


@pytest.mark.parametrize(
    ("settings", "shape", "words"),
    [
        ({"network": "mlp"}, (3, 9, 8), r"images of shape \(3, 9, 8\).*transpose\(0, 2, 3, 1\)"),
        ({}, (8, 64), r"signals of shape \(8, 64\).*transpose\(0, 2, 1\)"),
    ],
    ids=["images", "signals"],
)
def test_channels_that_come_first_are_warned_of(settings, shape, words):
    X = np.random.default_rng(0).normal(size=(20, *shape))
    with pytest.warns(UserWarning, match=words):
        AutoencoderTransformer(**SMALL | settings).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoencoderTransformer(**SMALL | settings).fit(np.moveaxis(X, 1, -1))

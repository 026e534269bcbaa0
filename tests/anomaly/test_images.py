"""Detectors of images: the most unusual pixel counts, by what is usual there."""

import copy
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skae import AutoencoderAnomalyDetector
from skae._anomaly.images import _map, _mean_squares
from skae._anomaly.octaves import octave_sizes
from skae.io import load, save

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = np.mgrid[:40, :32]
DETECTOR = AutoencoderAnomalyDetector(
    n_components=6, hidden_layer_sizes=(32,), max_epochs=10, random_state=0
)


def _tiles(n):
    """Waves with noise that is three times as strong on the right, bright and dark."""
    phase = RNG.uniform(0, 6, size=(n, 1, 1))
    gain = RNG.uniform(0.7, 1.4, size=(n, 1, 1))
    noise = RNG.normal(size=(n, 40, 32)) * np.where(WIDTH < 16, 0.1, 0.3)
    return gain * (3.0 + np.sin(WIDTH / 3 + phase) + noise), gain[:, 0, 0]


TRAIN, _ = _tiles(200)
NORMAL, GAIN = _tiles(80)
SPOTTED = NORMAL.copy()
# As strong as the usual noise is on the right.
SPOTTED[:, 20:23, 6:9] += 0.6 * GAIN[:, None, None]
ALL = np.concatenate([NORMAL, SPOTTED])
LABELS = np.repeat([0, 1], 80)


@pytest.fixture(scope="module")
def detector():
    return clone(DETECTOR).fit(TRAIN)


@pytest.fixture(scope="module")
def plain():
    """Whose score is the mean loss."""
    return AutoencoderAnomalyDetector(
        n_components=6, anomaly_score="reconstruction", random_state=0
    ).fit(TRAIN)


@pytest.mark.slow
def test_small_defects_are_found_that_a_mean_drowns(detector, plain):
    assert roc_auc_score(LABELS, -detector.score_samples(ALL)) > 0.95
    assert roc_auc_score(LABELS, -plain.score_samples(ALL)) < 0.6


def test_score_label_map_and_boxes_agree(detector):
    pytest.importorskip("skimage")
    maps, labels = detector.anomaly_map(ALL), detector.predict(ALL)
    assert maps.shape == ALL.shape
    np.testing.assert_array_equal(maps.max(axis=(1, 2)), -detector.score_samples(ALL))
    found = detector.detect(ALL)
    np.testing.assert_array_equal([len(boxes) > 0 for boxes in found], labels == -1)
    fresh, _ = _tiles(200)
    assert (detector.predict(fresh) == -1).mean() < 0.1
    assert (labels[LABELS == 1] == -1).mean() > 0.8
    best = np.array([boxes[0] for boxes in found[80:] if len(boxes)])
    around = (best[:, 0] <= 20) & (best[:, 2] >= 23) & (best[:, 1] <= 6) & (best[:, 3] >= 9)
    assert around.mean() > 0.9
    np.testing.assert_array_equal(best[:, 4], maps[80:].max(axis=(1, 2))[labels[80:] == -1])


def test_boxes_of_strong_defects_are_small(detector):
    pytest.importorskip("skimage")
    strong = NORMAL[:20].copy()
    strong[:, 20:23, 6:9] += 5.0
    for found in detector.detect(strong):
        assert len(found) == 1
        top, left, bottom, right, _ = found[0]
        assert top <= 20
        assert bottom >= 23
        assert left <= 6
        assert right >= 9
        assert (bottom - top) * (right - left) < 40 * 32 / 4


def test_share_of_outliers_sets_the_threshold_of_pixels(detector):
    pytest.importorskip("skimage")
    strict = clone(DETECTOR).set_params(contamination=0.05).fit(TRAIN)
    np.testing.assert_array_equal(strict.score_samples(ALL), detector.score_samples(ALL))
    assert sum(len(boxes) > 0 for boxes in strict.detect(TRAIN)) == 10


def test_threads_do_not_change_the_bits():
    torch.set_num_threads(2)  # The tests have one.
    wide = clone(DETECTOR).set_params(hidden_layer_sizes="auto", max_epochs=1)
    two = clone(wide).fit(TRAIN[:60])
    torch.set_num_threads(1)
    one = wide.fit(TRAIN[:60])
    np.testing.assert_array_equal(two.score_samples(TRAIN[:80]), one.score_samples(TRAIN[:80]))
    for a, b in zip(two._scorer.rows.members, one._scorer.rows.members, strict=True):
        np.testing.assert_array_equal(a.few, b.few)
        np.testing.assert_array_equal(a.many, b.many)


def test_a_loaded_detector_has_the_same_bits_in_color(tmp_path):
    images = np.random.default_rng(3).random((6, 6, 5, 2)).astype(np.float32)
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0).fit(images)
    save(detector, tmp_path / "file")
    again = load(tmp_path / "file")
    np.testing.assert_array_equal(again.score_samples(images), detector.score_samples(images))


def test_brightness_counts_less_than_for_the_mean_loss(detector, plain):
    of_places, of_means = (
        spearmanr(GAIN, -model.score_samples(NORMAL)).statistic for model in (detector, plain)
    )
    assert of_means > 0.8
    assert of_places < 0.6


def test_unusual_images_without_an_unusual_place_are_found(detector):
    rng = np.random.default_rng(1)
    other = 3.0 + np.sin(HEIGHT / 3 + rng.uniform(0, 6, size=(30, 1, 1)))
    other = other + rng.normal(scale=0.1, size=other.shape)
    assert (detector.predict(other) == -1).all()


def test_an_unusual_image_does_not_lift_its_usual_places():
    shape, row, squares = (8, 8), torch.tensor([3.0]), torch.ones(1, 8, 8)
    usual = [torch.zeros(1, height * width) for height, width in octave_sizes(shape)]
    usual.append(usual[0])  # What surroundings do not tell.
    expected = np.full((1, *shape), 3.0)
    np.testing.assert_array_equal(_map(sum(_mean_squares(usual, shape)), row, squares), expected)
    spotted = [usual[0].index_fill(1, torch.tensor([0]), 4.0), *usual[1:]]
    anomaly_map = _map(sum(_mean_squares(spotted, shape)), row, squares)[0]
    # One of two octaves, and the row in full.
    assert anomaly_map[0, 0] == anomaly_map.max() == pytest.approx(np.sqrt(4.0**2 / 2 + 3.0**2))
    assert anomaly_map[4:].max() == 0.0


def test_a_map_is_high_where_what_is_unusual_is_also_large():
    shape = (8, 8)
    excess = [torch.ones(1, height * width) for height, width in octave_sizes(shape)]
    total = sum(_mean_squares([*excess, excess[0]], shape))
    np.testing.assert_allclose(total, 2.0)  # One of the residuals, one of the surroundings.
    squares = torch.ones(1, 8, 8)
    squares[0, :, 4:] = 0.25
    anomaly_map = _map(total, torch.tensor([0.0]), squares)[0]
    np.testing.assert_allclose(anomaly_map[:, :4], 2.0**0.5)
    np.testing.assert_allclose(anomaly_map[:, 4:], 2.0**0.5 / 2)


@pytest.mark.parametrize("kind", ["bright", "dark"])
def test_ground_without_events_does_not_hide_the_object(kind):
    """Pixels share a unit: small noise of the ground does not outweigh a defect of the object."""
    rng = np.random.default_rng(0)
    ground, where = {"bright": 200.0, "dark": 20.0}[kind], np.hypot(HEIGHT - 20, WIDTH - 16) < 10
    images = np.where(where, 110.0, ground) + rng.normal(size=(150, 40, 32))
    images[:, where] += rng.normal(scale=8.0, size=(150, where.sum()))
    detector = clone(DETECTOR).fit(images[:120])
    spotted = images[120:].copy()
    spotted[:, 18:22, 14:18] += 40.0
    masks = np.zeros(spotted.shape, dtype=bool)
    masks[:, 18:22, 14:18] = True
    assert np.ptp(detector._model.scaler.scale) == 0.0
    assert roc_auc_score(masks.ravel(), detector.anomaly_map(spotted).ravel()) > 0.95


def test_contributions_of_pixels_sum_to_the_score_and_lie_on_the_defect(detector):
    contributions = detector.feature_contributions(SPOTTED)
    assert contributions.shape == SPOTTED.shape
    expected = -detector.score_samples(SPOTTED).clip(max=0.0)
    np.testing.assert_allclose(contributions.sum(axis=(1, 2)), expected, rtol=1e-6)
    on_spot = contributions[:, 19:24, 5:10].sum(axis=(1, 2))
    assert np.median(on_spot[expected > 2] / expected[expected > 2]) > 0.5


def test_scores_follow_recent_images_after_calibrate(detector):
    shares = []
    for seed in range(1, 3):
        noise = np.random.default_rng(seed).normal(scale=0.3, size=NORMAL.shape)
        noisier = NORMAL + GAIN[:, None, None] * noise
        assert (detector.predict(noisier) == -1).mean() > 0.9
        calibrated = copy.deepcopy(detector).calibrate(noisier)
        shares.append((calibrated.predict(noisier) == -1).mean())
    assert np.mean(shares) < 0.2


def test_images_of_a_stream_are_scored():
    detector = clone(DETECTOR)
    for part in np.split(TRAIN, 2):
        detector.partial_fit(part)
    assert roc_auc_score(LABELS, -detector.score_samples(ALL)) > 0.7


@pytest.mark.parametrize(
    ("network", "shape"),
    [("mlp", (1, 1)), ("mlp", (1, 9)), ("mlp", (5, 7, 3)), ("mlp", (33, 18))],
)
def test_images_of_any_size_have_maps(network, shape):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(90, *shape))
    detector = clone(DETECTOR).set_params(network=network, max_epochs=2, n_components=2)
    maps = detector.fit(images).anomaly_map(images)
    assert maps.shape == (90, *shape[:2])
    assert np.isfinite(maps).all()
    np.testing.assert_allclose(detector.anomaly_map(images[7:8])[0], maps[7], rtol=1e-3, atol=1e-4)


def test_constant_images_are_typical_and_others_are_not():
    detector = clone(DETECTOR).set_params(max_epochs=2).fit(np.zeros((80, 6, 6)))
    assert detector.score_samples(np.zeros((1, 6, 6))) == pytest.approx(0.0, abs=1e-3)
    assert (detector.predict(np.eye(6)[None]) == -1).all()


def test_other_scores_keep_the_loss_as_their_map():
    pytest.importorskip("skimage")
    detector = clone(DETECTOR).set_params(anomaly_score="mahalanobis").fit(TRAIN)
    losses = detector.anomaly_map(NORMAL, smoothing=0.0)
    mean_losses = detector._model.losses(NORMAL.reshape(80, -1))
    np.testing.assert_allclose(losses.mean((1, 2)), mean_losses, rtol=1e-5)
    shares = np.mean([len(boxes) > 0 for boxes in detector.detect(NORMAL)])
    assert shares < 0.15


@pytest.mark.slow
def test_scoring_a_memory_map_holds_a_part_of_it(tmp_path):
    rng = np.random.default_rng(0)
    stored = rng.integers(256, size=(6000, 64, 64), dtype=np.uint8)
    np.save(tmp_path / "images.npy", stored)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    detector = AutoencoderAnomalyDetector(n_components=4, hidden_layer_sizes=(16,), max_epochs=1)
    detector.set_params(random_state=0).fit(mapped[:100])
    tracemalloc.start()
    scores = detector.score_samples(mapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < stored.nbytes / 4
    np.testing.assert_array_equal(scores[5000:], detector.score_samples(stored[5000:]))

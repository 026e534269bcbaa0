"""partial_fit of few rows: what is usual is learned from enough of the last ones."""

import pickle

import numpy as np
import pytest

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer, VariationalAutoencoder
from skae.io import for_prediction, load, save

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(5, 5))
ROWS = RNG.normal(size=(900, 5)) @ MIX
ODD = np.array([0.0, 0.0, 9.0, 0.0, 0.0])


def _flagged(detector, rows):
    return float((detector.predict(rows) == -1).mean())


def test_single_rows_do_not_make_all_others_unusual():
    detector = AutoencoderAnomalyDetector(random_state=0).fit(ROWS[:500])
    for row in ROWS[500:510]:
        detector.partial_fit(row[None])
    assert _flagged(detector, ROWS[600:]) < 0.1
    assert _flagged(detector, ROWS[600:] + 2 * ODD) > 0.5


@pytest.mark.parametrize("size", [10, 100])
def test_a_detector_gets_used_to_a_new_level(size):
    detector = AutoencoderAnomalyDetector(random_state=0).fit(ROWS[:500])
    new = ROWS + 12.0
    assert _flagged(detector, new[:100]) > 0.9
    for start in range(0, 300, size):
        detector.partial_fit(new[start : start + size])
    assert _flagged(detector, new[500:]) < 0.15
    assert _flagged(detector, new[500:] + ODD) > 0.5


def test_large_batches_are_calibrated_on_by_themselves():
    detector = AutoencoderAnomalyDetector(random_state=0).fit(ROWS[:300] + 50.0)
    detector.partial_fit(ROWS[300:700])
    assert len(detector._seen.keys) == 400


def test_a_stream_begins_with_several_rows():
    with pytest.raises(ValueError, match="n_samples=1"):
        AutoencoderAnomalyDetector(random_state=0).partial_fit(ROWS[:1])
    detector = AutoencoderAnomalyDetector(random_state=0).partial_fit(ROWS[:40])
    detector.partial_fit(ROWS[40:41])
    assert len(detector._seen.keys) == 41
    detector.calibrate(ROWS[100:200])
    detector.partial_fit(ROWS[41:42])
    assert len(detector._seen.keys) == 101


def test_glitches_in_a_stream_are_cut_off():
    detector = AutoencoderAnomalyDetector(random_state=0).fit(ROWS[:500])
    glitch = ROWS[500:501].copy()
    glitch[0, 2] = 1e12
    detector.partial_fit(glitch)
    assert _flagged(detector, ROWS[600:]) < 0.1
    assert _flagged(detector, glitch) == 1.0
    assert _flagged(detector, ROWS[600:] + 2 * ODD) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("make", [AutoencoderTransformer, VariationalAutoencoder])
def test_ranges_and_density_are_not_those_of_the_last_batch(make):
    model = make(random_state=0).fit(ROWS[:500])
    model.partial_fit(np.full((1, 5), 0.5))
    low, high = model._ranges.low, model._ranges.high
    np.testing.assert_allclose(low, ROWS[:500].min(axis=0))
    np.testing.assert_allclose(high, ROWS[:500].max(axis=0))
    drawn = model.sample(300, random_state=0)
    assert (drawn.std(axis=0) > 0.3 * ROWS.std(axis=0)).all()
    beyond = ROWS[500:501] * 3.0
    model.partial_fit(beyond)
    np.testing.assert_allclose(model._ranges.high, np.maximum(high, beyond[0]), rtol=1e-6)


def test_streams_go_on_after_pickles_and_files(tmp_path):
    detector = AutoencoderAnomalyDetector(random_state=0, max_epochs=5).fit(ROWS[:300])
    save(detector, tmp_path / "detector.safetensors")
    copies = [pickle.loads(pickle.dumps(detector)), load(tmp_path / "detector.safetensors")]
    expected = detector.partial_fit(ROWS[300:310]).score_samples(ROWS[310:])
    for copy in copies:
        copy.partial_fit(ROWS[300:310])
        np.testing.assert_array_equal(copy.score_samples(ROWS[310:]), expected)


def test_what_only_predicts_holds_no_rows():
    detector = AutoencoderAnomalyDetector(random_state=0, max_epochs=5).fit(ROWS[:300])
    assert len(detector._recent) == 256
    assert not hasattr(for_prediction(detector), "_recent")

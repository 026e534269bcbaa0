"""Tables with glitches, gaps, copies, offsets and columns that hardly vary."""

import warnings

import numpy as np
import pytest

from skae import (
    AutoencoderAnomalyDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VariationalAutoencoder,
)

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(500, 3)) @ RNG.normal(size=(3, 8)) + 0.1 * RNG.normal(size=(500, 8))
FEW = {"random_state": 0, "max_epochs": 10}


def _rmse(a, b):
    return float(np.sqrt(np.mean((np.asarray(a) - b) ** 2)))


@pytest.mark.slow
@pytest.mark.parametrize("make", [AutoencoderTransformer, DenoisingAutoencoder])
@pytest.mark.parametrize(
    ("level", "spread", "off"), [(0.3, 1e-9, 0.01), (0.0, 1e-3, 10.0), (0.0, 1.0, 1e6)]
)
def test_a_column_that_is_far_off_does_not_ruin_the_others(make, level, spread, off):
    X = np.column_stack([ROWS, level + spread * RNG.normal(size=500)])
    model = make(n_components=4, random_state=0).fit(X[:400])
    new = X[400:].copy()
    new[:, -1] += off
    rebuilt = model.reconstruct(new)
    assert _rmse(rebuilt[:, :8], new[:, :8]) < 1.5 * _rmse(model.reconstruct(X[400:]), X[400:])


def test_a_detector_sees_what_the_networks_do_not():
    X = np.column_stack([ROWS, 0.3 + 1e-9 * RNG.normal(size=500)])
    detector = AutoencoderAnomalyDetector(random_state=0).fit(X[:400])
    new = X[400:].copy()
    new[:, -1] = 0.31
    assert (detector.predict(new) == -1).all()
    assert (detector.feature_contributions(new).argmax(axis=1) == 8).all()
    far = new[:1].repeat(4, axis=0)
    far[:, -1] = [0.31, 0.4, 5.0, 1e6]
    assert (np.diff(detector.score_samples(far)) < 0).all()


def test_rounding_of_a_constant_column_is_silent():
    constant = np.full((500, 1), 0.1)
    rounded = np.full((500, 1), 0.1 + 2e-9)
    fitted = AutoencoderAnomalyDetector(**FEW).fit(np.hstack([ROWS, constant]))
    scores = [fitted.score_samples(np.hstack([ROWS, column])) for column in (constant, rounded)]
    np.testing.assert_allclose(*scores, atol=1e-4)


@pytest.mark.parametrize("scaling", ["auto", "standard", "robust", None])
@pytest.mark.parametrize("glitch", [1e4, -1e12])
def test_a_glitch_does_not_hide_outliers(scaling, glitch):
    X = RNG.normal(50, 5, (1000, 6))
    X[:10, 2] += 60.0
    clean = AutoencoderAnomalyDetector(random_state=0, scaling=scaling).fit(X)
    X[-1, 2] = glitch
    detector = AutoencoderAnomalyDetector(random_state=0, scaling=scaling).fit(X)
    scores = detector.score_samples(X)
    assert (scores[:10, None] < scores[None, 10:-1]).mean() > 0.99
    assert scores[-1] < scores[:10].mean()
    assert (detector.predict(X[:10]) == -1).all()
    share = (clean.predict(X[10:-1]) == -1).mean()
    assert (detector.predict(X[10:-1]) == -1).mean() < share + 0.02


def test_clean_rows_are_scaled_as_ever():
    detector = AutoencoderAnomalyDetector(**FEW).fit(ROWS)
    np.testing.assert_allclose(detector._model.scaler.scale, ROWS.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(detector._model.scaler.center, ROWS.mean(axis=0), atol=1e-12)


@pytest.mark.slow
def test_offsets_come_back_in_the_steps_of_the_data():
    t = RNG.uniform(0, 600, 1000)
    X = np.column_stack([1.7e9 + t, 101325 + 0.02 * t, t / 100, np.sin(t / 95)])
    model = AutoencoderTransformer(n_components=3, random_state=0).fit(X)
    back = model.reconstruct(X)
    assert back.dtype == np.float64
    assert _rmse(back[:, 0], X[:, 0]) < 0.05 * X[:, 0].std()
    assert AutoencoderTransformer(**FEW).fit(X[:, 2:]).reconstruct(X[:, 2:]).dtype == np.float32
    holes = X.copy()
    holes[::10, 0] = np.nan
    filled = DenoisingAutoencoder(random_state=0).fit(holes).impute(holes)
    assert np.median(np.abs(filled - X)[::10, 0]) < 10.0


@pytest.mark.parametrize("kind", ["auto", "isolation", "reconstruction"])
def test_a_row_of_nothing_scores_as_a_typical_one(kind):
    empty = np.full((30, 8), np.nan)
    detector = AutoencoderAnomalyDetector(anomaly_score=kind, **FEW).fit(ROWS)
    scores = detector.score_samples(ROWS)
    np.testing.assert_allclose(detector.score_samples(empty), np.median(scores), atol=0.2)
    assert (detector.predict(empty) == 1).all()
    assert not detector.feature_contributions(empty).any()
    # Such rows in the fit tell nothing of what is usual.
    with_empty = AutoencoderAnomalyDetector(anomaly_score=kind, **FEW).fit(np.vstack([ROWS, empty]))
    np.testing.assert_allclose(
        np.median(with_empty.score_samples(ROWS)), np.median(scores), atol=0.2
    )
    with pytest.raises(ValueError, match="no observed value"):
        detector.calibrate(empty)


@pytest.mark.parametrize(
    "make", [AutoencoderTransformer, DenoisingAutoencoder, VariationalAutoencoder]
)
def test_no_score_of_a_row_of_nothing_is_above_that_of_typical_rows(make):
    model = make(random_state=0).fit(ROWS)
    empty = model.score_samples(np.full((2, 8), np.nan))
    assert (empty <= np.median(model.score_samples(ROWS)) + 1e-6).all()


@pytest.mark.parametrize("scaling", ["auto", "robust", "minmax", None])
def test_a_column_without_values_is_constant_and_has_no_part_in_scores(scaling):
    X = np.column_stack([ROWS, np.full(500, np.nan)])
    new = np.column_stack([ROWS, 1e6 * RNG.normal(size=500)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = AutoencoderAnomalyDetector(scaling=scaling, **FEW).fit(X)
        model = DenoisingAutoencoder(scaling=scaling, **FEW).fit(X)
        np.testing.assert_allclose(
            detector.score_samples(new), detector.score_samples(X), rtol=1e-6, atol=1e-6
        )
        assert not detector.feature_contributions(new)[:, -1].any()
        np.testing.assert_array_equal(model.transform(new), model.transform(X))
        np.testing.assert_array_equal(model.reconstruct(new)[:, -1], 0.0)
        np.testing.assert_array_equal(model.impute(X)[:, -1], 0.0)
        model.partial_fit(new)
        np.testing.assert_array_equal(model.reconstruct(new)[:, -1], 0.0)


@pytest.mark.parametrize("kind", ["auto", "reconstruction"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_copies_of_one_row_do_not_make_the_others_unusual(kind, share):
    X = RNG.normal(size=(1000, 5)) @ RNG.normal(size=(5, 5))
    X[: int(1000 * share)] = X[0]
    detector = AutoencoderAnomalyDetector(anomaly_score=kind, random_state=0).fit(X)
    flagged = detector.predict(X) == -1
    assert not flagged[: int(1000 * share)].any()
    assert flagged[int(1000 * share) :].mean() < 0.1
    assert (detector.predict(X[-20:] + 15.0) == -1).all()

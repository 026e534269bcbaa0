"""Displays: what they draw is what the detector says."""

import builtins

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer
from skae.inspection import (
    AnomalyMapDisplay,
    AnomalyScoreDisplay,
    ContributionDisplay,
    LatentSizeDisplay,
    LatentWalkDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)

RNG = np.random.default_rng(0)

X, Y = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def detector():
    return AutoencoderAnomalyDetector(random_state=0).fit(X[Y == 0])


@pytest.fixture(autouse=True)
def headless():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    yield
    matplotlib.pyplot.close("all")


def heights(ax):
    return sum(bar.get_height() for bar in ax.patches)


def test_histogram_counts_every_row_and_marks_the_threshold(detector):
    display = AnomalyScoreDisplay.from_estimator(detector, X)
    assert heights(display.ax_) == len(X)
    assert display.ax_.lines[0].get_xdata()[0] == detector.offset_
    np.testing.assert_array_equal(display.scores, detector.score_samples(X))


def test_histogram_by_label_on_given_axes(detector):
    from matplotlib import pyplot as plt

    ax = plt.subplots()[1]
    display = AnomalyScoreDisplay.from_estimator(detector, X, Y, bins=10, ax=ax)
    assert display.ax_ is ax
    assert heights(ax) == len(X)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(labels) == ["0", "1", "2", "threshold"]


def test_histogram_takes_the_detectors_of_scikit_learn():
    forest = IsolationForest(random_state=0).fit(X)
    assert heights(AnomalyScoreDisplay.from_estimator(forest, X).ax_) == len(X)


def test_bars_are_the_greatest_contributions(detector):
    row = X[[120]]
    display = ContributionDisplay.from_estimator(detector, row, n_features=2)
    expected = np.sort(detector.feature_contributions(row)[0])[-2:]
    np.testing.assert_allclose([bar.get_width() for bar in display.ax_.patches], expected)


def test_bars_bear_the_names_of_the_columns():
    pytest.importorskip("pandas")
    frame = load_iris(as_frame=True).data
    detector = AutoencoderAnomalyDetector(random_state=0).fit(frame)
    display = ContributionDisplay.from_estimator(detector, frame.iloc[[0]])
    names = {label.get_text() for label in display.ax_.get_yticklabels()}
    assert names == set(frame.columns)


def test_more_than_one_row_of_contributions_is_refused(detector):
    with pytest.raises(ValueError, match="X has 3 rows"):
        ContributionDisplay.from_estimator(detector, X[:3])


def test_missing_matplotlib_names_the_extra(detector, monkeypatch):
    original = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r"skae\[plot\]"):
        AnomalyScoreDisplay.from_estimator(detector, X)


def test_curves_of_an_autoencoder_and_of_pca_on_one_picture():
    autoencoder = AutoencoderTransformer(n_components=3, ordered=True, random_state=0).fit(X)
    display = LatentSizeDisplay.from_estimator(autoencoder)
    explained = np.cumsum(autoencoder.explained_variance_ratio_)
    np.testing.assert_array_equal(display.line_.get_ydata(), explained)
    np.testing.assert_array_equal(display.line_.get_xdata(), [1, 2, 3])
    pca = LatentSizeDisplay.from_estimator(PCA(3).fit(X), ax=display.ax_, color="black")
    assert pca.ax_ is display.ax_
    labels = [text.get_text() for text in pca.ax_.get_legend().get_texts()]
    assert labels == ["AutoencoderTransformer", "PCA"]
    with pytest.raises(ValueError, match="ordered=True"):
        LatentSizeDisplay.from_estimator(AutoencoderTransformer(n_components=2).fit(X))


@pytest.mark.parametrize("as_rows", [False, True])
def test_walk_decodes_one_latent_at_a_time(as_rows):
    images = load_digits().images
    X = images.reshape(len(images), -1) if as_rows else images
    estimator = AutoencoderTransformer(
        n_components=4, max_epochs=3, random_state=0, image_shape=(8, 8) if as_rows else None
    ).fit(X)
    display = LatentWalkDisplay.from_estimator(estimator, X, n_latents=3, n_steps=5)
    codes = estimator.transform(X)
    assert display.latents.tolist() == np.argsort(-codes.std(axis=0))[:3].tolist()
    middle = estimator.inverse_transform(codes.mean(axis=0)[None]).reshape(8, 8)
    np.testing.assert_allclose(display.walks[1, 2], middle, rtol=1e-4, atol=1e-4)
    end = codes.mean(axis=0)
    end[display.latents[1]] += 2 * codes.std(axis=0)[display.latents[1]]
    expected = estimator.inverse_transform(end[None]).reshape(8, 8)
    np.testing.assert_allclose(display.walks[1, -1], expected, rtol=1e-4, atol=1e-4)
    picture = np.asarray(display.ax_.images[0].get_array())
    assert picture.shape == (27, 45)
    # One tile a step, one line of tiles a latent, each framed below and to the right.
    low, high = display.walks.min(), display.walks.max()
    tiles = picture.reshape(3, 9, 5, 9).transpose(0, 2, 1, 3)[:, :, :8, :8]
    shown = (tiles - tiles.min()) / (tiles.max() - tiles.min())
    np.testing.assert_allclose(
        shown, (display.walks.reshape(3, 5, 8, 8) - low) / (high - low), atol=1e-5
    )


def test_walk_of_a_category_is_one_of_probabilities():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"size": X[:, 0], "kind": pandas.Categorical(load_iris().target)})
    estimator = AutoencoderTransformer(n_components=2, max_epochs=3, random_state=0).fit(frame)
    walks = LatentWalkDisplay.from_estimator(estimator, frame, n_steps=5).walks
    assert walks.shape == (2, 5, 4)
    np.testing.assert_allclose(walks[..., 1:].sum(axis=-1), 1.0, rtol=1e-5)


def test_walk_of_a_table_shows_the_columns_that_each_latent_moves_most():
    estimator = AutoencoderTransformer(n_components=2, max_epochs=3, random_state=0).fit(X)
    display = LatentWalkDisplay.from_estimator(estimator, X, n_steps=5, n_columns=2)
    codes = estimator.transform(X).mean(axis=0)
    middle = estimator.inverse_transform(codes[None])[0]
    np.testing.assert_allclose(display.walks[0, 2], middle, rtol=1e-4)
    walks = (display.walks - X.mean(axis=0)) / X.std(axis=0)
    moves = np.ptp(walks, axis=1)
    most = np.argsort(-moves, axis=1)[:, :2]
    expected = [walks[i, :, column] for i in range(2) for column in most[i]]
    picture = np.asarray(display.ax_.images[0].get_array())
    np.testing.assert_allclose(picture, expected, rtol=1e-4, atol=1e-5)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    first, second = display.latents
    assert labels[0] == f"latent {first}:  x{most[0, 0]}"
    assert labels[1:3] == [f"x{most[0, 1]}", f"latent {second}:  x{most[1, 0]}"]
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["-2", "0", "2"]


SIGNALS = np.sin(np.arange(16) / 3 + RNG.uniform(0, 6, (60, 1)))


@pytest.mark.parametrize("n_channels", [1, 2])
def test_signals_are_curves(n_channels):
    signals = SIGNALS if n_channels == 1 else SIGNALS.reshape(30, 16, 2, order="F")
    estimator = AutoencoderTransformer(
        n_components=2, network="conv1d", max_epochs=2, random_state=0
    ).fit(signals)
    walk = LatentWalkDisplay.from_estimator(estimator, signals, n_steps=3)
    assert len(walk.ax_.lines) == 2 * 3 * n_channels
    np.testing.assert_allclose(
        walk.ax_.lines[0].get_ydata(), walk.walks.reshape(6, 16, -1)[0, :, 0]
    )
    display = ReconstructionDisplay.from_estimator(estimator, signals, n_samples=4)
    originals, rebuilt = np.split(np.array([line.get_ydata() for line in display.ax_.lines]), 2)
    assert len(originals) == 4 * n_channels
    expected = (estimator.reconstruct(signals) - signals)[:4].reshape(4, 16, -1)
    found = (rebuilt - originals).reshape(4, n_channels, 16).swapaxes(1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


# Reconstructions.


def test_images_stand_above_their_reconstructions():
    images = load_digits().images
    estimator = AutoencoderTransformer(n_components=4, max_epochs=2, random_state=0).fit(images)
    display = ReconstructionDisplay.from_estimator(estimator, images[:5], n_samples=3)
    np.testing.assert_array_equal(display.originals, images[:3])
    np.testing.assert_allclose(display.rebuilt, estimator.reconstruct(images[:3]), rtol=1e-5)
    picture = np.asarray(display.ax_.images[0].get_array())
    assert picture.shape == (18, 27)
    low, high = min(images[:3].min(), display.rebuilt.min()), max(16.0, display.rebuilt.max())
    np.testing.assert_allclose(picture[:8, 9:17], (images[1] - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(
        picture[9:17, 9:17], (display.rebuilt[1] - low) / (high - low), atol=1e-6
    )


def test_a_table_is_shown_in_deviations_of_its_columns_and_gaps_are_blank():
    holes = X.copy()
    holes[0, 1] = np.nan
    estimator = AutoencoderTransformer(n_components=2, max_epochs=2, random_state=0).fit(holes)
    display = ReconstructionDisplay.from_estimator(estimator, holes, n_samples=6)
    picture = np.ma.filled(display.ax_.images[0].get_array(), np.nan)
    center, scale = np.nanmean(holes, axis=0), np.nanstd(holes, axis=0)
    np.testing.assert_allclose(picture[:6], ((holes - center) / scale)[:6])
    assert np.isnan(picture[6]).all()
    rebuilt = estimator.reconstruct(holes)[:6]
    np.testing.assert_allclose(picture[7:], (rebuilt - center) / scale, rtol=1e-5)


def test_a_category_is_a_column_for_each_value():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"kind": load_iris().target.astype(str), "size": X[:, 0]})
    estimator = AutoencoderTransformer(n_components=2, max_epochs=2, random_state=0).fit(frame)
    display = ReconstructionDisplay.from_estimator(estimator, frame)
    assert display.feature_names.tolist() == ["size", "kind=0", "kind=1", "kind=2"]
    assert display.originals[0, 1:].tolist() == [1.0, 0.0, 0.0]
    kinds = estimator.reconstruct(frame)["kind"][:10].astype(int)
    assert display.rebuilt[:, 1:].argmax(axis=1).tolist() == kinds.tolist()


def test_any_two_arrays_can_be_drawn():
    pca = PCA(2).fit(X)
    rebuilt = pca.inverse_transform(pca.transform(X))
    picture = ReconstructionDisplay(X, rebuilt).plot().ax_.images[0].get_array()
    np.testing.assert_allclose(picture[151:], (rebuilt - X.mean(axis=0)) / X.std(axis=0))
    with pytest.raises(ValueError, match="kind='tables' must be one of 'table'"):
        ReconstructionDisplay(X, rebuilt, kind="tables").plot()


# Losses.


@pytest.mark.parametrize("early_stopping", [False, True])
def test_curves_are_those_of_the_fit(early_stopping):
    estimator = AutoencoderTransformer(
        n_components=2, max_epochs=4, early_stopping=early_stopping, random_state=0
    ).fit(X)
    display = LossCurveDisplay.from_estimator(estimator, color="black")
    curves = [estimator.loss_curve_, estimator.validation_loss_curve_][: 1 + early_stopping]
    assert [line.get_ydata().tolist() for line in display.lines_] == curves
    assert all(line.get_color() == "black" for line in display.lines_)
    assert display.lines_[0].get_xdata().tolist() == [1, 2, 3, 4]
    if early_stopping:
        mark = display.ax_.lines[2]
        assert mark.get_ydata()[0] == estimator.best_loss_


def test_losses_of_an_mlp_are_drawn_and_those_of_pca_refused():
    from sklearn.neural_network import MLPRegressor

    regressor = MLPRegressor(hidden_layer_sizes=(4,), random_state=0, max_iter=300, tol=1e-2).fit(
        X, X
    )
    display = LossCurveDisplay.from_estimator(regressor)
    assert display.lines_[0].get_ydata().tolist() == regressor.loss_curve_
    with pytest.raises(TypeError, match="PCA has no loss_curve_"):
        LossCurveDisplay.from_estimator(PCA(2).fit(X))


# Anomalies.


def test_maps_stand_below_images_and_boxes_in_both():
    pytest.importorskip("skimage")
    images = load_digits().images
    detector = AutoencoderAnomalyDetector(max_epochs=3, random_state=0).fit(images)
    scratched = images[:3].copy()
    scratched[0, 0] = 16
    display = AnomalyMapDisplay.from_estimator(detector, scratched)
    maps = detector.anomaly_map(scratched)
    shown = np.ma.filled(display.ax_.images[1].get_array(), np.nan)
    np.testing.assert_array_equal(shown.reshape(9, 3, 9).swapaxes(0, 1)[:, :8, :8], maps)
    boxes = [(i, box) for i, found in enumerate(detector.detect(scratched)) for box in found]
    assert boxes
    expected = [
        (left + 9 * i - 0.5, top + 9 * line - 0.5, right - left, bottom - top)
        for i, (top, left, bottom, right, _) in boxes
        for line in range(2)
    ]
    found = [(*p.get_xy(), p.get_width(), p.get_height()) for p in display.ax_.patches]
    assert found == expected


def test_boxes_of_signals_are_spans():
    pytest.importorskip("skimage")
    detector = AutoencoderAnomalyDetector(network="conv1d", max_epochs=2, random_state=0)
    odd = SIGNALS[:2].copy()
    odd[0, 6:9] += 9.0
    display = AnomalyMapDisplay.from_estimator(detector.fit(SIGNALS), odd)
    spans = np.concatenate(detector.detect(odd))
    assert len(display.ax_.lines) == 2
    places = [shade.get_paths()[0].get_extents() for shade in display.ax_.collections]
    assert [(p.x0, p.x1) for p in places] == [(a - 0.5, b - 0.5) for a, b, _ in spans]

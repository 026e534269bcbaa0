"""Displays: what they draw is what the detector says."""

import builtins

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

from skae import AutoencoderAnomalyDetector, AutoencoderTransformer
from skae.inspection import (
    AnomalyScoreDisplay,
    ContributionDisplay,
    LatentSizeDisplay,
    LatentWalkDisplay,
)

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


def test_walk_of_a_table_is_a_map_of_its_columns():
    estimator = AutoencoderTransformer(n_components=2, max_epochs=3, random_state=0).fit(X)
    display = LatentWalkDisplay.from_estimator(estimator, X, n_steps=5)
    picture = np.asarray(display.ax_.images[0].get_array())
    assert picture.shape == (10, 4)
    codes = estimator.transform(X).mean(axis=0)
    middle = estimator.inverse_transform(codes[None])[0]
    np.testing.assert_allclose(display.walks[0, 2], middle, rtol=1e-4)

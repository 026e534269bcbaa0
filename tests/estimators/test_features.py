"""AutoencoderFeatures: many nonlinear features ahead of a linear classifier."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import make_circles
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skae import AutoencoderFeatures
from skae.io import for_prediction, load, save

SMALL = {"n_components": 16, "max_epochs": 3, "random_state": 0, "device": "cpu"}
X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
FEATURES = AutoencoderFeatures(**SMALL).fit(X)


def test_a_linear_classifier_finds_what_bends():
    rows, y = make_circles(400, noise=0.05, factor=0.5, random_state=0)
    search = GridSearchCV(
        make_pipeline(AutoencoderFeatures(**SMALL), LogisticRegression()),
        {"autoencoderfeatures__noise_level": [0.1, 0.3]},
        cv=2,
    )
    assert LogisticRegression().fit(rows, y).score(rows, y) < 0.6
    assert search.fit(rows, y).best_score_ > 0.97


def test_hidden_units_join_columns():
    y = X[:, 0] * X[:, 1] > 0
    features = AutoencoderFeatures(max_epochs=20, random_state=0).fit(X[:200])
    train, test = features.transform(X[:200]), features.transform(X[200:])
    scores = [
        LogisticRegression(C=200, max_iter=1000)
        .fit(train[:, part], y[:200])
        .score(test[:, part], y[200:])
        for part in (slice(0, 32), slice(32, None))
    ]
    assert scores[0] < 0.65 < 0.8 < scores[1]


def test_coordinates_come_first_and_all_vary_as_five_columns():
    Z = FEATURES.transform(X)
    assert Z.shape == (300, 4 * 8 + 16)
    assert FEATURES.n_components_ == 16
    assert Z.dtype == np.float32
    assert Z.var(axis=0).sum() == pytest.approx(5.0, rel=1e-4)
    np.testing.assert_allclose(Z[:, :32].var(axis=0), 2.5 / 32, rtol=1e-4)
    # The first piece of a column is full from the first cut on, the last one empty below its own.
    order = X[:, 0].argsort()
    assert len(np.unique(Z[order[60:], 0])) == 1
    assert len(np.unique(Z[order[:240], 7])) == 1


def test_a_row_has_the_same_bits_in_any_batch():
    Z = FEATURES.transform(X)
    for part in (slice(0, 1), slice(5, 12), slice(100, 300)):
        assert (FEATURES.transform(X[part]) == Z[part]).all()


def test_out_takes_the_features():
    out = np.empty((300, 48), dtype=np.float32)
    assert FEATURES.transform(X, out=out) is out
    assert (out == FEATURES.transform(X)).all()
    with pytest.raises(ValueError, match="out"):
        FEATURES.transform(X, out=out[:, :16])


def test_a_missing_cell_counts_as_the_mean_of_its_coordinates():
    holes = X.copy()
    holes[::3, 1] = np.nan
    features = AutoencoderFeatures(**SMALL).fit(holes)
    Z = features.transform(holes)
    assert np.isfinite(Z).all()
    assert (Z[::3, 8:16] == 0).all()
    assert abs(Z[:, 8:16].mean()) < 1e-6


def test_far_values_give_what_the_ends_give():
    far = np.vstack([X.max(axis=0), X.max(axis=0) * 1e30])
    Z = FEATURES.transform(far)
    assert (Z[0] == Z[1]).all()


def test_categories_of_a_frame_are_flags():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 0, "x", "y")})
    features = AutoencoderFeatures(**SMALL).set_output(transform="pandas").fit(frame)
    Z = features.transform(frame)
    assert Z.shape == (300, 8 + 2 + 16)
    assert list(Z.columns[:2]) == ["autoencoderfeatures0", "autoencoderfeatures1"]
    assert Z.iloc[:, 8].nunique() == 2
    assert (Z.iloc[:, 8] > 0).eq(frame["b"] == "x").all()


def test_pickles_and_files_give_the_same_bits_and_train_on(tmp_path):
    Z = FEATURES.transform(X)
    save(FEATURES, tmp_path / "features.safetensors")
    loaded = load(tmp_path / "features.safetensors")
    for copy in (pickle.loads(pickle.dumps(FEATURES)), loaded, for_prediction(FEATURES)):
        assert (copy.transform(X) == Z).all()
    again = pickle.loads(pickle.dumps(FEATURES)).partial_fit(X[:50])
    assert (loaded.partial_fit(X[:50]).transform(X) == again.transform(X)).all()
    # Cuts stay where the first rows had them.
    assert (again.transform(X)[:, :32] == Z[:, :32]).all()
    assert (again.transform(X)[:, 32:] != Z[:, 32:]).any()


def test_a_stream_learns_its_cuts_from_its_first_rows():
    features = AutoencoderFeatures(**SMALL)
    for start in range(0, 300, 100):
        features.partial_fit(X[start : start + 100])
    first = AutoencoderFeatures(**SMALL).partial_fit(X[:100])
    assert (features.transform(X)[:, :32] == first.transform(X)[:, :32]).all()
    assert features.transform(X).var(axis=0)[32:].sum() == pytest.approx(2.5, rel=0.2)


def test_weights_of_zero_leave_rows_out():
    weights = np.repeat([1.0, 0.0], [200, 100])
    weighted = AutoencoderFeatures(**SMALL).fit(X, sample_weight=weights)
    fewer = AutoencoderFeatures(**SMALL).fit(X[:200])
    assert (weighted.transform(X) == fewer.transform(X)).all()


@pytest.mark.slow
def test_the_graph_gives_the_same(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    from skae.export import to_onnx

    to_onnx(FEATURES, tmp_path / "features.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "features.onnx")
    rows = X[:20].copy()
    rows[::4, 2] = np.nan
    (found,) = session.run(None, {"X": rows})
    np.testing.assert_allclose(found, FEATURES.transform(rows), atol=2e-5)


def test_float64_stays(tmp_path):
    features = AutoencoderFeatures(**SMALL, precision="float64").fit(X)
    assert features.transform(X).dtype == np.float64

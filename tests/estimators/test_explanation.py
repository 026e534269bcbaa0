"""What a detector says of a row: expected values, and each feature's part."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from skae import AutoencoderAnomalyDetector

X = load_iris().data
ODD = np.array([[5.0, 3.4, 6.5, 0.2]])


@pytest.fixture(scope="module")
def detector():
    return AutoencoderAnomalyDetector(n_components=2, random_state=0).fit(X[:50])


def test_expected_rows_are_near_the_usual_ones(detector):
    expected = detector.reconstruct(X[:50])
    assert np.square(expected - X[:50]).mean() < 0.5 * X[:50].var(axis=0).mean()
    assert abs(detector.reconstruct(ODD)[0, 2] - 1.5) < abs(ODD[0, 2] - 1.5)


def test_missing_cells_are_expected_too(detector):
    row = ODD.copy()
    row[0, 2] = np.nan
    assert 1.0 < detector.reconstruct(row)[0, 2] < 2.0


def test_explanation_has_value_expected_and_contribution_by_feature():
    pd = pytest.importorskip("pandas")
    frame = load_iris(as_frame=True).data
    detector = AutoencoderAnomalyDetector(n_components=2, random_state=0).fit(frame[:50])
    odd = pd.DataFrame(ODD, columns=frame.columns)
    explanation = detector.explain(odd)
    assert list(explanation.columns) == ["value", "expected", "contribution"]
    assert explanation.index[0] == "petal length (cm)"
    assert (np.diff(explanation["contribution"]) <= 0).all()
    assert explanation.loc["petal length (cm)", "value"] == 6.5
    expected = detector.reconstruct(odd).iloc[0]
    np.testing.assert_array_equal(explanation["expected"], expected[explanation.index])
    total = explanation["contribution"].sum()
    assert total == pytest.approx(-detector.score_samples(odd)[0], rel=1e-6)


def test_one_row_is_explained(detector):
    pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="X has 2 rows, but one row is explained"):
        detector.explain(X[:2])


@pytest.mark.parametrize("n_features", [3, 4, 401])
def test_a_row_has_the_same_bits_alone_and_among_others(n_features):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, n_features))
    new = rng.normal(size=(70, n_features))
    detector = AutoencoderAnomalyDetector(max_epochs=2, random_state=0).fit(rows)
    for part in (rows, new):
        together = detector.score_samples(part)
        alone = [detector.score_samples(part[[i]])[0] for i in range(0, len(part), 7)]
        np.testing.assert_array_equal(alone, together[::7])
        np.testing.assert_array_equal(detector.score_samples(part[5:29]), together[5:29])

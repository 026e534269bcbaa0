"""Views and their calibration, by hand."""

import numpy as np
import pytest
import torch

from skae._anomaly.distances import Distances, Member, View, in_deviations
from skae._anomaly.draws import draw
from skae._anomaly.projections import projected, projection
from skae._anomaly.rows import _combined, _whitening

ROWS = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], dtype=torch.float64)


def _distances(member, view):
    """Of the views of one member."""
    distances = Distances([member], [view])
    return lambda rows, alone=None: distances(rows[None], alone)[0]


def test_distance_is_to_the_nearest_reference_on_average_over_the_draws():
    few = np.array([[[0.0, 0.0], [6.0, 8.0]], [[0.0, 4.0], [9.0, 8.0]]])
    distances = _distances(Member(few, None, []), View("few"))
    expected = [(0 + 4) / 2, (5 + 3) / 2, (0 + 3) / 2]
    np.testing.assert_allclose(distances(ROWS), expected, atol=1e-9)


def test_distance_in_a_basis_is_that_of_moved_rows_and_references():
    member = Member(None, ROWS[:1][None].numpy(), [])
    basis = np.array([[2.0, 0.0], [0.0, 1.0]])
    in_basis = _distances(member, View("many", np.array([1.0, 1.0]), basis))
    np.testing.assert_allclose(in_basis(ROWS), [0, np.hypot(6, 4), np.hypot(12, 8)], atol=1e-9)
    of_center = _distances(member, View("center", np.array([3.0, 4.0]), basis))
    np.testing.assert_allclose(of_center(ROWS), [np.hypot(6, 4), 0, np.hypot(6, 4)], atol=1e-9)


def test_a_row_is_left_out_of_its_own_references():
    distances = _distances(Member(None, ROWS[None].numpy(), []), View("many"))
    np.testing.assert_array_equal(distances(ROWS), np.zeros(3))
    np.testing.assert_allclose(distances(ROWS, torch.tensor([True] * 3)), [5, 5, 5])
    np.testing.assert_allclose(distances(ROWS, torch.tensor([True, False, True])), [5, 0, 5])


def test_calibrated_distances_have_median_zero_and_unit_deviation():
    distances = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], dtype=torch.float64) - 0.04
    view = View("many").calibrated(distances, torch.ones(5, dtype=torch.float64))
    assert view.unit == 3.96
    values = in_deviations(distances, view.unit, view.location, view.scale)
    # Distances double, so that their logarithms are a step of log 2 apart.
    steps = (np.arange(5) - 2) / 1.4826
    np.testing.assert_allclose(values, steps, rtol=0.1)
    assert values[2] == 0.0


def test_whitened_rows_have_unit_covariance_by_weight():
    rows = np.random.default_rng(0).normal(size=(10_000, 3)) @ np.diag([2, 1, 1.5])
    rows = torch.from_numpy(rows)
    weights = torch.cat([torch.ones(8000), torch.zeros(2000)]).double()
    center, basis, share = _whitening(rows, weights)
    assert share == pytest.approx(1 / 8000)
    white = ((rows.numpy() - center) @ basis)[:8000]
    np.testing.assert_allclose(np.cov(white.T, ddof=0), np.eye(3), atol=0.03)
    np.testing.assert_allclose(white.mean(0), np.zeros(3), atol=1e-12)


def test_draws_are_in_proportion_to_the_weights():
    order = torch.tensor([2, 0, 3, 1])
    weights = torch.tensor([0.0, 1.0, 2.0, 1.0], dtype=torch.float64)
    drawn = draw(order, weights, 8)
    assert sorted(drawn.tolist()) == [1, 1, 2, 2, 2, 2, 3, 3]


def test_combination_is_a_smooth_maximum():
    views = torch.tensor([[0.0, -1.0, 9.0], [0.0, -1.0, 0.0]])
    combined = _combined(views)
    np.testing.assert_allclose(combined[:2], [0.0, -1.0], atol=1e-6)
    assert combined[2] == pytest.approx(9.0 - np.log(2) / 1.5, abs=1e-6)


@pytest.mark.parametrize("width", [1000, 5000], ids=["directions", "buckets"])
def test_projection_keeps_distances(width):
    joint = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 32, width)))
    joint[:, 16:, : width // 2] = 0.0  # What differs lies side by side.
    found = projected(joint, projection(width, seed=1))
    assert found.shape == (2, 32, 256)
    before, after = torch.cdist(joint, joint), torch.cdist(found, found)
    far = before > 1.0
    assert (after[far] / before[far] - 1).abs().max() < 0.25
    assert torch.equal(projected(joint, projection(width, seed=1)), found)
    # The same bits in any batch of whole blocks.
    assert torch.equal(projected(joint[:, 16:], projection(width, seed=1)), found[:, 16:])


def test_few_columns_are_not_projected():
    joint = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 20, 256)))
    assert projection(256, seed=1) is None
    assert torch.equal(projected(joint, None), joint)

"""Scores by how much of a row was observed."""

import numpy as np
import torch

from skae._anomaly.levels import Level
from skae._anomaly.octaves import energies_of

RNG = np.random.default_rng(0)


def test_location_and_scale_change_linearly_between_groups():
    level = Level(np.array([0.5, 1.0]), np.array([0.0, 2.0]), np.array([1.0, 3.0]))
    scores = torch.tensor([[5.0, 1.0]]).repeat(4, 1)
    found = level.standardized(scores, torch.tensor([0.5, 0.75, 1.0, 0.1]))
    np.testing.assert_allclose(found, [[5, 1], [2, 0], [1, -1 / 3], [5, 1]], rtol=1e-6)


def test_groups_have_the_location_and_the_scale_of_all():
    shares = RNG.uniform(0.2, 1.0, 4000)
    scores = 3 * shares + (1 + shares) * RNG.normal(size=4000)
    level = Level.within(scores, shares, np.ones(4000))
    found = level.standardized(torch.from_numpy(scores), torch.from_numpy(shares)).numpy()
    low, high = found[shares < 0.4], found[shares > 0.8]
    assert abs(np.median(low) - np.median(high)) < 0.2
    assert 0.85 < low.std() / high.std() < 1.15
    assert abs(np.corrcoef(shares, found)[0, 1]) < 0.05 < np.corrcoef(shares, scores)[0, 1]
    np.testing.assert_allclose(np.median(found), np.median(scores), atol=0.1)


def test_scores_stay_the_same_bits_where_all_is_observed():
    scores, ones = RNG.normal(size=300), np.ones(300)
    level = Level.within(scores, ones, ones)
    found = level.standardized(torch.from_numpy(scores), torch.from_numpy(ones))
    np.testing.assert_array_equal(found.numpy(), scores)


def test_energies_are_means_of_what_was_observed():
    residuals = torch.randn(50, 1, 64, 1, generator=torch.Generator().manual_seed(0))
    every = energies_of(residuals)
    complete = energies_of(residuals, torch.ones_like(residuals))
    for found, expected in zip(complete, every, strict=True):
        torch.testing.assert_close(found, expected)
    observed = torch.ones_like(residuals)
    observed[:, :, 40:] = 0.0
    halved = energies_of(residuals * observed, observed)
    # What nothing is known of is as the rest is.
    torch.testing.assert_close(halved[0][:, -4:].mean(), halved[0].mean(), rtol=0.1, atol=0.0)
    for found, expected in zip(halved, every, strict=True):
        assert 0.7 < float(found.mean() / expected.mean()) < 1.5

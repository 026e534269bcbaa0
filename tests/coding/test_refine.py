"""The density that bits are counted by in training."""

import numpy as np
import pytest
import torch

from skae._coding.refine import density_bits, first_density

pytest.importorskip("constriction")

pytest.importorskip("hypothesis")


def test_density_counts_the_bits_of_a_logistic():
    u = torch.tensor([[0.0], [3.0], [-40.0]], dtype=torch.float64)
    density = first_density(u)
    density[0], density[1] = 1.0, 0.0
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    expected = -np.log2(sigmoid(-0.5) - sigmoid(-1.5))
    assert float(density_bits(density, u)[0, 0]) == pytest.approx(expected, rel=1e-12)
    assert float(density_bits(density, u)[2, 0]) == pytest.approx(-np.log2(1e-9), rel=1e-6)

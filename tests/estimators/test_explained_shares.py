"""Shares of the variance that ordered latents explain."""

import numpy as np
import pytest

from skae import AutoencoderTransformer
from skae._estimators import transformer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 1)) @ RNG.normal(size=(1, 8))
FEW = {"n_components": 8, "ordered": True, "random_state": 0, "max_epochs": 30}


def test_latents_that_add_nothing_have_no_negative_share():
    model = AutoencoderTransformer(**FEW).fit(X)
    ratios = model.explained_variance_ratio_
    assert (ratios >= 0).all()
    np.testing.assert_allclose(ratios.sum(), model.score(X), atol=1e-6)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.5, 0.8, 0.8 - 1e-9, 0.9], [0.5, 0.3, 0.0, 0.1]),
        ([0.5, 0.8, 0.79995, 0.9], [0.5, 0.3, 0.0, 0.10005]),
        ([0.5, 0.8, 0.7, 0.9], [0.5, 0.3, -0.1, 0.2]),
        ([-1e-9, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]),
    ],
    ids=["rounding", "last steps", "worse", "nothing"],
)
def test_only_what_counts_is_negative(monkeypatch, shares, expected):
    monkeypatch.setattr(transformer, "explained_variance", lambda *_: np.array(shares))
    options = FEW | {"n_components": 4, "max_epochs": 1}
    found = AutoencoderTransformer(**options).fit(X).explained_variance_ratio_
    np.testing.assert_allclose(found, expected, atol=1e-8)

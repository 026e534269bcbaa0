"""How much of what a network learned is kept."""

import numpy as np
import torch

from skae import AutoencoderTransformer
from skae._data.loaded import content_keys
from skae._training.proof import held_back

RNG = np.random.default_rng(0)


def test_a_tenth_of_the_different_rows_is_held_back_equal_ones_together():
    rows = RNG.normal(size=(200, 3))
    some = held_back(torch.from_numpy(content_keys(rows)), 5)
    assert some.sum() == 20
    repeated = np.repeat(np.arange(200), RNG.integers(1, 4, size=200))
    again = held_back(torch.from_numpy(content_keys(rows[repeated])), 5)
    assert torch.equal(again, some[torch.from_numpy(repeated)])
    assert not torch.equal(held_back(torch.from_numpy(content_keys(rows)), 6), some)


def test_what_helps_new_rows_is_kept_to_the_bit():
    angle = RNG.uniform(0, 2 * np.pi, size=2000)
    X = np.column_stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)])
    settings = {"n_components": 1, "scaling": None, "random_state": 0}
    kept = AutoencoderTransformer(**settings).fit(X)
    alone = AutoencoderTransformer(early_stopping=False, **settings).fit(X)
    np.testing.assert_array_equal(kept.transform(X), alone.transform(X))
    assert kept.score(X) > 0.4  # PCA has a quarter.


def test_noise_alone_leaves_pca():
    X = RNG.normal(size=(150, 40))
    model = AutoencoderTransformer(n_components=5, scaling=None, random_state=0).fit(X)
    network = model._model.network
    weights = [network.layers[i].weight for i in (network.spec.depth - 1, -1)]
    assert all(float(weight.abs().max()) == 0.0 for weight in weights)


def test_who_stops_at_a_constant_rate_or_goes_on_keeps_all():
    X = RNG.normal(size=(150, 40))
    for changes in ({"lr_schedule": "constant"}, {"warm_start": True}):
        model = AutoencoderTransformer(n_components=5, random_state=0, max_epochs=3, **changes)
        assert float(model.fit(X)._model.network.layers[-1].weight.abs().max()) > 0.0

"""What is drawn for a row: each noise, each dropout and the latents by numbers of their own."""

import functools
import itertools

import numpy as np
import pytest
import torch

from skae import DenoisingAutoencoder
from skae._networks.dense import DenseNetwork, DenseSpec
from skae._networks.dense_step import DenseStep
from skae._runtime.randomness import RandomTable, generator
from skae._training.noise import RowSpace, make_noise
from skae.model_selection import AutoencoderSearchCV

N_ROWS, WIDTH = 3000, 36
SPACE = RowSpace(
    torch.full((WIDTH,), -1.0), torch.full((WIDTH,), 1.0), torch.zeros(WIDTH), image_shape=(6, 6)
)
OFFSETS = torch.randint(RandomTable.SIZE, (N_ROWS,), generator=torch.Generator().manual_seed(0))


@functools.cache
def _spy(kinds, level):
    """What each noise of a tuple changes, (n, width) each, told by what it is given."""
    changes = []

    def watch(rows, generator):
        changes.append(rows.clone())
        # Nothing is to be seen of the noises before.
        return torch.full_like(rows, 0.5)

    watched = (*(one for kind in kinds for one in (watch, kind)), watch)
    clean = torch.full((1, N_ROWS, WIDTH), 0.5)
    out = torch.empty_like(clean)
    make_noise(watched, level, SPACE, generator(0, 0))(clean, OFFSETS, out)
    return [(changed[0] - 0.5).abs().numpy() for changed in changes[1:]]


def _step(**options):
    spec = DenseSpec(WIDTH, (WIDTH,) * 3, (WIDTH,), "relu", **options)
    network = DenseNetwork.zeros(spec, torch.float32, torch.device("cpu"))
    for layer in network.layers:
        layer.bias.fill_(1.0)
    step = DenseStep(network, torch.zeros_like(network.parameters), N_ROWS, torch.float32)
    step.offsets.copy_(OFFSETS)
    step.input.zero_()
    step.forward()
    return step


def _drawn_by_steps():
    """Masks of the dropout of six layers, numbers of ordered latents, drawn latents."""
    drawn, dropout = {}, _step(dropout=0.5)
    for operation in dropout._forward:
        if "_drop." in getattr(operation, "__qualname__", ""):
            names, cells = operation.__code__.co_freevars, operation.__closure__
            mask = cells[names.index("mask")].cell_contents[0].numpy()
            drawn[f"dropout {len(drawn)}"] = mask
    assert len(drawn) == 6
    # All latents are one, and zero from some place on.
    drawn["ordered"] = _step(ordered=True).latents[0].numpy()
    drawn["latents"] = _step(variational=True).latents[0].numpy()
    return drawn


def _independent(a, b):
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("kinds", [("masking",) * 4, ("swap", "masking", "salt_and_pepper"),
                                   ("gaussian", "masking"), ("block_masking", "masking")],
                         ids=" ".join)  # fmt: skip
def test_noises_of_a_tuple_change_other_cells(kinds):
    changes = _spy(tuple(kind for kind in kinds if kind != "swap"), 0.5)
    for a, b in itertools.combinations(changes, 2):
        assert _independent(a, b) < 0.02


def test_all_that_is_drawn_for_a_row_is_independent():
    drawn = {f"noise {i}": change for i, change in enumerate(_spy(("masking",) * 4, 0.5))}
    drawn |= _drawn_by_steps()
    for (a, first), (b, second) in itertools.combinations(drawn.items(), 2):
        assert _independent(first, second) < 0.02, (a, b)


def test_callables_of_a_tuple_draw_numbers_of_their_own():
    drawn = []

    def draw(rows, generator):
        drawn.append(torch.rand(rows.shape, generator=generator))
        return rows

    clean = torch.zeros(1, 50, WIDTH)
    make_noise((draw, draw), 0.1, SPACE, generator(3, 0))(clean, OFFSETS[:50], clean.clone())
    assert _independent(drawn[0].numpy(), drawn[1].numpy()) < 0.1
    make_noise(draw, 0.1, SPACE, generator(3, 0))(clean, OFFSETS[:50], clean.clone())
    assert torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: (f,), lambda f: ("masking", f)],
                         ids=["alone", "tuple", "second"])  # fmt: skip
def test_a_callable_gets_the_rows_of_one_member(wrap):
    shapes = []

    def noise(rows, generator):
        shapes.append(tuple(rows.shape))
        return rows + shapes.count(shapes[-1])

    clean = torch.zeros(3, 20, WIDTH)
    out = torch.empty_like(clean)
    make_noise(wrap(noise), 0.0, SPACE, generator(0, 0))(clean, OFFSETS[:60], out)
    assert shapes == [(1, 20, WIDTH)] * 3
    assert out[:, 0, 0].tolist() == [1.0, 2.0, 3.0]


SHAPES = []


def _recorded(rows, generator):
    SHAPES.append(tuple(rows.shape))
    return rows + 0.1 * torch.randn(rows.shape, generator=generator)


@pytest.mark.parametrize("noise", [_recorded, (_recorded,), ("gaussian", _recorded)],
                         ids=["alone", "tuple", "second"])  # fmt: skip
def test_a_callable_gets_one_member_in_a_search(noise):
    X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    estimator = DenoisingAutoencoder(
        noise=noise, noise_level=0.1, n_components=2, max_epochs=2, batch_size=20, random_state=0
    )
    SHAPES.clear()
    grid = {"learning_rate": [0.001, 0.002], "random_state": [0, 1]}
    search = AutoencoderSearchCV(estimator, grid, cv=2, refit=False).fit(X)
    assert SHAPES
    assert {shape[0] for shape in SHAPES} == {1}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    alone = estimator.set_params(learning_rate=0.002, random_state=1).fit(X[30:])
    expected = alone.score(X[:30])
    found = search.cv_results_["split0_test_score"][
        search.cv_results_["params"].index({"learning_rate": 0.002, "random_state": 1})
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)

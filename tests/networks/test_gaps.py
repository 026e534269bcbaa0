"""The network that fills gaps: what a Gaussian expects, levels of numbers, and its dropout."""

import numpy as np
import pytest
import torch

from skae import AutoencoderImputer
from skae._networks.gaps import GapBuilder, RowDropout, quantiles
from skae._networks.gaussian import FactorGaussian
from skae.io import load, save

RNG = np.random.default_rng(0)
LOADINGS = RNG.normal(size=(6, 2))
LATENTS = RNG.normal(size=(2000, 2))
ROWS = 3.0 + LATENTS @ LOADINGS.T + 0.3 * RNG.normal(size=(2000, 6))
HOLES = np.where(RNG.random(ROWS.shape) < 0.2, np.nan, ROWS)


def _expected(rows):
    """By the covariance that the rows were drawn with."""
    covariance = LOADINGS @ LOADINGS.T + 0.09 * np.eye(6)
    found = rows.copy()
    for row in found:
        o, m = ~np.isnan(row), np.isnan(row)
        if not o.any():
            row[:] = 3.0
        elif m.any():
            weights = np.linalg.solve(covariance[np.ix_(o, o)], row[o] - 3.0)
            row[m] = 3.0 + covariance[np.ix_(m, o)] @ weights
    return found


def test_the_gaussian_expects_what_the_covariance_does():
    gaussian = FactorGaussian(6, 3)
    gaussian.fit(torch.tensor(HOLES), None, 0)
    missing, expected = np.isnan(HOLES), _expected(HOLES)
    found = gaussian(torch.tensor(HOLES, dtype=torch.float32)).numpy()
    assert np.abs(found - expected)[missing].max() < 0.25
    error, best = (np.square(rows - ROWS)[missing].mean() for rows in (found, expected))
    assert error < 1.03 * best


def test_a_row_of_nothing_gets_the_center():
    gaussian = FactorGaussian(6, 2)
    gaussian.fit(torch.tensor(HOLES), None, 0)
    found = gaussian(torch.full((1, 6), torch.nan))[0]
    torch.testing.assert_close(found, gaussian.center)
    np.testing.assert_allclose(found, np.full(6, 3.0), atol=0.15)


def test_weights_are_repetitions():
    x = torch.tensor(HOLES[:100])
    weights = torch.tensor(RNG.integers(1, 4, size=100))
    repeated = x.repeat_interleave(weights, 0)
    modules = [GapBuilder((8,))((6,), 6)[0] for _ in range(2)]
    modules[0].fit(x, weights.double(), None, 0)
    modules[1].fit(repeated, None, None, 0)
    for weighted, plain in zip(*(module.buffers() for module in modules), strict=True):
        torch.testing.assert_close(weighted, plain)


def test_quantiles_by_hand():
    x = torch.tensor([[3.0, torch.nan], [1.0, torch.nan], [torch.nan, torch.nan], [2.0, torch.nan]])
    weights = torch.tensor([1.0, 2.0, 5.0, 1.0])
    expected = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    torch.testing.assert_close(quantiles(x, weights, 3), expected)


def test_observed_cells_pass_and_are_not_trained():
    builder = GapBuilder((8,), n_units=3)
    gaps = builder((5,), 5)[0].double()
    builder.draw(gaps.modules(), torch.Generator().manual_seed(0))
    gaps.shares.copy_(torch.tensor([0.5, 0.3, 0.2]))
    x = torch.randn(4, 5, dtype=torch.float64)
    x[:, 2:] = torch.tensor([0.0, 1.0, 0.0]) - gaps.shares
    x[0, 1] = torch.nan
    outputs = gaps(x)
    observed = ~x[:, :2].isnan()
    torch.testing.assert_close(outputs[:, :2][observed], x[:, :2][observed])
    assert (outputs[:, 2:].softmax(1)[:, 1] > 0.999).all()
    outputs.where(~x.isnan(), 0.0).sum().backward()
    assert gaps.exit.weight.grad.abs().max() == 0


def test_dropout_follows_the_offsets_of_rows():
    drop = RowDropout(0.5, 0).train()
    x, drop.offsets = torch.ones(6, 1000), torch.tensor([5, 9, 5, 1, 2, 3])
    y = drop(x)
    torch.testing.assert_close(y[0], y[2])
    assert (y[0] != y[1]).any()
    assert sorted(y.unique().tolist()) == [0.0, 2.0]
    assert y.mean() == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(drop.eval()(x), x)


CURVED = np.column_stack([ROWS[:600, 0], np.abs(ROWS[:600, 0] - 3.0), ROWS[:600, 1]])
SMALL = {"max_epochs": 40, "random_state": 0, "device": "cpu"}


@pytest.mark.slow
def test_curves_are_followed():
    """A Gaussian expects nothing of the second column: the first one's distance from its mean."""
    holes = CURVED.copy()
    holes[:200, 1] = np.nan
    filled = AutoencoderImputer(**SMALL | {"max_epochs": 120}).fit_transform(holes)
    error = np.square(filled - CURVED)[:200, 1].mean() / CURVED[:200, 1].var()
    assert error < 0.02


def test_held_out_cells_are_hidden_to_judge():
    imputer = AutoencoderImputer(**SMALL, early_stopping=True).fit(CURVED)
    curve = imputer.validation_loss_curve_
    assert curve[0] > 1.3 * min(curve) > 0


def test_a_bottleneck_that_is_asked_for_is_there():
    imputer = AutoencoderImputer(n_components=2, max_epochs=2, random_state=0).fit(CURVED)
    assert imputer.encoder_(torch.zeros(1, 3)).shape == (1, 2)
    with pytest.raises(ValueError, match="network='gaps' has no bottleneck: n_components=2"):
        AutoencoderImputer(n_components=2, network="gaps").fit(CURVED)


def test_files_hold_the_network_of_tables_with_categories(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": ROWS[:80, 0], "b": np.where(ROWS[:80, 1] > 3, "x", "y")})
    holes = frame.mask(RNG.random(frame.shape) < 0.2)
    imputer = AutoencoderImputer(max_epochs=3, random_state=0, device="cpu").fit(holes)
    save(imputer, tmp_path / "imputer.skae")
    pandas.testing.assert_frame_equal(
        load(tmp_path / "imputer.skae").transform(holes), imputer.transform(holes)
    )

"""The training loop on networks of the core, without an estimator around it."""

import numpy as np
import pytest
import torch

from skae._data.loaded import load_rows
from skae._data.scale import AffineScaler
from skae._networks.dense import DenseNetwork, DenseSpec
from skae._networks.factory import initialize
from skae._networks.modules import ModuleSpec
from skae._networks.principal import start_as_pca
from skae._training.feeds import batch_sizes
from skae._training.loop import _Batch, train
from skae._training.monitor import Monitor
from skae._training.plan import TrainingPlan, TrainState
from skae.exceptions import DivergenceError

CPU = torch.device("cpu")
SCALER = AffineScaler(np.zeros(6), np.ones(6), "none")
X = np.random.default_rng(0).normal(size=(70, 6)) @ np.random.default_rng(1).normal(size=(6, 6))


def _plan(**changes):
    settings = {
        "loss": "squared_error",
        "optimizer": "adam",
        "learning_rates": (1e-2,),
        "weight_decays": (0.0,),
        "lr_schedule": "one_cycle",
        "batch_size": 16,
        "max_epochs": 5,
        "tol": 0.0,
        "n_iter_no_change": None,
        "early_stopping": False,
        "validation_fraction": 0.2,
        "latent_l1": 0.0,
        "seeds": (3,),
        "product_dtype": torch.float64,
    }
    return TrainingPlan(**(settings | changes))


def _fit(spec, plan, X=X, weights=None):
    keyed = plan.noise is not None or getattr(spec, "dropout", 0) > 0
    rows = load_rows(X, weights, SCALER, torch.float64, CPU, keyed)
    network = initialize(spec, plan.seeds, torch.float64, CPU)
    monitor = Monitor(plan, network)
    with torch.no_grad():
        train(network, rows, plan, TrainState(), monitor)
    return network, monitor


def _outputs(network, X=X):
    with torch.no_grad():
        return network.decode(network.encode(torch.from_numpy(X)))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"early_stopping": True},
        {"latent_l1": 0.1},
        {"noise": "masking", "noise_level": 0.3},
        {"noise": "gaussian", "noise_level": 0.3, "loss": "huber"},
    ],
)
def test_stacked_members_equal_the_same_members_alone(optimizer, changes):
    rates, decays, seeds, sizes = (1e-2, 3e-3, 1e-2), (0.0, 1e-2, 1e-3), (3, 4, 5), (4, 2, 3)
    options = {"activation": "tanh", "normalization": "batch", "dropout": 0.2}
    plan = _plan(
        optimizer=optimizer, learning_rates=rates, weight_decays=decays, seeds=seeds, **changes
    )
    stack, monitor = _fit(DenseSpec(6, (8,), sizes, **options), plan)
    best = []
    for k, size in enumerate(sizes):
        one = _plan(
            optimizer=optimizer,
            learning_rates=(rates[k],),
            weight_decays=(decays[k],),
            seeds=(seeds[k],),
            **changes,
        )
        alone, alone_monitor = _fit(DenseSpec(6, (8,), (size,), **options), one)
        # Adam enlarges the rounding of gradients that are zero but for rounding.
        torch.testing.assert_close(_outputs(stack)[k], _outputs(alone)[0], rtol=1e-7, atol=1e-8)
        best.append([loss[0] for loss in alone_monitor.losses])
    np.testing.assert_allclose(np.transpose(monitor.losses), best, rtol=1e-9)


def _linear_pair(input_shape, n_components):
    encoder = torch.nn.Linear(input_shape[0], n_components)
    return encoder, torch.nn.Linear(n_components, input_shape[0])


def test_autograd_path_equals_the_written_out_path():
    plan = _plan(latent_l1=0.05, loss="huber")
    dense = DenseSpec(6, (), (3,))
    modules = ModuleSpec(_linear_pair, (6,), 3)
    by_hand = initialize(dense, plan.seeds, torch.float64, CPU)
    by_autograd = initialize(modules, plan.seeds, torch.float64, CPU)
    encoder, decoder = by_autograd.modules()
    for linear, layer in zip([encoder, decoder], by_hand.layers, strict=True):
        linear.weight.data.copy_(layer.weight[0])
        linear.bias.data.copy_(layer.bias[0, 0])
    rows = load_rows(X, None, SCALER, torch.float64, CPU, False)
    monitors = []
    for network in (by_hand, by_autograd):
        monitors.append(Monitor(plan, network))
        with torch.no_grad():
            train(network, rows, plan, TrainState(), monitors[-1])
    np.testing.assert_allclose(monitors[0].losses, monitors[1].losses, rtol=1e-10)
    torch.testing.assert_close(_outputs(by_hand), _outputs(by_autograd))


def test_best_weights_of_the_validation_loss_are_restored():
    plan = _plan(early_stopping=True, learning_rates=(0.2,), lr_schedule="constant", max_epochs=40)
    network, monitor = _fit(DenseSpec(6, (8,), (3,)), plan)
    validation = [loss[0] for loss in monitor.validation_losses]
    best = int(np.argmin(validation))
    assert best < len(validation) - 1, "the rate is high enough for the last epoch not to be best"
    shorter, _ = _fit(
        DenseSpec(6, (8,), (3,)),
        _plan(
            early_stopping=True, learning_rates=(0.2,), lr_schedule="constant", max_epochs=best + 1
        ),
    )
    torch.testing.assert_close(_outputs(network), _outputs(shorter), rtol=0, atol=0)


def test_constant_rate_stops_on_the_plateau_of_the_training_loss():
    plan = _plan(lr_schedule="constant", n_iter_no_change=3, tol=10.0, max_epochs=50)
    _, monitor = _fit(DenseSpec(6, (8,), (3,)), plan)
    first_better = 1
    assert len(monitor.losses) <= first_better + 3 + 5
    schedule = _plan(lr_schedule="cosine", n_iter_no_change=3, tol=10.0, max_epochs=20)
    _, monitor = _fit(DenseSpec(6, (8,), (3,)), schedule)
    assert len(monitor.losses) == 20


def test_divergence_names_the_learning_rate():
    plan = _plan(optimizer="sgd", learning_rates=(1e8,), lr_schedule="constant")
    with pytest.raises(DivergenceError, match=r"smaller learning_rate .*1e\+08"):
        _fit(DenseSpec(6, (8,), (3,)), plan)


def test_weights_count_as_repetitions_in_full_batches():
    weights = np.tile([1.0, 2.0], 35)
    plan = _plan(batch_size=200, max_epochs=20)
    weighted, monitor = _fit(DenseSpec(6, (8,), (3,)), plan, X, weights)
    repeated, monitor_2 = _fit(
        DenseSpec(6, (8,), (3,)), plan, X.repeat(weights.astype(int), axis=0)
    )
    torch.testing.assert_close(_outputs(weighted), _outputs(repeated), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(monitor.losses, monitor_2.losses, rtol=1e-10)


def test_missing_cells_do_not_reach_the_gradient():
    holes = X.copy()
    holes[::3, 2] = np.nan
    filled = np.where(np.isnan(holes), 0.0, holes)
    plan = _plan(batch_size=70, max_epochs=1)
    _network, monitor = _fit(DenseSpec(6, (8,), (3,)), plan, holes)
    assert np.isfinite(monitor.losses).all()
    start = initialize(DenseSpec(6, (8,), (3,)), plan.seeds, torch.float64, CPU)
    errors = (_outputs(start, filled)[0].numpy() - filled) ** 2
    expected = errors[~np.isnan(holes)].mean()
    np.testing.assert_allclose(monitor.losses[0][0], expected, rtol=1e-12)


def test_a_last_batch_of_one_row_joins_the_one_before():
    assert batch_sizes(70, 16) == [16, 16, 16, 16, 6]
    assert batch_sizes(65, 16) == [16, 16, 16, 17]
    assert batch_sizes(17, 16) == [17]
    assert batch_sizes(64, 16) == [16, 16, 16, 16]
    assert batch_sizes(5, 16) == [5]
    assert batch_sizes(1, 16) == [1]
    assert batch_sizes(3, 1) == [1, 1, 1]


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 71.0)])
def test_the_gradient_of_what_the_path_alone_misses(weights):
    spec = DenseSpec(6, (8,), (2,), activation="tanh", linear_path=True)
    own = np.ones(70) if weights is None else weights / weights.mean()
    centered = X - own @ X / 70
    rows = load_rows(centered, weights, SCALER, torch.float64, CPU, False)
    x, network = rows.values, initialize(spec, (0,), torch.float64, CPU)
    start_as_pca(network, x.clone(), torch.from_numpy(own)[None], (0,))
    gradients = torch.zeros_like(network.parameters)
    batch = _Batch(network, rows, _plan(path_weight=3.0), gradients, None, 70)
    index = torch.arange(70)[None]
    batch.compute_gradients(index, index, torch.empty(1, 70, dtype=torch.float64), 0.0)

    def loss(parameters):
        moved = DenseNetwork(spec, parameters, network.buffers)
        codes = moved.encode(x)
        alone = codes @ network.layers[-1].path.mT
        errors = (moved.decode(codes) - x).square() + 3.0 * (alone - x).square()
        return float((errors.mean(-1)[0] * torch.from_numpy(own)).mean())

    direction = torch.randn(gradients.shape, dtype=torch.float64, generator=torch.Generator())
    direction[-2 * 6 * 2 :] = 0.0  # The paths are not trained.
    ends = [loss(network.parameters + side * direction) for side in (-1e-5, 1e-5)]
    assert float(gradients @ direction) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-5)

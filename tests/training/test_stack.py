"""Training runs side by side end as each does alone."""

import dataclasses

import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

from skae._data.loaded import load_rows, scaled_bounds
from skae._data.scale import AffineScaler
from skae._networks.dense import DenseSpec
from skae._networks.factory import initialize
from skae._training.job import Job, run
from skae._training.monitor import Monitor
from skae._training.plan import TrainingPlan, TrainState
from skae._training.stack import Stack, in_passes

X, y = load_wine(return_X_y=True)

CPU = torch.device("cpu")

SCALER = AffineScaler(np.zeros(13), np.ones(13), "none")


def _job(n_components=2, seed=0, rows=None, rate=1e-2, **changes):
    settings = {
        "loss": "squared_error",
        "optimizer": "adam",
        "learning_rates": (rate,),
        "weight_decays": (0.0,),
        "lr_schedule": "constant",
        "batch_size": 16,
        "max_epochs": 30,
        "tol": 1e-3,
        "n_iter_no_change": 2,
        "early_stopping": True,
        "validation_fraction": 0.2,
        "latent_l1": 0.0,
        "seeds": (seed,),
        "product_dtype": torch.float64,
    }
    plan = TrainingPlan(**(settings | changes))
    if rows is None:
        scaled = StandardScaler().fit_transform(X)
        rows = load_rows(scaled, None, SCALER, torch.float64, CPU, False)
    spec = DenseSpec(13, (5,), (n_components,), normalization="batch")
    network = initialize(spec, plan.seeds, torch.float64, CPU)
    return Job(network, rows, plan, TrainState(), Monitor(plan, network))


def _jobs():
    other = load_rows(
        StandardScaler().fit_transform(X[::-1] ** 2), None, SCALER, torch.float64, CPU, False
    )
    pairs = [(2, 0, None, 0.3), (3, 5, None, 1.0), (1, 0, other, 0.3), (2, 0, None, 1e200)]
    # Not Adam, which blows up the rounding of gradients that are zero.
    return [_job(*pair, optimizer="sgd") for pair in pairs]


def test_each_job_of_a_stack_ends_as_it_does_alone():
    stacked, alone = _jobs(), _jobs()
    stack = Stack(stacked)
    run(stack.job)
    assert list(stack.errors) == [3]
    lengths = set()
    for one, other in zip(stacked[:3], alone[:3], strict=True):
        run(other)
        np.testing.assert_allclose(one.monitor.losses, other.monitor.losses, rtol=1e-9)
        for mine, theirs in zip(
            (*one.network.state().values(), *one.state.moments.values()),
            (*other.network.state().values(), *other.state.moments.values()),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-10)
        assert (one.state.n_steps, one.state.n_epochs) == (
            other.state.n_steps,
            other.state.n_epochs,
        )
        lengths.add(one.state.n_epochs)
    assert len(lengths) > 1  # They stop by themselves.


def test_outputs_of_each_job_of_a_stack_are_cut_off_where_its_own_range_ends():
    stacked, alone = ([_job(max_epochs=5) for _ in range(2)] for _ in range(2))
    for jobs in (stacked, alone):
        for high, job in enumerate(jobs):
            scaler = dataclasses.replace(SCALER, limits=(-1.0, 0.5 + high))
            job.rows.bounds = scaled_bounds(scaler, torch.float64, CPU)
    assert len(in_passes(stacked)) == 1
    run(Stack(stacked).job)
    for one, other in zip(stacked, alone, strict=True):
        run(other)
        np.testing.assert_allclose(one.monitor.losses, other.monitor.losses, rtol=1e-9)
    assert stacked[0].monitor.losses != stacked[1].monitor.losses


def test_passes_hold_what_is_alike():
    jobs = [*_jobs()[:3], _job(batch_size=8), _job(noise="masking", noise_level=0.1)]
    sizes = sorted(len(one_pass) for one_pass in in_passes(jobs))
    assert sizes == [1, 1, 3]

"""How much of what a network learned holds for rows that it has not seen.

A network that starts as PCA can fit its training rows better and others worse, where rows are few
or wide, or where they are not curved. So, unless the gain is clear, a second network is trained in
the same way without a tenth of the rows. These tell how much of what the first one learned beside
PCA to keep, and the rest is taken back.
"""

import dataclasses
from functools import partial

import torch
from torch import Tensor

from skae._networks.dense import DenseNetwork
from skae._networks.factory import Network
from skae._runtime.device import computing
from skae._runtime.randomness import START_STREAM, generator, mix
from skae._runtime.tuning import (
    CLEAR_GAIN,
    PROOF_ROWS,
    PROOF_SHARE,
    ROWS_OF_A_FEATURE,
    SHARES_KEPT,
)
from skae._training.evaluation import row_losses
from skae._training.job import Job
from skae._training.monitor import Monitor
from skae._training.plan import TrainState
from skae._training.stack import in_passes, trained


def held_back(keys: Tensor, seed: int) -> Tensor:
    """Which rows are held back, (n,), by the keys of their contents: equal ones together."""
    distinct, places = torch.unique(mix(keys, seed), return_inverse=True)
    return places < round(PROOF_SHARE * len(distinct))


def prove(jobs: list[Job]) -> None:
    """Train what it takes to tell how much of these trained runs to keep, and keep that.

    A second run that diverges tells nothing: then all is kept.
    """
    pairs = [(job, second) for job in jobs if (second := _unproven(job)) is not None]
    # Folds hold back as many rows as they have different ones: these need not be equally many.
    passes = in_passes(second for _, second in pairs)
    ended = {id(second) for one_pass in passes for second in trained(one_pass)}
    for job, second in pairs:
        if id(second) in ended:
            _settle(job, second)


def _unproven(job: Job) -> Job | None:
    """The same run without some of its rows, if it is not clear that training helped."""
    rows, start = job.rows, job.start
    # Where the user gives rows to judge by, or a callback stops the training, these have judged.
    stopped = len(job.monitor.losses) < job.plan.max_epochs
    judged = stopped or rows.validation is not None or rows.noisy is not None
    if start is None or judged or _gains_clearly(job) or not start.held_back.any():
        return None
    network = _copy(job.network)
    network.parameters.copy_(start.parameters)
    others = rows.some((~start.held_back).nonzero()[:, 0])
    plan = dataclasses.replace(job.plan, max_samples=len(others))
    return Job(network, others, plan, TrainState(), Monitor(plan, network), start)


def _gains_clearly(job: Job) -> bool:
    """Whether the loss on some training rows is so low that others' cannot be above PCA's."""
    n = len(job.rows)
    if n < ROWS_OF_A_FEATURE * job.rows.values.shape[1]:
        return False
    rng = generator(job.plan.seeds[0], START_STREAM)
    some = torch.randperm(n, generator=rng)[:PROOF_ROWS].to(job.rows.device)
    return _loss(job, 1.0, some) < CLEAR_GAIN * _loss(job, 0.0, some)


def _settle(job: Job, second: Job) -> None:
    """Take back what ``second``, trained on some of the rows, does not show to help on others."""
    assert job.start is not None
    some = job.start.held_back.nonzero()[:, 0].to(job.rows.device)
    judged = second._replace(rows=job.rows)
    losses = {share: _loss(judged, share, some) for share in SHARES_KEPT}
    _keep_share(job, min(losses, key=losses.__getitem__))


def _loss(job: Job, share: float, some: Tensor) -> float:
    """Mean loss of some rows if only a share of what was learned beside PCA is kept."""
    network, weights = _copy(job.network), job.rows.weights
    _keep_share(job._replace(network=network), share)
    products = partial(network.products, len(some))
    with computing(network.device, network.flops * len(some), products):
        losses = row_losses(network, job.rows, job.plan, some[None])[0]
        return float(losses.mean() if weights is None else losses @ weights[some])


def _copy(network: Network) -> DenseNetwork:
    assert isinstance(network, DenseNetwork)
    # Tensors that are made in the caller's inference mode could not be trained later.
    with torch.inference_mode(False):
        return DenseNetwork(network.spec, network.parameters.clone(), network.buffers.clone())


def _keep_share(job: Job, share: float) -> None:
    """Shrink the last layers of encoder and decoder towards none, and their biases to PCA's."""
    network = job.network
    if share == 1.0:
        return
    assert isinstance(network, DenseNetwork)
    assert job.start is not None
    start = DenseNetwork(network.spec, job.start.parameters, network.buffers)
    for i in (network.spec.depth - 1, 2 * network.spec.depth - 1):
        network.layers[i].weight.mul_(share)
        network.layers[i].bias.sub_(start.layers[i].bias).mul_(share).add_(start.layers[i].bias)
